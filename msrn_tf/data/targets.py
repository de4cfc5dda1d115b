"""Targets of many labels, of which few are known of a photo, as compressed rows."""

import zlib
from typing import Any

import numpy as np
from scipy import sparse

PRESENT, ABSENT, UNKNOWN = 1, 0, -1

MOST_DENSE_LABELS = 256
"""Up to so many labels, targets are kept as a table of a byte each."""


class CompressedTargets:
    """Targets int8 `[N, C]`, kept where they differ from a default.

    Args:
        differences: `scipy.sparse.csr_array` int8 `[N, C]`: target − default.
        default: `ABSENT` (what is not named is not there) or `UNKNOWN` (nobody looked).
    """

    def __init__(self, differences: sparse.csr_array, default: int):
        self.differences, self.default = differences, default

    @classmethod
    def from_dense(cls, targets: np.ndarray, default: int | None = None) -> "CompressedTargets":
        """Of a table; without a default, it is what most targets are, absent or unknown."""
        if default is None:
            default = UNKNOWN if 2 * np.count_nonzero(targets == UNKNOWN) > targets.size else ABSENT
        return cls(sparse.csr_array(np.asarray(targets, np.int8) - np.int8(default)), default)

    @classmethod
    def joined(cls, parts: "list[CompressedTargets]") -> "CompressedTargets":
        """Parts with the same default, one below the other."""
        return cls(sparse.csr_array(sparse.vstack([part.differences for part in parts])), parts[0].default)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, C)."""
        return self.differences.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> "CompressedTargets":
        return CompressedTargets(self.differences[rows], self.default)

    def dense(self) -> np.ndarray:
        """int8 `[N, C]`."""
        return (self.differences.toarray() + np.int8(self.default)).astype(np.int8)

    def counts(self, value: int) -> np.ndarray:
        """How many photos have this target, for each label: int64 `[C]`."""
        if value == self.default:
            return len(self) - np.bincount(self.differences.indices, minlength=self.shape[1])
        kept = self.differences.indices[self.differences.data == value - self.default]
        return np.bincount(kept, minlength=self.shape[1])

    def cooccurrence(self) -> np.ndarray:
        """How many photos show two labels at once, int64 `[C, C]`; on the diagonal, how many show the label."""
        kept = self.differences
        present = sparse.csr_array(
            ((kept.data == PRESENT - self.default).astype(np.int64), kept.indices, kept.indptr), kept.shape
        )
        return (present.T @ present).toarray()

    def checksum(self) -> int:
        """Of all."""
        kept, state = self.differences, self.default & 0xFF
        for array in (kept.data, kept.indices, kept.indptr):
            state = zlib.crc32(np.ascontiguousarray(array), state)
        return state
