"""CelebA's lists of attributes (Liu et al., ICCV 2015), as they are published or as tables: 1 present, −1 absent."""

import os

import numpy as np

from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_files import Folder
from msrn_tf.data.listing import ListedPhotos, Listing
from msrn_tf.data.lists import read_lines
from msrn_tf.data.targets import ABSENT, PRESENT
from msrn_tf.errors import UserError

ATTRIBUTES, PARTITION = "list_attr_celeba", "list_eval_partition"
SPLITS = {"0": "train", "1": "val", "2": "test"}
ADVICE = "unpack CelebA's lists again"


def find_celeba(folder: Folder) -> list[str]:
    """The list of attributes in a folder."""
    return _named(folder, ATTRIBUTES)


def _named(folder, name):
    return [path for path in folder.files((".txt", ".csv")) if os.path.basename(path).lower().startswith(name)]


def open_celeba(data_dir: str, _options: FormOptions) -> ListedPhotos:
    """The reader of `list_attr_celeba` and `list_eval_partition` (train 0, val 1, test 2), `.txt` or `.csv`."""
    found = find_celeba(Folder(data_dir))
    if not found:
        raise UserError(f"`data_dir`={data_dir}: holds no {ATTRIBUTES}.txt or .csv; {ADVICE}")
    labels, rows = _attributes(found[0])
    names = [name for name, *_ in rows]
    states = np.array([values for _, *values in rows])
    if not np.isin(states, ("1", "-1")).all():
        raise UserError(
            f"{found[0]}: has {sorted(set(states.flat) - {'1', '-1'})[0]!r} where 1 or -1 is expected; {ADVICE}"
        )
    targets = np.where(states == "1", np.int8(PRESENT), np.int8(ABSENT))
    splits = _splits(data_dir)
    missing = [name for name in names if splits and name not in splits]
    if missing:
        raise UserError(f"{found[0]}: {missing[0]!r} is in no split of {PARTITION}; {ADVICE}")
    listing = Listing(labels, names, [splits.get(name, "") for name in names], [""] * len(names), targets)
    return ListedPhotos(data_dir, found[0], listing)


def _attributes(path):
    """Labels, and rows of a name and a value for each."""
    lines = list(map(_fields, read_lines(path, ADVICE)))
    if lines and len(lines[0]) == 1 and lines[0][0].isdecimal():
        count = int(lines.pop(0)[0])
        if count != len(lines) - 1:
            raise UserError(f"{path}: declares {count} photos and has {len(lines) - 1}; {ADVICE}")
    if len(lines) < 2:
        raise UserError(f"{path}: names no photo; {ADVICE}")
    header, rows = lines[0], lines[1:]
    labels = header[1:] if header[0].lower() == "image_id" else header
    if wrong := next((row for row in rows if len(row) != len(labels) + 1), None):
        raise UserError(f"{path}: {wrong[0][:60]!r} has {len(wrong) - 1} values for {len(labels)} attributes; {ADVICE}")
    if len(set(labels)) < len(labels):
        raise UserError(f"{path}: names an attribute twice; {ADVICE}")
    return tuple(labels), rows


def _fields(line):
    return [field.strip() for field in line.split(",")] if "," in line else line.split()


def _splits(data_dir):
    """Dict of name → split; empty where there is no list of them."""
    paths = _named(Folder(data_dir), PARTITION)
    if not paths:
        return {}
    rows = [_fields(line) for line in read_lines(paths[0], ADVICE)]
    rows = rows[1:] if rows and rows[0][0].lower() == "image_id" else rows
    if wrong := next((row for row in rows if len(row) != 2 or row[1] not in SPLITS), None):
        raise UserError(f"{paths[0]}: {' '.join(wrong)[:60]!r} is not a photo followed by 0, 1 or 2; {ADVICE}")
    return {name: SPLITS[number] for name, number in rows}
