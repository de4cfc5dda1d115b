"""What the study puts in the place of semantic attention, to see what that is worth."""

import contextlib
from unittest import mock

import keras
from keras import ops

from msrn_tf.layers import CosineAttention, SemanticAttention
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


@keras.saving.register_keras_serializable("study")
class DotProduct(CosineAttention):
    """`CosineAttention` with plain dot products, over √key channels (Vaswani et al., arXiv 1706.03762)."""

    def attention_weights(self, positions, semantics):
        keys = ops.matmul(ops.cast(positions, self.compute_dtype), ops.cast(self.key_kernel, self.compute_dtype))
        queries = ops.matmul(ops.cast(semantics, "float32"), ops.cast(self.query_kernel, "float32"))
        keys = ops.transpose(self._by_head(ops.cast(keys, "float32")), (0, 1, 3, 2))
        return ops.softmax(ops.matmul(self._by_head(ops.expand_dims(queries, 0)) * self.key_channels**-0.5, keys))


@keras.saving.register_keras_serializable("study")
class DotProduct4(DotProduct):
    """With four heads."""

    def __init__(self, **kwargs):
        super().__init__(**{"heads": 4, **kwargs})


FORMS = {form.__name__: form for form in (Average, LearnedTemperature, DotProduct, DotProduct4)}


def attending(name):
    """Within it, new models attend by the form of a name; an empty one changes nothing."""
    return mock.patch.object(msrn, "SemanticAttention", FORMS[name]) if name else contextlib.nullcontext()
