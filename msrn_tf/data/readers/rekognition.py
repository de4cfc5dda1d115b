"""Manifests of Amazon Rekognition and SageMaker Ground Truth: JSON lines with `source-ref` and jobs' attributes.

Of a job of one label the class is its metadata's `class-name`, of several those of `class-map`; of a job of boxes, the
union of theirs. Photos that no job labelled are left out.
"""

import os
from typing import Any

from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_files import Folder, checked, member, one_a_split, read_json_lines
from msrn_tf.data.listing import ListedPhotos, Listing, Marked
from msrn_tf.data.targets import PRESENT
from msrn_tf.errors import UserError
from msrn_tf.terminal import say
from msrn_tf.text import clean_label

METADATA = "-metadata"


def find_rekognition(folder: Folder) -> list[str]:
    """The manifests in a folder."""
    return folder.label_files((".manifest", ".jsonl", ".json"), lambda s: s.startswith("{") and '"source-ref"' in s)


def open_rekognition(data_dir: str, _options: FormOptions) -> ListedPhotos:
    """The reader of a folder with a manifest, or with one a split."""
    files = one_a_split(find_rekognition(Folder(data_dir)), data_dir, "manifest (JSON lines with source-ref)")
    rows, unlabelled = [], 0
    for path, split in files.items():
        for where, entry in read_json_lines(path):
            jobs = [name.removesuffix(METADATA) for name in entry if name.endswith(METADATA)]
            done = [job for job in jobs if "failure-reason" not in member(entry, job + METADATA, dict, where)]
            unlabelled += not done
            if done:
                marks = {label: PRESENT for job in done for label in _labels(entry, job, where)}
                name = member(entry, "source-ref", str, where)
                rows.append(Marked(name, marks, split, os.path.relpath(path, data_dir)))
    if unlabelled:
        say(f"left out   {unlabelled} photos of {data_dir} that no job labelled", error=True)
    return ListedPhotos(data_dir, next(iter(files)), Listing.of(rows), names_what_is_shown=True)


def _labels(entry: dict[str, Any], job: str, where: str) -> list[str]:
    metadata, value = entry[job + METADATA], entry.get(job)
    if "class-name" in metadata:
        return [clean_label(member(metadata, "class-name", str, where))]
    classes = member(metadata, "class-map", dict, where)
    if isinstance(value, dict):
        value = [member(box, "class_id", int, where) for box in member(value, "annotations", list, where)]
    numbers = checked(value, f"{job!r}", list, where)
    if missing := [number for number in numbers if str(number) not in classes]:
        raise UserError(f"{where}: has class {str(missing[0])[:60]!r}, which its class-map does not name; fix the file")
    return [clean_label(member(classes, str(number), str, where)) for number in numbers]
