"""Where batches come from: photos that are read and decoded, or feature maps of them that a cache keeps."""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from msrn_tf.data.examples import Examples
from msrn_tf.data.pipeline import InputPlan, evaluation_batches, training_batches, why_not_decoded


class BatchSource(Protocol):
    """Batches of some examples, as functions of their arguments alone: a run can go on in the middle of an epoch."""

    @property
    def examples(self) -> Examples:
        """What the batches are of."""

    def training_batches(
        self,
        *,
        batch_size: int,
        seed: int,
        epoch: int,
        first_batch: int = 0,
        shard: tuple[int, int] = (0, 1),
        sources: np.ndarray | None = None,
    ) -> tf.data.Dataset:
        """See `data.pipeline.training_batches`."""

    def evaluation_batches(
        self, rows: np.ndarray, *, batch_size: int, shard: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        """Batches of these rows in their order; the last one is filled up (see `data.pipeline.evaluation_batches`)."""

    def feature_maps(self, model: Any) -> Callable[..., list]:
        """The function of `(inputs, training=False)` that makes a model's feature maps of a batch's inputs."""

    def resized(self, image_size: int) -> "BatchSource":
        """The same at another size in pixels."""

    def why_not_decoded(self, row: int) -> str | None:
        """Why a photo cannot be read or decoded, in a few words; None for one that can."""


def stand_ins(count: int, bad: Collection[int]) -> np.ndarray:
    """For each photo the number of the one that is read: its own, or that of the next sound one, int `[count]`.

    Args:
        count: int.
        bad: numbers of those that cannot be decoded; not all.
    """
    sources = np.arange(count)
    for row in bad:
        sources[row] = next(n % count for n in range(row + 1, row + count) if n % count not in bad)
    return sources


@dataclasses.dataclass(frozen=True)
class PhotoSource:
    """Batches of uint8 images, read and decoded while they are asked for.

    Attributes:
        examples: `Examples`.
        plan: `InputPlan`.
    """

    examples: Examples
    plan: InputPlan

    def training_batches(self, **choices: Any) -> tf.data.Dataset:
        """Of (images, targets)."""
        return training_batches(self.examples, self.plan, **choices)

    def evaluation_batches(
        self, rows: np.ndarray, *, batch_size: int, shard: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        """Of (images, targets)."""
        return evaluation_batches(
            self.examples.take(rows),
            image_size=self.plan.image_size,
            batch_size=batch_size,
            shard=shard,
            max_pixels=self.plan.max_pixels,
        )

    def feature_maps(self, model: Any) -> Callable[..., list]:
        """The model's own: one pass through its backbone."""
        return model.feature_maps

    def resized(self, image_size: int) -> "PhotoSource":
        """The same photos at another size."""
        return dataclasses.replace(self, plan=dataclasses.replace(self.plan, image_size=image_size))

    def why_not_decoded(self, row: int) -> str | None:
        """A sentence's end, or None."""
        return why_not_decoded(self.examples[row], self.plan.max_pixels)
