"""Scores of a model over examples, on one device or on all replicas of a strategy."""

import functools
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from msrn_tf.data.batch_source import BatchSource, stand_ins
from msrn_tf.data.examples import name_of
from msrn_tf.data.pipeline import UNREADABLE, distributed
from msrn_tf.errors import UserError
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.type_names import Progress


class Evaluator:
    """Keeps the compiled forward pass of a model, so that validating every epoch traces it once.

    Args:
        model: a `MultiLabelClassifier`.
        batch_size: int, over all replicas; must be divisible by their number.
        strategy: a `tf.distribute.Strategy`; the current one where not given.
        image_sizes: ints. Test-time augmentation: logits are the mean over photos warped to these sizes; the source's
            own size where not given.
        flip: bool. Test-time augmentation: and the mean over photos and their mirror images.
    """

    def __init__(
        self,
        model: MultiLabelClassifier,
        batch_size: int,
        strategy: tf.distribute.Strategy | None = None,
        image_sizes: Sequence[int] = (),
        flip: bool = False,
    ):
        self.model, self.batch_size = model, batch_size
        self.strategy = strategy or tf.distribute.get_strategy()
        self.image_sizes, self.flip = tuple(image_sizes), flip
        self._forwards = {}

    def _forward(self, feature_maps):
        """The compiled forward pass of a source's inputs, traced once for each kind of them."""
        if feature_maps not in self._forwards:
            of_replica = functools.partial(self._replica_logits, feature_maps=feature_maps)

            def of_all(inputs):
                return self.strategy.gather(self.strategy.run(of_replica, args=(inputs,)), axis=0)

            self._forwards[feature_maps] = tf.function(of_all, reduce_retracing=True, autograph=False)
        return self._forwards[feature_maps]

    def _replica_logits(self, inputs, feature_maps):
        semantics = self.model.semantics()
        logits = self.model.classify(feature_maps(inputs), semantics)
        if self.flip:
            logits = (logits + self.model.classify(feature_maps(inputs[:, :, ::-1]), semantics)) / 2
        return logits

    def scores(
        self, source: BatchSource, progress: Progress | None = None, bad: dict[int, str] | None = None
    ) -> np.ndarray:
        """Calibrated probabilities float32 `[images, C]` of the logits below."""
        return keras.ops.convert_to_numpy(self.model.calibrated(self.logits(source, progress, bad)))

    def logits(
        self, source: BatchSource, progress: Progress | None = None, bad: dict[int, str] | None = None
    ) -> np.ndarray:
        """Logits float32 `[images, C]`, in the order of the examples.

        Args:
            source: `BatchSource`.
            progress: called with the number of images done, after each batch; with several sizes, each counts.
            bad: dict of index → reason of the photos that cannot be decoded, which new ones (of this worker) are added
                to; their rows are those of other photos. None: such a photo is an error.

        Raises:
            UserError: a photo cannot be decoded, and `bad` does not take it (nothing is left out of a measurement in
                silence); or none can.
        """
        sources = [source.resized(size) for size in self.image_sizes] or [source]
        return np.mean(
            [self._logits(at_size, n * len(source.examples), progress, bad) for n, at_size in enumerate(sources)],
            axis=0,
        )

    def _logits(self, source, num_before, progress, bad):
        rows, done, count = [], 0, len(source.examples)
        forward = self._forward(source.feature_maps(self.model))
        while done < count:
            if bad and len(bad) == count:
                raise UserError("none of the photos to measure on can be decoded; fix them, or choose another split")
            wanted = stand_ins(count, bad or ())[done:]
            try:
                for inputs, _ in self._batches(source, wanted):
                    rows.append(forward(inputs).numpy())
                    done, wanted = done + self.batch_size, wanted[self.batch_size :]
                    if progress:
                        progress(num_before + min(count, done))
            except UNREADABLE:
                # Several workers stay in step: each goes on from the batch that failed, with another photo in place.
                if not self._find_bad(source, wanted[: self.batch_size], bad):
                    raise
        return np.concatenate(rows)[:count]

    def _find_bad(self, source, rows, bad):
        """Adds those of some photos that cannot be decoded; whether there are new ones."""
        found = {}
        for row in np.unique(rows).tolist():
            if reason := source.why_not_decoded(row):
                found[row] = reason
                if bad is None:
                    raise UserError(
                        f"{name_of(source.examples[row])}: is not a photo that can be decoded ({reason}); fix it, or "
                        "let msrn_tf.prepare leave it out"
                    )
        is_new = bad is not None and not found.keys() <= bad.keys()
        if is_new:
            bad |= found
        return is_new

    def _batches(self, source, rows):
        def of_shard(shard):
            dataset = source.evaluation_batches(rows, batch_size=self.batch_size, shard=shard)
            return dataset.rebatch(self.batch_size // self.strategy.num_replicas_in_sync, drop_remainder=True)

        return distributed(self.strategy, of_shard)
