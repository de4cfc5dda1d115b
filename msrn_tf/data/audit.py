"""What is in a data set, and what is wrong with it, as numbers; and for what is wrong, what mends it."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from msrn_tf.data.examples import PRESENT, UNKNOWN, Example, Examples, name_of
from msrn_tf.data.label_choice import shown
from msrn_tf.data.near_duplicates import alike_pairs, count_alike
from msrn_tf.text import look_alike

LISTED = 100
NO_SIDE = 1 << 31
FOUND = (
    "num_duplicates", "duplicates_across_splits", "duplicates", "num_near_duplicates", "near_duplicates_across_splits",
    "near_duplicates", "training_photos_like_others",
)  # fmt: skip
FEW_PHOTOS = 10
"""A label of fewer in the training split is hardly learned, and its average precision in another hardly measured."""

EXPECTED_TOGETHER = 10.0
"""Photos that two labels share if they are independent, from which it is strange that they share none."""

GREAT_IMBALANCE = 100
"""Photos of the commonest label for one of the rarest."""


@dataclasses.dataclass(frozen=True)
class SplitFacts:
    """What was counted in a split, or in a part of one.

    Attributes:
        images, rejected, without_a_label: numbers of photos: kept, left out, and kept ones that show no label.
        shortest_side, longest_side: pixels; `NO_SIDE` and 0 where there is no photo.
        smaller_than_image_size: photos that training will enlarge.
        present, unknown: int64 `[C]`: kept photos with this target.
    """

    images: int
    rejected: int
    without_a_label: int
    shortest_side: int
    longest_side: int
    smaller_than_image_size: int
    present: np.ndarray
    unknown: np.ndarray

    @classmethod
    def of(cls, kept: Examples, rows: Sequence[Sequence[Any]], rejected: int, image_size: int) -> "SplitFacts":
        """Of photos that were written.

        Args:
            kept: their `Examples`.
            rows: their rows of a note of `preparation.write_shard`.
            rejected: number of others.
            image_size: that training will warp photos to, in pixels.
        """
        sides = np.array([row[3:5] for row in rows], int).reshape(-1, 2)
        return cls(
            images=len(rows),
            rejected=rejected,
            without_a_label=int((~kept.show_a_label()).sum()),
            shortest_side=int(sides.min(initial=NO_SIDE)),
            longest_side=int(sides.max(initial=0)),
            smaller_than_image_size=int((sides.min(axis=1) < image_size).sum()),
            present=kept.counts(PRESENT),
            unknown=kept.counts(UNKNOWN),
        )

    @classmethod
    def joined(cls, parts: Iterable["SplitFacts"]) -> "SplitFacts":
        """Of the parts together; there is one at least."""
        parts, joining = list(parts), {"shortest_side": min, "longest_side": max}
        return cls(
            **{
                field.name: joining.get(field.name, sum)(getattr(part, field.name) for part in parts)
                for field in dataclasses.fields(cls)
            }
        )

    def described(self, labels: Sequence[str]) -> dict[str, Any]:
        """As a split's part of the report."""
        return {
            "images": self.images,
            "without_a_label": self.without_a_label,
            "labels_an_image": round(int(self.present.sum()) / self.images, 3) if self.images else 0.0,
            "shortest_side": min(self.shortest_side, self.longest_side),
            "longest_side": self.longest_side,
            "smaller_than_image_size": self.smaller_than_image_size,
            "present": dict(zip(labels, self.present.tolist(), strict=True)),
            "unknown": dict(zip(labels, self.unknown.tolist(), strict=True)),
            "labels_without_positives": [label for label, count in zip(labels, self.present, strict=True) if not count],
            "rejected": self.rejected,
        }


@dataclasses.dataclass(slots=True)
class SameBytes:
    """The photos of the same bytes: (name, id) → the splits that have it, both in the order of the data set.

    VOC's `trainval` is made of two others: one photo of several splits is no duplicate.
    """

    photos: dict[tuple[str, str], list[str]] = dataclasses.field(default_factory=dict)

    def add(self, name: str, image_id: str, split: str) -> None:
        """One more."""
        self.photos.setdefault((name, image_id), []).append(split)

    @property
    def overlaps(self) -> Iterator[tuple[str, str]]:
        """Pairs of splits that share a photo, for each such photo."""
        for listed in self.photos.values():
            yield from itertools.combinations(sorted(set(listed)), 2)

    @property
    def duplicates(self) -> list[dict[str, Any]]:
        """The group of different photos; empty where there is one."""
        group = [{"splits": listed, "image": image_id} for (_, image_id), listed in self.photos.items()]
        return group if len(group) > 1 else []

    @property
    def first(self) -> dict[str, Any]:
        """The photo that stands for all."""
        (_, image_id), listed = next(iter(self.photos.items()))
        return {"splits": sorted(set(listed)), "image": image_id}


