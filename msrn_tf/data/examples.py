"""Labelled photos as columns: what a dataset reader returns, and what everything behind it asks for rows of."""

import dataclasses
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from msrn_tf import storage
from msrn_tf.data.targets import ABSENT, PRESENT, UNKNOWN, CompressedTargets, LabelPairs

__all__ = ["ABSENT", "PRESENT", "UNKNOWN", "Example", "Examples", "Reader", "name_of"]

CHUNK = 1 << 14
"""Rows at a time where all are gone through."""


@dataclasses.dataclass(frozen=True)
class Example:
    """One row: where a photo's encoded bytes are, and its target int8 `[C]` of 1 present, 0 absent, −1 unknown.

    The bytes are `image_bytes`, or the file `image_path`, or the feature `image/encoded` of the TFRecord that starts at
    byte `record_offset` of the file `image_path`.
    """

    image_id: str
    target: np.ndarray
    image_path: str | None = None
    image_bytes: bytes | None = None
    record_offset: int = -1


class Examples(Sequence):
    """Labelled photos, a column for each of their properties.

    An index gives a row (`Example`), a slice or `take` gives `Examples`. No column is gone through to do so.

    Args:
        ids: N names: str, or bytes as file systems have them; an array, which may be mapped from a disk.
        targets: int8 `[N, C]` of 1 present, 0 absent, −1 unknown, or `CompressedTargets`.
        paths: paths of files: one a photo, or with `path_index` those of fewer files that hold several.
        path_index: int `[N]`; None: photo n is in file n.
        offsets: int `[N]`, where in its file a photo's TFRecord starts; None: the files are photos.
        contents: N encoded photos, bytes; None: they are in the files.
    """

    def __init__(
        self,
        ids: np.ndarray,
        targets: "np.ndarray | CompressedTargets",
        paths: Sequence[str] | np.ndarray | None = None,
        path_index: np.ndarray | None = None,
        offsets: np.ndarray | None = None,
        contents: np.ndarray | None = None,
    ):
        self._ids, self._targets = ids, targets
        self._path_index, self._offsets, self._contents = path_index, offsets, contents
        self._paths: Any = paths

    @classmethod
    def of(cls, rows: Iterable[Example], num_labels: int) -> "Examples":
        """Columns of rows, which are gone through once. All have the same kind of place, but that with bytes in memory
        some may have a path too."""
        ids, targets, paths, offsets, contents = [], [], [], [], []
        for row in rows:
            ids.append(row.image_id)
            targets.append(row.target)
            paths.append(row.image_path)
            offsets.append(row.record_offset)
            contents.append(row.image_bytes)
        return cls(
            _objects(ids),
            np.stack(targets).astype(np.int8, copy=False) if targets else np.zeros((0, num_labels), np.int8),
            paths=_objects(paths) if any(path is not None for path in paths) else None,
            offsets=np.array(offsets, np.int64) if offsets and min(offsets) >= 0 else None,
            contents=_objects(contents) if contents and all(c is not None for c in contents) else None,
        )

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return next(iter(self.take(np.array([index % len(self)]))))

    def __iter__(self) -> Iterator[Example]:
        for chunk in self.chunks():
            for n, target in enumerate(chunk.targets):
                yield Example(
                    image_id=chunk._name(n),
                    target=target,
                    image_path=chunk._path(n) if chunk._paths is not None else None,
                    image_bytes=None if chunk._contents is None else chunk._contents[n],
                    record_offset=-1 if chunk._offsets is None else int(chunk._offsets[n]),
                )

    def chunks(self, size: int = CHUNK) -> Iterator["Examples"]:
        """The same rows in parts."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))

    def take(self, rows: Any) -> "Examples":
        """The rows of these numbers (or of a slice, or where a mask is true), in their order."""
        by_photo = self._paths is not None and self._path_index is None
        return Examples(
            self._ids[rows],
            self._targets[rows],
            paths=self._paths[rows] if by_photo else self._paths,
            path_index=None if self._path_index is None else self._path_index[rows],
            offsets=None if self._offsets is None else self._offsets[rows],
            contents=None if self._contents is None else self._contents[rows],
        )

    # Names and targets

    @property
    def ids(self) -> list[str]:
        """The names of all."""
        return [self._name(n) for n in range(len(self))]

    @property
    def num_labels(self) -> int:
        """C."""
        return self._targets.shape[1]

    @property
    def targets(self) -> np.ndarray:
        """Of all photos, int8 `[N, C]`."""
        return self._targets.dense() if isinstance(self._targets, CompressedTargets) else np.asarray(self._targets)

    @property
    def compressed_default(self) -> int | None:
        """The default of targets that are kept as compressed rows; None for a table."""
        return self._targets.default if isinstance(self._targets, CompressedTargets) else None

    def compressed_targets(self) -> CompressedTargets:
        """Of all photos, as compressed rows."""
        kept = self._targets
        return kept if isinstance(kept, CompressedTargets) else CompressedTargets.from_dense(self.targets)

    def with_targets(self, targets: "np.ndarray | CompressedTargets") -> "Examples":
        """The same photos with other targets."""
        return Examples(self._ids, targets, self._paths, self._path_index, self._offsets, self._contents)

    def with_contents(self, contents: Iterable[bytes]) -> "Examples":
        """The same photos with their encoded bytes in memory."""
        kept = _objects(list(contents))
        return Examples(self._ids, self._targets, self._paths, self._path_index, self._offsets, kept)

    def counts(self, value: int = PRESENT) -> np.ndarray:
        """How many photos have this target, for each label: int64 `[C]`."""
        if isinstance(self._targets, CompressedTargets):
            return self._targets.counts(value)
        return sum(
            ((chunk == value).sum(axis=0, dtype=np.int64) for chunk in _parts(self._targets)),
            np.zeros(self.num_labels, np.int64),
        )

    def cooccurrence(self) -> np.ndarray:
        """How many photos show two labels at once, int64 `[C, C]`, 0 on the diagonal."""
        if isinstance(self._targets, CompressedTargets):
            together = self._targets.cooccurrence()
        else:
            together = np.zeros((self.num_labels, self.num_labels), np.int64)
            for chunk in _parts(self._targets):  # counts of a chunk are whole numbers in float32
                present = (chunk == PRESENT).astype(np.float32)
                together += np.rint(present.T @ present).astype(np.int64)
        np.fill_diagonal(together, 0)
        return together

    def label_pairs(self) -> LabelPairs:
        """The same as pairs that occur, each once."""
        return self.compressed_targets().label_pairs()

    def show_a_label(self) -> np.ndarray:
        """Whether each photo shows a label, bool `[N]`."""
        return np.concatenate([np.zeros(0, bool), *((c.targets == PRESENT).any(axis=1) for c in self.chunks())])

    def fingerprint(self) -> tuple[int, int, int]:
        """(N, checksum of the names in their order, checksum of the targets)."""
        names = targets = 0
        for number, chunk in enumerate(self.chunks()):
            names = zlib.crc32(os.fsencode(("\n" if number else "") + "\n".join(chunk.ids)), names)
            if not isinstance(self._targets, CompressedTargets):
                targets = zlib.crc32(chunk.targets.tobytes(), targets)
        if isinstance(self._targets, CompressedTargets):
            targets = self._targets.checksum()
        return len(self), names, targets

    # Where the photos are

    def files(self) -> list[str]:
        """The files that photos have to be read from, each once."""
        if self._paths is None or self._contents is not None:
            return []
        if self._path_index is None:
            return list(dict.fromkeys(self._paths))
        return [self._paths[number] for number in np.unique(self._path_index)]

    @property
    def are_remote(self) -> bool:
        """Whether photos are at addresses, where each request waits: those of a data set are all, or none is."""
        return any(map(storage.is_address, self[:1].files()))

    def place_columns(self) -> dict[str, np.ndarray]:
        """Where the photos' bytes are: `content`, or `path`, or `path` and `offset`; text as bytes."""
        if self._contents is not None:
            return {"content": self._contents}
        columns = {"path": _objects([os.fsencode(self._path(n)) for n in range(len(self))])}
        return columns if self._offsets is None else columns | {"offset": np.asarray(self._offsets, np.int64)}

    def _name(self, n: int) -> str:
        name = self._ids[n]
        return os.fsdecode(bytes(name)) if isinstance(name, bytes) else str(name)

    def _path(self, n: int) -> Any:
        return self._paths[n if self._path_index is None else self._path_index[n]]


class Reader(Protocol):
    """A labelled data set on a disk.

    One that knows no labels but those that its photos show has `names_what_is_shown = True`: a label that it does not
    name is absent in all of them, not unknown. One that knows where objects are has `places(example, size)`: label →
    bool `[size, size]`.
    """

    @property
    def labels(self) -> Sequence[str]:
        """C names."""

    @property
    def splits(self) -> Sequence[str]:
        """The names that `read` takes."""

    def read(self, split: str) -> Examples:
        """All examples of a split. Raises `UserError` for missing or wrong files."""


def name_of(example: Example) -> str:
    """What a person knows a photo by: its file's path, or its id where it has none or is in a file with others."""
    if example.record_offset >= 0:
        return f"{example.image_path}, photo {example.image_id}"
    return example.image_path or example.image_id


def _objects(values):
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _parts(targets):
    return (targets[start : start + CHUNK] for start in range(0, len(targets), CHUNK))
