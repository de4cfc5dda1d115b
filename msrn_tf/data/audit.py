"""What is in a data set, and what is wrong with it, as numbers."""

import collections
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from msrn_tf.data.examples import PRESENT, UNKNOWN, Examples, name_of

LISTED = 100


def audit(labels: Sequence[str], splits: dict[str, Examples], notes: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """A report on prepared splits.

    Args:
        labels: C names.
        splits: dict of split → `Examples`.
        notes: dict of split → notes of `preparation.write_split`.

    Returns:
        A dict of JSON values: for each split the numbers of images, rejected ones, ones without a label, sizes, label
        counts and labels without positives; the rejected images with reasons; the splits that share photos (VOC's
        `trainval` is made of two others); groups of different photos with the same bytes.
    """
    report: dict[str, Any] = {"splits": {}, "rejected": []}
    by_digest = collections.defaultdict(lambda: collections.defaultdict(list))
    for split, examples in splits.items():
        rows = [row for note in notes[split] for row in note["rows"]]
        kept = examples.take(np.array([row[0] for row in rows], int))
        rejected = [
            {"split": split, "image": name_of(examples[number]), "reason": reason}
            for note in notes[split]
            for number, reason in note["rejected"]
        ]
        report["rejected"] += rejected
        for example, row in zip(kept, rows, strict=True):
            by_digest[row[2]][name_of(example), example.image_id].append(split)
        report["splits"][split] = _describe(labels, kept, rows) | {"rejected": len(rejected)}
    overlaps = collections.Counter(
        pair
        for photos in by_digest.values()
        for listed in photos.values()
        for pair in itertools.combinations(sorted(set(listed)), 2)
    )
    report["overlaps"] = [{"splits": pair, "images": count} for pair, count in sorted(overlaps.items())]
    same = [
        [{"splits": listed, "image": image_id} for (_, image_id), listed in photos.items()]
        for photos in by_digest.values()
        if len(photos) > 1
    ]
    report["num_duplicates"] = len(same)
    report["duplicates_across_splits"] = sum(map(_is_across_splits, same))
    # Those across splits first: they make a measurement too good.
    report["duplicates"] = sorted(same, key=_is_across_splits, reverse=True)[:LISTED]
    return report


def _is_across_splits(photos):
    return len({split for photo in photos for split in photo["splits"]}) > 1


def _describe(labels, kept, rows):
    present, unknown = kept.counts(PRESENT), kept.counts(UNKNOWN)
    sides = np.array([row[3:] for row in rows]) if rows else np.zeros((1, 2), int)
    return {
        "images": len(rows),
        "without_a_label": int((~kept.show_a_label()).sum()),
        "labels_an_image": round(int(present.sum()) / len(rows), 3) if rows else 0.0,
        "shortest_side": int(sides.min()),
        "longest_side": int(sides.max()),
        "present": dict(zip(labels, present.tolist(), strict=True)),
        "unknown": dict(zip(labels, unknown.tolist(), strict=True)),
        "labels_without_positives": [label for label, count in zip(labels, present, strict=True) if not count],
    }
