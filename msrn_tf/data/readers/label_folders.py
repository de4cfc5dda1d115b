"""Photos in folders whose names say the labels (`black_dress/…`): a person's own, and the Apparel set of the paper."""

import collections
import functools
import hashlib
import os
from collections.abc import Sequence

import numpy as np

from msrn_tf import storage
from msrn_tf.data.examples import PRESENT, Example, Examples
from msrn_tf.data.label_files import Folder
from msrn_tf.data.lists import path_on_disk, read_lines
from msrn_tf.data.photo_names import photo_name, refuse_repeats, warn_of_shared
from msrn_tf.data.photos import is_ignored_name, is_photo_name
from msrn_tf.data.splits import DEFAULT_FRACTIONS, stratified_splits
from msrn_tf.errors import UserError
from msrn_tf.progress import ProgressBar
from msrn_tf.terminal import say
from msrn_tf.text import clean_label

APPAREL_LABELS = ("black", "blue", "brown", "green", "red", "white", "dress", "pants", "shirt", "shoes", "shorts")
APPAREL_FRACTIONS = {"train": 0.5, "test": 0.5}
SPLIT_NAMES = ("train", "val", "valid", "validation", "test")


def find_label_folders(folder: Folder) -> list[str]:
    """Folders in a folder, or in one of a split in it, that hold photos, where they can be labels: of two names."""
    found = []
    for below in ("", *SPLIT_NAMES):
        if storage.isdir(os.path.join(folder.path, below)):
            found += [os.path.join(folder.path, name) for name in _photos(folder.path, below, {})]
    folders = dict.fromkeys(map(os.path.dirname, found))
    names = {os.path.basename(folder) for folder in folders} - set(SPLIT_NAMES)
    return list(folders) if len(names) > 1 else []


