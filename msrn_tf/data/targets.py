"""Targets of many labels, of which few are known of a photo, as compressed rows."""

import itertools
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

PRESENT, ABSENT, UNKNOWN = 1, 0, -1

MOST_DENSE_LABELS = 256
"""Up to so many labels, targets are kept as a table of a byte each."""

ROWS_AT_A_TIME = 1 << 14
ENTRIES_AT_A_TIME = 1 << 20

LabelPairs = tuple[np.ndarray, np.ndarray]
"""Pairs of different labels that photos show, int64 i · C + j with i < j, in order; how many photos, int64."""


class CompressedTargets:
    """Targets int8 `[N, C]`, kept where they differ from a default, with their columns.

    Args:
        starts: int `[N + 1]`: row n is made of the entries from `starts[n]` to before `starts[n + 1]`.
        columns: int `[entries]` below C, in growing order within a row.
        values: int8 `[entries]`.
        num_labels: C.
        default: `ABSENT` (what is not named is not there) or `UNKNOWN` (nobody looked).
    """

    def __init__(self, starts: np.ndarray, columns: np.ndarray, values: np.ndarray, num_labels: int, default: int):
        self.starts, self.columns, self.values = starts, columns, values
        self.num_labels, self.default = num_labels, default

    @classmethod
    def from_dense(cls, targets: np.ndarray, default: int | None = None) -> "CompressedTargets":
        """Of a table; without a default, it is what most targets are, absent or unknown."""
        if default is None:
            default = UNKNOWN if 2 * np.count_nonzero(targets == UNKNOWN) > targets.size else ABSENT
        rows, columns = np.nonzero(targets != default)
        starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(targets)))])
        kept = np.asarray(targets, np.int8)[rows, columns]
        return cls(starts, columns.astype(_narrow(targets.shape[1])), kept, targets.shape[1], default)

    @classmethod
    def joined(cls, parts: "list[CompressedTargets]") -> "CompressedTargets":
        """Parts of the same labels and default, one below the other."""
        lengths = np.concatenate([[0], *(np.diff(part.starts) for part in parts)])
        columns, values = (np.concatenate([getattr(part, name) for part in parts]) for name in ("columns", "values"))
        return cls(np.cumsum(lengths), columns, values, parts[0].num_labels, parts[0].default)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, C)."""
        return len(self), self.num_labels

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, rows: Any) -> "CompressedTargets":
        """Those of some rows: a slice, their numbers, or a mask."""
        firsts, ends = self.starts[:-1][rows], self.starts[1:][rows]
        starts = np.concatenate([[0], np.cumsum(ends - firsts)])
        entries = np.repeat(firsts - starts[:-1], ends - firsts) + np.arange(starts[-1])
        return CompressedTargets(starts, self.columns[entries], self.values[entries], self.num_labels, self.default)

    def dense(self) -> np.ndarray:
        """int8 `[N, C]`."""
        targets = np.full(self.shape, self.default, np.int8)
        targets[np.repeat(np.arange(len(self)), np.diff(self.starts)), self.columns] = self.values
        return targets

    def counts(self, value: int) -> np.ndarray:
        """How many photos have this target, for each label: int64 `[C]`."""
        counts = np.full(self.num_labels, len(self) if value == self.default else 0, np.int64)
        for first in range(0, len(self.values), ENTRIES_AT_A_TIME):
            part = slice(first, first + ENTRIES_AT_A_TIME)
            columns, has_it = self.columns[part], self.values[part] == value
            if value == self.default:
                counts -= np.bincount(columns, minlength=self.num_labels)
            else:
                counts += np.bincount(columns[has_it], minlength=self.num_labels)
        return counts

    def cooccurrence(self) -> np.ndarray:
        """How many photos show two labels at once, int64 `[C, C]`; on the diagonal, how many show the label."""
        together = np.zeros(self.num_labels**2, np.int64)
        for first in range(0, len(self), ROWS_AT_A_TIME):
            for pairs in _pairs(self[first : first + ROWS_AT_A_TIME]):
                together += np.bincount(pairs, minlength=len(together))
        pairs = together.reshape(self.num_labels, self.num_labels)
        return pairs + np.triu(pairs, 1).T

    def label_pairs(self) -> LabelPairs:
        """The same as pairs that occur, without the diagonal: little room where labels are many and photos few."""
        one_by_one = [
            pairs
            for first in range(0, len(self), ROWS_AT_A_TIME)
            for pairs in itertools.islice(_pairs(self[first : first + ROWS_AT_A_TIME]), 1, None)
        ]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *one_by_one]), return_counts=True)

    def checksum(self) -> int:
        """Of all."""
        state = self.default & 0xFF
        for array, kind in ((self.values, np.int8), (self.columns, np.int32), (self.starts, np.int64)):
            for first in range(0, len(array), ENTRIES_AT_A_TIME):
                entries: Any = np.ascontiguousarray(array[first : first + ENTRIES_AT_A_TIME], kind)
                state = zlib.crc32(entries, state)
        return state


def sum_of_pairs(parts: Iterable[LabelPairs]) -> LabelPairs:
    """Pairs of labels of parts of a data set together."""
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64)), *parts]
    pairs, places = np.unique(np.concatenate([pairs for pairs, _ in parts]), return_inverse=True)
    counts = np.zeros(len(pairs), np.int64)
    np.add.at(counts, places, np.concatenate([counts for _, counts in parts]))
    return pairs, counts


def symmetric(pairs: LabelPairs, num_labels: int) -> np.ndarray:
    """Pairs of labels as a table, int64 `[C, C]`, 0 on the diagonal."""
    together = np.zeros(num_labels**2, np.int64)
    together[pairs[0]] = pairs[1]
    table = together.reshape(num_labels, num_labels)
    return table + table.T


def _pairs(targets):
    """Pairs of present labels of the same photo, int64 i · C + j with i ≤ j: all of a label with itself come first."""
    present = targets.values == PRESENT
    rows = np.repeat(np.arange(len(targets)), np.diff(targets.starts))[present]
    columns = targets.columns[present].astype(np.int64)
    entries, distance = np.arange(len(rows)), 0
    while len(entries):
        yield columns[entries] * targets.num_labels + columns[entries + distance]
        distance += 1
        entries = entries[entries < len(rows) - distance]
        entries = entries[rows[entries] == rows[entries + distance]]


def _narrow(num_labels):
    return np.int16 if num_labels <= np.iinfo(np.int16).max else np.int32
