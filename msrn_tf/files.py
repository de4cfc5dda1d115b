"""Files written whole or not at all."""

import os

from msrn_tf.errors import UserError


def write_beside(path, content):
    """Writes text or bytes beside `path` and renames it. Raises `UserError` where that cannot be done."""
    temporary = f"{path}.tmp"
    text = {"encoding": "utf-8"} if isinstance(content, str) else {}
    try:
        with open(temporary, "w" if text else "wb", **text) as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
