"""Scores of a model over a list of examples, on one device or on all replicas of a strategy."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from msrn_tf.data import pipeline
from msrn_tf.data.decoding import MAX_PIXELS
from msrn_tf.data.example import name_of
from msrn_tf.data.pipeline import UNREADABLE, distributed, why_not_decoded
from msrn_tf.errors import UserError


class Evaluator:
    """Keeps the compiled forward pass of a model, so that validating every epoch traces it once.

    Args:
        model: a `MultiLabelClassifier`.
        batch_size: int, over all replicas; must be divisible by their number.
        strategy: a `tf.distribute.Strategy`; the current one where not given.
        max_pixels: int. Larger photos are refused.
        image_sizes: ints. Test-time augmentation: logits are the mean over photos warped to these sizes; the model's
            own size where not given.
        flip: bool. Test-time augmentation: and the mean over photos and their mirror images.
        pipeline: what gives `evaluation_batches`: the module, or a cache of feature maps.
    """

    def __init__(
        self, model, batch_size, strategy=None, max_pixels=MAX_PIXELS, image_sizes=(), flip=False, pipeline=pipeline
    ):
        self.model = model
        self.batch_size, self.max_pixels, self.pipeline = batch_size, max_pixels, pipeline
        self.strategy = strategy or tf.distribute.get_strategy()
        self.image_sizes, self.flip = tuple(image_sizes) or (model.image_size,), flip
        self._forward = tf.function(self._global_logits, reduce_retracing=True)

    def _global_logits(self, images):
        return self.strategy.gather(self.strategy.run(self._replica_logits, args=(images,)), axis=0)

    def _replica_logits(self, images):
        logits = self.model(images, training=False)
        if self.flip:
            logits = (logits + self.model(images[:, :, ::-1], training=False)) / 2
        return logits

    def scores(self, examples, progress=None):
        """Calibrated probabilities float32 `[images, C]` of the logits below."""
        return keras.ops.convert_to_numpy(self.model.calibrated(self.logits(examples, progress)))

    def logits(self, examples, progress=None):
        """Logits float32 `[images, C]`, in the order of the examples.

        Args:
            examples: list of `Example`.
            progress: called with the number of images done, after each batch; with several sizes, each counts.

        Raises:
            UserError: a photo cannot be decoded; nothing is left out of a measurement in silence.
        """
        try:
            return np.mean(
                [self._logits(examples, size, i * len(examples), progress) for i, size in enumerate(self.image_sizes)],
                axis=0,
            )
        except UNREADABLE:
            for example in examples:
                reason = why_not_decoded(example, self.max_pixels)
                if reason:
                    raise UserError(
                        f"{name_of(example)}: is no photo that can be decoded ({reason}); mend "
                        "it, or let msrn_tf.prepare leave it out"
                    ) from None
            raise

    def _logits(self, examples, image_size, num_before, progress):

        def of_shard(shard):
            dataset = self.pipeline.evaluation_batches(
                examples,
                image_size=image_size,
                batch_size=self.batch_size,
                shard=shard,
                max_pixels=self.max_pixels,
            )
            return dataset.rebatch(self.batch_size // self.strategy.num_replicas_in_sync, drop_remainder=True)

        rows = []
        for images, _ in distributed(self.strategy, of_shard):
            rows.append(self._forward(images).numpy())
            if progress:
                progress(num_before + min(len(examples), sum(map(len, rows))))
        return np.concatenate(rows)[: len(examples)]


def in_label_order(examples, labels, model_labels):
    """Examples with their targets in the order of the model's labels.

    Raises:
        UserError: the data set lacks a label of the model, or the model one of the data set.
    """
    missing = sorted(set(model_labels) ^ set(labels))
    if missing:
        raise UserError(f"--model: its labels are not those of the data set; they differ in {', '.join(missing[:10])}")
    order = [list(labels).index(label) for label in model_labels]
    return [dataclasses.replace(example, target=example.target[order]) for example in examples]
