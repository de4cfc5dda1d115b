"""Files and folders wherever they are: on this machine's disks, or at an address that TensorFlow's file systems read.

An address is a scheme and a name: `gs://bucket/photos`, `s3://bucket/run`, `ram://run`. Whatever reads or writes a
path that a person named calls these functions, which have the names and meanings of Python's own. A path that is no
address goes to those; an address goes to TensorFlow (`address_files`), which is imported for it alone. Errors are
`OSError` in both cases. docs/storage.md says what object stores do not promise.
"""

import collections
import concurrent.futures
import contextlib
import fnmatch
import glob
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NamedTuple, TypeVar

from msrn_tf.errors import UserError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
REQUESTS_IN_FLIGHT = 32
"""To a store that answers each one after tens of milliseconds."""


class Status(NamedTuple):
    """Of a file or folder: bytes, nanoseconds since 1970 at its last change, and the mode of `os.stat`."""

    size: int
    mtime_ns: int
    mode: int


class Entry(NamedTuple):
    """What is in a folder: a name, its path, and whether it is a folder or a regular file; a link is what it leads
    to."""

    name: str
    path: str
    is_folder: bool
    is_file: bool


def is_address(path: Any) -> bool:
    """Whether a path is an address, `scheme://name`, that Python's own functions do not read."""
    return bool(_ADDRESS.match(os.fsdecode(path)))


def scheme_of(address: str) -> str:
    """`gs` of `gs://bucket/name`."""
    return address.partition("://")[0].lower()


def _remote(path):
    """`address_files`, where that can read the address `path`."""
    try:
        from msrn_tf import address_files
    except ImportError as error:
        raise UserError(f"{path}: TensorFlow, which reads addresses, is not installed; copy it to a folder") from error
    address_files.check_scheme(path)
    return address_files


def check_address(path: str) -> None:
    """Refuses an address that no file system can read here; a path that is none is not looked at.

    Raises:
        UserError: TensorFlow is missing or knows no such scheme, or the store cannot be reached or has no such bucket.
    """
    if is_address(path):
        _remote(path)


def exists(path: str) -> bool:
    """As `os.path.exists`."""
    return _remote(path).status(path) is not None if is_address(path) else os.path.exists(path)


def lexists(path: str) -> bool:
    """As `os.path.lexists`: a broken link is there."""
    return exists(path) if is_address(path) else os.path.lexists(path)


def isfile(path: str) -> bool:
    """As `os.path.isfile`."""
    if not is_address(path):
        return os.path.isfile(path)
    found = _remote(path).status(path)
    return found is not None and stat.S_ISREG(found.mode)


def isdir(path: str) -> bool:
    """As `os.path.isdir`."""
    return _remote(path).isdir(path) if is_address(path) else os.path.isdir(path)


def status(path: str) -> Status:
    """What `os.stat` says. Raises `FileNotFoundError`."""
    if is_address(path):
        return _remote(path).status(path, missing_ok=False)
    found = os.stat(path)
    return Status(found.st_size, found.st_mtime_ns, found.st_mode)


def getsize(path: str) -> int:
    """As `os.path.getsize`."""
    return status(path).size if is_address(path) else os.path.getsize(path)


def listdir(path: str) -> list[str]:
    """As `os.listdir`."""
    return [entry.name for entry in _remote(path).entries(path)] if is_address(path) else os.listdir(path)


def entries(path: str) -> list[Entry]:
    """What is in a folder, as `os.scandir` finds it."""
    if is_address(path):
        return _remote(path).entries(path)
    with os.scandir(path) as found:
        return [Entry(entry.name, entry.path, entry.is_dir(), entry.is_file()) for entry in found]


