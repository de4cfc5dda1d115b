"""What `msrn_tf.prepare` writes: shards of TFRecords with an index, and `dataset.json` (docs/datasets.md).

The index says where each record starts, so that an epoch's order can be any permutation and a run can go on in its
middle without reading what came before.
"""

import json
import os

import numpy as np

from msrn_tf.arrays import read_arrays
from msrn_tf.data.example import ABSENT, PRESENT, UNKNOWN, Example
from msrn_tf.errors import UserError
from msrn_tf.text import read_text

DATASET_FILE = "dataset.json"
INDEX_ARRAYS = ("image_id", "target", "shard", "offset")
MOST_SHARDS = 99_999  # five digits in their names


def index_path(folder, split):
    """The index of a split: arrays `image_id`, `target`, `shard`, `offset`."""
    return os.path.join(folder, f"{split}.index.npz")


def shard_path(folder, split, number):
    """Shard number `number` of a split."""
    return os.path.join(folder, f"{split}-{number:05d}.tfrecord")


class Prepared:
    """Reads the folder that `msrn_tf.prepare` wrote. What its files say is checked before it is used."""

    def __init__(self, data_dir):
        self.data_dir = data_dir
        path = os.path.join(data_dir, DATASET_FILE)
        if not os.path.lexists(path):
            raise UserError(f"{path}: is missing; python -m msrn_tf.prepare writes it when it has finished")
        try:
            content = json.loads(read_text(path, "prepare the data again"))
            self.labels, self._num_shards = _labels_of(content), _num_shards_of(content)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path}: cannot be used ({error}); prepare the data again") from error
        self.splits = list(self._num_shards)

    def read(self, split):
        if split not in self.splits:
            raise UserError(f"split {split!r}: --data_dir={self.data_dir} has {', '.join(self.splits)}")
        path = index_path(self.data_dir, split)
        try:
            arrays = read_arrays(path)
            ids, targets, shards, offsets = (arrays[name] for name in INDEX_ARRAYS)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: cannot be read ({error}); prepare the data again") from error
        paths = [shard_path(self.data_dir, split, number) for number in range(self._num_shards[split])]
        wrong = _what_is_wrong(ids, targets, shards, offsets, len(self.labels), paths)
        if wrong:
            raise UserError(f"{path}: {wrong}; prepare the data again")
        return [
            Example(name, target, image_path=paths[shard], record_offset=offset)
            for name, target, shard, offset in zip(
                ids.tolist(), targets.astype(np.int8), shards.tolist(), offsets.tolist(), strict=True
            )
        ]


def _labels_of(content):
    labels = content["labels"]
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise ValueError("its labels are no list of names")
    if len(set(labels)) < len(labels):
        raise ValueError("it has a label twice")
    return tuple(labels)


def _num_shards_of(content):
    """Dict of split → number of shards."""
    splits = content["splits"]
    if not isinstance(splits, dict) or any(os.path.basename(split) != split for split in splits):
        raise ValueError("its splits have no names of files")
    numbers = {split: description["num_shards"] for split, description in splits.items()}
    if not all(type(number) is int and 0 <= number <= MOST_SHARDS for number in numbers.values()):
        raise ValueError("a number of shards is none")
    return numbers


def _what_is_wrong(ids, targets, shards, offsets, num_labels, paths):
    """What in an index does not fit its data set, in a few words; None for a sound one."""
    if ids.ndim != 1 or ids.dtype.kind != "U":
        return "its image_id is no column of names"
    for name, values, shape in (
        ("target", targets, (ids.size, num_labels)),
        ("shard", shards, ids.shape),
        ("offset", offsets, ids.shape),
    ):
        if values.dtype.kind not in "iu" or values.shape != shape:
            return f"its {name} is {values.dtype} of shape {values.shape}, not whole numbers of shape {shape}"
    if not np.isin(targets, (PRESENT, ABSENT, UNKNOWN)).all():
        return "it has targets other than 1, 0 and -1"
    if ids.size and (shards.min() < 0 or shards.max() >= len(paths)):
        return f"it has shards {shards.min()} to {shards.max()}, and {DATASET_FILE} {len(paths)}"
    for number in np.unique(shards):
        if not os.path.isfile(paths[number]):
            return f"{os.path.basename(paths[number])}, which it names, is missing"
        inside, size = offsets[shards == number], os.path.getsize(paths[number])
        if inside.min() < 0 or inside.max() >= size:
            return f"it has a record beyond the {size} bytes of {os.path.basename(paths[number])}"
    return None
