"""The registry of dataset readers: a new data set is one file and one line here."""

import dataclasses
import os
from collections.abc import Callable, Sequence

from msrn_tf import storage
from msrn_tf.data.corrections import Corrections
from msrn_tf.data.demo import Demo
from msrn_tf.data.examples import Examples, Reader
from msrn_tf.data.form_options import TABLE_OPTIONS, FormOptions
from msrn_tf.data.label_choice import for_labels, with_clean_labels, with_frequent_labels, with_named_labels
from msrn_tf.data.label_files import Folder
from msrn_tf.data.label_policies import Relabelled
from msrn_tf.data.prepared import Prepared, find_prepared
from msrn_tf.data.readers.azure import find_azure, open_azure
from msrn_tf.data.readers.celeba import find_celeba, open_celeba
from msrn_tf.data.readers.coco import find_coco, find_coco_json, open_coco, open_coco_json
from msrn_tf.data.readers.cvat import find_cvat, open_cvat
from msrn_tf.data.readers.fiftyone import find_fiftyone, open_fiftyone
from msrn_tf.data.readers.huggingface import find_huggingface, open_huggingface
from msrn_tf.data.readers.label_folders import APPAREL_FRACTIONS, APPAREL_LABELS, LabelFolders, find_label_folders
from msrn_tf.data.readers.label_studio import find_label_studio, open_label_studio
from msrn_tf.data.readers.mmpretrain import find_mmpretrain, open_mmpretrain
from msrn_tf.data.readers.nuswide import find_nuswide, open_nuswide
from msrn_tf.data.readers.open_images import find_open_images, open_open_images
from msrn_tf.data.readers.paddleclas import find_paddleclas, open_paddleclas
from msrn_tf.data.readers.rekognition import find_rekognition, open_rekognition
from msrn_tf.data.readers.table import open_table, tables_in
from msrn_tf.data.readers.tfds_reader import TFDSReader
from msrn_tf.data.readers.vertex import find_vertex, open_vertex
from msrn_tf.data.readers.voc import VOC, find_annotations, find_voc, open_voc
from msrn_tf.data.readers.webdataset import find_webdataset, open_webdataset
from msrn_tf.data.readers.yolo import find_yolo, open_yolo
from msrn_tf.data.splits import check_split, split_meant
from msrn_tf.errors import UserError
from msrn_tf.terminal import say


@dataclasses.dataclass(frozen=True)
class Form:
    """A form in which labelled photos lie on a disk.

    Attributes:
        open: called with the folder and `FormOptions`; gives the reader.
        find: called with a `Folder`; what of this form is there: paths, or none. None: it is not looked for.
        options: names of the `FormOptions` that it heeds.
        rank: int. Of several forms that are found, that of the highest rank is taken: a table may be a tool's, and any
            photos lie in folders.
    """

    open: Callable[[str, FormOptions], Reader]
    find: Callable[[Folder], Sequence[str]] | None = None
    options: Sequence[str] = ()
    rank: int = 2


READERS = {
    "apparel": Form(lambda data_dir, _: LabelFolders(data_dir, APPAREL_LABELS, APPAREL_FRACTIONS)),
    "azure": Form(open_azure, find_azure),
    "celeba": Form(open_celeba, find_celeba),
    "coco2014": Form(lambda data_dir, _: open_coco(data_dir, 2014), lambda folder: find_coco(folder, 2014), rank=3),
    "coco2017": Form(lambda data_dir, _: open_coco(data_dir, 2017), lambda folder: find_coco(folder, 2017), rank=3),
    "coco_json": Form(lambda data_dir, _: open_coco_json(data_dir), find_coco_json),
    "csv": Form(open_table, options=TABLE_OPTIONS),
    "cvat": Form(open_cvat, find_cvat),
    "demo": Form(lambda _data_dir, _: Demo()),
    "fiftyone": Form(open_fiftyone, find_fiftyone),
    "folder": Form(lambda data_dir, _: LabelFolders(data_dir), find_label_folders, rank=0),
    "huggingface": Form(open_huggingface, find_huggingface, TABLE_OPTIONS),
    "label_studio": Form(open_label_studio, find_label_studio),
    "mmpretrain": Form(open_mmpretrain, find_mmpretrain),
    "nuswide": Form(lambda data_dir, _: open_nuswide(data_dir), find_nuswide),
    "open_images": Form(open_open_images, find_open_images),
    "paddleclas": Form(open_paddleclas, find_paddleclas),
    "prepared": Form(lambda data_dir, _: Prepared(data_dir), find_prepared),
    "rekognition": Form(open_rekognition, find_rekognition),
    "table": Form(open_table, tables_in, TABLE_OPTIONS, rank=1),
    "vertex": Form(open_vertex, find_vertex),
    "voc": Form(open_voc, find_annotations),
    "voc2007": Form(lambda data_dir, _: VOC(data_dir, 2007), lambda folder: find_voc(folder, 2007), rank=3),
    "voc2012": Form(lambda data_dir, _: VOC(data_dir, 2012), lambda folder: find_voc(folder, 2012), rank=3),
    "webdataset": Form(open_webdataset, find_webdataset),
    "yolo": Form(open_yolo, find_yolo),
}
AUTO = "auto"
WITHOUT_FILES = ("demo",)
TFDS = "tfds:"
DATASETS = (AUTO, *sorted(READERS), f"{TFDS}NAME")
AS_FOUND_OUT = FormOptions()


