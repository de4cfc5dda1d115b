"""Files that hold labels, found in a data set's folder and read with care: they are other people's."""

import functools
import json
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msrn_tf import storage
from msrn_tf.data.label_choice import shown
from msrn_tf.data.photos import is_ignored_name, is_photo_name
from msrn_tf.data.splits import split_of_file, split_of_single
from msrn_tf.errors import UserError
from msrn_tf.text import is_whole_text, read_bytes, read_text, text_of

START_BYTES = 1 << 16


class Folder:
    """A data set's folder. Its names are listed once, however many forms of labels are looked for in it.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: str):
        self.path = path

    @functools.cached_property
    def levels(self) -> tuple[list[str], list[str]]:
        """Paths of what is in it, and of what is in its folders, each sorted; neither photos nor hidden names."""
        top, folders = _listed(self.path)
        return top, sorted(path for folder in folders for path in _listed(folder)[0])

    def files(self, suffixes: Sequence[str]) -> list[str]:
        """Paths of the files with some suffixes in it and in its folders, sorted."""
        return sorted(path for level in self.levels for path in level if path.lower().endswith(tuple(suffixes)))

    def label_files(self, suffixes: Sequence[str], is_one: Callable[[str], bool]) -> list[str]:
        """Paths of the files with some suffixes whose start (see `start_of`) is that of a form."""
        return [path for path in self.files(suffixes) if is_one(start_of(path))]


def _listed(folder):
    """`(paths, folders)`: what is in a folder but photos, sorted, and which of that are folders."""
    paths, folders = [], []
    for entry in storage.entries(folder):
        if is_ignored_name(entry.name):
            continue
        if entry.is_folder:
            folders.append(entry.path)
        if not is_photo_name(entry.name):
            paths.append(entry.path)
    return sorted(paths), folders


def start_of(path: str) -> str:
    """The first text of a regular file; empty where it is none."""
    try:
        if not storage.isfile(path):
            return ""
        with storage.open_file(path, "rb") as file:
            return text_of(file.read(START_BYTES), "replace").lstrip()
    except (OSError, ValueError):
        return ""


def one_a_split(paths: Sequence[str], data_dir: str, what: str) -> dict[str, str]:
    """The files of a form, path → split; of a single one that is not named by another split than train, it is empty.

    Raises:
        UserError: there is none, or several of which two are of one split or one of none; `what` says what is looked
            for.
    """
    if not paths:
        raise UserError(f"`data_dir`={data_dir}: holds no {what}")
    splits = {path: split_of_file(path, data_dir) for path in paths}
    if len(paths) == 1:
        return {path: split_of_single(split) for path, split in splits.items()}
    if len(set(splits.values())) < len(paths) or "" in splits.values():
        names = shown(os.path.relpath(path, data_dir) for path in paths)
        raise UserError(
            f"`data_dir`={data_dir}: holds {len(paths)} files of labels, {names}; leave one, or name each after its "
            "split"
        )
    return splits


def read_json(path: str) -> Any:
    """What a JSON file holds. Raises `UserError` where it is none."""
    return _json(read_text(path), path)


def read_json_lines(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file with one a line, each with the start of a sentence about it. Raises `UserError`."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            entry = _json(line, where)
            if not isinstance(entry, dict):
                raise UserError(f"{where}: is not a JSON object, such as {{…}}")
            yield where, entry


def _json(text, where):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is not a JSON file ({str(error)[:100]})") from error


def member(entry: Any, name: str, kind: type, where: str) -> Any:
    """`entry[name]`, of some type; text is whole characters. Raises `UserError` where it is not there or another."""
    value = entry.get(name) if isinstance(entry, dict) else None
    return checked(value, f"{name!r}", kind, where)


def checked(value: Any, name: str, kind: type, where: str) -> Any:
    """The value, of some type; text is whole characters. Raises `UserError` where it is another; `name`: what it is."""
    if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, str) and not is_whole_text(value)):
        raise UserError(f"{where}: has {name} = {str(value)[:60]!r}, which is not {_KINDS[kind]}; fix the file")
    return value


_KINDS = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}


def class_of(index: Any, classes: Sequence[str], where: str) -> str:
    """The class with a number. Raises `UserError` where there is none."""
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(classes):
        raise UserError(f"{where}: has class {str(index)[:60]!r}, and there are {len(classes)}, from 0; fix the file")
    return classes[index]


def read_xml(path: str, advice: str) -> ElementTree.Element:
    """The root of an XML file. Raises `UserError` where it is none; `advice` says what to do then."""
    try:
        return ElementTree.fromstring(read_bytes(path, advice))
    except (ElementTree.ParseError, UnicodeDecodeError, LookupError, ValueError) as error:
        raise UserError(f"{path}: is not well-formed XML ({error})") from error
