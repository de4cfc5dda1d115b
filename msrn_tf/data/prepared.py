"""What `msrn_tf.prepare` writes: shards of TFRecords with an index, and `dataset.json` (docs/datasets.md).

The index says where each record starts, so that an epoch's order can be any permutation and a run can go on in its
middle without reading what came before.
"""

import contextlib
import dataclasses
import json
import os
import stat
from collections.abc import Iterable, Sequence
from typing import IO, Any

import numpy as np

from msrn_tf import storage
from msrn_tf.arrays import map_array, read_arrays
from msrn_tf.data.examples import Examples
from msrn_tf.data.label_files import Folder
from msrn_tf.data.targets import ABSENT, MOST_DENSE_LABELS, PRESENT, UNKNOWN, CompressedTargets
from msrn_tf.errors import UserError
from msrn_tf.files import replacing
from msrn_tf.text import read_text

DATASET_FILE = "dataset.json"
INDEX_COLUMNS = ("image_id", "shard", "offset")
DENSE_TARGETS = ("target",)
COMPRESSED_TARGETS = ("target_data", "target_indices", "target_indptr", "target_default")
MOST_SHARDS = 99_999  # five digits in their names


def column_path(folder: str, split: str, name: str) -> str:
    """A column of a split's index, a `.npy` that is mapped and not read."""
    return os.path.join(folder, f"{split}.{name}.npy")


def older_index_path(folder: str, split: str) -> str:
    """The index of a split as version 0.1 wrote it: all columns in one archive."""
    return os.path.join(folder, f"{split}.index.npz")


def index_columns(examples: Examples, shards: Sequence[int], offsets: Sequence[int]) -> dict[str, np.ndarray]:
    """The columns of a split's index: name → array.

    Args:
        examples: `Examples` that were written, in their order.
        shards, offsets: ints `[N]`: the number of each one's shard, and where in it the record starts.
    """
    ids = np.array([os.fsencode(name) for name in examples.ids], np.bytes_)
    columns: dict[str, Any] = {
        "image_id": ids,
        "shard": np.asarray(shards, np.int32),
        "offset": np.asarray(offsets, np.int64),
    }
    if examples.num_labels <= MOST_DENSE_LABELS:
        return columns | {"target": examples.targets}
    kept = examples.compressed_targets()
    arrays = (kept.values, kept.columns, kept.starts, np.int8(kept.default))
    return columns | dict(zip(COMPRESSED_TARGETS, arrays, strict=True))


@dataclasses.dataclass(frozen=True)
class IndexSizes:
    """How large an index is.

    Attributes:
        rows: photos.
        entries: of compressed targets; 0 where they are a table.
        name_bytes: of the longest name.
    """

    rows: int
    entries: int
    name_bytes: int

    @classmethod
    def joined(cls, parts: Iterable["IndexSizes"]) -> "IndexSizes":
        """Of parts, one behind the other."""
        parts = list(parts)
        longest = max((part.name_bytes for part in parts), default=1)
        return cls(sum(part.rows for part in parts), sum(part.entries for part in parts), longest)


def sizes_of(columns: dict[str, np.ndarray]) -> IndexSizes:
    """The sizes of an index, or of a part of one."""
    names = columns["image_id"]
    return IndexSizes(len(names), len(columns.get("target_data", ())), names.dtype.itemsize)


def write_index(folder: str, split: str, parts: Iterable[dict[str, np.ndarray]], sizes: IndexSizes) -> None:
    """Writes the index of a split, part by part: none but the one at hand is in memory.

    Args:
        folder: of the prepared data.
        split: its name.
        parts: `index_columns` of the records, in the order of the shards; there is one at least.
        sizes: of all of them together.
    """
    with contextlib.ExitStack() as files:
        columns: dict[str, _Column] = {}
        for part in parts:
            for name, values in part.items():
                if name not in columns:
                    file = files.enter_context(replacing(column_path(folder, split, name), "wb"))
                    columns[name] = _Column(file, name, values, sizes)
                columns[name].append(values)


class _Column:
    """A `.npy` file that is written a part after the other."""

    def __init__(self, file: IO[bytes], name: str, values: np.ndarray, sizes: IndexSizes):
        length = {"target_data": sizes.entries, "target_indices": sizes.entries, "target_indptr": sizes.rows + 1}
        shape = values.shape and (length.get(name, sizes.rows), *values.shape[1:])
        self.dtype = np.dtype(f"S{sizes.name_bytes}") if name == "image_id" else values.dtype
        if name == "target_indptr":
            self.dtype = np.dtype(np.int64)
        self._file, self._is_starts, self._entries = file, name == "target_indptr", 0
        self._is_written = False
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(file, header)

    def append(self, values: np.ndarray) -> None:
        if self._is_starts:  # of rows: each part's begin at 0
            values = values[1 if self._is_written else 0 :] + self._entries
            self._entries = int(values[-1]) if len(values) else self._entries
        elif self._is_written and not values.ndim:
            return
        self._is_written = True
        self._file.write(np.ascontiguousarray(values, self.dtype).tobytes())


def shard_path(folder: str, split: str, number: int) -> str:
    """Shard number `number` of a split."""
    return os.path.join(folder, f"{split}-{number:05d}.tfrecord")


def find_prepared(folder: Folder) -> list[str]:
    """The description of prepared data in a folder."""
    path = os.path.join(folder.path, DATASET_FILE)
    return [path] if storage.isfile(path) else []


