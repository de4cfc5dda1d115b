"""Labelled photos as `tf.data` sets for `keras.Model.fit`, from any form of labels that the commands read.

::

    data = msrn_tf.datasets.read("PHOTOS", image_size=288, batch_size=32)
    model = msrn_tf.new_model(data.labels, data.label_graph, image_size=288, backbone="efficientnet_lite0")
    model.compile("adamw", loss=msrn_tf.losses.binary_crossentropy)
    model.fit(data.train, validation_data=data.val, epochs=10)
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from msrn_tf.config import OptimizationConfig, RunConfig, TrainingDataConfig, check_values
from msrn_tf.data.batch_source import PhotoSource, stand_ins
from msrn_tf.data.examples import UNKNOWN, Examples, Reader, name_of
from msrn_tf.data.pipeline import UNREADABLE, InputPlan, in_memory, prefetched
from msrn_tf.data.readers import read_split
from msrn_tf.errors import UserError
from msrn_tf.label_graph import LabelGraph
from msrn_tf.terminal import say
from msrn_tf.training.batches import TrainingBatches
from msrn_tf.training.setup import check_positives


def read(
    data_dir: str = "",
    dataset: str = "",
    *,
    image_size: int = 448,
    batch_size: int = 16,
    augment: str = "multi_scale_crop",
    seed: int = 0,
    sampling: str = "shuffle",
    **choices: Any,
) -> "LabelledPhotos":
    """Labelled photos of a folder.

    Args:
        data_dir: the folder where the data set lies.
        dataset: the form that it lies in, one of `msrn_tf.data.readers.DATASETS`; empty or `"auto"`: found out, and
            printed. Both empty: the demo set, which is drawn.
        image_size: int. Height and width in pixels that photos are warped to.
        batch_size: int.
        augment: of the training photos, one of `msrn_tf.choices.AUGMENTATIONS`.
        seed: int, of the order of the training photos and of augmentation.
        sampling: one of `msrn_tf.choices.SAMPLINGS`.
        **choices: further fields of `msrn_tf.config.TrainingDataConfig`, which are flags of `msrn_tf.train`: `labels`,
            `min_photos`, `train_split`, `val_split`, `image_column`, `bad_images`, `mix` …

    Raises:
        UserError: no such folder or form, or a choice that does not go with it.
        TypeError: a choice that is none.
        ValueError: a value that is none of an argument's choices, or beyond its bounds.
    """
    config = TrainingDataConfig(data_dir=data_dir, dataset=dataset, image_size=image_size, augment=augment, **choices)
    check_values(config, OptimizationConfig(batch_size=batch_size, sampling=sampling), RunConfig(seed=seed))
    if config.cache_features:
        raise UserError("`cache_features`: feature maps are kept by msrn_tf.train alone; leave it out")
    return LabelledPhotos(config, batch_size, seed, sampling)


class LabelledPhotos:
    """What `read` returns. Splits are read, and photos decoded, when they are first asked for.

    Args:
        config: `TrainingDataConfig`.
        batch_size, seed, sampling: of `read`.

    Attributes:
        labels: C names, in the order of the targets.
        splits: names that `split` takes.
    """

    def __init__(self, config: TrainingDataConfig, batch_size: int, seed: int = 0, sampling: str = "shuffle"):
        self._config, self._batch_size, self._seed, self._sampling = config, batch_size, seed, sampling
        self._reader: Reader = config.open(config.train_split)
        self.labels: tuple[str, ...] = tuple(self._reader.labels)
        self.splits: Sequence[str] = tuple(self._reader.splits)

    @functools.cached_property
    def label_graph(self) -> LabelGraph:
        """Counts and co-occurrences of the labels in the training split."""
        examples = self._training
        return LabelGraph(self.labels, examples.counts(), examples.cooccurrence(), len(examples))

    @functools.cached_property
    def train(self) -> tf.data.Dataset:
        """Batches of the training split: (images uint8 `[batch, size, size, 3]`, targets `[batch, C]`).

        Targets are 1 present, 0 absent, −1 unknown: int8, or float32 where photos are mixed. Each time the set is gone
        through is the next epoch, in an order of its own: those of `msrn_tf.train` with this seed. What does not fill a
        batch is left out, and photos that cannot be decoded are skipped, and named.

        Raises:
            UserError: fewer photos than a batch, or a label that none of them shows.
        """
        config, examples = self._config, self._training
        batches = TrainingBatches(
            PhotoSource(examples, InputPlan.of(config)),
            tf.distribute.OneDeviceStrategy("/cpu:0"),
            self._batch_size,
            self._seed,
            config.bad_images == "skip",
            self._sampling,
        )
        if not batches.steps:
            raise UserError(f"`batch_size`={self._batch_size}: more than the {len(examples)} training images")
        epochs = itertools.count(1)
        target_type = tf.int8 if config.mix == "none" else tf.float32
        return self._generated(
            lambda: batches.in_epoch(next(epochs)), batches.steps, self._batch_size, target_type=target_type
        )

    @functools.cached_property
    def val(self) -> tf.data.Dataset | None:
        """The validation split as `split` gives it; None where `val_split` is empty."""
        return self.split(self._config.val_split) if self._config.val_split else None

    def split(self, name: str) -> tf.data.Dataset:
        """All photos of a split in their order, not augmented: (images, targets) as in `train`.

        The last batch is smaller, and so is one with photos that cannot be decoded: they are named and left out.

        Raises:
            UserError: no such split, or no photo in it.
        """
        examples = self._read(name)
        source = PhotoSource(examples, InputPlan(self._config.image_size, max_pixels=self._config.max_pixels))
        bad: dict[int, str] = {}
        return self._generated(lambda: self._in_order(source, bad), -(-len(examples) // self._batch_size))

    @functools.cached_property
    def _training(self) -> Examples:
        examples = self._read(self._config.train_split)
        check_positives(self.labels, examples, self._config.train_split)
        return examples

    def _read(self, split: str) -> Examples:
        examples = read_split(self._reader, split, self._config.drop_unlabelled)
        return in_memory(examples) if self._config.cache_images else examples

    def _generated(
        self, batches: Any, count: int, batch_size: int | None = None, target_type: tf.DType = tf.int8
    ) -> tf.data.Dataset:
        size = self._config.image_size
        signature = (
            tf.TensorSpec((batch_size, size, size, 3), tf.uint8),
            tf.TensorSpec((batch_size, len(self.labels)), target_type),
        )
        dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
        return prefetched(dataset.apply(tf.data.experimental.assert_cardinality(count)))

    def _in_order(self, source: PhotoSource, bad: dict[int, str]) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """Batches of all rows, without those that cannot be decoded, which are added to `bad`."""
        done, count, size = 0, len(source.examples), self._batch_size
        while done < count:
            rows = stand_ins(count, bad)[done:]
            try:
                for images, targets in source.evaluation_batches(rows, batch_size=size):
                    kept = [place for place in range(min(size, count - done)) if done + place not in bad]
                    if kept:
                        yield tf.gather(images, kept), tf.gather(targets, kept)
                    else:  # `fit` counts batches, and an empty one has no mean
                        yield images[:1], tf.fill([1, len(self.labels)], tf.constant(UNKNOWN, tf.int8))
                    done, rows = done + size, rows[size:]
            except UNREADABLE:
                before = len(bad)
                self._find_bad(source, rows[:size], bad)
                if len(bad) == before:
                    raise
                if len(bad) == count:
                    raise UserError("none of the photos of the split can be decoded") from None

    def _find_bad(self, source: PhotoSource, rows: np.ndarray, bad: dict[int, str]) -> None:
        """Adds those of some photos that cannot be decoded, and says which; or refuses the first of them."""
        for row in np.unique(rows).tolist():
            if reason := source.why_not_decoded(row):
                what = f"{name_of(source.examples[row])}: {reason}"
                if self._config.bad_images == "fail":
                    raise UserError(f"{what}; fix it, or use `bad_images`=skip")
                say(f"skipped    {what}")
                bad[row] = reason
