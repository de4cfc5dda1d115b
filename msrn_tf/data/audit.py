"""What is in a data set, and what is wrong with it, as numbers; and for what is wrong, what mends it."""

import collections
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from msrn_tf.data.examples import PRESENT, UNKNOWN, Examples, name_of
from msrn_tf.data.label_choice import shown
from msrn_tf.data.near_duplicates import alike_pairs
from msrn_tf.text import look_alike

LISTED = 100
FEW_PHOTOS = 10
"""A label of fewer in the training split is hardly learned, and its average precision in another hardly measured."""

EXPECTED_TOGETHER = 10.0
"""Photos that two labels share if they are independent, from which it is strange that they share none."""

GREAT_IMBALANCE = 100
"""Photos of the commonest label for one of the rarest."""


def audit(
    labels: Sequence[str],
    splits: dict[str, Examples],
    notes: dict[str, list[dict[str, Any]]],
    train_split: str = "train",
    image_size: int = 0,
) -> dict[str, Any]:
    """A report on prepared splits.

    Args:
        labels: C names.
        splits: dict of split → `Examples`.
        notes: dict of split → notes of `preparation.write_split`.
        train_split: the split that labels are learned from.
        image_size: that training will warp photos to, in pixels; 0: not looked at.

    Returns:
        A dict of JSON values: for each split the numbers of images, rejected ones, ones without a label, sizes, label
        counts and labels without positives; the rejected images with reasons; the splits that share photos (VOC's
        `trainval` is made of two others); groups of different photos with the same bytes, and pairs that look alike;
        what is strange about labels; and under `findings` what needs a person, each with what mends it.
    """
    report: dict[str, Any] = {"splits": {}, "rejected": []}
    by_digest = collections.defaultdict(lambda: collections.defaultdict(list))
    looks, training = {}, None
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
            looks[row[2]] = row[5] if len(row) > 5 else ""  # a note of an older version has none
        report["splits"][split] = _describe(labels, kept, rows, image_size) | {"rejected": len(rejected)}
        training = kept if split == train_split else training
    overlaps = collections.Counter(
        pair
        for photos in by_digest.values()
        for listed in photos.values()
        for pair in itertools.combinations(sorted(set(listed)), 2)
    )
    report["overlaps"] = [{"splits": pair, "images": count} for pair, count in sorted(overlaps.items())]
    report |= _same_bytes(by_digest) | _look_alike(by_digest, looks, train_split)
    report["labels"] = _strange_labels(labels, training) if training is not None else {}
    report["findings"] = _findings(report, train_split, image_size)
    return report


def _same_bytes(by_digest):
    same = [
        [{"splits": listed, "image": image_id} for (_, image_id), listed in photos.items()]
        for photos in by_digest.values()
        if len(photos) > 1
    ]
    # Those across splits first: they make a measurement too good.
    return {
        "num_duplicates": len(same),
        "duplicates_across_splits": sum(map(_is_across_splits, same)),
        "duplicates": sorted(same, key=_is_across_splits, reverse=True)[:LISTED],
    }


def _look_alike(by_digest, looks, train_split):
    """Pairs of photos of other bytes that look alike, each by the first photo of its bytes."""
    photos = [next(iter(photos.items())) for photos in by_digest.values()]
    described = [{"splits": sorted(set(listed)), "image": image_id} for (_, image_id), listed in photos]
    pairs = [
        [described[one], described[other]] for one, other, _ in alike_pairs([looks[digest] for digest in by_digest])
    ]
    across = [pair for pair in pairs if pair[0]["splits"] != pair[1]["splits"]]
    within = [pair for pair in pairs if pair[0]["splits"] == pair[1]["splits"]]
    return {
        "num_near_duplicates": len(pairs),
        "near_duplicates_across_splits": len(across),
        "near_duplicates": (across + within)[:LISTED],
        "training_photos_like_others": sorted(
            {photo["image"] for pair in across for photo in pair if train_split in photo["splits"]}
        ),
    }


def _is_across_splits(photos):
    return len({split for photo in photos for split in photo["splits"]}) > 1


