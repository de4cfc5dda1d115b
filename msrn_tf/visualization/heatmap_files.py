"""Heat-maps of photos as files: by label, by label and scale, or by group of labels."""

import contextlib
import os
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from msrn_tf import storage
from msrn_tf.data.pillow_decoding import open_photo
from msrn_tf.errors import UserError
from msrn_tf.files import replacing
from msrn_tf.visualization.captions import captioned_grid
from msrn_tf.visualization.heatmaps import combine_scales, enlarge, overlay

KINDS = ("label", "scale", "group")
STRIP_CELL = 320
NAME_BYTES = 60
"""The most of a photo's or a label's name in a file's name: some file systems allow no more than 143 for the whole."""
UNSAFE = set('/\\:*?"<>|%')


class HeatmapFiles:
    """Writes `PHOTO_LABEL.jpg` for each map into a folder.

    Names of photos and labels are other people's text: in the files' names they are short and without what a file
    system refuses. No map takes another's name: of photos that are called alike in different folders, the second is
    `PHOTO~2`, and so are labels.

    Args:
        folder: made where it is missing.
        by: `"label"`: the photo with what spoke for a label, over all scales. `"scale"`: a strip, the photo and the
            maps of each scale by itself and together. `"group"`: for each group of labels what it looks at.

    Raises:
        UserError: the folder cannot be made, or a file not be written.
    """

    def __init__(self, folder: str, by: str = "label"):
        self.folder, self.by = folder, by
        self._photos, self._files = {}, {}
        with self._writing():
            storage.makedirs(folder)

    def write(self, path: str, photo: Image.Image, maps: dict[str, Sequence[np.ndarray]]) -> list[str]:
        """Writes the maps of one photo.

        Args:
            path: of the photo, for the names.
            photo: RGB `PIL.Image`.
            maps: label or group name → list of `[h, w]`, a scale each.

        Returns:
            The files' paths.
        """
        pictures = {}
        for name, scales in maps.items():
            pictures[name] = overlay(photo, combine_scales(scales, photo.size))
            if self.by == "scale":
                pictures[name] = scale_strip(photo, scales, pictures[name])
        return self.save(path, pictures)

    def write_combined(self, path: str, maps: dict[str, np.ndarray]) -> list[str]:
        """Writes the maps of one photo that are one for all scales already, as servers and devices give them.

        Args:
            path: of the photo.
            maps: label → `[h, w]` in [0, 1].

        Returns:
            The files' paths.
        """
        photo = open_photo(path)
        return self.save(path, {name: overlay(photo, enlarge(map_, photo.size)) for name, map_ in maps.items()})

    def save(self, path: str, pictures: dict[str, Image.Image]) -> list[str]:
        """Writes pictures, label or group name → `PIL.Image`, of the photo `path`; returns the files' paths."""
        stem = _first_free(_safe(os.path.splitext(os.path.basename(path))[0]), self._photos)
        written = []
        for name, picture in pictures.items():
            written.append(os.path.join(self.folder, _first_free(f"{stem}_{_safe(name)}", self._files) + ".jpg"))
            with self._writing(), replacing(written[-1], "wb") as file:
                picture.save(file, "JPEG", quality=92)
        return written

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except OSError as error:
            raise UserError(f"`heatmaps`={self.folder}: cannot be written ({error.strerror or error})") from error


def _safe(name):
    """A name that any file system takes as a part of a file's name."""
    shown = "".join("_" if c == " " else c if c.isprintable() and c not in UNSAFE else "-" for c in name)
    return shown.lstrip(".").encode()[:NAME_BYTES].decode(errors="ignore") or "-"


def _first_free(name, taken):
    """`name`, `name~2`, `name~3` …: the first that is not taken; to some disks case and Unicode form are nothing."""

    def key(text):
        return unicodedata.normalize("NFC", text).casefold()

    number = taken.get(key(name), 0) + 1
    while key(numbered := name if number == 1 else f"{name}~{number}") in taken:
        number += 1
    taken[key(numbered)] = max(1, taken.get(key(numbered), 0))
    taken[key(name)] = number
    return numbered


def scale_strip(photo: Image.Image, scales: Sequence[np.ndarray], combined: Image.Image) -> Image.Image:
    """The photo, the map of each scale by itself, brightest where that scale is, and all of them together."""
    cells = [(photo, ["photo"])]
    for scale in scales:
        cells.append((overlay(photo, combine_scales([scale], photo.size)), [f"{scale.shape[0]}×{scale.shape[1]} map"]))
    return captioned_grid([*cells, (combined, ["together"])], len(cells) + 1, STRIP_CELL)


def group_names(model: Any) -> list[str]:
    """A name for each group of labels: `group1`, with the labels that lean to it most."""
    assignment = np.asarray(model.semantics().assignment)
    belongs = assignment.argmax(axis=1)
    return [
        f"group{group + 1}_"
        + "-".join([label for label, own in zip(model.labels, belongs, strict=True) if own == group][:3])
        for group in range(assignment.shape[1])
    ]
