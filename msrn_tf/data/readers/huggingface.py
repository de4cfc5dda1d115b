"""Hugging Face's image folders: `metadata.csv`, `.jsonl` or `.parquet` with `file_name`, beside the photos."""

import os

from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_files import Folder, one_a_split
from msrn_tf.data.listing import ListedPhotos
from msrn_tf.data.readers.table import open_tables
from msrn_tf.errors import UserError

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def find_huggingface(folder: Folder) -> list[str]:
    """The files of metadata in a folder."""
    return [path for path in folder.files(NAMES) if os.path.basename(path) in NAMES]


def open_huggingface(data_dir: str, options: FormOptions) -> ListedPhotos:
    """The reader of such a folder: as any table's, the photos beside each file of metadata."""
    files = find_huggingface(Folder(data_dir))
    if not files:
        raise UserError(f"`data_dir`={data_dir}: holds no {' or '.join(NAMES)}, beside the photos or in train/, …")
    return open_tables(data_dir, one_a_split(files, data_dir, "metadata"), options)
