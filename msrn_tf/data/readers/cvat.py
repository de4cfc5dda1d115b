"""CVAT's export "CVAT for images": an XML file with a photo's tags, and the labels of its boxes and other shapes."""

import os

from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_files import Folder, one_a_split, read_xml
from msrn_tf.data.listing import ListedPhotos, Listing, Marked
from msrn_tf.data.splits import USUAL_NAMES
from msrn_tf.data.targets import PRESENT
from msrn_tf.errors import UserError
from msrn_tf.text import clean_label

ADVICE = "export the task again as CVAT for images"


def find_cvat(folder: Folder) -> list[str]:
    """The exports in a folder."""
    return folder.label_files((".xml",), lambda start: "<annotations>" in start)


def open_cvat(data_dir: str, _options: FormOptions) -> ListedPhotos:
    """The reader of a folder with an export, or with one a split. Labels are in the order of the task's."""
    files = one_a_split(find_cvat(Folder(data_dir)), data_dir, "XML file of CVAT for images")
    labels, rows = [], []
    for path, split in files.items():
        root = read_xml(path, ADVICE)
        if root.find("track") is not None:
            raise UserError(f"{path}: holds tracks of a video; export its frames as CVAT for images")
        labels += [clean_label(name.text or "") for name in root.findall("meta//labels/label/name")]
        rows += [_row(image, split, path, data_dir) for image in root.findall("image")]
    shown = [label for row in rows for label in row.marks]
    return ListedPhotos(
        data_dir, next(iter(files)), Listing.of(rows, list(dict.fromkeys([*filter(None, labels), *shown])))
    )


def _row(image, split, path, data_dir):
    name, subset = image.get("name"), image.get("subset", "")
    if not name:
        raise UserError(f"{path}: has an image without a name; {ADVICE}")
    marks = {}
    for item in image:
        label = clean_label(item.get("label", ""))
        if not label:
            raise UserError(f"{path}: image {name!r} has a {item.tag} without a label; {ADVICE}")
        marks[label] = PRESENT
    its_split = split or (subset.lower() if subset.lower() in USUAL_NAMES else "")
    return Marked(name, marks, its_split, os.path.relpath(path, data_dir))
