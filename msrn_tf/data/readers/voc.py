"""PASCAL VOC 2007 and 2012, as the devkit is unpacked (Everingham et al., IJCV 2010), and XML files of that form.

Most annotation tools write the latter, of one's own classes: `--dataset=voc`.
"""

import os
import posixpath
import re

import numpy as np

from msrn_tf import storage
from msrn_tf.data.examples import ABSENT, PRESENT, UNKNOWN, Example, Examples
from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_files import Folder, read_xml, start_of
from msrn_tf.data.listing import ListedPhotos, Listing, Marked
from msrn_tf.data.lists import read_lines
from msrn_tf.data.photo_names import refuse_repeats
from msrn_tf.data.photos import PHOTO_SUFFIXES, is_ignored_name, walk
from msrn_tf.data.splits import USUAL_NAMES
from msrn_tf.errors import UserError
from msrn_tf.progress import ProgressBar
from msrn_tf.text import clean_label

ADVICE = "complete the devkit"
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
        if not storage.isdir(main):
            raise UserError(f"`data_dir`={data_dir}: {main} is missing; unpack the whole devkit")
        # Besides the splits, Main holds one list a class: `aeroplane_train.txt`.
        names = [name for name in sorted(storage.listdir(main)) if name.endswith(".txt") and not is_ignored_name(name)]
        self.splits = [name.removesuffix(".txt") for name in names if "_" not in name]

    def read(self, split: str) -> Examples:
        """As `Reader.read`."""
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
        return places_in(self._annotation_path(example.image_id), size)

    def _annotation_path(self, image_id):
        return os.path.join(self.root, "Annotations", f"{image_id}.xml")

    def _target(self, image_id):
        path = self._annotation_path(image_id)
        target = np.full(len(self.labels), ABSENT, np.int8)
        for name, value in marks_in(path).items():
            if name not in self.labels:
                raise UserError(f"{path}: class {name!r} is not one of VOC's {len(self.labels)}; fix the annotation")
            target[self.labels.index(name)] = value
        return target

    @staticmethod
    def _find_root(data_dir, folder):
        for candidate in [data_dir, *_roots(data_dir, folder)]:
            if storage.isdir(os.path.join(candidate, "JPEGImages")):
                return candidate
        raise UserError(f"`data_dir`={data_dir}: holds no {folder}/JPEGImages; give the folder with the VOC devkit")


def _roots(data_dir, folder):
    return [os.path.join(data_dir, folder), os.path.join(data_dir, "VOCdevkit", folder)]


def find_voc(folder: Folder, year: int) -> list[str]:
    """The devkit's folder of a year below a folder, or that itself."""
    own = [folder.path] if os.path.basename(os.path.abspath(folder.path)) == f"VOC{year}" else []
    candidates = [*own, *_roots(folder.path, f"VOC{year}")]
    return [path for path in candidates if storage.isdir(os.path.join(path, "ImageSets", "Main"))]


def marks_in(path: str) -> dict[str, int]:
    """Label → `PRESENT`, or `UNKNOWN` where all its objects are difficult, of an annotation. Raises `UserError`."""
    marks = {}
    for item in read_xml(path, ADVICE).findall("object"):
        name = clean_label(item.findtext("name") or "")
        mark = (item.findtext("difficult") or "").strip().lower()
        if mark not in DIFFICULT:
            raise UserError(f"{path}: has difficult = {mark[:60]!r}; write 0 or 1")
        if not DIFFICULT[mark]:
            marks[name] = PRESENT
        else:
            marks.setdefault(name, UNKNOWN)
    return marks


