"""A person's own photos, listed in a CSV file: `image,labels[,split]`."""

import collections
import glob
import os
import re
from collections.abc import Sequence

import numpy as np

from msrn_tf.data.examples import PRESENT, UNKNOWN, Example, Examples
from msrn_tf.data.label_choice import parts_of, shown
from msrn_tf.data.lists import path_on_disk
from msrn_tf.data.photo_names import photo_name, refuse_repeats
from msrn_tf.data.splits import DEFAULT_FRACTIONS, check_split_names, stratified_splits
from msrn_tf.data.table_file import labels_in_list, read_table
from msrn_tf.errors import UserError
from msrn_tf.terminal import say
from msrn_tf.text import clean_label, look_alike

SEPARATORS = "|;,"


class LabelTable:
    """Reads a CSV file with the columns `image`, `labels` and perhaps `split`.

    `image` is a path below the folder of the file. `labels` are separated by `|`, or are a list as Python writes it;
    where no field has a `|`, by `;` or commas. One whose presence nobody knows is prefixed `?` (it adds nothing to loss
    and metrics); an empty field is a photo that shows none. Photos without a split fall into train, val and test (80,
    10 and 10 %), stratified by labels and seeded by names.

    Args:
        data_dir: the folder that holds the one .csv file.
    """

    names_what_is_shown = True

    def __init__(self, data_dir: str):
        paths = sorted(glob.glob(os.path.join(glob.escape(data_dir), "*.csv")))
        if len(paths) != 1:
            raise UserError(
                f"`data_dir`={data_dir}: must hold one .csv file (image,labels[,split]); it has {len(paths)}"
            )
        self.data_dir, self.path = data_dir, paths[0]
        rows = read_table(self.path, ("image", "labels"), ("split",))
        self._images = [self._image(row["image"], line) for line, row in rows]
        self._names = [photo_name(image) for image in self._images]
        refuse_repeats(self._names, self.path)
        separator = separator_of([row["labels"] for _, row in rows], self.path)
        self._targets = [self._parse(row["labels"], separator, line) for line, row in rows]
        self.labels = tuple(sorted({label for targets in self._targets for label in targets}))
        if not self.labels:
            raise UserError(f"{self.path}: names no label")
        _check_names(self.labels, self.path)
        self._splits = self._filled([clean_label(row.get("split", "")) for _, row in rows])
        self.splits = sorted(set(self._splits))

    def read(self, split: str) -> Examples:
        if split not in self.splits:
            raise UserError(f"split {split!r}: {self.path} has {', '.join(self.splits)}")
        columns = {label: index for index, label in enumerate(self.labels)}
        examples = []
        for name, image, targets, its_split in zip(self._names, self._images, self._targets, self._splits, strict=True):
            if its_split == split:
                target = np.zeros(len(self.labels), np.int8)
                target[[columns[label] for label in targets]] = list(targets.values())
                examples.append(Example(name, target, image_path=path_on_disk(os.path.join(self.data_dir, image))))
        return Examples.of(examples, len(self.labels))

    def _image(self, text, line):
        if not text.strip():
            raise UserError(f"{self.path}, line {line}: names no image")
        return text.strip()

    def _parse(self, text, separator, line):
        marks = labels_in_list(text)
        if marks is None and re.fullmatch(r"\s*[\[({].*['\",].*[\])}]\s*", text, re.DOTALL):
            raise UserError(
                f"{self.path}, line {line}: {text[:60]!r} is no list of names in quotes; separate labels by |"
            )
        targets = {}
        for mark in map(clean_label, text.split(separator) if marks is None else marks):
            if not mark:
                continue
            label, value = clean_label(mark.removeprefix("?")), UNKNOWN if mark.startswith("?") else PRESENT
            if not label:
                raise UserError(f"{self.path}, line {line}: ? stands alone; write ?label")
            if targets.setdefault(label, value) != value:
                raise UserError(f"{self.path}, line {line}: has both {label} and ?{label}; leave one of them out")
        return targets

    def _filled(self, splits):
        """Each row's split, with one by its labels where the table names none."""
        counts = collections.Counter(filter(None, splits))
        check_split_names(counts, self.labels, self.path)
        rows = [row for row, split in enumerate(splits) if not split]
        shown_labels = ([label for label, value in self._targets[row].items() if value == PRESENT] for row in rows)
        names = [self._names[row].encode("utf-8", "surrogateescape") for row in rows]
        for row, split in zip(rows, stratified_splits(names, shown_labels, DEFAULT_FRACTIONS), strict=True):
            splits[row] = split
        return splits


def separator_of(fields: Sequence[str], where: str) -> str:
    """What separates labels in a table's fields: `|`, or `;` or commas where no field has a `|`; says which.

    Raises:
        UserError: labels are separated by blanks, it seems.
    """
    plain = [field for field in fields if labels_in_list(field) is None]
    if any(plain) and all(set(parts_of(field)) <= {"0", "1"} for field in plain):
        raise UserError(f"{where}: its labels are 0 and 1; write the names of what a photo shows, separated by |")
    separator = next((mark for mark in SEPARATORS if any(mark in field for field in plain)), None)
    if separator is None:
        _check_blanks({clean_label(clean_label(field).removeprefix("?")) for field in plain}, where)
    elif separator != "|":
        example = next(field for field in plain if separator in field)
        say(f"warning: {where}: labels are read as separated by {separator!r}, as in {example[:60]!r}", error=True)
    return separator or "|"


def _check_blanks(labels, where):
    """Refuses labels that are others with blanks between; warns of other labels with blanks."""
    with_blanks = sorted(label for label in labels if " " in label)
    if not with_blanks:
        return
    # A word is a label of its own where it stands alone, or beside other words in another label.
    words = collections.Counter(word for label in labels for word in {look_alike(part) for part in label.split()})
    alone = {look_alike(label) for label in labels if " " not in label}
    joined = [label for label in with_blanks if all(look_alike(word) in alone for word in label.split())]
    mixed = [label for label in with_blanks if all(words[look_alike(word)] > 1 for word in label.split())]
    if joined or len(mixed) > len(with_blanks) / 2:
        raise UserError(
            f"{where}: labels seem to be separated by blanks, as in {(joined or mixed)[0]!r}; separate them by | (and "
            "where that is one label, end it with |)"
        )
    say(f"warning: {where}: labels with blanks are one label each: {shown(map(repr, with_blanks))}", error=True)


def _check_names(labels, where):
    joined = [label for label in labels if re.search(r"[/+&\t]", label)]
    if joined:
        say(f"warning: {where}: labels with / + & are one label each: {shown(map(repr, joined))}", error=True)