def is_across_splits(photos: Sequence[dict[str, Any]]) -> bool:
    """Whether photos of the report are in several splits: that makes a measurement too good."""
    return len({split for photo in photos for split in photo["splits"]}) > 1


def are_apart(pair: Sequence[dict[str, Any]]) -> bool:
    """Whether two photos are not in the same splits."""
    return pair[0]["splits"] != pair[1]["splits"]


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
        As `report_of`.
    """
    rejected, facts, together = [], {}, None
    by_digest, looks = collections.defaultdict(SameBytes), {}
    for split, examples in splits.items():
        rows = [row for note in notes[split] for row in note["rows"]]
        kept = examples.take(np.array([row[0] for row in rows], int))
        left_out = [rejection(split, examples[n], reason) for note in notes[split] for n, reason in note["rejected"]]
        rejected += left_out
        for example, row in zip(kept, rows, strict=True):
            by_digest[row[2]].add(name_of(example), example.image_id, split)
            looks[row[2]] = row[5] if len(row) > 5 else ""  # a note of an older version has none
        facts[split] = SplitFacts.of(kept, rows, len(left_out), image_size)
        if split == train_split:
            together = kept.cooccurrence()
    duplicates = [group for same in by_digest.values() if (group := same.duplicates)]
    photos = [same.first for same in by_digest.values()]
    found = {
        "rejected": rejected,
        "overlaps": collections.Counter(pair for same in by_digest.values() for pair in same.overlaps),
        "num_duplicates": len(duplicates),
        "duplicates_across_splits": sum(map(is_across_splits, duplicates)),
        "duplicates": sorted(duplicates, key=is_across_splits, reverse=True)[:LISTED],
        **_near_duplicates(photos, [looks[digest] for digest in by_digest], train_split),
    }
    return report_of(labels, facts, together, found, train_split, image_size)


def _near_duplicates(photos, looks, train_split):
    """What `FOUND` names of photos that look alike."""
    together, across = count_alike(looks, [tuple(photo["splits"]) for photo in photos])

    def first(counts, apart):  # who is counted is in such a pair: the first few of them have enough
        pairs = ([photos[one], photos[other]] for one, other, _ in alike_pairs(looks, np.flatnonzero(counts).tolist()))
        return list(itertools.islice((pair for pair in pairs if are_apart(pair) == apart), LISTED))

    return {
        "num_near_duplicates": int((together + across).sum()) // 2,
        "near_duplicates_across_splits": int(across.sum()) // 2,
        "near_duplicates": (first(across, True) + first(together, False))[:LISTED],
        "training_photos_like_others": sorted(
            set(training_photos([[photos[number] for number in np.flatnonzero(across)]], train_split))
        ),
    }


def rejection(split: str, example: Example, reason: str) -> dict[str, str]:
    """A photo that was left out, for the report."""
    return {"split": split, "image": name_of(example), "reason": reason}


def training_photos(across: Iterable[Sequence[dict[str, Any]]], train_split: str) -> Iterator[str]:
    """The photos of the training split among groups that look alike and are apart."""
    return (photo["image"] for group in across for photo in group if train_split in photo["splits"])


def report_of(
    labels: Sequence[str],
    facts: dict[str, SplitFacts],
    together: np.ndarray | None,
    found: dict[str, Any],
    train_split: str,
    image_size: int,
) -> dict[str, Any]:
    """The report of what was counted.

    Args:
        labels: C names.
        facts: dict of split → `SplitFacts`.
        together: int64 `[C, C]`, how many photos of the training split show two labels; None: it is not there.
        found: `rejected`, `overlaps` (dict of two splits → photos), and what `FOUND` names; lists of duplicates have
            those across splits first, and `LISTED` of them at most.
        train_split, image_size: as in `audit`.

    Returns:
        A dict of JSON values: for each split the numbers of images, rejected ones, ones without a label, sizes, label
        counts and labels without positives; the rejected images with reasons; the splits that share photos (VOC's
        `trainval` is made of two others); groups of different photos with the same bytes, and pairs that look alike;
        what is strange about labels; and under `findings` what needs a person, each with what mends it.
    """
    report: dict[str, Any] = {
        "splits": {split: its.described(labels) for split, its in facts.items()},
        "rejected": found["rejected"],
        "overlaps": [{"splits": pair, "images": count} for pair, count in sorted(found["overlaps"].items())],
        **{name: found[name] for name in FOUND},
        "labels": {} if together is None else _strange_labels(labels, facts[train_split], together),
    }
    return report | {"findings": _findings(report, train_split, image_size)}


def _strange_labels(labels, training, together):
    """What is strange about the labels of the training split: names alike, pairs that never or always meet."""
    counts = training.present
    alike = collections.defaultdict(list)
    for label in labels:
        alike[look_alike(label)].append(label)
    num_known = max(1, training.images)
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
            f"keep one of each (audit.json has up to {LISTED}); without a column of splits equal files are together",
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
