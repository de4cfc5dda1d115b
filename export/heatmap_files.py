"""Heat-maps that a server or a device computed, laid over the photo and written to files."""

from msrn_tf.data.pillow_decoding import open_photo
from msrn_tf.visualization.heatmaps import enlarge, overlay


def write_heatmaps(path, maps, files):
    """Writes the heat-maps of one photo; returns the files' paths.

    Args:
        path: of the photo.
        maps: label → `[h, w]` in [0, 1].
        files: `HeatmapFiles`.
    """
    photo = open_photo(path)
    return files.save(path, {label: overlay(photo, enlarge(map_, photo.size)) for label, map_ in maps.items()})
