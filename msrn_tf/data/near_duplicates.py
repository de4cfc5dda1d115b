"""Photos that look alike, by perceptual hashes: the same photo in another size, quality or format, or the next shot.

Hashes of 64 bits (pHash: which low frequencies of the photo in grey are above their median), of the ImageHash library.
Of 303 photos of VOC and COCO, 99.7 % at half the size and in JPEG of quality 60 keep all but 4 bits or fewer of theirs;
no two of 1,816 different ones do. Two hashes that differ in `MOST_BITS` at most are equal in one of `MOST_BITS` + 1
parts at least, so that photos with an equal part alone are compared.
"""

import numpy as np
from PIL import Image

from msrn_tf.extras import needs

with needs("data"):
    import imagehash

MOST_BITS = 4
PART_BITS = -(-64 // (MOST_BITS + 1))
SMALL_SIDE = 64
LEAST_CONTRAST = 4.0
"""Standard deviation of grey, of 255: photos of less, such as blank ones, all have one hash."""

ROWS_AT_A_TIME = 1 << 10


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
    pairs = {}
    for start in range(0, 64, PART_BITS):
        keys = (values >> np.uint64(start)) & np.uint64((1 << PART_BITS) - 1)
        order = np.argsort(keys, kind="stable")
        bounds = np.flatnonzero(np.diff(keys[order])) + 1
        for bucket in np.split(order, bounds):
            if len(bucket) > 1:
                pairs |= _close(values, bucket)
    return sorted((int(numbers[a]), int(numbers[b]), bits) for (a, b), bits in pairs.items())


def _close(values, bucket):
    """Dict of (place, later place) → bits that differ, of the values at some places."""
    found = {}
    bucket = np.sort(bucket)
    for first in range(0, len(bucket), ROWS_AT_A_TIME):
        rows = bucket[first : first + ROWS_AT_A_TIME]
        bits = np.bitwise_count(values[rows][:, None] ^ values[bucket][None, :])
        for row, column in np.argwhere(bits <= MOST_BITS):
            if bucket[column] > rows[row]:
                found[int(rows[row]), int(bucket[column])] = int(bits[row, column])
    return found
