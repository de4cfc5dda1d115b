"""The registry of dataset readers: a new data set is one file and one line here."""

import os

from msrn_tf.data.coco import open_coco, open_coco_json
from msrn_tf.data.demo import Demo
from msrn_tf.data.label_folders import APPAREL_FRACTIONS, APPAREL_LABELS, LabelFolders
from msrn_tf.data.nuswide import open_nuswide
from msrn_tf.data.prepared import Prepared
from msrn_tf.data.table import LabelTable
from msrn_tf.data.tfds_reader import TFDSReader
from msrn_tf.data.voc import VOC
from msrn_tf.errors import UserError

READERS = {
    "apparel": lambda data_dir: LabelFolders(data_dir, APPAREL_LABELS, APPAREL_FRACTIONS),
    "coco2014": lambda data_dir: open_coco(data_dir, 2014),
    "coco2017": lambda data_dir: open_coco(data_dir, 2017),
    "coco_json": open_coco_json,
    "csv": LabelTable,
    "demo": lambda data_dir: Demo(),
    "folder": LabelFolders,
    "nuswide": open_nuswide,
    "prepared": Prepared,
    "voc2007": lambda data_dir: VOC(data_dir, 2007),
    "voc2012": lambda data_dir: VOC(data_dir, 2012),
}
WITHOUT_FILES = ("demo",)
TFDS = "tfds:"
DATASETS = (*sorted(READERS), f"{TFDS}NAME")


def open_dataset(name, data_dir):
    """The reader of a data set.

    Raises:
        UserError: no such data set, or no such folder.
    """
    if name.startswith(TFDS):
        return TFDSReader(name.removeprefix(TFDS), data_dir)
    if name not in READERS:
        raise UserError(f"--dataset={name}: no such data set; choose from {', '.join(DATASETS)}")
    if name not in WITHOUT_FILES:
        if not data_dir:
            raise UserError(f"--data_dir is missing: --dataset={name} needs the folder where the data lie")
        if not os.path.isdir(data_dir):
            raise UserError(f"--data_dir={data_dir}: no such folder")
    return READERS[name](data_dir)


def read_examples(reader, split, drop_unlabelled=False):
    """The examples of a split.

    Args:
        reader: of `open_dataset`.
        split: its name.
        drop_unlabelled: bool. Leave out images that show no label.

    Raises:
        UserError: no image is left.
    """
    examples = reader.read(split)
    if drop_unlabelled:
        examples = [example for example in examples if (example.target == 1).any()]
    if not examples:
        raise UserError(f"split {split!r}: no image is left")
    return examples


def read_split(reader, split, drop_unlabelled=False):
    """As `read_examples`, and all of their files are there.

    Raises:
        UserError: a file is missing, or no image is left.
    """
    examples = read_examples(reader, split, drop_unlabelled)
    paths = {example.image_path for example in examples if example.image_bytes is None}
    missing = sorted(path for path in paths if not os.path.isfile(path))
    if missing:
        raise UserError(
            f"{missing[0]}: is missing, but split {split!r} names it ({len(missing)} such of {len(examples)}); "
            "complete the data or mend the list, or let msrn_tf.prepare leave them out"
        )
    return examples
