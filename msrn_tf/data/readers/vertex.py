"""Vertex AI's import files of image classification: CSV (`[ML_USE],GCS_PATH,LABEL,…`) and JSON lines."""

import csv
import io
import os
import re

from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_files import Folder, checked, member, read_json_lines
from msrn_tf.data.listing import ListedPhotos, Listing, Marked
from msrn_tf.data.targets import PRESENT
from msrn_tf.errors import UserError
from msrn_tf.text import clean_label, read_text

SPLITS = {
    "training": "train",
    "train": "train",
    "validation": "val",
    "validate": "val",
    "test": "test",
    "unassigned": "",
    "": "",
}
ML_USE = "aiplatform.googleapis.com/ml_use"
FIRST_ROW = re.compile(r"(?:\w*,)?\"?gs://[^,\n]+", re.IGNORECASE)


def find_vertex(folder: Folder) -> list[str]:
    """The import files in a folder."""
    found = folder.label_files((".csv",), lambda start: bool(FIRST_ROW.match(start)))
    return found + folder.label_files((".jsonl", ".json"), lambda start: '"imageGcsUri"' in start)


def open_vertex(data_dir: str, _options: FormOptions) -> ListedPhotos:
    """The reader of a folder with import files. Photos without a use are divided."""
    paths = find_vertex(Folder(data_dir))
    if not paths:
        raise UserError(f"`data_dir`={data_dir}: holds no import file of Vertex AI (gs://… in CSV or JSON lines)")
    rows = [row for path in paths for row in (_csv if path.lower().endswith(".csv") else _jsonl)(path, data_dir)]
    return ListedPhotos(data_dir, paths[0], Listing.of(rows), names_what_is_shown=True)


def _csv(path, data_dir):
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True, skipinitialspace=True)
    try:
        for fields in reader:
            where = f"{path}, line {reader.line_num}"
            fields = [field.strip() for field in fields]
            if any(fields):
                use = "" if "://" in fields[0] else fields.pop(0)
                if not fields or "://" not in fields[0]:
                    raise UserError(f"{where}: names no gs://… of a photo; write USE,gs://…,label,label")
                marks = {label: PRESENT for label in map(clean_label, fields[1:]) if label}
                yield Marked(fields[0], marks, _split(use, where), os.path.relpath(path, data_dir))
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read as a CSV file ({error} in line {reader.line_num})") from error


def _jsonl(path, data_dir):
    for where, entry in read_json_lines(path):
        found = entry.get("classificationAnnotations", entry.get("classificationAnnotation", []))
        annotations = checked(found if isinstance(found, list) else [found], "its annotations", list, where)
        marks = {clean_label(member(item, "displayName", str, where)): PRESENT for item in annotations}
        resources = entry.get("dataItemResourceLabels") or {}
        use = checked(checked(resources, "dataItemResourceLabels", dict, where).get(ML_USE, ""), ML_USE, str, where)
        uri = member(entry, "imageGcsUri", str, where)
        yield Marked(uri, marks, _split(use, where), os.path.relpath(path, data_dir))


def _split(use, where):
    if use.lower() not in SPLITS:
        raise UserError(f"{where}: has the use {use[:60]!r}; write training, validation, test or nothing")
    return SPLITS[use.lower()]
