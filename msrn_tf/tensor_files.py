"""Files of named tensors from other programs, read one tensor at a time: PyTorch's `.pth`, `.safetensors` and `.npz`.

Nothing in them is executed: PyTorch's files are read by `torch_files`, NumPy's without pickles.
"""

import collections.abc
import contextlib
import math
import os
import zipfile
from collections.abc import Iterator

import ml_dtypes  # TensorFlow's; teaches NumPy the name bfloat16
import numpy as np
import safetensors

from msrn_tf import storage
from msrn_tf.arrays import array_header, check_archive, check_unpacked_size
from msrn_tf.errors import UserError, first_line
from msrn_tf.torch_files import NotTensorsError, TorchFile, TorchTensor

TORCH_SUFFIXES = (".pth", ".pt", ".tar", ".bin")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors", ".npz")
BLOCK_NUMBERS = 2**24
NUMBER_KINDS = "fiu"
PREFIX = "module."
"""What `torch.nn.DataParallel` puts before every name."""


class TensorFile(collections.abc.Mapping):
    """Tensors of a file by name, without `module.`: a mapping to `StoredTensor`s.

    Entries that are no tensors (epoch, best score …) are in `notes`.

    Args:
        path: file; its ending says what it is.
        argument: the name of the argument that the file is, for errors.

    Raises:
        UserError: the file is missing, cut, of another kind, holds other Python objects, or would unpack to far more
            than it is.
    """

    def __init__(self, path: str, argument: str):
        self.path, self.argument, self.notes = str(path), argument, {}
        if not storage.isfile(self.path):
            raise self.error("no such file")
        self._copy = storage.LocalCopy(self.path)
        if self.path.endswith(".npz"):
            tensors = self._open_npz()
        elif self.path.endswith(".safetensors"):
            tensors = self._open_safetensors()
        elif self.path.endswith(TORCH_SUFFIXES):
            tensors = self._open_torch()
        else:
            raise self.error(f"is not a file of tensors by its name; {', '.join(SUFFIXES)} are read")
        try:
            check_unpacked_size(sum(tensor.size for tensor in tensors.values()), os.path.getsize(self._copy.path))
        except ValueError as error:
            raise self.error(str(error)) from error
        self._tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}

    def __getitem__(self, name):
        return self._tensors[name]

    def __iter__(self):
        return iter(self._tensors)

    def __len__(self):
        return len(self._tensors)

    def read(self, name: str) -> np.ndarray:
        """The array of that name. Raises `UserError` where it holds no numbers, or the file is damaged there."""
        with self._reading(name):
            return self._checked(self[name].read(), name)

    def blocks(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """Yields `(start, array)`: consecutive parts of about 64 MB along the first axis. Raises as `read`."""
        with self._reading(name):
            for start, block in self[name].blocks():
                yield start, self._checked(block, name)

    @contextlib.contextmanager
    def _reading(self, name):
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # a checksum, a stream that ends early, a type that NumPy lacks …
            raise self.error(f"{name} cannot be read; the file is damaged there ({_first_line(error)})") from error

    def _checked(self, array, name):
        if array.dtype.kind not in NUMBER_KINDS:
            raise self.error(f"{name} holds {array.dtype}, and the model needs real numbers")
        if not np.isfinite(array).all():
            raise self.error(f"{name} holds NaN or infinite numbers; the file is damaged or its training diverged")
        return array

    def error(self, sentence: str) -> UserError:
        """A `UserError` that names the file."""
        return UserError(f"`{self.argument}`={self.path}: {sentence}")

    def _open_npz(self):
        try:
            with zipfile.ZipFile(self._copy.path) as archive:
                check_archive(archive, os.path.getsize(self._copy.path))
                names = [name for name in archive.namelist() if name.endswith(".npy")]
                return {name.removesuffix(".npy"): _NpzTensor(self._copy.path, archive, name) for name in names}
        except Exception as error:  # an untrusted ZIP: cut, encrypted, compressed in another way …
            raise self.error(f"is not a complete .npz file ({_first_line(error)})") from error

    def _open_safetensors(self):
        try:
            with safetensors.safe_open(self._copy.path, framework="np") as file:
                return {name: _SafetensorsTensor(self._copy.path, file, name) for name in list(file.keys())}
        except Exception as error:  # an untrusted header
            raise self.error(f"is not a complete .safetensors file ({_first_line(error)})") from error

    def _open_torch(self):
        try:
            file = TorchFile(self._copy.path)
        except NotTensorsError as error:
            raise self.error(
                f"holds {error.name}, which is not a tensor and is not loaded: it could run commands"
            ) from error
        except Exception as error:  # an untrusted program: cut, with operands that are missing or of other kinds …
            raise self.error(f"is not a complete PyTorch file ({_first_line(error)})") from error
        if not isinstance(file.content, dict):
            raise self.error(f"holds a {type(file.content).__name__}, not named tensors")
        self.notes = {name: value for name, value in file.content.items() if isinstance(value, str | int | float)}
        state = file.content.get("state_dict", file.content)
        if not isinstance(state, dict):
            raise self.error(f"holds a {type(state).__name__} in place of its tensors")
        return {
            str(name): _StoredTorchTensor(file, value)
            for name, value in state.items()
            if isinstance(value, TorchTensor)
        }


class StoredTensor:
    """A tensor that is still in its file: `shape`, `size` in bytes; `read()` it whole, or `blocks()` of its first axis.

    Each read opens the file anew, so that no more of it stays in memory than what is in use.
    """

    shape: tuple[int, ...] = ()
    size = 0

    def read(self) -> np.ndarray:
        """The array."""
        raise NotImplementedError

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields `(start, array)`: consecutive parts of about 64 MB along the first axis."""
        raise NotImplementedError

    def _steps(self):
        """Yields `(start, stop)` of the blocks."""
        step = max(1, BLOCK_NUMBERS // max(1, math.prod(self.shape[1:])))
        for start in range(0, self.shape[0], step):
            yield start, min(start + step, self.shape[0])


class _NpzTensor(StoredTensor):
    def __init__(self, path, archive, member):
        self._path, self._member = path, member
        self.shape, self._fortran, self._dtype = array_header(archive, member)
        self.size = math.prod(self.shape) * self._dtype.itemsize

    def read(self):
        with zipfile.ZipFile(self._path) as archive, archive.open(self._member) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    def blocks(self):
        if self._fortran:
            yield 0, self.read()
            return
        with zipfile.ZipFile(self._path) as archive, archive.open(self._member) as stream:
            stream.seek(archive.getinfo(self._member).file_size - self.size)
            for start, stop in self._steps():
                shape = (stop - start, *self.shape[1:])
                content = stream.read(math.prod(shape) * self._dtype.itemsize)
                yield start, np.frombuffer(content, self._dtype).reshape(shape)


class _SafetensorsTensor(StoredTensor):
    def __init__(self, path, file, name):
        self._path, self._name = path, name
        part = file.get_slice(name)
        self.shape = tuple(part.get_shape())
        # At least: the library opens no file whose tensors are not as long as their shapes.
        self.size = math.prod(self.shape)

    def read(self):
        with safetensors.safe_open(self._path, framework="np") as file:
            return _as_float32(file.get_tensor(self._name))

    def blocks(self):
        for start, stop in self._steps():
            with safetensors.safe_open(self._path, framework="np") as file:
                yield start, _as_float32(file.get_slice(self._name)[start:stop])


class _StoredTorchTensor(StoredTensor):
    def __init__(self, file, tensor):
        self._file, self._tensor, self.shape = file, tensor, tensor.shape
        self.size = math.prod(tensor.shape) * tensor.dtype.itemsize  # of a tensor with steps of 0, more than is stored

    def read(self):
        return _as_float32(self._file.read(self._tensor))

    def blocks(self):
        for start, block in self._file.blocks(self._tensor, self._steps()):
            yield start, _as_float32(block)


def _as_float32(array):
    """bfloat16 as float32, which NumPy knows; other types as they are."""
    return array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array


def _first_line(error):
    return first_line(error).split(". ")[0]
