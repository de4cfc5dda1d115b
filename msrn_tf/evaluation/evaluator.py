"""Scores of a model over a list of examples, on one device or on all replicas of a strategy."""

import keras
import numpy as np
import tensorflow as tf

from msrn_tf.choices import MAX_PIXELS
from msrn_tf.data import pipeline
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
        if isinstance(images, list | tuple):
            return self.model.classify(images, self.model.semantics())
        logits = self.model(images, training=False)
        if self.flip:
            logits = (logits + self.model(images[:, :, ::-1], training=False)) / 2
        return logits

    def scores(self, examples, progress=None, bad=None):
        """Calibrated probabilities float32 `[images, C]` of the logits below."""
        return keras.ops.convert_to_numpy(self.model.calibrated(self.logits(examples, progress, bad)))

    def logits(self, examples, progress=None, bad=None):
        """Logits float32 `[images, C]`, in the order of the examples.

        Args:
            examples: list of `Example`.
            progress: called with the number of images done, after each batch; with several sizes, each counts.
            bad: dict of index → reason of the photos that cannot be decoded, which new ones (of this worker) are added
                to; their rows are those of other photos. None: such a photo is an error.

        Raises:
            UserError: a photo cannot be decoded, and `bad` does not take it (nothing is left out of a measurement in
                silence); or none can.
        """
        return np.mean(
            [self._logits(examples, size, i * len(examples), progress, bad) for i, size in enumerate(self.image_sizes)],
            axis=0,
        )

    def _logits(self, examples, image_size, num_before, progress, bad):
        rows, done = [], 0
        while done < len(examples):
            sources = _sources(len(examples), bad)[done:]
            try:
                for images, _ in self._batches([examples[source] for source in sources], image_size):
                    rows.append(self._forward(images).numpy())
                    done, sources = done + self.batch_size, sources[self.batch_size :]
                    if progress:
                        progress(num_before + min(len(examples), done))
            except UNREADABLE:
                # Several workers stay in step: each goes on from the batch that failed, with another photo in place.
                if not self._find_bad(examples, sources[: self.batch_size], bad):
                    raise
        return np.concatenate(rows)[: len(examples)]

    def _find_bad(self, examples, sources, bad):
        """Adds those of some examples' photos that cannot be decoded; whether there are new ones."""
        found = {}
        for index in sorted(set(sources)):
            example = examples[index]
            if reason := why_not_decoded(example, self.max_pixels):
                found[index] = reason
                if bad is None:
                    raise UserError(
                        f"{name_of(example)}: is no photo that can be decoded ({reason}); mend it, or let "
                        "msrn_tf.prepare leave it out"
                    )
        is_new = bad is not None and not found.keys() <= bad.keys()
        if is_new:
            bad |= found
        return is_new

    def _batches(self, examples, image_size):

        def of_shard(shard):
            dataset = self.pipeline.evaluation_batches(
                examples,
                image_size=image_size,
                batch_size=self.batch_size,
                shard=shard,
                max_pixels=self.max_pixels,
            )
            return dataset.rebatch(self.batch_size // self.strategy.num_replicas_in_sync, drop_remainder=True)

        return distributed(self.strategy, of_shard)


def _sources(count, bad):
    """For each of `count` photos the index of the one that is read: its own, or that of the next sound one."""
    if not bad:
        return list(range(count))
    if len(bad) == count:
        raise UserError("none of the photos to measure on can be decoded; mend them, or choose another split")
    return [next(n % count for n in range(index, index + count) if n % count not in bad) for index in range(count)]