def open_dataset(
    name: str,
    data_dir: str,
    labels: str = "",
    min_photos: int = 0,
    split: str = "train",
    *,
    form: FormOptions = AS_FOUND_OUT,
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
        form: what a person says of the form of the files.
        corrections: file of decisions on labels, see `data.corrections`. Empty: none.
        unlisted: what it means in `split` that a label is not listed, see `data.label_policies`.

    Raises:
        UserError: no such data set, folder or label, a label that is no name, or an option that the form does not heed.
    """
    where = f"`dataset`={name}" + (f" `data_dir`={data_dir}" if data_dir else "")
    reader = _open(name, data_dir, form)
    for its_split in reader.splits:
        check_split(its_split, where)
    reader = with_clean_labels(reader, where)
    if corrections or unlisted != "absent":
        decisions = Corrections(corrections, reader.labels) if corrections else None
        reader = Relabelled(reader, decisions, unlisted, split_meant(split, reader.splits))
    if labels:
        reader = with_named_labels(reader, labels)
    return with_frequent_labels(reader, split_meant(split, reader.splits), min_photos) if min_photos else reader


def find_form(data_dir: str) -> str:
    """The name of the form in which photos and labels lie in a folder; says what was found.

    Raises:
        UserError: of no form, or of several.
    """
    folder = Folder(data_dir)
    found = {name: paths for name, form in READERS.items() if form.find and (paths := form.find(folder))}
    highest = max((READERS[name].rank for name in found), default=0)
    names = {name: paths for name, paths in found.items() if READERS[name].rank == highest}
    if len(names) != 1:
        seen = " and ".join(f"{name} ({os.path.relpath(paths[0], data_dir)})" for name, paths in names.items())
        what = f"several formats of labels, {seen}" if seen else "labels in no known format"
        raise UserError(
            f"`data_dir`={data_dir}: holds {what}; name the format with `dataset`, one of {', '.join(READERS)}"
        )
    name, paths = next(iter(names.items()))
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    say(f"found      --dataset={name} in {os.path.relpath(paths[0], data_dir)}{more}", error=True)
    return name


def _open(name, data_dir, form):
    if name == AUTO and data_dir and storage.isdir(data_dir):
        name = "table" if form.given() else find_form(data_dir)
    heeded = READERS[name].options if name in READERS else ()
    if idle := [f"`{option}`={value}" for option, value in form.given().items() if option not in heeded]:
        raise UserError(f"{idle[0]}: applies to tables, and `dataset`={name} reads no table; leave it out")
    if name.startswith(TFDS):
        return TFDSReader(name.removeprefix(TFDS), data_dir)
    if name not in (AUTO, *READERS):
        raise UserError(f"`dataset`={name}: no such data set; choose from {', '.join(DATASETS)}")
    if name in WITHOUT_FILES and data_dir:
        raise UserError(f"`data_dir`={data_dir}: `dataset`={name} is drawn and reads no folder; give `dataset`={AUTO}")
    if name not in WITHOUT_FILES:
        if not data_dir:
            raise UserError(f"`data_dir` is missing: `dataset`={name} needs the folder where the data lie")
        if not storage.isdir(data_dir):
            raise UserError(f"`data_dir`={data_dir}: no such folder")
    return READERS[name].open(data_dir, form)


def read_examples(reader: Reader, split: str, drop_unlabelled: bool = False) -> Examples:
    """The examples of a split.

    Args:
        reader: of `open_dataset`.
        split: its name.
        drop_unlabelled: bool. Leave out images that show no label.

    Raises:
        UserError: no image is left.
    """
    examples = reader.read(split_meant(split, reader.splits))
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
    missing = sorted(storage.missing(examples.files()))
    if missing:
        raise UserError(
            f"{missing[0]}: is missing, but split {split!r} names it ({len(missing)} of {len(examples)} are "
            "missing); complete the data or fix the list, or let msrn_tf.prepare leave them out"
        )
    return examples if labels is None else for_labels(examples, reader, labels)
