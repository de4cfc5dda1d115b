"""TensorFlow's file systems in the terms of Python's: what `storage` asks for an address."""

import contextlib
import errno
import functools
import importlib
import io
import os
import stat
import warnings
from collections.abc import Iterator
from typing import IO, Any

import tensorflow as tf

from msrn_tf.errors import UserError, first_line
from msrn_tf.object_stores import check_store, hint_of
from msrn_tf.storage import Entry, Status, scheme_of

COPIED_BYTES = 1 << 26
"""At a time: an object store answers each request after a while, however much is asked for."""
READ_AT_ONCE = 1 << 30
"""The most bytes that are asked for at once. Larger files come in many requests, which `GFile` makes of 512 kB each."""
BUFFERED_BYTES = 1 << 20
APPENDING = ("ram",)
"""Schemes of file systems that append to a file that is opened to be written anew (TensorFlow 2.21)."""
MARKED_FOLDERS = ("gs", "s3", "s3a")
"""Schemes of stores that list the names of folders with a slash behind them; others are asked about each name."""

_CODES = {
    tf.errors.NotFoundError: errno.ENOENT,
    tf.errors.AlreadyExistsError: errno.EEXIST,
    tf.errors.PermissionDeniedError: errno.EACCES,
    tf.errors.UnauthenticatedError: errno.EACCES,
    tf.errors.ResourceExhaustedError: errno.ENOSPC,
}


@contextlib.contextmanager
def as_os_errors(path: str) -> Iterator[None]:
    """TensorFlow's errors within it as `OSError`, with what can be done about a store's refusal."""
    try:
        yield
    except tf.errors.OpError as error:
        code = _CODES.get(type(error), errno.EIO)
        reason = os.strerror(code) if code == errno.ENOENT else first_line(error) + hint_of(path, code)
        raise OSError(code, reason, path) from error


def check_scheme(path: str) -> None:
    """See `storage.check_address`."""
    scheme = scheme_of(path)
    if scheme in _known():
        check_store(path)
        return
    # It may be made for another TensorFlow: that raises many kinds, or warns and brings nothing.
    with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
        importlib.import_module("tensorflow_io")
    if scheme not in _schemes():
        known = ", ".join(f"{name}://" for name in _schemes())
        advice = (
            "install a tensorflow-io for this TensorFlow, or mount the bucket as a folder"
            if scheme in ("s3", "s3a", "az", "viewfs")
            else "copy it to a folder or one of these"
        )
        raise UserError(f"{path}: TensorFlow reads no {scheme}:// here, only {known}; {advice}")
    check_store(path)


@functools.lru_cache
def _known():
    return frozenset(_schemes())


def _schemes():
    names = (os.fsdecode(name) for name in tf.io.gfile.get_registered_schemes())
    return sorted(name for name in names if name not in ("", "file"))


def status(path: str, missing_ok: bool = True) -> Any:
    """A `storage.Status`; None where nothing is there and that is no error."""
    try:
        with as_os_errors(path):
            found = tf.io.gfile.stat(path)
    except FileNotFoundError:
        if missing_ok:
            return None
        raise
    return Status(found.length, found.mtime_nsec, stat.S_IFDIR if found.is_directory else stat.S_IFREG)


def entries(path: str) -> list[Entry]:
    """As `storage.entries`, sorted."""
    with as_os_errors(path):
        names = sorted(tf.io.gfile.listdir(path))
    marked = scheme_of(path) in MARKED_FOLDERS
    found = []
    for name in names:
        stem = name.rstrip("/")
        if stem:  # an object store's mark of the folder itself is a name without letters
            below = os.path.join(path, stem)
            is_folder = name.endswith("/") or (not marked and isdir(below))
            found.append(Entry(stem, below, is_folder, not is_folder))
    return found


def isdir(path: str) -> bool:
    """As `storage.isdir`."""
    found = status(path)
    return found is not None and stat.S_ISDIR(found.mode)


def matches_of(pattern: str) -> list[str]:
    """As `storage.matches_of`."""
    with as_os_errors(pattern):
        found = sorted(path.rstrip("/") for path in tf.io.gfile.glob(pattern.rstrip("/")))
    return [path for path in found if isdir(path)] if pattern.endswith("/") else found


def makedirs(path: str) -> None:
    """As `storage.makedirs`. An object store needs none: an object's name may have slashes in it."""
    if scheme_of(path) not in MARKED_FOLDERS:
        with as_os_errors(path):
            tf.io.gfile.makedirs(path)


def remove(path: str) -> None:
    """As `storage.remove`."""
    with as_os_errors(path):
        tf.io.gfile.remove(path)


def rmtree(path: str) -> None:
    """As `storage.rmtree`, but raises."""
    with as_os_errors(path):
        tf.io.gfile.rmtree(path)


def read_whole(path: str) -> bytes:
    """As `storage.read_whole`."""
    with as_os_errors(path):
        return tf.io.read_file(path).numpy()


def copy_into(path: str, file: IO[bytes]) -> None:
    """Writes what is at an address to an open file."""
    if status(path, missing_ok=False).size <= READ_AT_ONCE:
        file.write(read_whole(path))
        return
    with as_os_errors(path), tf.io.gfile.GFile(path, "rb") as source:
        while content := source.read(COPIED_BYTES):
            file.write(content)


def write_whole(path: str, file: IO[bytes]) -> None:
    """What `storage.put` does at an address."""
    if scheme_of(path) in APPENDING:
        with contextlib.suppress(FileNotFoundError):
            remove(path)
    with as_os_errors(path), tf.io.gfile.GFile(path, "wb") as target:
        while content := file.read(COPIED_BYTES):
            target.write(content)


def open_file(path: str, mode: str, **text: Any) -> IO[Any]:
    """As `storage.open_file`."""
    if mode not in ("r", "rb"):
        raise ValueError(f"`mode` must be r or rb. Received: {mode}")
    with as_os_errors(path):
        file = io.BufferedReader(_Source(path), BUFFERED_BYTES)
    return file if mode == "rb" else io.TextIOWrapper(file, **text)


class _Source(io.RawIOBase):
    """A file at an address, to read."""

    def __init__(self, path):
        self.name = path
        self._size = status(path, missing_ok=False).size
        self._file = tf.io.gfile.GFile(path, "rb")
        self._file.tell()  # opens it

    def readable(self):
        return True

    def seekable(self):
        return True

    def readinto(self, buffer):
        with as_os_errors(self.name):
            content = self._file.read(min(len(buffer), max(0, self._size - self._file.tell())))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset, whence=os.SEEK_SET):
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._size}[whence]
        with as_os_errors(self.name):
            self._file.seek(min(start + offset, self._size))
        return self._file.tell()

    def tell(self):
        return self._file.tell()

    def close(self):
        if not self.closed:
            self._file.close()
        super().close()
