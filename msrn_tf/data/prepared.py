"""What `msrn_tf.prepare` writes: shards of TFRecords with an index, and `dataset.json` (DESIGN §4).

The index says where each record starts, so that an epoch's order can be any permutation and a run can go on in its
middle without reading what came before.
"""

import json
import os

from msrn_tf.arrays import read_arrays
from msrn_tf.data.example import Example
from msrn_tf.errors import UserError

DATASET_FILE = "dataset.json"
INDEX_ARRAYS = ("image_id", "target", "shard", "offset")


def index_path(folder, split):
    """The index of a split: arrays `image_id`, `target`, `shard`, `offset`."""
    return os.path.join(folder, f"{split}.index.npz")


def shard_path(folder, split, number):
    """Shard number `number` of a split."""
    return os.path.join(folder, f"{split}-{number:05d}.tfrecord")


class Prepared:
    """Reads the folder that `msrn_tf.prepare` wrote."""

    def __init__(self, data_dir):
        self.data_dir = data_dir
        path = os.path.join(data_dir, DATASET_FILE)
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
            self.labels, self.splits = tuple(content["labels"]), list(content["splits"])
        except FileNotFoundError as error:
            raise UserError(f"{path}: is missing; python -m msrn_tf.prepare writes it when it has finished") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); prepare the data again") from error

    def read(self, split):
        if split not in self.splits:
            raise UserError(f"split {split!r}: --data_dir={self.data_dir} has {', '.join(self.splits)}")
        path = index_path(self.data_dir, split)
        try:
            arrays = read_arrays(path)
            ids, targets, shards, offsets = (arrays[name] for name in INDEX_ARRAYS)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: cannot be read ({error}); prepare the data again") from error
        if targets.shape != (ids.size, len(self.labels)) or not ids.shape == shards.shape == offsets.shape:
            raise UserError(f"{path}: does not fit {DATASET_FILE}; prepare the data again")
        paths = [shard_path(self.data_dir, split, number) for number in range(int(shards.max(initial=-1)) + 1)]
        return [
            Example(str(name), target, image_path=paths[shard], record_offset=int(offset))
            for name, target, shard, offset in zip(ids, targets, shards, offsets, strict=True)
        ]
