"""One optimisation step: a `tf.function` over `strategy.run`, for one device, mirrored devices or several workers.

Keras' own `fit` cannot run on several machines (its symbolic build reduces a PerReplica batch); this step gives the
same weights on one device, on mirrored devices and on several workers. After it all replicas hold the same bits, so
that what a checkpoint keeps of one of them is what all go on with.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.training.moving_average import MovingAverage
from msrn_tf.training.optimizers import clipped, global_norm
from msrn_tf.type_names import Tensor


class TrainStep:
    """Called with a distributed batch; updates the model and returns scalars of the whole batch.

    Args:
        model: a built `MultiLabelClassifier`, made in the strategy's scope.
        optimizer: of `optimizers.make_optimizer`, built, made in the strategy's scope.
        strategy: `tf.distribute.Strategy`.
        loss: function of (targets, logits) → `[batch]`.
        batch_size: int, over all replicas.
        clip_norm: float. The global gradient's norm is clipped to this; 0: it is not.
        accumulation_steps: int. A replica's images are taken in this many parts, one after the other, and the gradients
            added: the memory of a part, the step of the whole (batch-norm statistics are of each part).
        moving_average: `MovingAverage` to update, or None.
        feature_maps: function of (inputs, training) → the model's feature maps, from `BatchSource.feature_maps`; None:
            inputs are images.
        jit_compile: bool. XLA for forward and backward pass of each replica; what replicas exchange lies outside.
    """

    def __init__(
        self,
        model: MultiLabelClassifier,
        optimizer: keras.optimizers.Optimizer,
        strategy: tf.distribute.Strategy,
        *,
        loss: Callable[[Tensor, Tensor], Tensor],
        batch_size: int,
        clip_norm: float = 0.0,
        accumulation_steps: int = 1,
        moving_average: MovingAverage | None = None,
        feature_maps: Callable[..., list] | None = None,
        jit_compile: bool = False,
    ):
        self.model, self.optimizer, self.strategy = model, optimizer, strategy
        self.loss, self.batch_size, self.accumulation_steps = loss, batch_size, accumulation_steps
        self.clip_norm = clip_norm
        self._feature_maps = feature_maps or model.feature_maps
        self.moving_average = moving_average
        self._statistics = statistics_of_each_replica(model) if strategy.num_replicas_in_sync > 1 else []
        self._gradients = (
            tf.function(self._part_gradients, jit_compile=True, autograph=False)
            if jit_compile
            else self._part_gradients
        )

    @tf.function(autograph=False)
    def __call__(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """One step.

        Args:
            inputs: of the batch source: images uint8, or feature maps of a cache, distributed.
            targets: `[batch, C]`, distributed.

        Returns:
            A dict of scalars of the whole batch: losses, gradient norm.
        """
        scalars = self.strategy.run(self._replica_step, args=(inputs, targets))
        if self.moving_average is not None:
            self.moving_average.update(self.optimizer.iterations - 1)
        return {
            name: self.strategy.reduce("MEAN" if name == "gradient_norm" else "SUM", value, axis=None)
            for name, value in scalars.items()
        }

    def _replica_step(self, inputs, targets):
        variables = self.model.trainable_variables
        parts = iter(_split((inputs, targets), self.accumulation_steps))
        gradients, scalars = self._gradients(*next(parts))
        for part in parts:
            # One part after the other: run side by side they would need the memory of the whole batch.
            with tf.control_dependencies(gradients):
                more_gradients, more_scalars = self._gradients(*tf.nest.map_structure(tf.identity, part))
            gradients = [a + b for a, b in zip(gradients, more_gradients, strict=True)]
            scalars = {name: scalars[name] + more_scalars[name] for name in scalars}
        gradients = tf.distribute.get_replica_context().all_reduce("SUM", gradients)
        # Sums over a whole gradient are rounded otherwise in another replica's memory: all take the mean norm.
        norm, *statistics = _mean_over_replicas([global_norm(gradients), *self._statistics])
        for variable, mean in zip(self._statistics, statistics, strict=True):
            variable.assign(mean)
        norm /= self._loss_scale()  # as it was in force: `apply` may change it
        self.optimizer.apply(clipped(gradients, norm, self.clip_norm) if self.clip_norm else gradients, variables)
        return {**scalars, "gradient_norm": norm}

    def _part_gradients(self, inputs, targets):
        """Gradients of a part's share: its images' part of the mean over the global batch, and of the other losses."""
        with tf.GradientTape() as tape:
            semantics = self.model.semantics()
            logits = self.model.classify(self._feature_maps(inputs, training=True), semantics, training=True)
            classification_loss = tf.reduce_sum(self.loss(targets, logits)) / self.batch_size
            group_loss = semantics.loss / (self.strategy.num_replicas_in_sync * self.accumulation_steps)
            loss = classification_loss + group_loss
            scaled_loss = loss * self._loss_scale()
        gradients = tape.gradient(scaled_loss, [variable.value for variable in self.model.trainable_variables])
        return gradients, {"loss": loss, "classification_loss": classification_loss, "group_loss": group_loss}

    def _loss_scale(self):
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            return tf.convert_to_tensor(self.optimizer.dynamic_scale)
        return 1.0


def statistics_of_each_replica(model: MultiLabelClassifier) -> list[Any]:
    """The variables of batch norms that each replica updates by its own images: Keras lets them drift apart."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    layers = [layer for layer in layers if layer.trainable and not layer.synchronized]
    return [variable.value for layer in layers for variable in layer.non_trainable_variables]


def _mean_over_replicas(values):
    """Scalars and vectors, in one exchange."""
    sizes = [value.shape.num_elements() for value in values]
    packed = tf.concat([tf.reshape(value, [-1]) for value in values], axis=0)
    means = tf.split(tf.distribute.get_replica_context().all_reduce("MEAN", packed), sizes)
    return [tf.reshape(mean, value.shape) for mean, value in zip(means, values, strict=True)]


def _split(batch, count):
    """`count` equal parts of a nest of tensors."""
    pieces = [tf.split(tensor, count) for tensor in tf.nest.flatten(batch)]
    return [tf.nest.pack_sequence_as(batch, part) for part in zip(*pieces, strict=True)]