def _describe(labels, kept, rows, image_size):
    present, unknown = kept.counts(PRESENT), kept.counts(UNKNOWN)
    sides = np.array([row[3:5] for row in rows]) if rows else np.zeros((1, 2), int)
    return {
        "images": len(rows),
        "without_a_label": int((~kept.show_a_label()).sum()),
        "labels_an_image": round(int(present.sum()) / len(rows), 3) if rows else 0.0,
        "shortest_side": int(sides.min()),
        "longest_side": int(sides.max()),
        "smaller_than_image_size": int((sides.min(axis=1) < image_size).sum()),
        "present": dict(zip(labels, present.tolist(), strict=True)),
        "unknown": dict(zip(labels, unknown.tolist(), strict=True)),
        "labels_without_positives": [label for label, count in zip(labels, present, strict=True) if not count],
    }


def _strange_labels(labels, training):
    """What is strange about the labels of the training split: names alike, pairs that never or always meet."""
    counts, together = training.counts(PRESENT), training.cooccurrence()
    alike = collections.defaultdict(list)
    for label in labels:
        alike[look_alike(label)].append(label)
    num_known = max(1, len(training))
    expected = np.triu(np.outer(counts, counts) / num_known, 1)
    never = np.argwhere((expected >= EXPECTED_TOGETHER) & (together == 0))
    always = np.argwhere(
        (together == counts[:, None]) & (counts[:, None] >= FEW_PHOTOS) & ~np.eye(len(labels), dtype=bool)
    )
    return {
        "alike": [names for names in alike.values() if len(names) > 1],
        "never_together": [[labels[one], labels[other]] for one, other in never[:LISTED]],
        "always_together": [[labels[one], labels[other]] for one, other in always[:LISTED]],
        "fewer_than_10_photos": [label for label, count in zip(labels, counts, strict=True) if count < FEW_PHOTOS],
        "most_for_one_of_the_rarest": round(int(counts.max(initial=0)) / max(1, int(counts.min(initial=0))), 1),
    }


def _findings(report: dict[str, Any], train_split: str, image_size: int) -> list[dict[str, str]]:
    """What needs a person: sentences, each with what mends it."""
    found = []

    def note(finding, mend):
        found.append({"finding": finding, "mend": mend})

    names = report["labels"] or {"alike": [], "never_together": [], "always_together": [], "fewer_than_10_photos": []}
    if report["duplicates_across_splits"]:
        note(
            f"{report['duplicates_across_splits']} groups of files with the same bytes are in several splits",
            "keep one of each (audit.json names them); without a column of splits equal files are together",
        )
    if report["near_duplicates_across_splits"]:
        note(
            f"{report['near_duplicates_across_splits']} pairs of photos look alike and are in different splits",
            f"look at them in audit.html; --leave_out=near_duplicates.txt leaves out those of {train_split}",
        )
    if names["alike"]:
        groups = shown(" and ".join(map(repr, group)) for group in names["alike"])
        note(f"labels differ only by case, blanks or hyphens: {groups}", "write them the same way in the list")
    if names["always_together"]:
        pairs = shown(f"{one} with {other}" for one, other in names["always_together"])
        note(
            f"labels never occur without another: {pairs}",
            "right where one is a kind of the other; else leave one out with --labels=…",
        )
    if names["never_together"]:
        pairs = shown(f"{one} and {other}" for one, other in names["never_together"])
        note(
            f"frequent labels never occur in one photo: {pairs}",
            "right where one excludes the other; else photos are labelled incompletely: a table with a column for "
            "each label can say unknown",
        )
    if names["fewer_than_10_photos"]:
        rare = shown(names["fewer_than_10_photos"])
        note(
            f"fewer than {FEW_PHOTOS} photos of {train_split} show {rare}", f"--min_photos={FEW_PHOTOS} leaves them out"
        )
    if report["labels"] and report["labels"]["most_for_one_of_the_rarest"] >= GREAT_IMBALANCE:
        ratio = report["labels"]["most_for_one_of_the_rarest"]
        note(
            f"the most frequent label has {ratio:g} photos for each one of the rarest",
            "python -m msrn_tf.train --loss=asl",
        )
    small = {split: item["smaller_than_image_size"] for split, item in report["splits"].items()}
    if any(small.values()):
        counts = ", ".join(f"{count} in {split}" for split, count in small.items() if count)
        note(
            f"photos are smaller than --image_size={image_size}: {counts}",
            f"python -m msrn_tf.train --image_size={_fitting(report)} enlarges no photo and takes less time",
        )
    return found


def _fitting(report: dict[str, Any]) -> int:
    """A multiple of 32 pixels that the smallest photo has, 32 at least."""
    return max(32, min(item["shortest_side"] for item in report["splits"].values()) // 32 * 32)
