"""FiftyOne's image classification dataset: `labels.json` with classes and each photo's, the photos in `data/`."""

import os
from typing import Any

from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_files import Folder, checked, class_of, member, one_a_split, read_json
from msrn_tf.data.listing import ListedPhotos, Listing, Marked
from msrn_tf.data.targets import PRESENT
from msrn_tf.terminal import say
from msrn_tf.text import clean_label


def find_fiftyone(folder: Folder) -> list[str]:
    """The exports in a folder."""
    return folder.label_files((".json",), lambda s: s.startswith("{") and '"classes"' in s and '"labels"' in s)


def open_fiftyone(data_dir: str, _options: FormOptions) -> ListedPhotos:
    """The reader of a folder with `labels.json` and `data/`, or with one such folder a split."""
    files = one_a_split(find_fiftyone(Folder(data_dir)), data_dir, "labels.json of FiftyOne")
    classes, rows, unlabelled = [], [], 0
    for path, split in files.items():
        content = checked(read_json(path), "the file", dict, path)
        names = [checked(name, "a class", str, path) for name in content.get("classes") or []]
        classes += map(clean_label, names)
        for name, value in member(content, "labels", dict, path).items():
            unlabelled += value is None
            if value is not None:
                marks = dict.fromkeys(_labels(value, names, f"{path}, {name!r}"), PRESENT)
                rows.append(Marked(checked(name, "a name", str, path), marks, split, os.path.relpath(path, data_dir)))
    if unlabelled:
        say(f"left out   {unlabelled} photos of {data_dir} without a label in labels.json", error=True)
    shown = [label for row in rows for label in row.marks]
    return ListedPhotos(data_dir, next(iter(files)), Listing.of(rows, list(dict.fromkeys([*classes, *shown]))))


def _labels(value: Any, classes: list[str], where: str) -> list[str]:
    """Of a number of a class, a name, an object with a `label`, or a list of these."""
    labels = []
    for item in value if isinstance(value, list) else [value]:
        label = item.get("label") if isinstance(item, dict) else item
        named = label if isinstance(label, str) else class_of(label, classes, where)
        labels.append(clean_label(checked(named, "a label", str, where)))
    return labels