def places_in(path: str, size: int) -> dict[str, np.ndarray]:
    """Where objects of an annotation are in the photo warped to `size`×`size`: label → bool `[size, size]`."""
    try:
        return _places(read_xml(path, ADVICE), size)
    except (AttributeError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise UserError(f"{path}: has no size, or an object without a name or a box ({error}); fix it") from error


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


class AnnotatedPhotos(ListedPhotos):
    """Photos with an XML file in VOC's form each, of any classes. Labels are sorted.

    Photos lie in `JPEGImages` for `Annotations`, or beside their files. Splits are the lists in `ImageSets/Main`, or
    folders `train`, `val`, …; else photos are divided.
    """

    def __init__(self, data_dir: str):
        self._annotations = {_photo_of(path, data_dir): path for path in find_annotations(Folder(data_dir))}
        if not self._annotations:
            raise UserError(f"`data_dir`={data_dir}: holds no XML file in VOC's form (annotation, object, name)")
        self._annotation_of: dict[str, str] = {}
        rows = []
        with ProgressBar("reading annotations", len(self._annotations), "files") as bar:
            for number, (name, path) in enumerate(self._annotations.items(), 1):
                marks = marks_in(path)
                rows += [Marked(name, marks, split, source) for split, source in self._splits_of(name, data_dir)]
                bar.update(number)
        super().__init__(data_dir, data_dir, Listing.of(rows))

    def places(self, example: Example, size: int) -> dict[str, np.ndarray]:
        """Where objects are in the photo warped to `size`×`size`: label → bool `[size, size]`, within its boxes."""
        return places_in(self._annotation_of[example.image_id], size)

    def _located(self):
        found = super()._located()
        # Base names do not tell photos apart: folders of splits may have the same ones.
        names = zip(found.ids, self._listing.names, strict=True)
        self._annotation_of = {place: self._annotations[name] for place, name in names}
        return found

    def _splits_of(self, name, data_dir):
        """`(split, list)` of each list that names a photo, or of its folder."""
        if not hasattr(self, "_lists"):
            self._lists = _lists_of_splits(data_dir)
        if self._lists:
            return [(split, path) for (split, path), stems in self._lists.items() if _stem(name) in stems]
        return [(next((part for part in name.split("/") if part in USUAL_NAMES), ""), "")]


def open_voc(data_dir: str, _options: FormOptions) -> AnnotatedPhotos:
    """The reader of a folder with XML files in VOC's form."""
    return AnnotatedPhotos(data_dir)


def find_annotations(folder: Folder) -> list[str]:
    """Paths of a folder's XML files in VOC's form; where the first is none, there are none."""
    paths = [
        os.path.join(inner, name)
        for inner, _, names in walk(folder.path)
        for name in names
        if name.lower().endswith(".xml")
    ]
    return paths if paths and re.search(r"<annotation[\s>]", start_of(paths[0])) else []


def _photo_of(path, data_dir):
    """The photo's name for an annotation: that of its file, with the suffix that the annotation says."""
    stem = os.path.splitext(os.path.basename(path))[0]
    named = start_of(path).partition("<filename>")[2].partition("</filename>")[0].strip()
    suffix = os.path.splitext(named)[1] if os.path.splitext(os.path.basename(named))[0] == stem else ""
    folder = os.path.relpath(os.path.dirname(path), data_dir).replace(os.sep, "/")
    folder = posixpath.normpath(
        "/".join("JPEGImages" if part.lower() == "annotations" else part for part in folder.split("/"))
    )
    return posixpath.normpath(posixpath.join(folder, stem + (suffix if suffix.lower() in PHOTO_SUFFIXES else "")))


def _stem(name: str) -> str:
    base = posixpath.basename(name)
    stem, suffix = posixpath.splitext(base)
    return stem if suffix.lower() in PHOTO_SUFFIXES else base


def _lists_of_splits(data_dir: str) -> dict[tuple[str, str], frozenset[str]]:
    """`(split, path)` → stems, of the lists in `ImageSets/Main`, without those of one class."""
    lists = {}
    for inner, _, names in walk(data_dir):
        if os.path.basename(inner) == "Main" and os.path.basename(os.path.dirname(inner)) == "ImageSets":
            for name in names:
                if name.endswith(".txt") and "_" not in name:
                    path = os.path.join(inner, name)
                    stems = frozenset(map(_stem, read_lines(path, ADVICE)))
                    lists[name.removesuffix(".txt"), os.path.relpath(path, data_dir)] = stems
    return lists
