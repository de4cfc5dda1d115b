"""The label graph as a value and as a file: counts and co-occurrences of labels, and their word vectors.

The adjacency is computed from the counts (`adjacency.py`), never stored: its threshold is a choice of the training run.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from msrn_tf.arrays import read_arrays
from msrn_tf.errors import UserError, first_line
from msrn_tf.files import replacing
from msrn_tf.label_graph.adjacency import DEFAULT_THRESHOLD, label_edges, normalized_adjacency
from msrn_tf.label_graph.validation import counts, label_names, numbers


@dataclasses.dataclass(frozen=True)
class LabelGraph:
    """Counts over a training split.

    Attributes:
        labels: C names.
        counts: int64 `[C]`: images with label i.
        cooccurrence: int64 `[C, C]`, symmetric, diagonal 0: images with labels i and j.
        num_images: images counted.
        word_vectors: float32 `[C, V]` or None.
    """

    labels: tuple[str, ...]
    counts: np.ndarray
    cooccurrence: np.ndarray
    num_images: int
    word_vectors: np.ndarray | None = None

    @classmethod
    def from_targets(cls, labels: Sequence[str], targets: np.ndarray) -> Self:
        """Counts present labels (1) in targets `[images, C]` of {1, 0, −1}; unknown (−1) counts as not seen."""
        present = (np.asarray(targets) == 1).astype(np.int64)
        cooccurrence = present.T @ present
        counts = np.diag(cooccurrence).copy()
        np.fill_diagonal(cooccurrence, 0)
        return cls(tuple(labels), counts, cooccurrence, len(present))

    def adjacency(self, threshold: float = DEFAULT_THRESHOLD) -> np.ndarray:
        """The normalised adjacency Â, float32 `[C, C]`."""
        return normalized_adjacency(self.counts, self.cooccurrence, threshold)

    def edges(self, threshold: float = DEFAULT_THRESHOLD) -> np.ndarray:
        """bool `[C, C]`: i → j where P(j | i) ≥ threshold."""
        return label_edges(self.counts, self.cooccurrence, threshold)

    def isolated_labels(self, threshold: float = DEFAULT_THRESHOLD) -> list[str]:
        """Labels without an edge to or from another label."""
        edges = self.edges(threshold)
        alone = np.logical_not(edges.any(axis=0) | edges.any(axis=1))
        return [label for label, is_alone in zip(self.labels, alone, strict=True) if is_alone]

    def describe(self, threshold: float = DEFAULT_THRESHOLD) -> str:
        """One line about the graph at a threshold, for a person."""
        alone = self.isolated_labels(threshold)
        names = f": {', '.join(alone)}" if alone else ""
        return (
            f"{len(self.labels)} labels, {int(self.edges(threshold).sum())} edges at P(j|i) ≥ {threshold:g}, "
            f"{len(alone)} labels without a neighbour{names}"
        )

    def save(self, path: str) -> None:
        """Writes `label_graph.npz` (no pickles), beside and then renamed."""
        arrays: dict[str, Any] = {
            "labels": np.array(self.labels, dtype=np.str_),
            "counts": np.asarray(self.counts, np.int64),
            "cooccurrence": np.asarray(self.cooccurrence, np.int64),
            "num_images": np.int64(self.num_images),
        }
        if self.word_vectors is not None:
            arrays["word_vectors"] = np.asarray(self.word_vectors, np.float32)
        with replacing(path, "wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str) -> Self:
        """Reads `label_graph.npz`, or the published form (`labels`, `adj`, `nums`, `glove`).

        Raises:
            UserError: the file is missing, is no such file, or its parts do not fit together.
        """
        try:
            arrays: dict[str, Any] = read_arrays(path)
        except FileNotFoundError as error:
            raise UserError(f"`label_graph`={path}: no such file") from error
        except ValueError as error:
            raise UserError(f"`label_graph`={path}: is not a label graph (.npz) file ({first_line(error)})") from error
        names = {"counts": "nums", "cooccurrence": "adj", "word_vectors": "glove"}
        arrays = {ours: arrays.get(ours, arrays.get(published)) for ours, published in names.items()} | {
            key: arrays.get(key) for key in ("labels", "num_images")
        }
        missing = [key for key in ("labels", "counts", "cooccurrence") if arrays[key] is None]
        if missing:
            raise UserError(f"`label_graph`={path}: lacks {', '.join(missing)}; it is not a label graph file")
        what, vectors = f"`label_graph`={path}:", arrays["word_vectors"]
        labels = label_names(arrays["labels"], what)
        size = len(labels)
        return cls(
            labels,
            counts(arrays["counts"], (size,), f"{what} counts"),
            counts(arrays["cooccurrence"], (size, size), f"{what} cooccurrence"),
            0 if arrays["num_images"] is None else int(counts(arrays["num_images"], (), f"{what} num_images")),
            None if vectors is None else numbers(vectors, (size, None), f"{what} word_vectors").astype(np.float32),
        )