def walk(path: str, followlinks: bool = False) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`: the folders that the caller leaves in the list are gone into. Addresses have no links."""
    if not is_address(path):
        yield from os.walk(path, followlinks=followlinks)
        return
    found = entries(path)
    folders = [entry.name for entry in found if entry.is_folder]
    yield path, folders, [entry.name for entry in found if not entry.is_folder]
    for name in folders:
        yield from walk(os.path.join(path, name))


def matching(folder: str, pattern: str) -> list[str]:
    """As `glob.glob` in one folder, for a pattern such as `*.json`, sorted; the folder's name is no pattern."""
    try:
        names = listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    seen = (name for name in sorted(names) if not name.startswith(".") or pattern.startswith("."))
    return [os.path.join(folder, name) for name in seen if fnmatch.fnmatchcase(name, pattern)]


def matches_of(pattern: str) -> list[str]:
    """As `glob.glob`."""
    return _remote(pattern).matches_of(pattern) if is_address(pattern) else glob.glob(pattern)


def makedirs(path: str) -> None:
    """As `os.makedirs`, where it is missing."""
    if is_address(path):
        _remote(path).makedirs(path)
    else:
        os.makedirs(path, exist_ok=True)


def remove(path: str) -> None:
    """As `os.remove`."""
    if is_address(path):
        _remote(path).remove(path)
    else:
        os.remove(path)


def rmtree(path: str) -> None:
    """As `shutil.rmtree`, as far as that goes; no error is raised."""
    if not is_address(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        _remote(path).rmtree(path)


def open_file(path: str, mode: str = "r", **text: Any) -> IO[Any]:
    """As `open`, to read: `mode` is `r` or `rb`. (`files.replacing` writes.)"""
    return _remote(path).open_file(path, mode, **text) if is_address(path) else open(path, mode, **text)


def read_whole(path: str) -> bytes:
    """All bytes of a file, of an address by one request."""
    if is_address(path):
        return _remote(path).read_whole(path)
    with open(path, "rb") as file:
        return file.read()


class LocalCopy:
    """A file on this machine, for libraries that open files themselves: itself, or a copy of what is at an address.

    Args:
        path: path or address.

    Attributes:
        path: on this machine; a copy is gone with this object, or when it is closed.
    """

    def __init__(self, path: str):
        self.path, self._folder = path, None
        if is_address(path):
            self._folder = tempfile.TemporaryDirectory()
            self.path = os.path.join(self._folder.name, os.path.basename(path))
            with open(self.path, "wb") as file:
                _remote(path).copy_into(path, file)

    def close(self) -> None:
        """Removes a copy."""
        if self._folder:
            self._folder.cleanup()


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """The path of a `LocalCopy` while the block runs."""
    with contextlib.closing(LocalCopy(path)) as copy:
        yield copy.path


def beside(path: str) -> str:
    """The folder to make a file in that `put` is to give the name `path`: the same one, or a temporary one of this
    machine for an address."""
    return tempfile.gettempdir() if is_address(path) else os.path.dirname(path) or os.curdir


def put(finished: str, path: str) -> None:
    """Gives a finished file its name, so that nobody sees half of it: renames it, or writes it to an address as a whole
    and removes it here."""
    if not is_address(path):
        os.replace(finished, path)
        return
    try:
        with open(finished, "rb") as file:
            _remote(path).write_whole(path, file)
    finally:
        os.remove(finished)


def put_folder(finished: str, path: str, last: str) -> None:
    """The same for a folder; at an address its files are written one by one, that of the name `last` after all others,
    so that who waits for that finds the rest."""
    if not is_address(path):
        os.rename(finished, path)
        return
    files = [os.path.join(inner, name) for inner, _, names in os.walk(finished) for name in names]
    for file in sorted(files, key=lambda file: os.path.relpath(file, finished) == last):
        target = os.path.join(path, os.path.relpath(file, finished))
        makedirs(os.path.dirname(target))
        put(file, target)
    shutil.rmtree(finished)


def in_flight(function: Callable[[_Item], _Result], items: Iterable[_Item], remote: bool) -> Iterator[_Result]:
    """`map`; where the items are `remote`, with many requests at a time, as each one waits."""
    if not remote:
        yield from map(function, items)
        return
    yield from on_threads(function, items, REQUESTS_IN_FLIGHT, 2 * REQUESTS_IN_FLIGHT)


def on_threads(
    function: Callable[[_Item], _Result], items: Iterable[_Item], num_threads: int, most_ahead: int
) -> Iterator[_Result]:
    """`map` on threads, in the order of the items, `most_ahead` of them ahead of the one that is taken."""
    with concurrent.futures.ThreadPoolExecutor(num_threads) as threads:
        ahead: collections.deque[concurrent.futures.Future[_Result]] = collections.deque()
        for item in items:
            ahead.append(threads.submit(function, item))
            if len(ahead) > most_ahead:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def missing(paths: Iterable[str]) -> list[str]:
    """Those of some paths that are no files. At addresses, folders are listed: one request for a thousand names."""
    paths = list(paths)
    lost = [path for path in paths if not is_address(path) and not os.path.isfile(path)]
    folders = dict.fromkeys(os.path.dirname(path) for path in paths if is_address(path))
    there = dict(zip(folders, in_flight(_files_in, folders, remote=True), strict=True)) if folders else {}
    return lost + [path for path in paths if is_address(path) and path not in there[os.path.dirname(path)]]


def _files_in(folder):
    try:
        return {entry.path for entry in entries(folder) if not entry.is_folder}
    except FileNotFoundError:
        return set()
