"""Errors that a person can act on: one sentence that names the file or flag, what was found and what to do."""


def printable(text):
    """`text` with escapes for what cannot be printed: a file's name may hold anything, also what steers a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class UserError(Exception):
    """Bad input. A command prints its message and ends with `exit_status`, without a traceback."""

    exit_status = 2

    def __init__(self, message):
        super().__init__(printable(message))


class DivergenceError(UserError):
    """The loss is no longer a number."""

    exit_status = 1


class LostWorkerError(UserError):
    """Another worker of a distributed run is gone; the run can be started again (`EX_TEMPFAIL` of sysexits.h)."""

    exit_status = 75
