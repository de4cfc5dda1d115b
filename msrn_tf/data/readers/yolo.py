"""YOLO folders: a text file of boxes for each photo, names of classes in `data.yaml` or `classes.txt`.

A label is present where any box of it is; a photo without a file of boxes shows none.
"""

import collections
import os
import posixpath
import re
from collections.abc import Container, Iterator, Sequence

import yaml

from msrn_tf import storage
from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_files import Folder, checked, class_of
from msrn_tf.data.listing import ListedPhotos, Listing, Marked
from msrn_tf.data.lists import read_lines
from msrn_tf.data.photos import photos_in
from msrn_tf.data.splits import USUAL_NAMES
from msrn_tf.data.targets import PRESENT
from msrn_tf.errors import UserError, first_line
from msrn_tf.terminal import say
from msrn_tf.text import clean_label, lines_of, read_text

NAME_FILES = ("classes.txt", "obj.names", "classes.names", "_darknet.labels")
SPLITS = ("train", "val", "valid", "validation", "test")
MOST_BYTES = 1 << 20
BOX = re.compile(r"(\d+)(?:\s+[-+.\deE]+){4,}")


def find_yolo(folder: Folder) -> list[str]:
    """The files of names of classes in a folder that has labels."""
    named = [p for p in folder.files((".yaml", ".yml")) if _is_description(p)] + _name_files(folder)
    return named if named and any(True for _ in _label_files(folder.path)) else []


def open_yolo(data_dir: str, _options: FormOptions) -> ListedPhotos:
    """The reader of such a folder. Splits are those of `data.yaml`, or folders `train`, `val`, …; else divided."""
    named = find_yolo(Folder(data_dir))
    if not named:
        raise UserError(f"`data_dir`={data_dir}: holds no data.yaml or classes.txt, or no labels/*.txt of YOLO")
    description = _description(named[0]) if named[0].lower().endswith((".yaml", ".yml")) else {}
    classes = _classes(description, named[0]) if description else read_lines(named[0], "give a class a line")
    classes = list(map(clean_label, classes))
    photos = sorted(os.path.relpath(path, data_dir).replace(os.sep, "/") for path in photos_in(data_dir)[0])
    labels = set(_label_files(data_dir))
    splits = _described_splits(description, photos, labels, named[0]) or _splits_of_folders(photos)
    files = {photo: _label_file(photo, labels) for names in splits.values() for photo in names}
    bare = [split for split, names in splits.items() if not any(files[photo] for photo in names)]
    if len(bare) == len(splits):
        raise UserError(f"{named[0]}: no photo below {data_dir} has a file of boxes; labels/a.txt is of images/a.jpg")
    if bare:
        say(f"left out   of {data_dir}: {', '.join(sorted(bare))}, in which no photo has a file of boxes", error=True)
    marks = {photo: _marks(os.path.join(data_dir, path), classes) if path else {} for photo, path in files.items()}
    # Each split is a list of its own, in which a photo is once: several may have the same photos.
    rows = [
        Marked(photo, marks[photo], split, source=split)
        for split, names in splits.items()
        if split not in bare
        for photo in names
    ]
    return ListedPhotos(data_dir, named[0], Listing.of(rows, list(dict.fromkeys(classes))))


def _name_files(folder):
    return [path for path in folder.files(NAME_FILES) if os.path.basename(path) in NAME_FILES]


def _is_description(path):
    try:
        return "names" in _description(path)
    except UserError:
        return False


def _description(path):
    if storage.getsize(path) > MOST_BYTES:
        raise UserError(f"{path}: is too large to describe a data set")
    try:
        content = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError, AttributeError, TypeError, OverflowError) as error:
        raise UserError(f"{path}: is not a YAML file ({first_line(error)})") from error
    return checked(content, "its content", dict, path)


def _classes(description: dict, path: str) -> list[str]:
    """Names of classes, a list or numbered from 0."""
    names = description.get("names")
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise UserError(f"{path}: its names are not numbered from 0 to {len(names) - 1}; fix the file")
        names = [names[number] for number in range(len(names))]
    return [checked(str(name) if isinstance(name, int) else name, "a name", str, path)
            for name in checked(names, "'names'", list, path)]  # fmt: skip


def _label_files(data_dir: str) -> Iterator[str]:
    """Relative paths of files that hold boxes, or nothing."""
    for inner, folders, files in storage.walk(data_dir):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(".txt") and name not in NAME_FILES:
                path = os.path.join(inner, name)
                if "labels" in os.path.relpath(inner, data_dir).split(os.sep) or _holds_boxes(path):
                    yield os.path.relpath(path, data_dir).replace(os.sep, "/")


