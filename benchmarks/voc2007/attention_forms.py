"""What the study puts in the place of semantic attention, to see what that is worth."""

import contextlib
from unittest import mock

import keras
from keras import ops

from msrn_tf.layers import SemanticAttention
from msrn_tf.models import msrn

SPEED = 10.0


@keras.saving.register_keras_serializable("study")
class Average(keras.layers.Layer):
    """Every label looks everywhere alike."""

    def build(self, positions_shape, semantics_shape):
        pass

    def call(self, positions, semantics):
        average = ops.mean(ops.cast(positions, "float32"), axis=1, keepdims=True)
        return ops.cast(ops.repeat(average, semantics.shape[0], axis=1), self.compute_dtype)

    def compute_output_shape(self, positions_shape, semantics_shape):
        return (positions_shape[0], *semantics_shape)


@keras.saving.register_keras_serializable("study")
class LearnedTemperature(SemanticAttention):
    """`SemanticAttention` whose semantics are scaled, channel by channel, by what is learned faster than they are."""

    def build(self, positions_shape, semantics_shape):
        super().build(positions_shape, semantics_shape)
        self.logarithms = self.add_weight(name="logarithms", shape=(semantics_shape[-1],), initializer="zeros")

    def call(self, positions, semantics):
        return super().call(positions, semantics * ops.exp(SPEED * ops.cast(self.logarithms, semantics.dtype)))


FORMS = {"Average": Average, "LearnedTemperature": LearnedTemperature}


def attending(name):
    """Within it, new models attend by the form of a name; an empty one changes nothing."""
    return mock.patch.object(msrn, "SemanticAttention", FORMS[name]) if name else contextlib.nullcontext()
