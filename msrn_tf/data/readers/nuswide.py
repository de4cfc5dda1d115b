"""NUS-WIDE (Chua et al., CIVR 2009), from either list in circulation: the official files, or a CSV."""

import collections
import os

import numpy as np

from msrn_tf import storage
from msrn_tf.data.examples import PRESENT, Example, Examples, Reader
from msrn_tf.data.label_files import Folder
from msrn_tf.data.lists import path_on_disk, read_lines
from msrn_tf.data.photo_names import photo_name, refuse_repeats, warn_of_shared
from msrn_tf.data.readers.label_lists import labels_in_list
from msrn_tf.data.readers.table_file import column_of, header_of, read_table, text_column
from msrn_tf.data.splits import check_split_names
from msrn_tf.errors import UserError
from msrn_tf.text import clean_label

TABLE_COLUMNS = ("filepath", "label", "split_name")
ADVICE = "unpack the whole of NUS-WIDE's lists"


def find_nuswide(folder: Folder) -> list[str]:
    """`Concepts81.txt`, or a CSV of the columns that NUS-WIDE's has."""
    concepts = [os.path.join(folder.path, below, "Concepts81.txt") for below in ("", "ConceptsList")]
    tables = storage.matching(folder.path, "*.csv")
    return [p for p in concepts if storage.isfile(p)] + [p for p in tables if header_of(p)[:3] == list(TABLE_COLUMNS)]


def open_nuswide(data_dir: str) -> Reader:
    """The official files where `Concepts81.txt` is there, else the CSV."""
    for folder in (data_dir, os.path.join(data_dir, "ConceptsList")):
        if storage.isfile(os.path.join(folder, "Concepts81.txt")):
            return NusWideOfficial(data_dir, os.path.join(folder, "Concepts81.txt"))
    tables = storage.matching(data_dir, "*.csv")
    if len(tables) == 1:
        return NusWideTable(data_dir, tables[0])
    raise UserError(
        f"`data_dir`={data_dir}: holds neither ConceptsList/Concepts81.txt nor one .csv file; see docs/datasets.md"
    )


class NusWideOfficial:
    """`Concepts81.txt`, `ImageList/{Train,Test}Imagelist.txt`, `Groundtruth/TrainTestLabels/Labels_*_{Train,Test}.txt`.

    Images lie in `Flickr/` or `images/`, as the lists name them. Labels are in the order of `Concepts81.txt`.
    """

    splits = ("train", "test")

    def __init__(self, data_dir: str, concepts: str):
        self.data_dir = data_dir
        self.labels = tuple(read_lines(concepts, ADVICE))
        if len(set(self.labels)) < len(self.labels) or not self.labels:
            raise UserError(f"{concepts}: names no label, or one twice; {ADVICE}")
        if odd := [label for label in self.labels if os.path.basename(label) != label or "\0" in label]:
            raise UserError(f"{concepts}: names {odd[0]!r}, which cannot be part of a file's name; {ADVICE}")
        listings = {split: self._listing(split) for split in self.splits}
        names = {split: read_lines(path, ADVICE) for split, path in listings.items() if storage.isfile(path)}
        warn_of_shared({split: map(photo_name, lines) for split, lines in names.items()}, data_dir)

    def read(self, split: str) -> Examples:
        """As `Reader.read`."""
        if split not in self.splits:
            raise UserError(f"split {split!r}: NUS-WIDE has {', '.join(self.splits)}")
        part, listing = split.capitalize(), self._listing(split)
        names = [photo_name(name) for name in read_lines(listing, ADVICE)]
        if not names:
            raise UserError(f"{listing}: names no image; {ADVICE}")
        refuse_repeats(names, listing)
        targets = np.zeros((len(names), len(self.labels)), np.int8)
        for column, label in enumerate(self.labels):
            path = os.path.join(self.data_dir, "Groundtruth", "TrainTestLabels", f"Labels_{label}_{part}.txt")
            values = read_lines(path, ADVICE)
            if len(values) != len(names) or not set(values) <= {"0", "1"}:
                raise UserError(
                    f"{path}: must hold {len(names)} lines of 0 or 1, as {listing} has; it has {len(values)}"
                )
            targets[:, column] = np.array(values, np.int8)
        folder = next((f for f in ("Flickr", "images") if storage.isdir(os.path.join(self.data_dir, f))), "")
        rows = (
            Example(name, target, image_path=path_on_disk(os.path.join(self.data_dir, folder, name)))
            for name, target in zip(names, targets, strict=True)
        )
        return Examples.of(rows, len(self.labels))

    def _listing(self, split):
        return os.path.join(self.data_dir, "ImageList", f"{split.capitalize()}Imagelist.txt")


class NusWideTable:
    """A CSV with columns `filepath`, `label` (a list such as `['clouds', 'sky']`) and `split_name`; labels by name."""

    names_what_is_shown = True

    def __init__(self, data_dir: str, path: str):
        self.data_dir, self.path = data_dir, path
        table = read_table(path)
        columns = [name for name in TABLE_COLUMNS if column_of(table, [name])]
        if len(columns) < len(TABLE_COLUMNS):
            raise UserError(f"{path}: its first line must name the columns {','.join(TABLE_COLUMNS)}, and a row follow")
        fields = zip(*(text_column(table, name) for name in columns), strict=True)
        self._rows = [self._parse(row, line) for line, row in enumerate(fields, 2)]
        self.labels = tuple(sorted({label for _, labels, _ in self._rows for label in labels}))
        refuse_repeats([photo_name(image) for image, _, _ in self._rows], path)
        splits = collections.Counter(split for _, _, split in self._rows)
        check_split_names(splits, self.labels, path)
        self.splits = sorted(splits)

    def read(self, split: str) -> Examples:
        """As `Reader.read`."""
        if split not in self.splits:
            raise UserError(f"split {split!r}: {self.path} has {', '.join(self.splits)}")
        columns = {label: index for index, label in enumerate(self.labels)}
        folder = os.path.join(self.data_dir, "images")
        folder = folder if storage.isdir(folder) else self.data_dir
        examples = []
        for image, labels, its_split in self._rows:
            if its_split == split:
                target = np.zeros(len(self.labels), np.int8)
                target[[columns[label] for label in labels]] = PRESENT
                examples.append(
                    Example(photo_name(image), target, image_path=path_on_disk(os.path.join(folder, image)))
                )
        return Examples.of(examples, len(self.labels))

    def _parse(self, row, line):
        image, field, split_name = row
        labels, split = labels_in_list(field), clean_label(split_name)
        if labels is None:
            raise UserError(f"{self.path}, line {line}: {field[:60]!r} is not a list of labels")
        if not image or not split:
            raise UserError(f"{self.path}, line {line}: has no filepath or no split_name")
        return image, list(map(clean_label, labels)), split