class LabelFolders:
    """Reads `DATA_DIR/LABEL_LABEL/photo.jpg`, or `LABEL+LABEL` where labels themselves hold an underscore.

    Splits, the first that is there: folders `train/`, `val/`, `test/` around the label folders; files `train.txt`, …
    with a path below `DATA_DIR` a line; else shares of the photos, stratified by labels and seeded by each file's
    content. Folders without a photo are no labels; what is left out is said.

    Args:
        data_dir: the folder.
        labels: the names, in order; None: those that the folders name, sorted.
        fractions: dict of split → share, for splits by content.
    """

    def __init__(
        self, data_dir: str, labels: Sequence[str] | None = None, fractions: dict[str, float] = DEFAULT_FRACTIONS
    ):
        self.data_dir, self._fractions = data_dir, fractions
        self.names_what_is_shown = labels is None
        # A folder of trains' photos may be called train: one around label folders holds folders.
        self._split_folders = [
            name for name in _folders(data_dir) if name in SPLIT_NAMES and _folders(os.path.join(data_dir, name))
        ]
        self._lists = [n for n in SPLIT_NAMES if storage.exists(os.path.join(data_dir, f"{n}.txt"))]
        self._photos = self._found_photos()
        folders = sorted({os.path.basename(os.path.dirname(n)) for names in self._photos.values() for n in names})
        if not folders:
            raise UserError(f"`data_dir`={data_dir}: holds no folder named by labels, such as black_dress, with photos")
        self._separator = "+" if any("+" in name for name in folders) else "_"
        named = {label for name in folders for label in self._labels_of(name)}
        if labels is not None and not named <= set(labels):
            unknown = ", ".join(sorted(named - set(labels)))
            raise UserError(f"`data_dir`={data_dir}: folders name {unknown}; known are {', '.join(labels)}")
        self.labels = tuple(labels or sorted(named))
        self.splits = self._split_folders or self._lists or list(fractions)

    def read(self, split: str) -> Examples:
        """As `Reader.read`."""
        if split not in self.splits:
            raise UserError(f"split {split!r}: `data_dir`={self.data_dir} has {', '.join(self.splits)}")
        names = self._names(split)
        if not names:
            raise UserError(f"split {split!r}: `data_dir`={self.data_dir} has no photo in it")
        rows = (
            Example(name, self._target(name), image_path=path_on_disk(os.path.join(self.data_dir, name)))
            for name in names
        )
        return Examples.of(rows, len(self.labels))

    def _found_photos(self):
        """Dict of split → its photos' names, of one split `""` where there are no folders around the label folders."""
        found, left_out = {}, {}
        for split in self._split_folders or [""]:
            found[split] = _photos(self.data_dir, split, left_out)
        beside = [name for name in _folders(self.data_dir) if self._split_folders and name not in self._split_folders]
        left_out |= {os.path.join(self.data_dir, name): f"folder beside {self._split_folders[0]}" for name in beside}
        if left_out:
            say(f"left out   of {self.data_dir}: {_by_kind(left_out)}", error=True)
        return found

    def _names(self, split):
        if self._split_folders:
            return self._photos[split]
        if self._lists:
            return self._listed[split]
        return [name for name, its_split in self._splits_by_content.items() if its_split == split]

    @functools.cached_property
    def _listed(self):
        """Dict of split → names in its list."""
        listed = {}
        for split in self._lists:
            path = os.path.join(self.data_dir, f"{split}.txt")
            listed[split] = [photo_name(line) for line in read_lines(path, "give a path a line")]
            if listed[split]:
                refuse_repeats(listed[split], path)
        warn_of_shared(listed, self.data_dir)
        return listed

    @functools.cached_property
    def _splits_by_content(self):
        """Each photo's split. All of them are read, once."""
        names, digests = self._photos[""], []
        paths = [os.path.join(self.data_dir, name) for name in names]
        with ProgressBar("dividing photos", len(names), "photos") as bar:
            for digest in storage.in_flight(_digest, paths, remote=storage.is_address(self.data_dir)):
                digests.append(digest)
                bar.update(len(digests))
        labels = [self._labels_of(os.path.basename(os.path.dirname(name))) for name in names]
        return dict(zip(names, stratified_splits(digests, labels, self._fractions), strict=True))

    def _target(self, name):
        target = np.zeros(len(self.labels), np.int8)
        labels = self._labels_of(os.path.basename(os.path.dirname(name)))
        if not labels:
            raise UserError(f"{name}: is not in a folder named by labels, such as black_dress")
        for label in labels:
            if label not in self.labels:
                raise UserError(f"{name}: folder names label {label!r}; known are {', '.join(self.labels)}")
            target[self.labels.index(label)] = PRESENT
        return target

    def _labels_of(self, folder):
        return [label for label in map(clean_label, folder.split(self._separator)) if label]


def _digest(path):
    try:
        return hashlib.sha256(storage.read_whole(path)).digest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); fix it or take it away") from error


def _by_kind(left_out):
    """How many files and folders were left out for each reason, and the first of them."""
    first = {}
    for path, reason in left_out.items():
        first.setdefault(reason, os.path.basename(path))
    counts = collections.Counter(left_out.values())
    return ", ".join(f"{reason} {count} ({first[reason]})" for reason, count in counts.most_common())


def _folders(path):
    return sorted(entry.name for entry in storage.entries(path) if entry.is_folder and not is_ignored_name(entry.name))


def _photos(data_dir, below, left_out):
    """Paths of photos two levels down (`label folder/file`), relative to `data_dir`, sorted.

    Adds to `left_out`, path → why, what else is there: files that are no photos, folders without one, and deeper ones.
    """
    names = []
    folder = os.path.join(data_dir, below)
    for entry in storage.entries(folder):
        if entry.is_file and is_photo_name(entry.name):
            left_out[entry.path] = "photo in no label's folder"
    for label_folder in _folders(folder):
        before = len(names)
        for entry in storage.entries(os.path.join(folder, label_folder)):
            if is_ignored_name(entry.name):
                continue
            if entry.is_folder:
                left_out[entry.path] = "folder in a label's folder"
            elif entry.is_file and is_photo_name(entry.name):
                names.append(os.path.join(below, label_folder, entry.name))
            else:
                left_out[entry.path] = os.path.splitext(entry.name)[1].lower() or "without a suffix"
        if len(names) == before:
            left_out[os.path.join(folder, label_folder)] = "folder without a photo"
    return sorted(names)
