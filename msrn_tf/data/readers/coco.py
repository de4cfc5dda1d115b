"""MS COCO's annotation format (Lin et al., arXiv 1405.0312): COCO 2014, 2017, and any file written like theirs.

Labels are the categories' names in **alphabetical order**, as in the published label graphs and weights, not by
category id. A label is present where any object of it is annotated, crowds included; an image without objects shows
none. A category that a split's file does not list is unknown in that split.
"""

import collections
import json
import os
import re

import numpy as np

from msrn_tf import storage
from msrn_tf.data.examples import PRESENT, UNKNOWN, Example, Examples
from msrn_tf.data.label_choice import shown
from msrn_tf.data.label_files import Folder, read_json
from msrn_tf.data.lists import path_on_disk
from msrn_tf.data.photo_names import photo_name
from msrn_tf.errors import UserError
from msrn_tf.terminal import say
from msrn_tf.text import clean_label, is_whole_text, read_text

LISTS = ("images", "annotations", "categories")
# COCO's own files of other tasks, which lie beside instances_*.json.
_OTHER_TASKS = ("captions_", "person_keypoints_", "panoptic_", "stuff_", "image_info_")


def find_coco(folder: Folder, year: int) -> list[str]:
    """COCO's own annotation files of a year in a folder."""
    names = (f"instances_{split}{year}.json" for split in ("train", "val"))
    return [path for name in names if storage.isfile(path := os.path.join(folder.path, "annotations", name))]


def open_coco(data_dir: str, year: int) -> "Coco":
    """COCO as it is unpacked: `annotations/instances_{train,val}{year}.json`, `train{year}/`, `val{year}/`."""
    paths = {
        split: os.path.join(data_dir, "annotations", f"instances_{split}{year}.json") for split in ("train", "val")
    }
    found = {split: path for split, path in paths.items() if storage.isfile(path)}
    if not found:
        raise UserError(f"`data_dir`={data_dir}: holds neither {' nor '.join(paths.values())}; unpack the annotations")
    return Coco(data_dir, found, {split: f"{split}{year}" for split in found})


def find_coco_json(folder: Folder) -> list[str]:
    """The annotation files in a folder and its folders; the names of the lists are looked for alone."""
    return [path for path in folder.files((".json",)) if not _why_no_instances(path)]


def open_coco_json(data_dir: str) -> "Coco":
    """Files in COCO's format: `SPLIT.json`, `annotations/SPLIT.json` or `SPLIT/_annotations.coco.json`.

    Other JSON files are left out, and named.
    """
    found, others = collections.defaultdict(list), {}
    for path in Folder(data_dir).files((".json",)):
        if reason := _why_no_instances(path):
            others[path] = reason
        else:
            found[_split_of_file(path)].append(path)
    if not found:
        for path in others:
            _parse(path)  # says what is wrong with it
        raise UserError(f"`data_dir`={data_dir}: holds no annotation file (SPLIT.json, annotations/SPLIT.json)")
    for split, same in found.items():
        if len(same) > 1:
            raise UserError(f"{same[0]}: is of split {split!r}, and so is {same[1]}; leave one of them out")
    if others:
        reasons = (f"{os.path.basename(path)} ({reason})" for path, reason in others.items())
        say(f"left out   JSON files that are not object annotations: {shown(reasons)}", error=True)
    return Coco(data_dir, {split: same[0] for split, same in found.items()}, {split: split for split in found})


def _split_of_file(path):
    folder, name = os.path.basename(os.path.dirname(path)), os.path.basename(path).removesuffix(".json")
    return folder if name == "_annotations.coco" else name.removeprefix("instances_")


def _why_no_instances(path):
    """Why a JSON file holds no annotations of objects, in a few words; None where it may.

    Looks for the names of the lists alone: a training split's file can have 400 MB, and reading it whole takes time.
    """
    if os.path.basename(path).startswith(_OTHER_TASKS):
        return "another task of COCO"
    try:
        text = read_text(path)
    except UserError:
        return "not a text"
    if not text.lstrip().startswith("{"):
        return "not an object"
    missing = [name for name in LISTS if f'"{name}"' not in text]
    if missing:
        return f"no list {missing[0]!r}"
    return "panoptic" if '"segments_info"' in text else None


