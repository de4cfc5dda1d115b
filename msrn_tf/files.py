"""Files that are whole or not there: written beside their name, then renamed."""

import contextlib
import os

from msrn_tf.errors import UserError


@contextlib.contextmanager
def replacing(path, mode="w"):
    """Opens a file that gets the name `path` when the block ends; where the block raises, nothing has changed."""
    temporary = f"{path}.tmp"
    try:
        # A file's name need not be text: what is not is written as an escape.
        text = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace"}
        with open(temporary, mode, **text) as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def write_beside(path, content):
    """Writes a result, text or bytes, to a file that a person named. Raises `UserError` where that cannot be done."""
    try:
        with replacing(path, "w" if isinstance(content, str) else "wb") as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
