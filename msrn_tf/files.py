"""Files that are whole or not there, written under another name and renamed; and whether they can be written at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from msrn_tf.errors import UserError


@contextlib.contextmanager
def replacing(path: str, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a file that gets the name `path` when the block ends; where the block raises, nothing has changed."""
    temporary = path if _is_device(path) else f"{path}.tmp"
    try:
        # A file's name need not be text: what is not is written as an escape.
        text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace"}
        with open(temporary, mode, **text) as file:
            yield file
        if temporary != path:
            os.replace(temporary, path)
    except BaseException:
        if temporary != path:
            with contextlib.suppress(OSError):
                os.remove(temporary)
        raise


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
    if not folder and os.path.isdir(path):
        raise UserError(f"{subject}: is a folder; give a file")
    where = os.path.abspath(path if folder else os.path.dirname(path))
    while folder and not os.path.lexists(where):
        where = os.path.dirname(where)
    try:
        os.stat(where)
        if not os.path.isdir(where):
            raise UserError(f"{subject}: {where} is not a folder; choose another place")
        with contextlib.suppress(FileNotFoundError):
            os.lstat(f"{path}.tmp")  # a name too long, or below a file
        with tempfile.TemporaryFile(dir=where) as file:
            file.write(b"a disk may be full")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{subject}: its folder does not exist; create it, or choose another place") from None
    except OSError as error:
        raise UserError(f"{subject}: cannot be written ({error.strerror}); choose another place") from error


def _is_device(path):
    """Whether a path is written as it is, since nothing may take its place: `/dev/stdout`, a pipe."""
    return os.path.abspath(path).startswith("/dev/") or (os.path.exists(path) and not _is_file_or_folder(path))


def _is_file_or_folder(path):
    return os.path.isfile(path) or os.path.isdir(path)
