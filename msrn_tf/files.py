"""Files that are whole or not there, written under another name and renamed; and whether they can be written at all.

At an address (`storage`) a file is written here first, and goes there as a whole.
"""

import contextlib
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from typing import IO, Any

from msrn_tf import storage
from msrn_tf.errors import UserError


@contextlib.contextmanager
def replacing(path: str, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a file that gets the name `path` when the block ends; where the block raises, nothing has changed."""
    temporary = path if _is_device(path) else temporary_name(path)
    try:
        # A file's name need not be text: what is not is written as an escape.
        text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace"}
        with open(temporary, mode, **text) as file:
            yield file
        if temporary != path:
            storage.put(temporary, path)
    except BaseException:
        if temporary != path:
            with contextlib.suppress(OSError):
                os.remove(temporary)
        raise


def temporary_name(path: str) -> str:
    """The name of this machine under which a file is written that is to be `path`."""
    if not storage.is_address(path):
        return f"{path}.tmp"
    return os.path.join(storage.beside(path), f"{uuid.uuid4().hex}.tmp")


def append_line(path: str, line: str) -> None:
    """Writes one more line to a text file. At an address all of it is written again: keep that for short ones."""
    if not storage.is_address(path):
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        return
    before = storage.read_whole(path).decode("utf-8") if storage.exists(path) else ""
    with replacing(path) as file:
        file.write(before + line + "\n")


def write_beside(path: str, content: str | bytes) -> None:
    """Writes a result, text or bytes, to a file that a person named. Raises `UserError` where that cannot be done."""
    try:
        with replacing(path, "w" if isinstance(content, str) else "wb") as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); nothing was changed") from error


def check_output(name: str, path: str, folder: bool = False) -> None:
    """Refuses at the start what cannot be written to at the end; leaves nothing behind.

    Args:
        name: of the argument that the path is, for the sentence.
        path: of a file, in a folder that is there; or of a `folder`, which may be new.

    Raises:
        UserError: it is a folder in the place of a file, lies below a file, or nothing can be written there.
    """
    subject = f"`{name}`={path}"
    if _is_device(path):
        return
    try:
        if not folder and storage.isdir(path):
            raise UserError(f"{subject}: is a folder; give a file")
        if storage.is_address(path):
            _try_address(path, folder)
        else:
            _try_folder(subject, path, folder)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{subject}: its folder does not exist; create it, or choose another place") from None
    except OSError as error:
        raise UserError(f"{subject}: cannot be written ({error.strerror}); choose another place") from error


def _try_folder(subject, path, folder):
    where = os.path.abspath(path if folder else os.path.dirname(path))
    while folder and not os.path.lexists(where):
        where = os.path.dirname(where)
    os.stat(where)
    if not os.path.isdir(where):
        raise UserError(f"{subject}: {where} is not a folder; choose another place")
    with contextlib.suppress(FileNotFoundError):
        os.lstat(f"{path}.tmp")  # a name too long, or below a file
    with tempfile.TemporaryFile(dir=where) as file:
        file.write(b"a disk may be full")


def _try_address(path, folder):
    """An object store has no folders that must be there: a small object is written and taken away again."""
    if folder and storage.isfile(path):
        raise NotADirectoryError
    trial = (os.path.join(path, "") if folder else path) + f".{uuid.uuid4().hex[:8]}.tmp"
    with replacing(trial, "wb") as file:
        file.write(b"may be removed")
    storage.remove(trial)


def _is_device(path: str) -> bool:
    """Whether a path is written as it is, since nothing may take its place: `/dev/stdout`, a pipe."""
    if storage.is_address(path):
        return False
    # What a command's own streams lead to may be a file, which whoever opened it goes on with.
    is_stream = re.fullmatch(r"/dev/(stdin|stdout|stderr|fd/\d+)|/proc/self/fd/\d+", os.path.abspath(path))
    return bool(is_stream) or (os.path.exists(path) and not _is_file_or_folder(path))


def _is_file_or_folder(path):
    return os.path.isfile(path) or os.path.isdir(path)
