"""TFRecords: whether a record is as long as its file allows, which TensorFlow does not ask before it takes memory.

A record is its length (8 bytes), a checksum of that, the content, and a checksum of it. TensorFlow 2.21 makes room for
as many bytes as the length says, and the process ends where nobody has so much memory.
"""

import os
import struct
from collections.abc import Iterable

from msrn_tf import storage

FRAME_BYTES = 16
"""Of a record beside its content: length and two checksums."""

_LENGTH = struct.Struct("<Q")


def are_whole(path: str | bytes, offsets: Iterable[int]) -> list[bool]:
    """Whether the records that start at some bytes of a file end within it.

    All true where the file cannot be opened: TensorFlow cannot open it either, and says why.
    """
    offsets = list(offsets)
    try:
        file = storage.open_file(os.fsdecode(path), "rb")
    except OSError:
        return [True] * len(offsets)
    try:
        with file:
            size = file.seek(0, os.SEEK_END)
            return [_end(file, offset) <= size for offset in offsets]
    except OSError:  # a broken disk
        return [False] * len(offsets)


def check_records(path: str) -> None:
    """Goes from record to record of a file. Raises `ValueError` where one is longer than the rest of the file."""
    with storage.open_file(path, "rb") as file:
        size, offset = file.seek(0, os.SEEK_END), 0
        while offset < size:
            end = _end(file, offset)
            if end > size:
                raise ValueError(f"the record at byte {offset} is longer than what is left of the file")
            offset = end


def _end(file, offset):
    """Where a record ends, by the length that it gives."""
    file.seek(offset)
    head = file.read(_LENGTH.size)
    return offset + FRAME_BYTES + (_LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 1 << 64)
