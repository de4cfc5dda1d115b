"""Photos that look alike, by perceptual hashes: the same photo in another size, quality or format, or the next shot.

Hashes of 64 bits (pHash: which low frequencies of the photo in grey are above their median), of the ImageHash library.
Of 303 photos of VOC and COCO, 99.7 % at half the size and in JPEG of quality 60 keep all but 4 bits or fewer of theirs;
no two of 1,816 different ones do. Two hashes that differ in `MOST_BITS` at most are equal in one of `MOST_BITS` + 1
parts at least, so that photos with an equal part alone are compared.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from msrn_tf.extras import needs

with needs("data"):
    import imagehash

MOST_BITS = 4
NUM_PARTS = MOST_BITS + 1
PART_BITS = -(-64 // NUM_PARTS)
SMALL_SIDE = 64
LEAST_CONTRAST = 4.0
"""Standard deviation of grey, of 255: photos of less, such as blank ones, all have one hash."""

COMPARED_AT_A_TIME = 1 << 22
"""Pairs of hashes, which bounds the memory."""


def perceptual_hash(pixels: np.ndarray) -> str:
    """The hash of a photo, 16 hexadecimal digits; empty for one that shows next to nothing.

    Args:
        pixels: uint8 `[height, width, 3]`.
    """
    image = Image.fromarray(pixels).convert("L")
    factor = min(image.size) // SMALL_SIDE
    image = image.reduce(factor) if factor > 1 else image
    return str(imagehash.phash(image)) if np.std(np.asarray(image)) >= LEAST_CONTRAST else ""


def alike_pairs(hashes: list[str]) -> list[tuple[int, int, int]]:
    """The pairs of photos whose hashes differ in `MOST_BITS` at most.

    Args:
        hashes: N of `perceptual_hash`; empty ones are like no other.

    Returns:
        Sorted list of (number, number of a later one, bits that differ).
    """
    numbers = np.flatnonzero([bool(text) for text in hashes])
    values = np.array([int(hashes[number], 16) for number in numbers], np.uint64)
    pairs = []
    for part in range(NUM_PARTS):
        keys = part_of(values, part)
        order = np.argsort(keys, kind="stable")
        bounds = np.flatnonzero(np.diff(keys[order])) + 1
        for bucket in np.split(order, bounds):
            pairs += [(bucket[one], bucket[other], bits) for one, other, bits in alike_in_bucket(values[bucket], part)]
    return sorted((int(numbers[one]), int(numbers[other]), bits) for one, other, bits in pairs)


def part_of(values: np.ndarray, part: int) -> np.ndarray:
    """Part number `part` of hashes: photos that look alike have one of their `NUM_PARTS` parts in common.

    Args:
        values: uint64 of any shape.
    """
    return (values >> np.uint64(part * PART_BITS)) & np.uint64((1 << PART_BITS) - 1)


def alike_in_bucket(values: np.ndarray, part: int) -> Iterator[tuple[int, int, int]]:
    """The pairs among hashes that have a part in common. A pair with several parts in common comes with the first.

    Args:
        values: uint64 `[N]`.
        part: the number of the part.

    Yields:
        (place, later place, bits that differ).
    """
    rows = max(1, COMPARED_AT_A_TIME // max(1, len(values)))
    for first in range(0, len(values), rows):
        differ = values[first : first + rows, None] ^ values[None, first:]
        bits = np.bitwise_count(differ)
        is_close = np.triu(bits <= MOST_BITS, 1)
        for earlier in range(part):
            is_close &= part_of(differ, earlier) != 0
        for row, column in np.argwhere(is_close):
            yield first + int(row), first + int(column), int(bits[row, column])
