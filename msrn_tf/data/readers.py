"""The registry of dataset readers: a new data set is one file and one line here."""

import os

from msrn_tf.data.demo import Demo
from msrn_tf.data.voc import VOC
from msrn_tf.errors import UserError

READERS = {
    "demo": lambda data_dir: Demo(),
    "voc2007": lambda data_dir: VOC(data_dir, 2007),
    "voc2012": lambda data_dir: VOC(data_dir, 2012),
}
WITHOUT_FILES = ("demo",)


def open_dataset(name, data_dir):
    """The reader of a data set.

    Raises:
        UserError: no such data set, or no such folder.
    """
    if name not in READERS:
        raise UserError(f"--dataset={name}: no such data set; choose from {', '.join(sorted(READERS))}")
    if name not in WITHOUT_FILES:
        if not data_dir:
            raise UserError(f"--data_dir is missing: --dataset={name} needs the folder where the data lie")
        if not os.path.isdir(data_dir):
            raise UserError(f"--data_dir={data_dir}: no such folder")
    return READERS[name](data_dir)
