"""The registry of dataset readers: a new data set is one file and one line here."""

import os
from collections.abc import Sequence

from msrn_tf.data.coco import open_coco, open_coco_json
from msrn_tf.data.corrections import Corrections
from msrn_tf.data.demo import Demo
from msrn_tf.data.examples import Examples, Reader
from msrn_tf.data.label_choice import for_labels, with_clean_labels, with_frequent_labels, with_named_labels
from msrn_tf.data.label_folders import APPAREL_FRACTIONS, APPAREL_LABELS, LabelFolders
from msrn_tf.data.label_policies import Relabelled
from msrn_tf.data.nuswide import open_nuswide
from msrn_tf.data.prepared import Prepared
from msrn_tf.data.splits import check_split
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
    "demo": lambda _data_dir: Demo(),
    "folder": LabelFolders,
    "nuswide": open_nuswide,
    "prepared": Prepared,
    "voc2007": lambda data_dir: VOC(data_dir, 2007),
    "voc2012": lambda data_dir: VOC(data_dir, 2012),
}
WITHOUT_FILES = ("demo",)
TFDS = "tfds:"
DATASETS = (*sorted(READERS), f"{TFDS}NAME")


def open_dataset(
    name: str,
    data_dir: str,
    labels: str = "",
    min_photos: int = 0,
    split: str = "train",
    *,
    corrections: str = "",
    unlisted: str = "absent",
) -> Reader:
    """The reader of a data set.

    Args:
        name: one of `DATASETS`.
        data_dir: the folder where the data lie.
        labels: which labels, in which order: a file with one a line, or names separated by commas. Empty: all.
        min_photos: labels that fewer photos of `split` show are left out.
        split: the split that is trained on or measured.
        corrections: file of decisions on labels, see `data.corrections`. Empty: none.
        unlisted: what it means in `split` that a label is not listed, see `data.label_policies`.

    Raises:
        UserError: no such data set, folder or label, a label that is no name, or corrections of other labels.
    """
    where = f"`dataset`={name}" + (f" `data_dir`={data_dir}" if data_dir else "")
    reader = _open(name, data_dir)
    for its_split in reader.splits:
        check_split(its_split, where)
    reader = with_clean_labels(reader, where)
    if corrections or unlisted != "absent":
        decisions = Corrections(corrections, reader.labels) if corrections else None
        reader = Relabelled(reader, decisions, unlisted, split)
    if labels:
        reader = with_named_labels(reader, labels)
    return with_frequent_labels(reader, split, min_photos) if min_photos else reader


def _open(name, data_dir):
    if name.startswith(TFDS):
        return TFDSReader(name.removeprefix(TFDS), data_dir)
    if name not in READERS:
        raise UserError(f"`dataset`={name}: no such data set; choose from {', '.join(DATASETS)}")
    if name not in WITHOUT_FILES:
        if not data_dir:
            raise UserError(f"`data_dir` is missing: `dataset`={name} needs the folder where the data lie")
        if not os.path.isdir(data_dir):
            raise UserError(f"`data_dir`={data_dir}: no such folder")
    return READERS[name](data_dir)


def read_examples(reader: Reader, split: str, drop_unlabelled: bool = False) -> Examples:
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
        examples = examples.take(examples.show_a_label())
    if not len(examples):
        raise UserError(f"split {split!r}: no image is left")
    return examples


def read_split(
    reader: Reader, split: str, drop_unlabelled: bool = False, labels: Sequence[str] | None = None
) -> Examples:
    """As `read_examples`, and all of their files are there.

    Args:
        labels: a model's; targets are then in their order (see `label_choice.for_labels`). None: the reader's.

    Raises:
        UserError: a file is missing, no image is left, or the model's labels are quite others.
    """
    examples = read_examples(reader, split, drop_unlabelled)
    missing = sorted(path for path in examples.files() if not os.path.isfile(path))
    if missing:
        raise UserError(
            f"{missing[0]}: is missing, but split {split!r} names it ({len(missing)} such of {len(examples)}); "
            "complete the data or mend the list, or let msrn_tf.prepare leave them out"
        )
    return examples if labels is None else for_labels(examples, reader, labels)
