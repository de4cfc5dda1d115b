"""Azure Machine Learning's JSON lines of image classification: `image_url` and `label`, a name or a list of names."""

import os

from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_files import Folder, checked, member, one_a_split, read_json_lines
from msrn_tf.data.listing import ListedPhotos, Listing, Marked
from msrn_tf.data.targets import PRESENT
from msrn_tf.text import clean_label


def find_azure(folder: Folder) -> list[str]:
    """The files in a folder."""
    return folder.label_files(
        (".jsonl", ".json"), lambda s: s.startswith("{") and '"image_url"' in s and '"label"' in s
    )


def open_azure(data_dir: str, _options: FormOptions) -> ListedPhotos:
    """The reader of a folder with such a file, or with one a split."""
    files = one_a_split(
        find_azure(Folder(data_dir)), data_dir, "JSON lines of Azure Machine Learning (image_url, label)"
    )
    rows = []
    for path, split in files.items():
        for where, entry in read_json_lines(path):
            found = entry.get("label")
            labels = checked([found] if isinstance(found, str) else found, "'label'", list, where)
            marks = {clean_label(checked(label, "a label", str, where)): PRESENT for label in labels}
            name = _below_paths(member(entry, "image_url", str, where))
            rows.append(Marked(name, marks, split, os.path.relpath(path, data_dir)))
    return ListedPhotos(data_dir, next(iter(files)), Listing.of(rows), names_what_is_shown=True)


def _below_paths(url):
    """The part of an address within its datastore."""
    return url.split("/paths/", 1)[1] if url.startswith("azureml:") and "/paths/" in url else url
