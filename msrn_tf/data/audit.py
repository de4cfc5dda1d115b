"""What is in a data set, and what is wrong with it, as numbers."""

import collections

import numpy as np

from msrn_tf.data.example import targets_of

LISTED = 100


def audit(labels, splits, notes):
    """A report on prepared splits.

    Args:
        labels: C names.
        splits: dict of split → list of `Example`.
        notes: dict of split → notes of `preparation.write_split`.

    Returns:
        A dict of JSON values: for each split the numbers of images, rejected ones, ones without a label, sizes, label
        counts and labels without positives; the rejected images with reasons; groups of images with the same bytes.
    """
    report = {"splits": {}, "rejected": [], "duplicates": [], "duplicates_across_splits": 0}
    by_digest = collections.defaultdict(list)
    for split, examples in splits.items():
        rows = [row for note in notes[split] for row in note["rows"]]
        kept = [examples[row[0]] for row in rows]
        targets = targets_of(kept) if kept else np.zeros((0, len(labels)), np.int8)
        rejected = [
            {"split": split, "image": examples[number].image_path or examples[number].image_id, "reason": reason}
            for note in notes[split]
            for number, reason in note["rejected"]
        ]
        report["rejected"] += rejected
        for number, _, digest, _, _ in rows:
            by_digest[digest].append({"split": split, "image": examples[number].image_id})
        report["splits"][split] = _describe(labels, targets, rows) | {"rejected": len(rejected)}
    same = [images for images in by_digest.values() if len(images) > 1]
    report["num_duplicates"] = len(same)
    report["duplicates_across_splits"] = sum(len({image["split"] for image in images}) > 1 for images in same)
    # Those across splits first: they make a measurement too good.
    report["duplicates"] = sorted(same, key=lambda images: len({image["split"] for image in images}) == 1)[:LISTED]
    return report


def _describe(labels, targets, rows):
    present, unknown = (targets == 1).sum(axis=0), (targets == -1).sum(axis=0)
    sides = np.array([row[3:] for row in rows]) if rows else np.zeros((1, 2), int)
    return {
        "images": len(rows),
        "without_a_label": int((~(targets == 1).any(axis=1)).sum()),
        "labels_an_image": round(float((targets == 1).sum(axis=1).mean()), 3) if len(rows) else 0.0,
        "shortest_side": int(sides.min()),
        "longest_side": int(sides.max()),
        "present": dict(zip(labels, present.tolist(), strict=True)),
        "unknown": dict(zip(labels, unknown.tolist(), strict=True)),
        "labels_without_positives": [label for label, count in zip(labels, present, strict=True) if not count],
    }
