"""Errors that a person can act on: one sentence that names the file or argument, what was found and what to do.

Sentences name arguments as Keras does, in backticks: "`batch_size`=7: is not divisible …". Where a command prints one,
its flags of those names stand in their place (`command_line`).
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterator

OF_FILES = (
    errno.EACCES, errno.EBUSY, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ELOOP,
    errno.EMFILE, errno.ENAMETOOLONG, errno.ENFILE, errno.ENODEV, errno.ENOENT, errno.ENOSPC, errno.ENOTDIR,
    errno.ENOTEMPTY, errno.ENXIO, errno.EPERM, errno.EROFS, errno.ESTALE, errno.ETXTBSY,
)  # fmt: skip
"""What a file system answers."""


OF_STORES = (
    "AbortedError", "FailedPreconditionError", "InternalError", "NotFoundError", "PermissionDeniedError",
    "UnauthenticatedError", "UnavailableError",
)  # fmt: skip
"""What TensorFlow raises where a store at an address refuses or does not answer."""


def printable(text: str) -> str:
    """`text` with escapes for what cannot be printed: a file's name may hold anything, also what steers a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


UNREADABLE_STATUS = 1
"""Of a command that answered for all photos but those that cannot be decoded, which it names."""


class UserError(Exception):
    """Bad input. A command prints its message and ends with `exit_status`, without a traceback."""

    exit_status = 2

    def __init__(self, message: str):
        super().__init__(printable(message))


@contextlib.contextmanager
def argument(name: str) -> Iterator[None]:
    """Within it, a `UserError` about the value of an argument, which its sentence starts with, names that too."""
    try:
        yield
    except UserError as error:
        error.args = (f"`{name}`={error}",)
        raise


def first_line(error: BaseException, most: int = 200) -> str:
    """What another library's error says, for a sentence of ours: its first line, and none of its own arguments."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:most].replace("`", "'")


class DivergenceError(UserError):
    """The loss is no longer a number."""

    exit_status = 1


class LostWorkerError(UserError):
    """Another worker of a distributed run is gone; the run can be started again (`EX_TEMPFAIL` of sysexits.h)."""

    exit_status = 75


def file_error(error: BaseException) -> str | None:
    """A sentence for an error that a file system gave, `OSError` or TensorFlow's; None for any other error."""
    if isinstance(error, OSError) and error.errno in OF_FILES:
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        return _file_sentence(name, error.strerror)
    if type(error).__module__.startswith("tensorflow"):
        # TensorFlow tells a file's error as its name, a semicolon (or "is") and the system's words.
        reasons = "|".join(re.escape(os.strerror(number)) for number in OF_FILES)
        if found := re.search(rf"(?:(/\S*?)(?:;| is) )?({reasons})", str(error), re.IGNORECASE):
            return _file_sentence(found[1] or "", found[2])
        if type(error).__name__ in OF_STORES and (found := re.search(r"(?:gs|s3|ram|hdfs)://[^\s;,'\"]+", str(error))):
            return _file_sentence(found[0].rstrip(".:"), first_line(error))
    return None


def _file_sentence(name, reason):
    return f"{name or 'a file'}: cannot be read or written ({reason}); fix that, or choose another place"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, NumPy's or TensorFlow's, of a CPU or a GPU."""
    # By its name: a command that needs no TensorFlow must not import it to say so.
    if type(error).__name__ == "InternalError":  # what CUDA answers within XLA and libraries
        return bool(re.search("out[ _]of[ _]memory", str(error), re.IGNORECASE))
    return isinstance(error, MemoryError) or (
        type(error).__name__ == "ResourceExhaustedError" and not file_error(error)
    )
