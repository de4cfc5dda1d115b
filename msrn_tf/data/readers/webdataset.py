"""WebDataset's tar files: members of one name belong together, `a.jpg` with `a.json`, `a.txt` or `a.cls`.

The photos are kept in memory as they are in the archives.
"""

import collections
import itertools
import json
import os
import posixpath
import re
import tarfile

from msrn_tf import storage
from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_files import Folder, checked, class_of
from msrn_tf.data.listing import ListedPhotos, Listing, Marked
from msrn_tf.data.lists import read_lines
from msrn_tf.data.photos import PHOTO_SUFFIXES
from msrn_tf.data.readers.label_lists import parsed, separator_of
from msrn_tf.data.readers.table_columns import LIST_COLUMNS, WORDS
from msrn_tf.data.splits import split_of_file
from msrn_tf.data.targets import PRESENT, UNKNOWN
from msrn_tf.errors import UserError, first_line
from msrn_tf.progress import ProgressBar
from msrn_tf.text import clean_label

LABEL_SUFFIXES = (".json", ".txt", ".cls")
CLASS_FILES = ("classes.txt", "classnames.txt", "labels.txt")
MOST_LABEL_BYTES = 1 << 20
MOST_BYTES = 8 << 30
MEMBERS_LOOKED_AT = 16


def find_webdataset(folder: Folder) -> list[str]:
    """The tar files in a folder, where the first begins with a photo or its labels."""
    paths = folder.files((".tar",))
    return paths if paths and _begins_with_samples(paths[0]) else []


def _begins_with_samples(path):
    try:
        with storage.open_file(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            first = [item.name.lower() for item in itertools.islice(archive, MEMBERS_LOOKED_AT)]
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError):
        return False
    return any(name.endswith(PHOTO_SUFFIXES) for name in first) and any(n.endswith(LABEL_SUFFIXES) for n in first)


def open_webdataset(data_dir: str, _options: FormOptions) -> ListedPhotos:
    """The reader of a folder's tar files. Splits are those that files or folders are named by, else divided."""
    paths = Folder(data_dir).files((".tar",))
    if not paths:
        raise UserError(f"`data_dir`={data_dir}: holds no .tar file of WebDataset")
    size = sum(map(storage.getsize, paths))
    if size > MOST_BYTES:
        raise UserError(
            f"`data_dir`={data_dir}: its tar files have {size / 1e9:.0f} GB, which are kept in memory; unpack "
            "them, and name photos and labels in a table"
        )
    samples = []
    with ProgressBar("reading archives", len(paths), "files") as bar:
        for number, path in enumerate(paths, 1):
            samples += _samples(path, split_of_file(path, data_dir), os.path.relpath(path, data_dir))
            bar.update(number)
    texts = [text for *_, labels in samples if (text := labels.get(".txt")) is not None]
    separator = separator_of([text.strip() for text in texts], data_dir) if texts else ""
    classes = _classes(data_dir)
    rows = [
        Marked(name, _marks(labels, separator, classes, f"{source}, {name}"), split, source, content)
        for name, content, split, source, labels in samples
    ]
    return ListedPhotos(data_dir, data_dir, Listing.of(rows), names_what_is_shown=True)


def _samples(path: str, split: str, source: str) -> list[tuple[str, bytes, str, str, dict[str, str]]]:
    """`(name, photo, split, source, texts of labels by suffix)` of each photo."""
    photos, labels = {}, collections.defaultdict(dict)
    left = storage.getsize(path)
    try:
        with storage.open_file(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for item in archive:
                key, suffix = _key(item.name)
                if not item.isreg() or posixpath.basename(item.name).startswith("."):
                    continue
                left -= item.size
                if left < 0:  # of a sparse member the archive has the few bytes that are not zero
                    raise UserError(f"{path}: is smaller than what it says to hold, up to {item.name}; make it again")
                if suffix in PHOTO_SUFFIXES:
                    if key in photos:
                        raise UserError(f"{path}: holds two photos {key}; give each a name of its own")
                    photos[key] = (item.name, _content(archive, item))
                elif suffix in LABEL_SUFFIXES:
                    if item.size > MOST_LABEL_BYTES:
                        raise UserError(f"{path}: {item.name} has {item.size / 1e6:.0f} MB, too many for labels")
                    labels[key][suffix] = _content(archive, item).decode("utf-8-sig")
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: cannot be read as a tar file ({first_line(error)}); make it again") from error
    if bare := [name for key, (name, _) in photos.items() if key not in labels]:
        raise UserError(f"{path}: {bare[0]} has no {', '.join(LABEL_SUFFIXES)} beside it that names its labels")
    return [(name, content, split, source, labels[key]) for key, (name, content) in photos.items()]


def _key(name):
    """A member's name up to the first dot of its base name, and its last suffix."""
    folder, base = posixpath.split(name)
    return posixpath.join(folder, base.split(".", 1)[0]), posixpath.splitext(base)[1].lower()


def _content(archive, item):
    file = archive.extractfile(item)
    content = file.read() if file else b""
    if len(content) != item.size:
        raise EOFError(f"{item.name} is cut short")
    return content


def _marks(labels, separator, classes, where):
    if ".json" in labels:
        try:
            value = json.loads(labels[".json"])
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: its .json is not valid JSON ({str(error)[:100]})") from error
        return _of_json(value, classes, where)
    if ".txt" in labels:
        return parsed(labels[".txt"].strip(), separator, where)
    number = labels[".cls"].strip()
    if not re.fullmatch(r"\d{1,9}", number):
        return {clean_label(number): PRESENT} if number else {}
    return {_class(int(number), classes, where): PRESENT}


def _of_json(value, classes, where):
    """Labels of a list, of an object's member that holds them, or of an object of label → 1 or 0."""
    if isinstance(value, dict):
        named = {key.casefold(): key for key in value}
        key = next((named[name] for name in LIST_COLUMNS if name in named), None)
        if key is None:
            states = {label: WORDS.get(str(state).casefold(), 2) for label, state in value.items()}
            if not states or 2 in states.values():
                raise UserError(f"{where}: its .json has none of {', '.join(LIST_COLUMNS[:6])}, …")
            return {
                clean_label(label): UNKNOWN if state is None else state for label, state in states.items() if state != 0
            }
        value = value[key]
        if isinstance(value, dict):
            return _of_json(value, classes, where)
    marks = {}
    for label in value if isinstance(value, list) else [value]:
        name = _class(label, classes, where) if isinstance(label, int) else checked(label, "a label", str, where)
        marks[clean_label(name)] = PRESENT
    return marks


def _class(number, classes, where):
    return class_of(number, classes, where) if classes else f"label {number}"


def _classes(data_dir):
    found = [path for path in Folder(data_dir).files(CLASS_FILES) if os.path.basename(path) in CLASS_FILES]
    return read_lines(found[0], "give a class a line") if found else []