def _holds_boxes(path):
    try:
        with storage.open_file(path, "rb") as file:
            line = file.readline(1000).decode("ascii", "replace")
    except OSError:
        return False
    return bool(BOX.fullmatch(line.strip()))


def _candidates(photo):
    """Where a photo's boxes may be: in `labels/` for its `images/`, beside it, in `labels/` above or beside it."""
    stem = posixpath.splitext(photo)[0]
    parts = stem.split("/")
    for place in reversed([n for n, part in enumerate(parts[:-1]) if part == "images"]):
        yield "/".join([*parts[:place], "labels", *parts[place + 1 :]]) + ".txt"
    yield f"{stem}.txt"
    yield posixpath.join("labels", f"{stem}.txt")
    yield posixpath.join(posixpath.dirname(stem), "labels", f"{posixpath.basename(stem)}.txt")


def _label_file(photo, labels):
    return next((path for path in _candidates(photo) if path in labels), None)


def _described_splits(
    description: dict, photos: Sequence[str], labels: Container[str], path: str
) -> dict[str, list[str]]:
    """Split → photos of the folders and lists that a description names, which may name one for several splits."""
    named, known, listed = collections.defaultdict(list), frozenset(photos), set()
    places = list(_split_places(description, photos, path))
    for place, split in places:
        if place.lower().endswith(".txt"):
            lines = read_lines(os.path.join(os.path.dirname(path), place.lstrip("/")), "give a photo a line")
            named[split] += [_photo_meant(line, known, labels) for line in lines]
            listed.update(named[split])
    # What a list names is not of the folder around it, as what is in a folder is not of one around that.
    in_folder = _photos_of_folders({place for place, _ in places}, [photo for photo in photos if photo not in listed])
    for place, split in places:
        named[split] += in_folder.get(place, [])
    return {split: list(dict.fromkeys(names)) for split, names in named.items()}


def _photos_of_folders(places, photos):
    """Folder → photos below it that no other of these folders, within it, has for itself."""
    found = collections.defaultdict(list)
    for photo in photos:
        above = [place for place in places if f"/{photo}".startswith(f"{place}/")]
        if above:
            found[max(above, key=len)].append(photo)
    return found


def _photo_meant(line, photos, labels):
    """The photo that a line of a list names; one that is not there is called as its boxes are, or as the line says.

    In any case a name below the folder: a photo elsewhere has its boxes there too, and would seem to show nothing.
    """
    tails = _tails(line) or [line]
    there = next((tail for tail in tails if tail in photos), None)
    return there or next((tail for tail in tails if _label_file(tail, labels)), tails[0])


def _splits_of_folders(photos: Sequence[str]) -> dict[str, list[str]]:
    """Split → photos of the folders that are called as splits are; of no name, all photos, where there is none."""
    named = collections.defaultdict(list)
    for photo in photos:
        folders = reversed(photo.split("/")[:-1])
        if split := next((folder for folder in folders if folder in USUAL_NAMES), ""):
            named[split].append(photo)
    return named or {"": list(photos)}


def _tails(path):
    """What a path ends with, the longest first."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _split_places(description: dict, photos: Sequence[str], path: str) -> Iterator[tuple[str, str]]:
    """Folders and lists as `/…`, with the split of each. A description's paths are those of another machine: the end of
    each is looked for."""
    for split in SPLITS:
        given = description.get(split)
        for folder in given if isinstance(given, list) else [given]:
            if isinstance(folder, str) and folder.strip():
                tails = [f"/{tail}" for tail in _tails(folder)]
                place = next((t for t in tails if _is_place(t, photos, os.path.dirname(path))), None)
                if place is None and split != "test":
                    raise UserError(f"{path}: {split} is {folder!r}, in which there is no photo; fix the file")
                if place is not None:
                    yield place, split


def _is_place(place, photos, data_dir):
    is_list = place.lower().endswith(".txt") and storage.isfile(os.path.join(data_dir, place.lstrip("/")))
    return is_list or any(f"/{photo}".startswith(f"{place}/") for photo in photos)


def _marks(path, classes):
    marks = {}
    for line, text in enumerate(lines_of(read_text(path)), 1):
        box = BOX.fullmatch(text)
        if not box:
            raise UserError(f"{path}, line {line}: {text[:60]!r} is not a class and box of YOLO")
        marks[class_of(int(box[1]), classes, f"{path}, line {line}")] = PRESENT
    return marks
