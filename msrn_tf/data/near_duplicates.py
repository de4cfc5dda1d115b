"""Photos that look alike, by perceptual hashes: the same photo in another size, quality or format, or the next shot.

Hashes of 64 bits (pHash: which low frequencies of the photo in grey are above their median), of the ImageHash library.
Of 303 photos of VOC and COCO, 99.7 % at half the size and in JPEG of quality 60 keep all but 4 bits or fewer of theirs;
no two of 1,816 different ones do. Two hashes that differ in `MOST_BITS` at most are equal in one of `MOST_BITS` + 1
parts at least, so that photos with an equal part alone are compared.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence

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


def count_alike(hashes: Sequence[str], kinds: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """How many others each photo looks like. Nothing is kept of pairs: of a still camera there are millions.

    Args:
        hashes: N of `perceptual_hash`; empty ones are like no other.
        kinds: what each photo is, such as its splits.

    Returns:
        `(of its kind, of other kinds)`: int64 `[N]` each.
    """
    numbers, values = _values(hashes)
    places = {kind: place for place, kind in enumerate(dict.fromkeys(kinds))}
    kind_of = np.array([places[kinds[number]] for number in numbers], int)
    values, group_of = np.unique(values, return_inverse=True)
    sizes = np.zeros((len(values), len(places)), np.int64)
    np.add.at(sizes, (group_of, kind_of), 1)
    alike = sizes.copy()
    for one, other in _alike_values(values):
        alike[one] += sizes[other]
        alike[other] += sizes[one]
    mine = alike[group_of, kind_of]
    found = np.zeros((2, len(hashes)), np.int64)
    found[:, numbers] = mine - 1, alike.sum(axis=1)[group_of] - mine
    return found[0], found[1]


def alike_pairs(hashes: Sequence[str], of: Iterable[int] | None = None) -> Iterator[tuple[int, int, int]]:
    """The pairs of photos whose hashes differ in `MOST_BITS` at most, one after the other.

    Args:
        hashes: N of `perceptual_hash`; empty ones are like no other.
        of: numbers of photos, in order: pairs of each with later ones; None: of all that are like another.

    Yields:
        (number, number of a later one, bits that differ), in order.
    """
    numbers, values = _values(hashes)
    if of is None:
        of = np.flatnonzero(count_alike(hashes, [None] * len(hashes))[0]).tolist()
    for number in of:
        place = int(np.searchsorted(numbers, number))
        bits = np.bitwise_count(values[place + 1 :] ^ values[place])
        for later in np.flatnonzero(bits <= MOST_BITS):
            yield number, int(numbers[place + 1 + later]), int(bits[later])


def _values(hashes):
    """The numbers of the photos that have a hash, and these as uint64."""
    numbers = np.flatnonzero([bool(text) for text in hashes])
    return numbers, np.array([int(hashes[number], 16) for number in numbers], np.uint64)


def _alike_values(values):
    """Pairs of places of different hashes that are alike."""
    for part in range(NUM_PARTS):
        keys = part_of(values, part)
        order = np.argsort(keys, kind="stable")
        bounds = np.flatnonzero(np.diff(keys[order])) + 1
        for bucket in np.split(order, bounds):
            for one, other, _ in alike_in_bucket(values[bucket], part):
                yield bucket[one], bucket[other]


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
