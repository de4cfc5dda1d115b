"""A person's own photos, listed in a CSV file: `image,labels[,split]`."""

import collections
import csv
import glob
import os

import numpy as np

from msrn_tf.data.example import PRESENT, UNKNOWN, Example
from msrn_tf.data.splits import DEFAULT_FRACTIONS, split_of
from msrn_tf.errors import UserError


class LabelTable:
    """Reads a CSV file with the columns `image`, `labels` and perhaps `split`.

    `image` is a path below the folder of the file. `labels` are separated by `|`; one whose presence nobody knows is
    prefixed `?` (it adds nothing to loss and metrics); an empty field is a photo that shows none. Without a column
    `split`, photos fall into train, val and test (80, 10 and 10 %) by a hash of their name.

    Args:
        data_dir: the folder that holds the one .csv file.
    """

    def __init__(self, data_dir):
        paths = sorted(glob.glob(os.path.join(glob.escape(data_dir), "*.csv")))
        if len(paths) != 1:
            raise UserError(
                f"--data_dir={data_dir}: must hold one .csv file (image,labels[,split]); it has {len(paths)}"
            )
        self.data_dir, self.path = data_dir, paths[0]
        self._rows = [self._parse(row, number) for number, row in enumerate(self._table(), 2)]
        name, count = collections.Counter(name for name, _, _ in self._rows).most_common(1)[0]
        if count > 1:
            raise UserError(f"{self.path}: names {name} twice; give each photo one row")
        self.labels = tuple(sorted({label for _, targets, _ in self._rows for label in targets}))
        if not self.labels:
            raise UserError(f"{self.path}: names no label")
        self.splits = sorted({split for _, _, split in self._rows})

    def read(self, split):
        if split not in self.splits:
            raise UserError(f"split {split!r}: {self.path} has {', '.join(self.splits)}")
        columns = {label: index for index, label in enumerate(self.labels)}
        examples = []
        for name, targets, row_split in self._rows:
            if row_split == split:
                target = np.zeros(len(self.labels), np.int8)
                target[[columns[label] for label in targets]] = list(targets.values())
                examples.append(Example(name, target, image_path=os.path.join(self.data_dir, name)))
        return examples

    def _table(self):
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file, skipinitialspace=True))
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(f"{self.path}: cannot be read as a CSV file ({error})") from error
        if not rows or not {"image", "labels"} <= set(rows[0]):
            raise UserError(f"{self.path}: its first line must name the columns image,labels[,split], and a row follow")
        return rows

    def _parse(self, row, number):
        name, text, split = row["image"], row["labels"], row.get("split", "")
        if not name or text is None or split is None or row.get(None):
            raise UserError(f"{self.path}, line {number}: needs an image, its labels separated by |, and its split")
        targets = {}
        for mark in filter(None, map(str.strip, text.split("|"))):
            label, value = mark.removeprefix("?").strip(), UNKNOWN if mark.startswith("?") else PRESENT
            if not label:
                raise UserError(f"{self.path}, line {number}: ? stands alone; write ?label")
            if targets.setdefault(label, value) != value:
                raise UserError(f"{self.path}, line {number}: has both {label} and ?{label}; leave one of them out")
        return name, targets, split.strip() or split_of(name.encode(), DEFAULT_FRACTIONS)