class Prepared:
    """Reads the folder that `msrn_tf.prepare` wrote. What its files say is checked before it is used."""

    def __init__(self, data_dir: str):
        self.data_dir = data_dir
        path = os.path.join(data_dir, DATASET_FILE)
        if not storage.lexists(path):
            raise UserError(f"{path}: is missing; python -m msrn_tf.prepare writes it when it has finished")
        try:
            content = json.loads(read_text(path, "prepare the data again"))
            self.labels, self._num_shards = _labels_of(content), _num_shards_of(content)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path}: cannot be used ({error}); prepare the data again") from error
        self.splits = list(self._num_shards)

    def read(self, split: str) -> Examples:
        """As `Reader.read`."""
        if split not in self.splits:
            raise UserError(f"split {split!r}: `data_dir`={self.data_dir} has {', '.join(self.splits)}")
        older = older_index_path(self.data_dir, split)
        path = older if storage.exists(older) else column_path(self.data_dir, split, "image_id")
        try:
            columns = read_arrays(older) if path == older else self._mapped(split)
            targets = _targets_of(columns, len(self.labels))
            ids, shards, offsets = (columns[name] for name in INDEX_COLUMNS)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: cannot be read ({error}); prepare the data again") from error
        paths = [shard_path(self.data_dir, split, number) for number in range(self._num_shards[split])]
        wrong = _what_is_wrong(ids, targets, shards, offsets, len(self.labels), paths)
        if wrong:
            raise UserError(f"{path}: {wrong}; prepare the data again")
        return Examples(ids, targets, paths, path_index=shards, offsets=offsets)

    def _mapped(self, split):
        """The columns of today's form."""
        dense = storage.exists(column_path(self.data_dir, split, DENSE_TARGETS[0]))
        names = (*INDEX_COLUMNS, *(DENSE_TARGETS if dense else COMPRESSED_TARGETS))
        return {name: map_array(column_path(self.data_dir, split, name)) for name in names}


def _labels_of(content):
    labels = content["labels"]
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise ValueError("its labels are not a list of names")
    if len(set(labels)) < len(labels):
        raise ValueError("it has a label twice")
    return tuple(labels)


def _num_shards_of(content):
    """Dict of split → number of shards."""
    splits = content["splits"]
    if not isinstance(splits, dict) or any(os.path.basename(split) != split for split in splits):
        raise ValueError("its splits have no file names")
    numbers = {split: description["num_shards"] for split, description in splits.items()}
    if not all(type(number) is int and 0 <= number <= MOST_SHARDS for number in numbers.values()):
        raise ValueError("a number of shards is not a number")
    return numbers


def _targets_of(columns, num_labels):
    """The targets of an index, a table or compressed rows.

    Raises:
        ValueError: compressed rows that are none.
    """
    if "target" in columns:
        return columns["target"]
    values, places, starts, default = (columns[name] for name in COMPRESSED_TARGETS)
    if default.shape != () or default not in (ABSENT, UNKNOWN):
        raise ValueError("its default target is neither 0 nor -1")
    if any(array.ndim != 1 or array.dtype.kind != "i" for array in (starts, places, values)) or not starts.size:
        raise ValueError("its targets are not compressed rows")
    are_rows = starts[0] == 0 and starts[-1] == len(values) == len(places) and (starts[1:] >= starts[:-1]).all()
    if not are_rows or (places.size and (places.min() < 0 or places.max() >= num_labels)):
        raise ValueError("its targets are not compressed rows of so many labels")
    return CompressedTargets(starts, places, values, num_labels, int(default))


def _what_is_wrong(ids, targets, shards, offsets, num_labels, paths):
    """What in an index does not fit its data set, in a few words; None for a sound one."""
    if ids.ndim != 1 or ids.dtype.kind not in "US":
        return "its image_id is not a column of names"
    values = targets.values if isinstance(targets, CompressedTargets) else targets
    for name, kind, shape, wanted in (
        ("target", values.dtype, targets.shape, (ids.size, num_labels)),
        ("shard", shards.dtype, shards.shape, ids.shape),
        ("offset", offsets.dtype, offsets.shape, ids.shape),
    ):
        if kind.kind not in "iu" or shape != wanted:
            return f"its {name} is {kind} of shape {shape}, not whole numbers of shape {wanted}"
    if values.size and (values.min() < UNKNOWN or values.max() > PRESENT):
        return "it has targets other than 1, 0 and -1"
    if ids.size and (shards.min() < 0 or shards.max() >= len(paths)):
        return f"it has shards {shards.min()} to {shards.max()}, and {DATASET_FILE} {len(paths)}"
    if ids.size and offsets.min() < 0:
        return f"it has a record beyond the bytes of {os.path.basename(paths[shards[offsets.argmin()]])}"
    last = np.full(len(paths), -1, np.int64)
    np.maximum.at(last, shards, offsets)
    named = np.flatnonzero(last >= 0)
    sizes = storage.in_flight(_size, [paths[number] for number in named], any(map(storage.is_address, paths[:1])))
    for number, size in zip(named, sizes, strict=True):
        if size is None:
            return f"{os.path.basename(paths[number])}, which it names, is missing"
        if last[number] >= size:
            return f"it has a record beyond the {size} bytes of {os.path.basename(paths[number])}"
    return None


def _size(path):
    """Of a file, in bytes; None where there is none."""
    try:
        found = storage.status(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.size if stat.S_ISREG(found.mode) else None
