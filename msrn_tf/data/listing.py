"""Photos that a list names, with what it says of each: what the readers of label files have in common."""

import collections
import dataclasses
import os
import posixpath
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from msrn_tf.data.examples import Examples
from msrn_tf.data.label_choice import shown
from msrn_tf.data.photo_finder import PhotoFinder, local_name
from msrn_tf.data.photo_names import refuse_repeats, warn_of_shared
from msrn_tf.data.splits import DEFAULT_FRACTIONS, check_split_names, stratified_splits
from msrn_tf.data.targets import ABSENT, MOST_DENSE_LABELS, PRESENT, CompressedTargets
from msrn_tf.errors import UserError
from msrn_tf.terminal import say
from msrn_tf.text import clean_label


@dataclasses.dataclass(frozen=True)
class Marked:
    """One row of a list.

    Attributes:
        name: the photo's, as the list has it.
        marks: dict of label → `PRESENT`, `ABSENT` or `UNKNOWN`.
        split: its split; empty: the list does not say.
        source: the list's file, relative to the data set's folder.
        content: the photo's encoded bytes, where the list holds them.
    """

    name: str
    marks: dict[str, int]
    split: str = ""
    source: str = ""
    content: bytes | None = None


@dataclasses.dataclass
class Listing:
    """A list as columns.

    Attributes:
        labels: C names.
        names, splits, sources: N strings each, see `Marked`.
        targets: int8 `[N, C]`, or `CompressedTargets`.
        groups: N names of what must not be divided between splits; None: each photo is one.
        contents: N encoded photos; None: they are files.
    """

    labels: tuple[str, ...]
    names: list[str]
    splits: list[str]
    sources: list[str]
    targets: Any
    groups: list[str] | None = None
    contents: list[bytes] | None = None

    @classmethod
    def of(cls, rows: Iterable[Marked], labels: Sequence[str] | None = None, default: int = ABSENT) -> "Listing":
        """Columns of rows.

        Args:
            rows: gone through once.
            labels: C names; None: those that marks name, sorted.
            default: what a label is that a row does not mark.
        """
        rows = list(rows)
        if labels is None:
            labels = sorted({label for row in rows for label in row.marks})
        columns = {label: column for column, label in enumerate(labels)}
        starts = np.cumsum([0, *(len(row.marks) for row in rows)])
        marks = [sorted((columns[label], value) for label, value in row.marks.items()) for row in rows]
        entries = np.array([mark for row in marks for mark in row], np.int32).reshape(-1, 2)
        targets = CompressedTargets(starts, entries[:, 0], entries[:, 1].astype(np.int8), len(columns), default)
        contents = [row.content for row in rows if row.content is not None]
        return cls(
            tuple(columns),
            [row.name for row in rows],
            [row.split for row in rows],
            [row.source for row in rows],
            targets.dense() if len(columns) <= MOST_DENSE_LABELS else targets,
            contents=contents if rows and len(contents) == len(rows) else None,
        )


class ListedPhotos:
    """Reads what a `Listing` says. Photos without a split are divided 80/10/10, stratified by labels.

    Args:
        data_dir: the folder with the photos.
        where: the start of a sentence about the list.
        listing: the list.
        names_what_is_shown: as in `msrn_tf.data.examples`.

    Raises:
        UserError: it names no photo or label, or a photo twice, or has splits that are none.
    """

    def __init__(self, data_dir: str, where: str, listing: Listing, names_what_is_shown: bool = False):
        if not listing.names:
            raise UserError(f"{where}: names no photo")
        if not listing.labels:
            raise UserError(f"{where}: names no label")
        self.data_dir, self._where, self._listing = data_dir, where, listing
        self.labels, self.names_what_is_shown = listing.labels, names_what_is_shown
        self._names = list(map(local_name, listing.names))
        for source in dict.fromkeys(listing.sources):
            names = [name for name, its in zip(self._names, listing.sources, strict=True) if its == source]
            refuse_repeats(names, os.path.join(data_dir, source) if source else where)
        self._splits = self._filled(list(map(clean_label, listing.splits)))
        self.splits = sorted(set(self._splits))
        self._found: Examples | None = None

    def read(self, split: str) -> Examples:
        """As `Reader.read`."""
        if split not in self.splits:
            raise UserError(f"split {split!r}: {self._where} has {', '.join(self.splits)}")
        if self._found is None:
            self._found = self._located()
        return self._found.take(np.flatnonzero([its_split == split for its_split in self._splits]))

    def _located(self):
        listing = self._listing
        if listing.contents is not None:
            return Examples(_objects(self._names), listing.targets, contents=_objects(listing.contents))
        finder = PhotoFinder(self.data_dir, self._where)
        places = finder.find(self._names, self._splits, list(map(posixpath.dirname, listing.sources)))
        photos_of = collections.defaultdict(list)
        for place, split in zip(places, self._splits, strict=True):
            photos_of[split].append(place)
        warn_of_shared(photos_of, self._where)
        return Examples(_objects(places), listing.targets, paths=_objects([finder.path(place) for place in places]))

    def _filled(self, splits):
        """Each photo's split, with one by its labels where the list names none."""
        listing = self._listing
        check_split_names(collections.Counter(filter(None, splits)), self.labels, self._where)
        groups = listing.groups or self._names
        if listing.groups:
            self._warn_of_divided(listing.groups, splits)
        rows = np.flatnonzero([not split for split in splits])
        if len(rows):
            units = [groups[row].encode("utf-8", "surrogateescape") for row in rows]
            labels = _labels_shown(listing.targets[rows], self.labels)
            for row, split in zip(rows, stratified_splits(units, labels, DEFAULT_FRACTIONS), strict=True):
                splits[row] = split
            shares = ", ".join(f"{split} {splits.count(split)}" for split in DEFAULT_FRACTIONS)
            say(f"divided    {len(rows)} photos without a split, by labels: {shares}", error=True)
        return splits

    def _warn_of_divided(self, groups, splits):
        splits_of = collections.defaultdict(set)
        for group, split in zip(groups, splits, strict=True):
            splits_of[group].add(split)
        divided = sorted(group for group, its_splits in splits_of.items() if len(its_splits) > 1)
        if divided:
            say(f"warning: {self._where}: groups are in more than one split: {shown(divided)}", error=True)


def _labels_shown(targets, names):
    """The names of the labels that each row shows."""
    kept = targets if isinstance(targets, CompressedTargets) else CompressedTargets.from_dense(targets)
    return [
        [names[column] for column in kept.columns[part][kept.values[part] == PRESENT]]
        for part in map(slice, kept.starts[:-1], kept.starts[1:])
    ]


def _objects(values):
    column = np.empty(len(values), object)
    column[:] = values
    return column
