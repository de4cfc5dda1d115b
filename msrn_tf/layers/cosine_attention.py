"""Attention by cosines, beside an average: what a label looks at is added to what everywhere looks like.

With positions p `[batch, N, D]`, semantics e `[K, D]` and H heads, each of which has its own keys, queries, temperature
and part of the D channels::

    w[b,n,k,h] = softmax over n of tₕ · cos(p[b,n] Wₕ, e[k] Vₕ)
    r[b,k,d]   = mean over n of p[b,n,d] + Σₙ w[b,n,k,h(d)] · p[b,n,d]

Channel by channel (`SemanticAttention`), a trained model's weights are nearly equal; here all channels decide together
where a label looks, and the average keeps what does not need looking for. Cosines with a learned temperature are those
of Swin V2 (Liu et al., arXiv 2111.09883). Plain dot products grow with the lengths of keys and queries, until a label
looks at one position alone: on VOC 2007 some runs then lose several points.
"""

from typing import Any

import keras
from keras import ops

from msrn_tf.layers.semantic_attention import check_channels
from msrn_tf.type_names import Shape, Tensor
from msrn_tf.validation import LARGEST_WIDTH, checked_whole

SMALLEST_SQUARE = 1e-6
"""Next to nothing beside the squared length of a key, in the tens and hundreds in a trained model."""
FIRST_TEMPERATURE = 8.0
"""In the beginning: between positions that point the same way and at right angles, weights differ by e⁸ at most."""


@keras.saving.register_keras_serializable("msrn_tf")
class CosineAttention(keras.layers.Layer):
    """Aggregates a feature map once for each semantics vector: its average plus what the vector looks at.

    Weights and sums are computed in float32 whatever the dtype policy.

    Args:
        heads: int. H; it divides D.
        key_channels: int. Width of a head's keys and queries.

    Call arguments:
        positions: `[batch, N, D]`, the projected feature map; batch and N may be unknown until run time.
        semantics: `[K, D]`, label and group semantics, shared by the batch.

    Returns:
        `[batch, K, D]`, in the layer's compute dtype.

    Examples:

    >>> positions = keras.random.normal((2, 49, 16))
    >>> semantics = keras.random.normal((5, 16))
    >>> tuple(CosineAttention(heads=2)(positions, semantics).shape)
    (2, 5, 16)
    """

    def __init__(self, heads: int = 1, key_channels: int = 64, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = checked_whole("heads", heads, 1, LARGEST_WIDTH)
        self.key_channels = checked_whole("key_channels", key_channels, 1, LARGEST_WIDTH)

    def build(self, positions_shape: Shape, semantics_shape: Shape) -> None:
        channels = semantics_shape[-1]
        check_channels(positions_shape, semantics_shape)
        if channels % self.heads:
            raise ValueError(f"`heads` must divide the {channels} channels. Received: heads={self.heads}")
        shape = (channels, self.heads * self.key_channels)
        self.key_kernel = self.add_weight(name="key_kernel", shape=shape, initializer="glorot_uniform")
        self.query_kernel = self.add_weight(name="query_kernel", shape=shape, initializer="glorot_uniform")
        # Of the first one, so that weight decay leads back to it.
        self.log_temperature = self.add_weight(name="log_temperature", shape=(self.heads,), initializer="zeros")

    def call(self, positions: Tensor, semantics: Tensor) -> Tensor:
        weights, values = self.attention_weights(positions, semantics), self._by_head(ops.cast(positions, "float32"))
        looked_at = ops.matmul(weights, values)  # [batch, H, K, D / H]
        shape = ops.shape(looked_at)
        looked_at = ops.reshape(ops.transpose(looked_at, (0, 2, 1, 3)), (-1, shape[2], positions.shape[-1]))
        average = ops.mean(ops.cast(positions, "float32"), axis=1, keepdims=True)
        return ops.cast(average + looked_at, self.compute_dtype)

    def evidence_maps(self, positions: Tensor, semantics: Tensor, gradients: Tensor) -> Tensor:
        """How much each position speaks for each label, `[batch, K, N]`; see `SemanticAttention.evidence_maps`.

        A position's share of the result is that of the average and that of what is looked at::

            map[b,k,n] = Σ_d gradients[b,k,d] · (1/N + w[b,n,k,h(d)]) · (p[b,n,d] − mean over n of p[b,n,d])

        Args:
            positions: `[batch, N, D]`.
            semantics: `[K, D]`.
            gradients: `[batch, K, D]`, of each label's logit with respect to its aggregated features.
        """
        weights = self.attention_weights(positions, semantics)
        positions = ops.cast(positions, "float32")
        deviation = self._by_head(positions - ops.mean(positions, axis=1, keepdims=True))
        # [batch, H, K, D / H] · [batch, H, D / H, N]
        spoken = ops.matmul(self._by_head(ops.cast(gradients, "float32")), ops.transpose(deviation, (0, 1, 3, 2)))
        return ops.sum((weights + 1 / ops.cast(ops.shape(positions)[1], "float32")) * spoken, axis=1)

    def attention_weights(self, positions: Tensor, semantics: Tensor) -> Tensor:
        """w `[batch, H, K, N]`, float32: how much of each position a head takes for each semantics vector."""
        keys = ops.matmul(ops.cast(positions, self.compute_dtype), ops.cast(self.key_kernel, self.compute_dtype))
        queries = ops.matmul(ops.cast(semantics, "float32"), ops.cast(self.query_kernel, "float32"))
        keys, queries = self._by_head(ops.cast(keys, "float32")), self._by_head(ops.expand_dims(queries, 0))
        cosines = ops.matmul(_of_unit_length(queries), ops.transpose(_of_unit_length(keys), (0, 1, 3, 2)))
        temperatures = FIRST_TEMPERATURE * ops.exp(ops.cast(self.log_temperature, "float32"))
        return ops.softmax(ops.reshape(temperatures, (-1, 1, 1)) * cosines)

    def _by_head(self, x):
        """`[batch, M, H · F]` -> `[batch, H, M, F]`."""
        shape = ops.shape(x)
        return ops.transpose(ops.reshape(x, (-1, shape[1], self.heads, x.shape[-1] // self.heads)), (0, 2, 1, 3))

    def compute_output_shape(self, positions_shape: Shape, semantics_shape: Shape) -> Shape:
        return (positions_shape[0], semantics_shape[0], semantics_shape[1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "key_channels": self.key_channels}


def _of_unit_length(vectors):
    """Of what `ops.normalize` becomes in TFLite, 1 / √0 is no number: keys that integers round to zero have it."""
    return vectors * ops.rsqrt(ops.sum(ops.square(vectors), axis=-1, keepdims=True) + SMALLEST_SQUARE)
