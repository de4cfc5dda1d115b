"""Files of NumPy arrays (`.npz`, `.npy`), read without pickles; and how much room what is packed in a file may ask for.

A few megabytes of zeros, packed well, stand for gigabytes. Sizes are in headers: they are looked at before anything is
unpacked.
"""

import math
import os
import zipfile

import numpy as np

from msrn_tf import storage

HARMLESS_BYTES = 2**28
SMALL_BYTES = 2**16
LARGEST_RATIO = 50
"""Trained weights are packed 1 to 1.2 times, a label graph's counts about 20 times, zeros 1,000 times."""


def check_unpacked_size(unpacked: int, packed: int) -> None:
    """Refuses what would unpack to far more than the file that it is in.

    Args:
        unpacked, packed: bytes.

    Raises:
        ValueError: it is more than 256 MB and more than 50 times the file.
    """
    if unpacked > max(HARMLESS_BYTES, LARGEST_RATIO * packed):
        raise ValueError(
            f"it would unpack to {unpacked / 1e6:,.0f} MB from {packed / 1e6:,.1f}, and is not unpacked; if it is "
            "genuine, save it uncompressed"
        )


def check_archive(archive: zipfile.ZipFile, packed: int) -> None:
    """The same for all members of a `zipfile.ZipFile` together, by its directory: none is read beyond its size there.

    Raises:
        ValueError: it would unpack to too much.
    """
    check_unpacked_size(sum(member.file_size for member in archive.infolist()), packed)


def array_header(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """`(shape, in Fortran order, dtype)` of an array in a `zipfile.ZipFile`.

    Raises:
        ValueError: it is no array, holds Python objects, or is not as long as it says.
    """
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        start = stream.tell()
    if dtype.hasobject:
        raise ValueError(f"{member} holds Python objects")
    if min(shape, default=0) < 0 or start + math.prod(shape) * dtype.itemsize != archive.getinfo(member).file_size:
        raise ValueError(f"{member} is not as long as its shape {list(shape)} asks for")
    return shape, fortran, dtype


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """The arrays of a file by name.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no such file, not whole, or would unpack to far more than it is.
    """
    try:
        with storage.local_copy(path) as copy:
            with zipfile.ZipFile(copy) as archive:
                check_archive(archive, os.path.getsize(copy))
                for member in archive.namelist():
                    array_header(archive, member)
            with np.load(copy, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # an untrusted ZIP: cut, encrypted, with a bad checksum, of other files …
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0][:200]) from error


def map_array(path: str) -> np.ndarray:
    """The array of a `.npy` file, mapped and not read; a small one is read.

    What lies at an address is copied first, to a temporary file that is gone with the array.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no such file, or not as long as it says.
    """
    try:
        with storage.local_copy(path) as copy:  # what is mapped stays when its name is removed
            small = os.path.getsize(copy) < SMALL_BYTES
            return np.load(copy, mmap_mode=None if small else "r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # cut short, or another's file
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0][:200]) from error
