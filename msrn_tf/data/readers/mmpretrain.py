"""mmpretrain's annotation of several labels: JSON with `metainfo.classes`, and a `data_list` of photos and numbers."""

import os

from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_files import Folder, checked, class_of, member, one_a_split, read_json
from msrn_tf.data.listing import ListedPhotos, Listing, Marked
from msrn_tf.data.targets import PRESENT
from msrn_tf.text import clean_label


def find_mmpretrain(folder: Folder) -> list[str]:
    """The annotation files in a folder."""
    return folder.label_files((".json",), lambda s: s.startswith("{") and '"data_list"' in s)


def open_mmpretrain(data_dir: str, _options: FormOptions) -> ListedPhotos:
    """The reader of a folder with an annotation file, or with one a split."""
    files = one_a_split(find_mmpretrain(Folder(data_dir)), data_dir, "annotation file of mmpretrain (data_list)")
    classes, rows = [], []
    for path, split in files.items():
        content = read_json(path)
        named = member(member(content, "metainfo", dict, path), "classes", list, path)
        names = [clean_label(checked(name, "a class", str, path)) for name in named]
        classes += names
        for number, entry in enumerate(member(content, "data_list", list, path)):
            where = f"{path}, entry {number} of data_list"
            given = entry.get("gt_label") if isinstance(entry, dict) else None
            numbers = given if isinstance(given, list) else [given]
            marks = {class_of(value, names, where): PRESENT for value in numbers}
            rows.append(Marked(member(entry, "img_path", str, where), marks, split, os.path.relpath(path, data_dir)))
    return ListedPhotos(data_dir, next(iter(files)), Listing.of(rows, list(dict.fromkeys(classes))))
