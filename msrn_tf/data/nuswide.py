"""NUS-WIDE (Chua et al., CIVR 2009), from either list in circulation: the official files, or a CSV."""

import ast
import csv
import glob
import os

import numpy as np

from msrn_tf.data.example import PRESENT, Example
from msrn_tf.data.lists import read_lines
from msrn_tf.errors import UserError

ADVICE = "unpack the whole of NUS-WIDE's lists"


def open_nuswide(data_dir):
    """The official files where `Concepts81.txt` is there, else the CSV."""
    for folder in (data_dir, os.path.join(data_dir, "ConceptsList")):
        if os.path.isfile(os.path.join(folder, "Concepts81.txt")):
            return NusWideOfficial(data_dir, os.path.join(folder, "Concepts81.txt"))
    tables = sorted(glob.glob(os.path.join(glob.escape(data_dir), "*.csv")))
    if len(tables) == 1:
        return NusWideTable(data_dir, tables[0])
    raise UserError(
        f"--data_dir={data_dir}: holds neither ConceptsList/Concepts81.txt nor one .csv file; see docs/datasets.md"
    )


class NusWideOfficial:
    """`Concepts81.txt`, `ImageList/{Train,Test}Imagelist.txt`, `Groundtruth/TrainTestLabels/Labels_*_{Train,Test}.txt`.

    Images lie in `Flickr/` or `images/`, as the lists name them. Labels are in the order of `Concepts81.txt`.
    """

    splits = ("train", "test")

    def __init__(self, data_dir, concepts):
        self.data_dir = data_dir
        self.labels = tuple(read_lines(concepts, ADVICE))
        if len(set(self.labels)) < len(self.labels) or not self.labels:
            raise UserError(f"{concepts}: names no label, or one twice; {ADVICE}")

    def read(self, split):
        if split not in self.splits:
            raise UserError(f"split {split!r}: NUS-WIDE has {', '.join(self.splits)}")
        part = split.capitalize()
        listing = os.path.join(self.data_dir, "ImageList", f"{part}Imagelist.txt")
        names = [name.replace("\\", "/") for name in read_lines(listing, ADVICE)]
        if not names:
            raise UserError(f"{listing}: names no image; {ADVICE}")
        targets = np.zeros((len(names), len(self.labels)), np.int8)
        for column, label in enumerate(self.labels):
            path = os.path.join(self.data_dir, "Groundtruth", "TrainTestLabels", f"Labels_{label}_{part}.txt")
            values = read_lines(path, ADVICE)
            if len(values) != len(names) or not set(values) <= {"0", "1"}:
                raise UserError(
                    f"{path}: must hold {len(names)} lines of 0 or 1, as {listing} has; it has {len(values)}"
                )
            targets[:, column] = np.array(values, np.int8)
        folder = next((f for f in ("Flickr", "images") if os.path.isdir(os.path.join(self.data_dir, f))), "")
        return [
            Example(name, target, image_path=os.path.join(self.data_dir, folder, name))
            for name, target in zip(names, targets, strict=True)
        ]


class NusWideTable:
    """A CSV with columns `filepath`, `label` (a list such as `['clouds', 'sky']`) and `split_name`; labels by name."""

    def __init__(self, data_dir, path):
        self.data_dir, self.path = data_dir, path
        self._rows = [(row, *self._parse(row, number)) for number, row in enumerate(self._table(), 2)]
        self.labels = tuple(sorted({label for _, labels, _ in self._rows for label in labels}))
        self.splits = sorted({split for _, _, split in self._rows})

    def read(self, split):
        if split not in self.splits:
            raise UserError(f"split {split!r}: {self.path} has {', '.join(self.splits)}")
        columns = {label: index for index, label in enumerate(self.labels)}
        folder = os.path.join(self.data_dir, "images")
        folder = folder if os.path.isdir(folder) else self.data_dir
        examples = []
        for row, labels, row_split in self._rows:
            if row_split == split:
                target = np.zeros(len(self.labels), np.int8)
                target[[columns[label] for label in labels]] = PRESENT
                examples.append(Example(row["filepath"], target, image_path=os.path.join(folder, row["filepath"])))
        return examples

    def _table(self):
        try:
            with open(self.path, encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(f"{self.path}: cannot be read as a CSV file ({error})") from error
        if not rows or not {"filepath", "label", "split_name"} <= set(rows[0]):
            raise UserError(f"{self.path}: needs the columns filepath, label, split_name, and at least a row")
        return rows

    def _parse(self, row, number):
        try:
            labels = ast.literal_eval(row["label"])
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            labels = None
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise UserError(f"{self.path}, line {number}: {str(row['label'])[:60]!r} is no list of labels")
        if not row["filepath"] or not row["split_name"]:
            raise UserError(f"{self.path}, line {number}: has no filepath or no split_name")
        return labels, row["split_name"]
