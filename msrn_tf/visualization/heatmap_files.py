"""Heat-maps of photos as files: by label, by label and scale, or by group of labels."""

import os

import numpy as np

from msrn_tf.visualization.captions import captioned_grid
from msrn_tf.visualization.heatmaps import combine_scales, overlay

KINDS = ("label", "scale", "group")
STRIP_CELL = 320


class HeatmapFiles:
    """Writes `PHOTO_NAME.jpg` for each map into a folder; photos of one name in different folders get a number.

    Args:
        folder: made where it is missing.
        by: `"label"`: the photo with what spoke for a label, over all scales. `"scale"`: a strip, the photo and the
            maps of each scale by itself and together. `"group"`: for each group of labels what it looks at.
    """

    def __init__(self, folder, by="label"):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.by = folder, by
        self._seen = {}

    def write(self, path, photo, maps):
        """Writes the maps of one photo.

        Args:
            path: of the photo, for the names.
            photo: RGB `PIL.Image`.
            maps: label or group name → list of `[h, w]`, a scale each.

        Returns:
            The files' paths.
        """
        stem = os.path.splitext(os.path.basename(path))[0]
        count = self._seen[stem] = self._seen.get(stem, 0) + 1
        stem = stem if count == 1 else f"{stem}~{count}"
        written = []
        for name, scales in maps.items():
            file = heatmap_path(self.folder, stem, name)
            picture = overlay(photo, combine_scales(scales, photo.size))
            if self.by == "scale":
                picture = scale_strip(photo, scales, picture)
            picture.save(file, quality=92)
            written.append(file)
        return written


def heatmap_path(folder, stem, name):
    """Where the map of a label or group of a photo goes."""
    return os.path.join(folder, f"{stem}_{name.replace('/', '-').replace(' ', '_')}.jpg")


def scale_strip(photo, scales, combined):
    """The photo, the map of each scale by itself, brightest where that scale is, and all of them together."""
    cells = [(photo, ["photo"])]
    for scale in scales:
        cells.append((overlay(photo, combine_scales([scale], photo.size)), [f"{scale.shape[0]}×{scale.shape[1]} map"]))
    return captioned_grid([*cells, (combined, ["together"])], len(cells) + 1, STRIP_CELL)


def group_names(model):
    """A name for each group of labels: `group1`, with the labels that lean to it most."""
    assignment = np.asarray(model.semantics()[1])
    belongs = assignment.argmax(axis=1)
    return [
        f"group{group + 1}_"
        + "-".join([label for label, own in zip(model.labels, belongs, strict=True) if own == group][:3])
        for group in range(assignment.shape[1])
    ]
