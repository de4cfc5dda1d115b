"""Photos in folders whose names say the labels (`black_dress/…`): a person's own, and the Apparel set of the paper."""

import functools
import os

import numpy as np

from msrn_tf.data.example import PRESENT, Example
from msrn_tf.data.lists import read_lines
from msrn_tf.data.photos import PHOTO_SUFFIXES
from msrn_tf.data.splits import DEFAULT_FRACTIONS, split_of
from msrn_tf.errors import UserError

APPAREL_LABELS = ("black", "blue", "brown", "green", "red", "white", "dress", "pants", "shirt", "shoes", "shorts")
APPAREL_FRACTIONS = {"train": 0.5, "test": 0.5}
SPLIT_NAMES = ("train", "val", "valid", "validation", "test")


class LabelFolders:
    """Reads `DATA_DIR/LABEL_LABEL/photo.jpg`, or `LABEL+LABEL` where labels themselves hold an underscore.

    Splits, the first that is there: folders `train/`, `val/`, `test/` around the label folders; files `train.txt`, …
    with a path below `DATA_DIR` a line; else shares of the photos, by a hash of each file's content.

    Args:
        data_dir: the folder.
        labels: the names, in order; None: those that the folders name, sorted.
        fractions: dict of split → share, for splits by hash.
    """

    def __init__(self, data_dir, labels=None, fractions=DEFAULT_FRACTIONS):
        self.data_dir, self._fractions = data_dir, fractions
        folders = _folders(data_dir)
        # A folder of trains' photos may be called train: one around label folders holds folders.
        self._split_folders = [n for n in folders if n in SPLIT_NAMES and _folders(os.path.join(data_dir, n))]
        self._lists = [n for n in SPLIT_NAMES if os.path.isfile(os.path.join(data_dir, f"{n}.txt"))]
        if self._split_folders:
            folders = sorted({f for split in self._split_folders for f in _folders(os.path.join(data_dir, split))})
        if not folders:
            raise UserError(f"--data_dir={data_dir}: holds no folder named by labels, such as black_dress")
        self._separator = "+" if any("+" in name for name in folders) else "_"
        named = {label for name in folders for label in self._labels_of(name)}
        if labels is not None and not named <= set(labels):
            strangers = ", ".join(sorted(named - set(labels)))
            raise UserError(f"--data_dir={data_dir}: folders name {strangers}; known are {', '.join(labels)}")
        self.labels = tuple(labels or sorted(named))
        self.splits = self._split_folders or self._lists or list(fractions)

    def read(self, split):
        if split not in self.splits:
            raise UserError(f"split {split!r}: --data_dir={self.data_dir} has {', '.join(self.splits)}")
        names = self._names(split)
        if not names:
            raise UserError(f"split {split!r}: --data_dir={self.data_dir} has no photo in it")
        return [Example(name, self._target(name), image_path=os.path.join(self.data_dir, name)) for name in names]

    def _names(self, split):
        if self._split_folders:
            return _photos(self.data_dir, split)
        if self._lists:
            path = os.path.join(self.data_dir, f"{split}.txt")
            return read_lines(path, "give a path a line")
        return [name for name, its_split in self._splits_by_content.items() if its_split == split]

    @functools.cached_property
    def _splits_by_content(self):
        """Each photo's split. All of them are read, once."""
        splits = {}
        for name in _photos(self.data_dir, ""):
            path = os.path.join(self.data_dir, name)
            try:
                with open(path, "rb") as file:
                    splits[name] = split_of(file.read(), self._fractions)
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror}); mend it or take it away") from error
        return splits

    def _target(self, name):
        target = np.zeros(len(self.labels), np.int8)
        labels = self._labels_of(os.path.basename(os.path.dirname(name)))
        if not labels:
            raise UserError(f"{name}: lies in no folder named by labels, such as black_dress")
        for label in labels:
            if label not in self.labels:
                raise UserError(f"{name}: folder names label {label!r}; known are {', '.join(self.labels)}")
            target[self.labels.index(label)] = PRESENT
        return target

    def _labels_of(self, folder):
        return [part for part in folder.split(self._separator) if part]


def _folders(path):
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _photos(data_dir, below):
    """Paths of photos two levels down (`label folder/file`), relative to `data_dir`, sorted."""
    names = []
    for folder in _folders(os.path.join(data_dir, below)):
        for entry in os.scandir(os.path.join(data_dir, below, folder)):
            if entry.is_file() and entry.name.lower().endswith(PHOTO_SUFFIXES):
                names.append(os.path.join(below, folder, entry.name))
    return sorted(names)
