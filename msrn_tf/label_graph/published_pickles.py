"""The published label graphs and word vectors, which come as Python pickles: read without running what is in them.

A pickle may name any function to call. The reader here knows those that NumPy's arrays and numbers are written with,
and refuses a file at the first other name.
"""

import codecs
import pickle
import pickletools
from collections.abc import Sequence
from typing import Any

import numpy as np

from msrn_tf import storage
from msrn_tf.errors import UserError, first_line
from msrn_tf.label_graph.label_graph import LabelGraph
from msrn_tf.label_graph.validation import counts, numbers

_ARRAY_PARTS = {
    "_reconstruct": np.empty(0).__reduce__()[0],
    "scalar": np.float64(0).__reduce__()[0],
    "_frombuffer": np.empty(0).__reduce_ex__(5)[0],
    "ndarray": np.ndarray,
    "dtype": np.dtype,
}
_NUMPY_MODULES = (
    "numpy",
    "numpy.core.multiarray",
    "numpy._core.multiarray",
    "numpy.core.numeric",
    "numpy._core.numeric",
)


class _ArrayUnpickler(pickle.Unpickler):
    """Builds NumPy arrays, numbers, strings, lists, tuples and dicts, and nothing else."""

    def find_class(self, module, name):
        if module in _NUMPY_MODULES and name in _ARRAY_PARTS:
            return _ARRAY_PARTS[name]
        if (module, name) == ("_codecs", "encode"):  # how protocol 2 writes an array's bytes
            return _latin1_bytes
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def read_array_pickle(path: str, argument: str) -> Any:
    """What a pickle of NumPy arrays holds.

    Raises:
        UserError: the file is missing, cut, or names anything but NumPy's arrays; `argument` names it.
    """
    try:
        with storage.open_file(path, "rb") as file:
            _check_places(file.read())
            file.seek(0)
            return _ArrayUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise UserError(f"`{argument}`={path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # untrusted bytes: unpickling raises nearly anything
        raise UserError(f"`{argument}`={path}: is not a pickle of NumPy arrays only ({first_line(error)})") from error


def read_graph_pickle(path: str, labels: Sequence[str]) -> LabelGraph:
    """A `LabelGraph` from a published graph (`adj` [C, C] and `nums` [C], as ML-GCN's `voc_adj.pkl`).

    Raises:
        UserError: as `read_array_pickle`, or it does not fit the labels.
    """
    content = read_array_pickle(path, "graph_pickle")
    if not isinstance(content, dict) or not {"adj", "nums"} <= content.keys():
        raise UserError(f"`graph_pickle`={path}: is not a published graph; a dict with `adj` and `nums` is needed")
    size = len(labels)
    cooccurrence, nums = (
        counts(_array(content[name], f"`graph_pickle`={path}: {name}"), shape, f"`graph_pickle`={path}: {name}")
        for name, shape in (("adj", (size, size)), ("nums", (size,)))
    )
    return LabelGraph(tuple(labels), nums, cooccurrence, 0)


def read_word_vector_pickle(path: str, labels: Sequence[str]) -> np.ndarray:
    """Word vectors float32 `[C, V]`, a row a label. Raises `UserError` as `read_graph_pickle`."""
    what = f"`word_vector_pickle`={path}: it"
    content = _array(read_array_pickle(path, "word_vector_pickle"), what)
    return numbers(content, (len(labels), None), what).astype(np.float32)


def _check_places(content):
    """Refuses a pickle that remembers at a place beyond its length: memory would be made for all places before."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > len(content):
            raise pickle.UnpicklingError(f"it counts to {argument} in {len(content)} bytes")


def _array(value, what):
    """`value`, where it is an array: lists within lists may stand for more numbers than there is memory."""
    if not isinstance(value, np.ndarray):
        raise UserError(f"{what} is not an array of numbers")
    return value


def _latin1_bytes(text, encoding):
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes as {encoding}")
    return codecs.encode(text, encoding)
