"""Splits of data that bring none: by a hash, so that they are the same on every machine and grow with the data."""

import hashlib

DEFAULT_FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def split_of(content, fractions):
    """The split that some bytes fall into.

    Args:
        content: bytes, of an image or of its name; equal bytes are never in two splits.
        fractions: dict of split → share; the shares add up to 1.
    """
    position = int.from_bytes(hashlib.sha256(content).digest()[:8], "big") / 2**64
    total = 0.0
    for name, share in fractions.items():
        total += share
        if position < total:
            return name
    return name