class Coco:
    """Reads annotation files in COCO's format.

    Args:
        data_dir: the folder where everything lies.
        annotations: dict of split → path of its annotation file.
        folders: dict of split → its folder of images, below `data_dir` or `data_dir/images`.
    """

    def __init__(self, data_dir: str, annotations: dict[str, str], folders: dict[str, str]):
        self.data_dir, self._annotations, self._folders = data_dir, annotations, folders
        self.splits = sorted(annotations)
        self._listed = {split: set(_listed_categories(path).values()) for split, path in annotations.items()}
        self.labels = tuple(sorted(set().union(*self._listed.values())))
        for split, listed in self._listed.items():
            if lacking := sorted(set(self.labels) - listed):
                say(
                    f"warning: {annotations[split]}: does not list {shown(lacking)}: unknown in split {split}",
                    error=True,
                )

    def read(self, split: str) -> Examples:
        """As `Reader.read`."""
        path = self._annotations.get(split)
        if path is None:
            raise UserError(f"split {split!r}: `data_dir`={self.data_dir} has {', '.join(self.splits)}")
        content = _parse(path)
        categories = _categories(content["categories"], _annotated_in(content), path)
        if set(categories.values()) != self._listed[split]:
            raise UserError(f"{path}: has two lists of categories; fix the file")
        columns = {key: self.labels.index(name) for key, name in categories.items()}
        blank = np.array([0 if label in self._listed[split] else UNKNOWN for label in self.labels], np.int8)
        listed = content["images"]
        images = {_field(image, "id", path): _field(image, "file_name", path, str) for image in listed}
        if not images:
            raise UserError(f"{path}: names no image")
        names = {key: photo_name(name) for key, name in images.items()}
        if not len(listed) == len(images) == len(set(names.values())):
            raise UserError(f"{path}: lists two images with the same id or file_name; fix the file")
        targets = {key: blank.copy() for key in images}
        for item in content["annotations"]:
            image, category = _field(item, "image_id", path), _field(item, "category_id", path)
            if image not in targets:
                raise UserError(f"{path}: an annotation is of image {image!r}, which is not listed; fix the file")
            if category not in columns:
                raise UserError(f"{path}: an annotation has category {category!r}, which is not listed; fix the file")
            targets[image][columns[category]] = PRESENT
        folder = self._image_folder(split, path, next(iter(images.values())))
        rows = (
            Example(names[key], targets[key], image_path=path_on_disk(os.path.join(folder, name)))
            for key, name in images.items()
        )
        return Examples.of(rows, len(self.labels))

    def _image_folder(self, split, path, name):
        folder = self._folders[split]
        candidates = [
            os.path.join(self.data_dir, folder),
            os.path.join(self.data_dir, "images", folder),
            os.path.join(self.data_dir, "images"),
            os.path.dirname(path),
            self.data_dir,
        ]
        for candidate in candidates:
            if storage.isfile(path_on_disk(os.path.join(candidate, name))):
                return candidate
        # The first image may be the one that is missing: a folder of the right name is enough.
        for candidate in candidates[:3]:
            if storage.isdir(candidate):
                return candidate
        raise UserError(f"{path}: its images are not there; looked for {name} in {', '.join(candidates)}")


def _listed_categories(path):
    """Dict of category id → name, as `_categories`; where the file is in order, without reading it whole."""
    text = read_text(path)
    start = re.search(r'"categories"\s*:\s*(?=\[)', text)
    try:
        entries = json.JSONDecoder().raw_decode(text, start.end() if start else len(text))[0]
    except (ValueError, RecursionError):
        content = _parse(path)
        return _categories(content["categories"], _annotated_in(content), path)
    return _categories(
        entries, lambda key: re.search(rf'"category_id"\s*:\s*{re.escape(json.dumps(key))}(?![\w.])', text), path
    )


def _annotated_in(content):
    keys = {str(item.get("category_id")) for item in content["annotations"] if isinstance(item, dict)}
    return lambda key: str(key) in keys


def _categories(entries, is_annotated, path):
    """Dict of category id → name, without a root category that nothing is annotated as."""
    names = {_field(entry, "id", path): clean_label(_field(entry, "name", path, str)) for entry in entries}
    repeated = len(names) < len(entries)
    names = {key: name for key, name in names.items() if key not in _roots(entries) or is_annotated(key)}
    if repeated or len(set(names.values())) < len(names) or not names:
        raise UserError(f"{path}: has no categories, or two with the same name or id; fix the file")
    return names


def _roots(entries):
    """Ids of categories that stand for the whole set, as Roboflow writes them: `none` above them, others below."""
    above = [entry.get("supercategory") for entry in entries]
    tops = [entry for entry in entries if entry.get("supercategory") in ("none", "", None)]
    return [entry["id"] for entry in tops if above.count(entry["name"])]


def _parse(path):
    content = read_json(path)
    for name in LISTS:
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise UserError(f"{path}: has no list {name!r}; a file in COCO's instances format is needed")
    return content


def _field(entry, name, path, kind=int):
    """`entry[name]`; ids may be numbers or strings, names are strings."""
    value = entry.get(name) if isinstance(entry, dict) else None
    allowed = isinstance(value, (int, str) if kind is int else kind) and not isinstance(value, bool)
    if not allowed or (isinstance(value, str) and not is_whole_text(value)):
        raise UserError(f"{path}: an entry has {name} = {str(value)[:60]!r}; a file in COCO's format is needed")
    return value
