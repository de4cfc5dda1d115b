"""Label Studio's exports: JSON, JSON-MIN and CSV. What all annotators of a photo chose is present.

What some of them chose is unknown, and what none did is absent. Skipped annotations and photos that nobody looked at
are left out.
"""

import collections
import json
import os
import posixpath
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import Any

from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_files import Folder, checked, member, one_a_split, read_json
from msrn_tf.data.listing import ListedPhotos, Listing, Marked
from msrn_tf.data.photos import PHOTO_SUFFIXES, photos_in
from msrn_tf.data.readers.table_file import column_of, header_of, read_table, text_column
from msrn_tf.data.targets import PRESENT, UNKNOWN
from msrn_tf.errors import UserError
from msrn_tf.terminal import say
from msrn_tf.text import clean_label

CHOICES = ("choice", "choices", "label", "labels", "tag", "tags", "class")
OF_ANNOTATIONS = {"annotation_id", "annotator", "lead_time"}
UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")


def find_label_studio(folder: Folder) -> list[str]:
    """The exports in a folder."""
    found = folder.label_files((".json",), _is_export)
    return found + [path for path in folder.label_files((".csv",), bool) if _is_table(header_of(path))]


def _is_export(start):
    full = '"annotations"' in start and '"data"' in start and '"result"' in start
    return start.startswith("[") and (full or ('"annotator"' in start and '"annotation_id"' in start))


def _is_table(names):
    return len(OF_ANNOTATIONS & set(names)) > 1


def open_label_studio(data_dir: str, _options: FormOptions) -> ListedPhotos:
    """The reader of a folder with an export, or with one a split."""
    files = one_a_split(find_label_studio(Folder(data_dir)), data_dir, "export of Label Studio (JSON, JSON-MIN or CSV)")
    photos = {posixpath.basename(path.replace(os.sep, "/")) for path in photos_in(data_dir)[0]}
    rows = []
    for path, split in files.items():
        chosen = collections.defaultdict(list)
        for name, labels in _annotations(path):
            chosen[_photo(name, photos)].append(labels)
        rows += [Marked(name, agreed(sets), split, os.path.relpath(path, data_dir)) for name, sets in chosen.items()]
    return ListedPhotos(data_dir, next(iter(files)), Listing.of(rows), names_what_is_shown=True)


def agreed(label_sets: Iterable[set[str]]) -> dict[str, int]:
    """Marks of a photo that several people looked at: present what all named, unknown what only some did."""
    sets = list(label_sets)
    everybody = set.intersection(*sets)
    return {label: PRESENT if label in everybody else UNKNOWN for label in sorted(set.union(*sets))}


def _annotations(path: str) -> Iterator[tuple[str, set[str]]]:
    """`(photo, labels)` for each annotation in a file."""
    if path.lower().endswith(".csv"):
        yield from _of_table(path)
        return
    tasks = checked(read_json(path), "the file", list, path)
    unseen = 0
    for number, task in enumerate(tasks, 1):
        where = f"{path}, task {number}"
        if isinstance(task, dict) and "annotations" in task:
            done = [a for a in member(task, "annotations", list, where) if not _is_skipped(a, where)]
            unseen += not done
            for annotation in done:
                yield _image_of(member(task, "data", dict, where), where), _labels_of(annotation, where)
        else:
            fields = checked(task, "a task", dict, where)
            choice = next((fields[name] for name in CHOICES if fields.get(name) is not None), [])
            yield _image_of(fields, where), _choices(choice, where)
    if unseen:
        say(f"left out   {unseen} photos of {path} that nobody annotated", error=True)


def _of_table(path):
    table = read_table(path)
    image, choice = column_of(table, ("image", "img", "photo", "url")), column_of(table, CHOICES)
    if image is None or choice is None:
        raise UserError(f"{path}: has no column image, or none of {', '.join(CHOICES)}; export it as JSON")
    fields = zip(text_column(table, image), text_column(table, choice), strict=True)
    for line, (name, field) in enumerate(fields, 2):
        where = f"{path}, line {line}"
        try:
            value = json.loads(field) if field[:1] in ("{", "[") else field
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: {field[:60]!r} is neither a label nor JSON") from error
        yield checked(name or None, "image", str, where), _choices(value, where)


def _is_skipped(annotation, where):
    return bool(checked(annotation, "an annotation", dict, where).get("was_cancelled"))


def _labels_of(annotation, where):
    """Labels of all results: choices, and those of boxes and other regions."""
    labels = set()
    for result in member(annotation, "result", list, where):
        kind = member(result, "type", str, where)
        if kind == "choices" or kind.endswith("labels"):
            labels |= _choices(member(result, "value", dict, where).get(kind, []), where)
    return labels


def _choices(value: Any, where: str) -> set[str]:
    if isinstance(value, dict):
        value = value.get("choices", value.get("labels"))
    if isinstance(value, str):
        value = [value]
    labels = (checked(label, "a choice", str, where) for label in checked(value, "its choices", list, where))
    return {label for label in map(clean_label, labels) if label}


def _image_of(fields, where):
    """The photo's address in a task's data."""
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    names = [n for n, value in texts.items() if value.lower().split("?")[0].endswith(PHOTO_SUFFIXES) or "?d=" in value]
    name = next((n for n in ("image", "img", *names) if n in texts), None)
    return checked(texts.get(name), "the photo's address", str, where)


def _photo(address, photos):
    """The photo of an address: of a local file, of an upload (whose name begins with a mark of eight letters), any."""
    if "?d=" in address:
        return urllib.parse.unquote(address.split("?d=", 1)[1])
    base = posixpath.basename(urllib.parse.unquote(address))
    if UPLOAD.match(base) and base not in photos and UPLOAD.sub("", base) in photos:
        return UPLOAD.sub("", base)
    return base if "/data/upload/" in address else address
