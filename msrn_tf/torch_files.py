"""PyTorch's `.pth` files, read without PyTorch and without unpickling: named tensors, numbers and texts beside them.

Such a file is a pickle that says which tensors there are, and the bytes of their storages: members of a ZIP (since
PyTorch 1.6), or one after the other in one stream. A pickle is a program that may call any function. Here its
operations are read by `pickletools` and carried out on lists and dicts of our own; a call is looked up in a short table
of what tensors and numbers are written with, and the first other name ends the reading.
"""

import dataclasses
import os
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
"""What the older form starts with, as a pickled number."""
LARGEST_PICKLE = 2**26
"""Bytes; a ResNet-152's takes 100 kB."""

DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_MARK = object()


class NotTensorsError(ValueError):
    """The pickle names something that is no tensor, number or text."""

    def __init__(self, name: str):
        super().__init__(f"it names {name}")
        self.name = name


@dataclasses.dataclass(frozen=True)
class TorchTensor:
    """A tensor of a file: a view of numbers that lie there.

    Attributes:
        storage: key of its storage.
        dtype: of the numbers.
        offset: of the first one in the storage, in numbers.
        shape, strides: strides in numbers.
    """

    storage: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def is_contiguous(self) -> bool:
        """Whether its numbers lie one after the other, in order."""
        step, contiguous = 1, True
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            contiguous &= size == 1 or stride == step
            step *= size
        return contiguous

    @property
    def span(self) -> int:
        """Numbers of the storage from the first to the last that it shows."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))


class TorchFile:
    """The pickled object of a `.pth` file with `TorchTensor`s in it: `content`.

    Args:
        path: file.

    Raises:
        NotTensorsError: it names other things.
        ValueError: it is no such file, or not whole; `zipfile` raises kinds of its own.
    """

    def __init__(self, path: str):
        self._path = path
        self._in_zip = zipfile.is_zipfile(path)
        self._places: dict[str, tuple[str, int, int]] = {}  # key → (member, first byte, bytes)
        self._used: dict[str, tuple[np.dtype, int]] = {}  # key → (dtype, numbers)
        self.content = self._open_zip() if self._in_zip else self._open_older()
        for key, (dtype, numbers) in self._used.items():
            if key not in self._places or self._places[key][2] < numbers * dtype.itemsize:
                raise ValueError(f"storage {key[:20]} is not there, or cut")

    def read(self, tensor: TorchTensor) -> np.ndarray:
        """The tensor's numbers, a new array."""
        with self._opened(tensor.storage) as stream:
            _skip(stream, tensor.offset * tensor.dtype.itemsize)
            flat = _numbers(stream, tensor.span, tensor.dtype)
        strides = [stride * tensor.dtype.itemsize for stride in tensor.strides]
        return np.array(np.lib.stride_tricks.as_strided(flat, tensor.shape, strides))

    def blocks(self, tensor: TorchTensor, steps: Iterator[tuple[int, int]]) -> Iterator[tuple[int, np.ndarray]]:
        """Yields `(start, array)`: its rows from `start` to `stop` of each of `steps`, which follow one another."""
        if not tensor.is_contiguous:
            yield 0, self.read(tensor)
            return
        row = int(np.prod(tensor.shape[1:], dtype=np.int64))
        with self._opened(tensor.storage) as stream:
            _skip(stream, tensor.offset * tensor.dtype.itemsize)
            for start, stop in steps:
                numbers = _numbers(stream, (stop - start) * row, tensor.dtype)
                yield start, numbers.reshape(stop - start, *tensor.shape[1:])

    def _opened(self, key):
        """A stream at the first byte of a storage."""
        member, first, _ = self._places[key]
        if self._in_zip:
            with zipfile.ZipFile(self._path) as archive:
                return archive.open(member)
        stream = open(self._path, "rb")  # noqa: SIM115 (the caller closes it)
        stream.seek(first)
        return stream

    def _open_zip(self):
        with zipfile.ZipFile(self._path) as archive:
            names = archive.namelist()
            pickled = next((name for name in names if name.split("/")[-1] == "data.pkl"), None)
            if pickled is None:
                raise ValueError("it is a ZIP without data.pkl")
            folder = pickled.removesuffix("data.pkl")
            if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
                raise ValueError("its numbers are big-endian; save it on another machine")
            for member in archive.infolist():
                if member.filename.startswith(f"{folder}data/"):
                    self._places[member.filename.removeprefix(f"{folder}data/")] = (
                        member.filename, 0, member.file_size
                    )  # fmt: skip
            if archive.getinfo(pickled).file_size > LARGEST_PICKLE:
                raise ValueError("its pickle is too large for any model")
            with archive.open(pickled) as stream:
                return self._load(stream)

    def _open_older(self):
        with open(self._path, "rb") as stream:
            if self._load(stream) != MAGIC:
                raise ValueError("it does not start like a PyTorch file")
            _, system = self._load(stream), self._load(stream)
            if not isinstance(system, dict) or system.get("little_endian") is not True:
                raise ValueError("its numbers are big-endian; save it on another machine")
            content, keys = self._load(stream), self._load(stream)
            for key in keys:
                numbers = int.from_bytes(stream.read(8), "little")
                dtype, _ = self._used.get(key, (np.dtype("u1"), 0))
                self._places[key] = ("", stream.tell(), numbers * dtype.itemsize)
                stream.seek(numbers * dtype.itemsize, os.SEEK_CUR)
                if stream.tell() > os.path.getsize(self._path):
                    raise ValueError("it is cut short")
            return content

    def _load(self, stream):
        return _Interpreter(self._storage).run(stream)

    def _storage(self, identity):
        """A storage `(key, dtype, numbers)` by what a pickle calls it."""
        kind, (_, name), key, _, numbers, *_ = identity
        if kind != "storage" or name not in DTYPES or not isinstance(numbers, int) or numbers < 0:
            raise NotTensorsError(str(name))
        self._used[str(key)] = (DTYPES[name], numbers)
        return str(key), DTYPES[name], numbers


