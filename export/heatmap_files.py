"""Heat-maps that a server or a device computed, laid over the photo and written to files."""

from PIL import Image, ImageOps

from msrn_tf.visualization.heatmaps import enlarge, overlay


def open_upright(path):
    """A photo as people see it: RGB `PIL.Image`, turned by its EXIF tag."""
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def write_heatmaps(path, maps, files):
    """Writes the heat-maps of one photo; returns the files' paths.

    Args:
        path: of the photo.
        maps: label → `[h, w]` in [0, 1].
        files: `HeatmapFiles`.
    """
    photo = open_upright(path)
    return files.save(path, {label: overlay(photo, enlarge(map_, photo.size)) for label, map_ in maps.items()})
