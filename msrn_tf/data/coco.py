"""MS COCO's annotation format (Lin et al., arXiv 1405.0312): COCO 2014, 2017, and any file written like theirs.

Labels are the categories' names in **alphabetical order**, as in the published label graphs and weights, not by
category id. A label is present where any object of it is annotated, crowds included; an image without objects shows
none.
"""

import glob
import json
import os

import numpy as np

from msrn_tf.data.example import PRESENT, Example
from msrn_tf.errors import UserError


def open_coco(data_dir, year):
    """COCO as it is unpacked: `annotations/instances_{train,val}{year}.json`, `train{year}/`, `val{year}/`."""
    paths = {
        split: os.path.join(data_dir, "annotations", f"instances_{split}{year}.json") for split in ("train", "val")
    }
    found = {split: path for split, path in paths.items() if os.path.isfile(path)}
    if not found:
        raise UserError(f"--data_dir={data_dir}: holds neither {' nor '.join(paths.values())}; unpack the annotations")
    return Coco(data_dir, found, {split: f"{split}{year}" for split in found})


def open_coco_json(data_dir):
    """Files in COCO's format: `SPLIT.json`, `annotations/SPLIT.json` or `SPLIT/_annotations.coco.json`."""
    found = {}
    for path in sorted(
        glob.glob(os.path.join(glob.escape(data_dir), "*.json"))
        + glob.glob(os.path.join(glob.escape(data_dir), "*", "*.json"))
    ):
        folder, name = os.path.basename(os.path.dirname(path)), os.path.basename(path).removesuffix(".json")
        found[folder if name == "_annotations.coco" else name.removeprefix("instances_")] = path
    if not found:
        raise UserError(f"--data_dir={data_dir}: holds no annotation file (SPLIT.json, annotations/SPLIT.json)")
    return Coco(data_dir, found, {split: split for split in found})


class Coco:
    """Reads annotation files in COCO's format.

    Args:
        data_dir: the folder where everything lies.
        annotations: dict of split → path of its annotation file.
        folders: dict of split → its folder of images, below `data_dir` or `data_dir/images`.
    """

    def __init__(self, data_dir, annotations, folders):
        self.data_dir, self._annotations, self._folders = data_dir, annotations, folders
        self.splits = sorted(annotations)
        self._parsed = {}
        # The smallest file says the labels: a training split's can have 400 MB.
        path = min(annotations.values(), key=os.path.getsize)
        self.labels = tuple(sorted(set(self._categories(path).values())))

    def read(self, split):
        path = self._annotations.get(split)
        if path is None:
            raise UserError(f"split {split!r}: --data_dir={self.data_dir} has {', '.join(self.splits)}")
        categories = self._categories(path)
        strangers = sorted(set(categories.values()) - set(self.labels))
        if strangers:
            raise UserError(f"{path}: categories {', '.join(strangers)} are not in the other splits' files; mend them")
        columns = {key: self.labels.index(name) for key, name in categories.items()}
        listed = self._file(path)["images"]
        images = {_field(image, "id", path): _field(image, "file_name", path, str) for image in listed}
        if not images:
            raise UserError(f"{path}: names no image")
        if not len(listed) == len(images) == len(set(images.values())):
            raise UserError(f"{path}: lists two images of one id or file_name; mend the file")
        targets = {key: np.zeros(len(self.labels), np.int8) for key in images}
        for item in self._file(path)["annotations"]:
            image, category = _field(item, "image_id", path), _field(item, "category_id", path)
            if image not in targets:
                raise UserError(f"{path}: an annotation is of image {image!r}, which is not listed; mend the file")
            if category not in columns:
                raise UserError(f"{path}: an annotation has category {category!r}, which is not listed; mend the file")
            targets[image][columns[category]] = PRESENT
        folder = self._image_folder(split, path, next(iter(images.values())))
        self._parsed.clear()  # hundreds of megabytes
        return [Example(name, targets[key], image_path=os.path.join(folder, name)) for key, name in images.items()]

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
            if os.path.isfile(os.path.join(candidate, name)):
                return candidate
        # The first image may be the one that is missing: a folder of the right name is enough.
        for candidate in candidates[:3]:
            if os.path.isdir(candidate):
                return candidate
        raise UserError(f"{path}: its images are not there; looked for {name} in {', '.join(candidates)}")

    def _categories(self, path):
        categories = {_field(c, "id", path): _field(c, "name", path, str) for c in self._file(path)["categories"]}
        if len(set(categories.values())) < len(categories) or not categories:
            raise UserError(f"{path}: has no categories, or two of one name; mend the file")
        return categories

    def _file(self, path):
        if path not in self._parsed:
            self._parsed[path] = _parse(path)
        return self._parsed[path]


def _parse(path):
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON file ({str(error)[:100]})") from error
    for name in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise UserError(f"{path}: has no list {name!r}; a file in COCO's instances format is needed")
    return content


def _field(entry, name, path, kind=int):
    """`entry[name]`; ids may be numbers or strings, names are strings."""
    value = entry.get(name) if isinstance(entry, dict) else None
    allowed = isinstance(value, (int, str) if kind is int else kind) and not isinstance(value, bool)
    if not allowed or (isinstance(value, str) and not _is_text(value)):
        raise UserError(f"{path}: an entry has {name} = {str(value)[:60]!r}; a file in COCO's format is needed")
    return value


def _is_text(value):
    """Whether a string can be written: JSON may hold halves of characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
