"""PaddleClas' lists: a photo a line, and behind a tab a 0 or 1 for each label, or the number of its one label."""

import os
import re

from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_files import Folder, class_of, one_a_split, start_of
from msrn_tf.data.listing import ListedPhotos, Listing, Marked
from msrn_tf.data.lists import read_lines
from msrn_tf.data.photos import PHOTO_SUFFIXES
from msrn_tf.data.targets import PRESENT
from msrn_tf.errors import UserError
from msrn_tf.terminal import say
from msrn_tf.text import clean_label

LABEL_FILES = ("label_list.txt", "labels.txt", "classes.txt", "label.txt")
ROW = re.compile(r"(.+?)[\t ]([01](?:,[01])+|\d+)")


def find_paddleclas(folder: Folder) -> list[str]:
    """The lists in a folder; such of one number a photo only where a file names the labels."""
    has_names = _names_file(folder) is not None
    return [path for path in folder.files((".txt",)) if _is_list(start_of(path), has_names)]


def _is_list(start, has_names):
    lines = start.splitlines()
    row = ROW.fullmatch(lines[0].strip()) if lines else None
    return bool(row and row[1].lower().endswith(PHOTO_SUFFIXES) and (has_names or "," in row[2]))


def open_paddleclas(data_dir: str, _options: FormOptions) -> ListedPhotos:
    """The reader of a folder with a list, or with one a split, and `label_list.txt` with the labels' names."""
    files = one_a_split(find_paddleclas(Folder(data_dir)), data_dir, "list of PaddleClas (photo, tab, 0,1,0…)")
    rows = [
        (path, line, *_parsed(text, path, line)) for path in files for line, text in enumerate(read_lines(path, ""), 1)
    ]
    widths = {value.count(",") + 1 for *_, value in rows}
    if len(widths) > 1:
        raise UserError(f"{rows[0][0]}: has rows of {min(widths)} and of {max(widths)} labels; give each as many")
    names = _names(data_dir)
    are_states = max(widths) > 1
    needed = max(widths) if are_states else max(int(value) for *_, value in rows) + 1
    if names is None:
        names = [f"label {number}" for number in range(needed)]
        say(f"warning: {data_dir}: no {LABEL_FILES[0]} names the labels; they are called label 0, …", error=True)
    if len(names) < needed or (are_states and len(names) != needed):
        raise UserError(f"{rows[0][0]}: has {needed} labels, and the file of their names {len(names)}; fix one")
    marked = []
    for path, line, image, value in rows:
        where = f"{path}, line {line}"
        numbers = [n for n, state in enumerate(value.split(",")) if state == "1"] if are_states else [int(value)]
        marks = {class_of(number, names, where): PRESENT for number in numbers}
        marked.append(Marked(image, marks, files[path], os.path.relpath(path, data_dir)))
    return ListedPhotos(data_dir, rows[0][0], Listing.of(marked, list(dict.fromkeys(names))))


def _parsed(text, path, line):
    row = ROW.fullmatch(text)
    if not row:
        raise UserError(f"{path}, line {line}: {text[:60]!r} is not a photo, a tab and a 0 or 1 for each label")
    return row[1].strip(), row[2]


def _names(data_dir):
    """The labels' names of a file with one a line, perhaps each behind its number; None where there is none."""
    path = _names_file(Folder(data_dir))
    if path is None:
        return None
    lines = read_lines(path, "give one label a line")
    numbered = [re.fullmatch(r"(\d+)\s+(.+)", line) for line in lines]
    if all(row and int(row[1]) == number for number, row in enumerate(numbered)):
        lines = [row[2] for row in numbered if row]
    return list(map(clean_label, lines))


def _names_file(folder):
    found = {os.path.basename(path): path for path in folder.files(LABEL_FILES)}
    return next((found[name] for name in LABEL_FILES if name in found), None)
