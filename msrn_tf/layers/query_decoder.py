"""ML-Decoder: queries that look at the feature map through one layer of cross-attention, each for some labels.

Ridnik et al., "ML-Decoder: Scalable and Versatile Classification Head", arXiv 2111.12933. A transformer decoder without
self-attention among its queries; with E `[batch, N, D]`, the map's positions embedded, and queries Q `[G, D]`::

    E  = relu(x W)                       Q1 = norm(Q)
    Q2 = norm(Q1 + attention(Q1, E, E))  Q3 = norm(Q2 + W₂ relu(Q2 W₁))
    logits of group g = Q3[g] · M[g]     (M: `[G, D, ⌈C/G⌉]`; a query for each label where there are at most 100)
"""

from typing import Any

import keras
from keras import ops

from msrn_tf.type_names import Shape, Tensor
from msrn_tf.validation import LARGEST_DROPOUT, LARGEST_WIDTH, checked_numbers, checked_whole

MOST_QUERIES = 100
"""As published: above so many labels, several share a query."""


@keras.saving.register_keras_serializable("msrn_tf")
class QueryDecoderHead(keras.layers.Layer):
    """Logits of a feature map by learned queries.

    Args:
        num_labels: int. C.
        channels: int. D, which the attention heads divide.
        heads: int. Attention heads.
        hidden_units: int. Width between W₁ and W₂.
        dropout: float. Rate of dropout on what attention and the two dense layers add, in training.

    Call arguments:
        feature_map: `[batch, h, w, F]`.

    Returns:
        Logits `[batch, C]`, float32.

    Examples:

    >>> head = QueryDecoderHead(num_labels=5, channels=16, heads=4, hidden_units=32)
    >>> tuple(head(keras.random.normal((2, 7, 7, 24))).shape)
    (2, 5)
    """

    reference = "Ridnik et al., ML-Decoder, arXiv 2111.12933"

    def __init__(
        self,
        num_labels: int,
        channels: int = 768,
        heads: int = 8,
        hidden_units: int = 2048,
        dropout: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_labels = checked_whole("num_labels", num_labels, 1, LARGEST_WIDTH)
        self.channels = checked_whole("channels", channels, 1, LARGEST_WIDTH)
        self.heads = checked_whole("heads", heads, 1, LARGEST_WIDTH)
        self.hidden_units = checked_whole("hidden_units", hidden_units, 1, LARGEST_WIDTH)
        (self.dropout,) = checked_numbers("dropout", [dropout], 1, 0.0, LARGEST_DROPOUT)
        if channels % heads:
            raise ValueError(f"`heads` must divide `channels`. Received: heads={heads}, channels={channels}")

    def build(self, map_shape: Shape) -> None:
        queries, policy, width = min(self.num_labels, MOST_QUERIES), self.dtype_policy, self.channels
        self.labels_a_query = -(-self.num_labels // queries)
        self.queries = self.add_weight(name="queries", shape=(queries, width), initializer="random_normal")
        self.embedding = keras.layers.Dense(width, activation="relu", dtype=policy, name="embedding")
        self.attention = keras.layers.MultiHeadAttention(
            self.heads, width // self.heads, flash_attention=False, dtype=policy, name="attention"
        )
        self.hidden = keras.layers.Dense(self.hidden_units, activation="relu", dtype=policy, name="hidden")
        self.output_layer = keras.layers.Dense(width, dtype=policy, name="output")
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-5, dtype=policy, name=f"norm{n}") for n in (1, 2, 3)]
        self.drop = keras.layers.Dropout(self.dropout, dtype=policy, name="dropout")
        self.embedding.build((None, None, map_shape[-1]))
        self.attention.build((None, queries, width), (None, None, width))
        self.hidden.build((None, queries, width))
        self.output_layer.build((None, queries, self.hidden_units))
        for norm in self.norms:
            norm.build((None, queries, width))
        self.kernel = self.add_weight(
            name="kernel",
            shape=(queries, width, self.labels_a_query),
            # The fan-in of a logit is its query: `width` inputs.
            initializer=keras.initializers.RandomNormal(stddev=width**-0.5),
        )
        self.bias = self.add_weight(name="bias", shape=(self.num_labels,), initializer="zeros")

    def call(self, feature_map: Tensor, training: bool | None = None) -> Tensor:
        batch, height, width, _ = ops.shape(feature_map)
        positions = ops.reshape(feature_map, (batch, height * width, feature_map.shape[-1]))
        embedded = self.embedding(positions)
        queries = self.norms[0](ops.expand_dims(ops.cast(self.queries, self.compute_dtype), 0))
        queries = ops.repeat(queries, batch, axis=0)
        seen = self.attention(queries, embedded, training=training)
        seen = self.norms[1](queries + self.drop(seen, training=training))
        added = self.output_layer(self.drop(self.hidden(seen), training=training))
        decoded = ops.cast(self.norms[2](seen + self.drop(added, training=training)), "float32")
        logits = ops.einsum("bgd,gdl->bgl", decoded, ops.cast(self.kernel, "float32"))
        logits = ops.reshape(logits, (-1, self.kernel.shape[0] * self.labels_a_query))
        return logits[:, : self.num_labels] + ops.cast(self.bias, "float32")

    def compute_output_shape(self, map_shape: Shape) -> Shape:
        return (map_shape[0], self.num_labels)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_labels": self.num_labels,
            "channels": self.channels,
            "heads": self.heads,
            "hidden_units": self.hidden_units,
            "dropout": self.dropout,
        }
