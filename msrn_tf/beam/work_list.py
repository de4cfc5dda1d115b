"""The rows of a data set for workers: a file of blocks, each with the rows of one shard.

A pipeline of a hundred million photos cannot hold them in its own description. The machine that starts it writes them
to the output's folder, in the order in which they are to be; a worker reads the block of a shard, by its place.
"""

import dataclasses
import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow
from pyarrow import ipc

from msrn_tf import storage
from msrn_tf.data.examples import Examples
from msrn_tf.data.targets import CompressedTargets
from msrn_tf.files import replacing

FOLDER = "work-list"
STARTS = np.dtype("<i8")


@dataclasses.dataclass(frozen=True)
class Block:
    """The rows of one shard.

    Attributes:
        numbers: int64 `[rows]`: those of the data set, in the order in which its reader has them.
        examples: their `Examples`.
    """

    numbers: np.ndarray
    examples: Examples


def shuffled_blocks(examples: Examples, rows: int, seed: int) -> Iterator[Block]:
    """The rows of a split in an order that is a function of the seed, `rows` at a time."""
    order = np.random.default_rng(seed).permutation(len(examples))
    for start in range(0, len(order), rows):
        numbers = order[start : start + rows]
        yield Block(numbers, examples.take(numbers))


def write_blocks(output: str, split: str, blocks: Iterator[Block]) -> int:
    """Writes the list of a split; returns how many blocks it has."""
    storage.makedirs(os.path.join(output, FOLDER))
    starts = [0]
    with replacing(_blocks_path(output, split), "wb") as file:
        for block in blocks:
            content = _packed(block)
            file.write(content)
            starts.append(starts[-1] + len(content))
    with replacing(_starts_path(output, split), "wb") as file:
        file.write(np.array(starts, STARTS).tobytes())
    return len(starts) - 1


def read_block(output: str, split: str, number: int) -> Block:
    """The block of a shard."""
    with storage.open_file(_starts_path(output, split), "rb") as file:
        file.seek(number * STARTS.itemsize)
        start, end = np.frombuffer(file.read(2 * STARTS.itemsize), STARTS).tolist()
    with storage.open_file(_blocks_path(output, split), "rb") as file:
        file.seek(start)
        return _unpacked(file.read(end - start))


def paths_of(output: str, split: str) -> list[str]:
    """The files of a split's list."""
    return [_blocks_path(output, split), _starts_path(output, split)]


def _blocks_path(output, split):
    return os.path.join(output, FOLDER, f"{split}.arrow")


def _starts_path(output, split):
    return os.path.join(output, FOLDER, f"{split}.starts")


def _packed(block):
    """A block as an Arrow stream of one batch."""
    examples = block.examples
    columns: dict[str, Any] = {
        "number": pyarrow.array(np.asarray(block.numbers, np.int64)),
        "id": pyarrow.array([os.fsencode(name) for name in examples.ids], pyarrow.binary()),
    }
    for name, values in examples.place_columns().items():
        columns[name] = pyarrow.array(values, pyarrow.int64() if name == "offset" else pyarrow.binary())
    default = examples.compressed_default
    if default is None:
        columns["target"] = _binary(examples.targets)
    else:
        kept = examples.compressed_targets()
        rows = [slice(*bounds) for bounds in zip(kept.starts[:-1], kept.starts[1:], strict=True)]
        columns["target"] = _binary([kept.values[row] for row in rows])
        columns["target_column"] = _binary([kept.columns[row] for row in rows])
    about = {"num_labels": str(examples.num_labels), "default": "" if default is None else str(default)}
    about["columns"] = "" if default is None else kept.columns.dtype.str
    table = pyarrow.table(columns).replace_schema_metadata(about)
    sink = io.BytesIO()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _unpacked(content):
    with ipc.open_stream(content) as stream:
        table = stream.read_all()
    about = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    values = [np.frombuffer(value, np.int8) for value in columns["target"]]
    if about["default"]:
        places = [np.frombuffer(value, about["columns"]) for value in columns["target_column"]]
        starts = np.cumsum([0, *map(len, values)])
        targets: Any = CompressedTargets(
            starts, np.concatenate(places), np.concatenate(values), int(about["num_labels"]), int(about["default"])
        )
    else:
        targets = np.stack(values)
    paths, offsets = columns.get("path"), columns.get("offset")
    examples = Examples(
        _objects(columns["id"]),
        targets,
        paths=None if paths is None else _objects([os.fsdecode(path) for path in paths]),
        offsets=None if offsets is None else np.array(offsets, np.int64),
        contents=_objects(columns["content"]) if "content" in columns else None,
    )
    return Block(np.array(columns["number"], np.int64), examples)


def _binary(rows):
    return pyarrow.array([row.tobytes() for row in rows], pyarrow.binary())


def _objects(values):
    column = np.empty(len(values), object)
    column[:] = values
    return column