class _Interpreter:
    """Carries out the operations of a pickle that writes dicts, lists, tuples, texts, numbers and tensors."""

    def __init__(self, storage: Callable[[tuple], tuple[str, np.dtype, int]]):
        self.storage = storage
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: BinaryIO) -> Any:
        """The object. Raises `ValueError`, or what a stack without the operands of an operation raises."""
        for operation, argument, _ in pickletools.genops(stream):
            name = operation.name
            if name == "STOP":
                return self.stack.pop()
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _OPERATIONS:
                _OPERATIONS[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise NotTensorsError(f"the operation {name}")
        raise ValueError("its pickle ends early")

    def since_mark(self) -> list[Any]:
        position = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        items = self.stack[position + 1 :]
        del self.stack[position:]
        return items

    def last(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise ValueError("its pickle is damaged")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def reduce(self, _):
        function, arguments = self.last(2)
        self.stack.append(_call(function, arguments))

    def extend(self, items):
        self.stack[-1].extend(items)

    def set_items(self, items):
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _call(function, arguments):
    """What the function of that name would give, for those that tensors, numbers and empty dicts are written with."""
    module, name = function
    if function == ("collections", "OrderedDict"):
        return {}
    if function == ("torch._utils", "_rebuild_parameter"):
        return arguments[0]
    if function == ("torch._utils", "_rebuild_tensor_v2"):
        return _tensor(*arguments[:4])
    if module in _NUMPY and name == "dtype":
        if not re.fullmatch("[?biuf][1248]?", str(arguments[0])):
            raise NotTensorsError(f"a NumPy type {arguments[0]!s:.20}")
        return np.dtype(arguments[0])
    if module in _NUMPY and name.endswith("DType"):
        return getattr(np.dtypes, name)()
    if module in _NUMPY and name == "scalar":
        dtype, content = arguments
        if len(content) != dtype.itemsize:
            raise NotTensorsError(name)
        return np.frombuffer(content, dtype)[0].item()
    if function == ("_codecs", "encode") and arguments[1] == "latin1":
        return arguments[0].encode("latin1")
    raise NotTensorsError(f"{module}.{name}")


def _tensor(storage, offset, shape, strides):
    key, dtype, numbers = storage
    tensor = TorchTensor(key, dtype, offset, tuple(shape), tuple(strides))
    whole = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(isinstance(number, int) and number >= 0 for number in whole):
        raise ValueError("a tensor's shape is damaged")
    if offset + tensor.span > numbers:
        raise ValueError("a tensor is larger than what is stored of it")
    return tensor


def _global(interpreter, argument):
    module, _, name = argument.partition(" ")
    _push_global(interpreter, (module, name))


def _push_global(interpreter, function):
    module, name = function
    known = function in _CALLS or (module == "torch" and name in DTYPES) or (module in _NUMPY and name in _NUMPY_NAMES)
    if not known:
        raise NotTensorsError(f"{module}.{name}")
    interpreter.stack.append(function)


def _build(interpreter, _):
    """An object's state: of an ordered dict PyTorch's notes on versions, of a dtype what its name says already."""
    interpreter.last(1)


_NUMPY = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.dtypes")
_NUMPY_NAMES = (
    "scalar", "dtype", "BoolDType", "Int32DType", "Int64DType", "Float16DType", "Float32DType", "Float64DType"
)  # fmt: skip
_CALLS = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("_codecs", "encode"),
}
_VALUES = {
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "SHORT_BINBYTES", "BINBYTES", "SHORT_BINSTRING", "BINSTRING",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": lambda: _MARK,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_OPERATIONS: dict[str, Callable[[_Interpreter, Any], Any]] = {
    "GLOBAL": _global,
    "STACK_GLOBAL": lambda machine, _: _push_global(machine, tuple(machine.last(2))),
    "REDUCE": _Interpreter.reduce,
    "BUILD": _build,
    "BINPERSID": lambda machine, _: machine.stack.append(machine.storage(machine.stack.pop())),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.last(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.last(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.last(3))),
    "SETITEM": lambda machine, _: machine.set_items(machine.last(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "APPEND": lambda machine, _: machine.extend(machine.last(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "PUT": lambda machine, place: machine.memo.update({place: machine.stack[-1]}),
    "BINPUT": lambda machine, place: machine.memo.update({place: machine.stack[-1]}),
    "LONG_BINPUT": lambda machine, place: machine.memo.update({place: machine.stack[-1]}),
    "MEMOIZE": lambda machine, _: machine.memo.update({len(machine.memo): machine.stack[-1]}),
    "GET": lambda machine, place: machine.stack.append(machine.memo[place]),
    "BINGET": lambda machine, place: machine.stack.append(machine.memo[place]),
    "LONG_BINGET": lambda machine, place: machine.stack.append(machine.memo[place]),
}


def _skip(stream, count):
    """Steps over bytes of a stream that may be packed."""
    stream.seek(count, os.SEEK_CUR)


def _numbers(stream, count, dtype):
    content = stream.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise ValueError("it is cut short")
    return np.frombuffer(content, dtype)
