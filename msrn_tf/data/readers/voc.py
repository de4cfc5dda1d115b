"""PASCAL VOC 2007 and 2012, as the devkit is unpacked (Everingham et al., IJCV 2010)."""

import os
import xml.etree.ElementTree as ElementTree

import numpy as np

from msrn_tf.data.examples import ABSENT, PRESENT, UNKNOWN, Example, Examples
from msrn_tf.data.lists import read_lines
from msrn_tf.data.photo_names import refuse_repeats
from msrn_tf.data.photos import is_ignored_name
from msrn_tf.errors import UserError
from msrn_tf.text import clean_label, read_bytes

DIFFICULT = {"1": True, "true": True, "0": False, "false": False, "": False, "unspecified": False}

VOC_LABELS = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


class VOC:
    """Reads `VOC{year}/{JPEGImages,Annotations,ImageSets/Main}`.

    A label is present where an object of its class is not marked *difficult*, unknown (−1) where all of them are.

    Args:
        data_dir: the folder `VOC{year}`, or one above it (`VOCdevkit`, or what holds `VOCdevkit`).
        year: 2007 or 2012.
    """

    labels = VOC_LABELS

    def __init__(self, data_dir: str, year: int = 2007):
        self.root = self._find_root(data_dir, f"VOC{year}")
        main = os.path.join(self.root, "ImageSets", "Main")
        if not os.path.isdir(main):
            raise UserError(f"`data_dir`={data_dir}: {main} is missing; unpack the whole devkit")
        # Besides the splits, Main holds one list a class: `aeroplane_train.txt`.
        names = [name for name in sorted(os.listdir(main)) if name.endswith(".txt") and not is_ignored_name(name)]
        self.splits = [name.removesuffix(".txt") for name in names if "_" not in name]

    def read(self, split: str) -> Examples:
        path = os.path.join(self.root, "ImageSets", "Main", f"{split}.txt")
        if split not in self.splits:
            raise UserError(f"split {split!r}: {path} is missing; splits there are {', '.join(self.splits)}")
        # The first column is the image; class lists have a second one.
        image_ids = [line.split()[0] for line in read_lines(path, "complete the devkit")]
        if not image_ids:
            raise UserError(f"{path}: names no image")
        refuse_repeats(image_ids, path)
        return Examples.of(map(self._example, image_ids), len(self.labels))

    def _example(self, image_id):
        image_path = os.path.join(self.root, "JPEGImages", f"{image_id}.jpg")
        return Example(image_id, self._target(image_id), image_path=image_path)

    def places(self, example: Example, size: int) -> dict[str, np.ndarray]:
        """Where objects are in the photo warped to `size`×`size`: label → bool `[size, size]`, within its boxes."""
        annotation = self._annotation(example.image_id)
        try:
            return self._places(annotation, size)
        except (AttributeError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
            path = self._annotation_path(example.image_id)
            raise UserError(f"{path}: has no size, or an object without a name or a box ({error}); mend it") from error

    @staticmethod
    def _places(annotation, size):
        sides = [float(annotation.findtext(f"size/{side}")) for side in ("width", "height")]
        places = {}
        for item in annotation.findall("object"):
            x0, y0, x1, y1 = (float(item.findtext(f"bndbox/{end}")) for end in ("xmin", "ymin", "xmax", "ymax"))
            rows, columns = (
                slice(int((low - 1) / side * size), max(1, round(high / side * size)))
                for low, high, side in ((y0, y1, sides[1]), (x0, x1, sides[0]))
            )
            places.setdefault(clean_label(item.findtext("name")), np.zeros((size, size), bool))[rows, columns] = True
        return places

    def _annotation_path(self, image_id):
        return os.path.join(self.root, "Annotations", f"{image_id}.xml")

    def _annotation(self, image_id):
        path = self._annotation_path(image_id)
        try:
            return ElementTree.fromstring(read_bytes(path, "complete the devkit"))
        except (ElementTree.ParseError, UnicodeDecodeError, LookupError, ValueError) as error:
            raise UserError(f"{path}: is not well-formed XML ({error})") from error

    def _target(self, image_id):
        path = self._annotation_path(image_id)
        objects = self._annotation(image_id).findall("object")
        target = np.full(len(self.labels), ABSENT, np.int8)
        for item in objects:
            name = clean_label(item.findtext("name") or "")
            if name not in self.labels:
                raise UserError(f"{path}: class {name!r} is none of VOC's {len(self.labels)}; mend the annotation")
            index = self.labels.index(name)
            mark = (item.findtext("difficult") or "").strip().lower()
            if mark not in DIFFICULT:
                raise UserError(f"{path}: has difficult = {mark[:60]!r}; write 0 or 1")
            if not DIFFICULT[mark]:
                target[index] = PRESENT
            elif target[index] == ABSENT:
                target[index] = UNKNOWN
        return target

    @staticmethod
    def _find_root(data_dir, folder):
        candidates = [data_dir, os.path.join(data_dir, folder), os.path.join(data_dir, "VOCdevkit", folder)]
        for candidate in candidates:
            if os.path.isdir(os.path.join(candidate, "JPEGImages")):
                return candidate
        raise UserError(f"`data_dir`={data_dir}: holds no {folder}/JPEGImages; give the folder with the VOC devkit")
