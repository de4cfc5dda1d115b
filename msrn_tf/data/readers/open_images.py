"""Open Images' image-level labels (Kuznetsova et al., IJCV 2020): present or absent; what is not listed is unknown.

`ImageID,Source,LabelName,Confidence` in a file a split, names for `/m/…` in the file of classes. Labels that were not
verified (a confidence between 0 and 1) are unknown too. Photos that are not on the disk are left out: hardly anybody
has all nine million.
"""

import os
import posixpath

import numpy as np
import pyarrow

from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_files import Folder, one_a_split
from msrn_tf.data.listing import ListedPhotos, Listing
from msrn_tf.data.photos import photos_in
from msrn_tf.data.readers.table_file import column_of, header_of, read_table, text_column
from msrn_tf.data.targets import ABSENT, MOST_DENSE_LABELS, PRESENT, UNKNOWN, CompressedTargets
from msrn_tf.errors import UserError
from msrn_tf.terminal import say
from msrn_tf.text import clean_label, read_text

COLUMNS = ("ImageID", "LabelName", "Confidence")


def find_open_images(folder: Folder) -> list[str]:
    """The files of image-level labels in a folder."""
    return [path for path in folder.files((".csv",)) if set(COLUMNS) <= set(header_of(path))]


def open_open_images(data_dir: str, _options: FormOptions) -> ListedPhotos:
    """The reader of a folder with files of image-level labels, of classes (`class-descriptions….csv`), and photos."""
    files = one_a_split(find_open_images(Folder(data_dir)), data_dir, f"file with the columns {', '.join(COLUMNS)}")
    there = {posixpath.splitext(os.path.basename(path))[0] for path in photos_in(data_dir)[0]}
    names = _names(data_dir)
    parts = [(path, split, *_entries(path, there)) for path, split in files.items()]
    codes = sorted({code for *_, codes, _ in parts for code in codes})
    if unnamed := [code for code in codes if names and code not in names]:
        say(f"warning: {data_dir}: the file of classes does not name {len(unnamed)}, as {unnamed[0]}", error=True)
    columns = {code: column for column, code in enumerate(codes)}
    targets = CompressedTargets.joined(
        [_targets(len(images), np.array([columns[code] for code in its], int), entries, len(codes))
         for _, _, images, its, entries in parts]
    )  # fmt: skip
    images = [image for _, _, images, *_ in parts for image in images]
    listing = Listing(
        tuple(clean_label(names.get(code, code)) for code in codes),
        images,
        [split for _, split, images, *_ in parts for _ in images],
        [os.path.relpath(path, data_dir) for path, _, images, *_ in parts for _ in images],
        targets.dense() if len(codes) <= MOST_DENSE_LABELS else targets,
    )
    return ListedPhotos(data_dir, next(iter(files)), listing)


def _entries(path, there):
    """`(images, codes, entries)`: of those on the disk; entries int `[E, 3]` of image, code and target."""
    table = read_table(path)
    images, codes = (_encoded(table, name) for name in COLUMNS[:2])
    states = [_state(value, path) for value in table.column(COLUMNS[2]).unique().to_pylist()]
    confidence = _encoded(table, COLUMNS[2])
    values = np.array(states, np.int8)[confidence[1]]
    kept_images = np.array([name in there for name in images[0]], bool)
    rows = kept_images[images[1]]
    if not rows.any():
        raise UserError(f"{path}: none of its {len(images[0])} photos is on the disk, such as {images[0][0]}.jpg")
    if not kept_images.all():
        say(f"left out   {(~kept_images).sum()} photos of {path} that are not on the disk", error=True)
    number = np.cumsum(kept_images) - 1
    entries = np.stack([number[images[1][rows]], codes[1][rows], values[rows]], axis=1)
    return [name for name, kept in zip(images[0], kept_images, strict=True) if kept], codes[0], entries


def _encoded(table, name):
    """A column's different values, and for each row the number of its own."""
    column = table.column(column_of(table, [name])).combine_chunks()
    if not pyarrow.types.is_string(column.type):
        column = column.cast(pyarrow.string())
    encoded = column.dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


def _state(text, path):
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise UserError(f"{path}: has Confidence = {str(text)[:60]!r}; it must be 0 to 1")
    return {0.0: ABSENT, 1.0: PRESENT}.get(value, UNKNOWN)


def _targets(num_images, columns, entries, num_labels):
    """Compressed rows; a label that two sources say different things of is unknown."""
    places = entries[:, 0].astype(np.int64) * num_labels + columns[entries[:, 1]]
    keys, where = np.unique(places, return_inverse=True)
    low, high = np.full(len(keys), 2, np.int8), np.full(len(keys), -2, np.int8)
    np.minimum.at(low, where, entries[:, 2].astype(np.int8))
    np.maximum.at(high, where, entries[:, 2].astype(np.int8))
    kept = (low == high) & (low != UNKNOWN)
    starts = np.concatenate([[0], np.cumsum(np.bincount(keys[kept] // num_labels, minlength=num_images))])
    return CompressedTargets(starts, (keys[kept] % num_labels).astype(np.int32), low[kept], num_labels, UNKNOWN)


def _names(data_dir):
    """Dict of code → name, of all files of classes: two columns, with their names in the first line or not."""
    names = {}
    for path in Folder(data_dir).files((".csv",)):
        if "class-descriptions" in os.path.basename(path).lower():
            table = read_table(path) if header_of(path)[:1] == ["LabelName"] else None
            if table is not None:
                name = column_of(table, ["DisplayName"])
                if name is None:
                    raise UserError(f"{path}: has no column DisplayName; take the file of classes again")
                names |= dict(zip(text_column(table, "LabelName"), text_column(table, name), strict=True))
            else:
                rows = (line.partition(",") for line in read_text(path).splitlines() if line.strip())
                names |= {code.strip(): name.strip().strip('"') for code, _, name in rows}
    return names
