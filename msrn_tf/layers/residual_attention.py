"""CSRA, class-specific residual attention: the average of a label's scores plus what its attention picks.

Zhu & Wu, "Residual Attention: A Simple but Effective Method for Multi-Label Recognition", ICCV 2021, arXiv 2108.02456.
With positions x `[batch, N, F]`, and for each of H heads a classifier m `[F, C]` and a temperature T::

    y[b,n,c] = x[b,n] · m[c]
    s[b,n,c] = softmax over n of T · y[b,n,c]
    logit[b,c] = Σ over heads of (mean over n of y[b,n,c] + λ · Σₙ s[b,n,c] · y[b,n,c])
"""

from typing import Any

import keras
from keras import ops

from msrn_tf.type_names import Shape, Tensor
from msrn_tf.validation import LARGEST_DROPOUT, LARGEST_WIDTH, checked_numbers, checked_whole

TEMPERATURES = {
    1: (1.0,),
    2: (1.0, 99.0),
    4: (1.0, 2.0, 4.0, 99.0),
    6: (1.0, 2.0, 3.0, 4.0, 5.0, 99.0),
    8: (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 99.0),
}
"""Of each head, for the numbers of heads that the authors tried. 99 is all but a maximum."""


@keras.saving.register_keras_serializable("msrn_tf")
class ResidualAttentionHead(keras.layers.Layer):
    """Logits of a feature map by class-specific residual attention.

    Args:
        num_labels: int. C.
        heads: int. H: 1, 2, 4, 6 or 8. `TEMPERATURES` has theirs.
        residual_weight: float. λ, the weight of what attention picks.
        dropout: float. Rate of dropout on the map's channels, the same ones at every position, in training.

    Call arguments:
        feature_map: `[batch, h, w, F]`.

    Returns:
        Logits `[batch, C]`, float32.

    Examples:

    >>> tuple(ResidualAttentionHead(num_labels=5, heads=2)(keras.random.normal((2, 7, 7, 24))).shape)
    (2, 5)
    """

    reference = "Zhu & Wu, Residual Attention for Multi-Label Recognition, arXiv 2108.02456"

    def __init__(
        self, num_labels: int, heads: int = 1, residual_weight: float = 0.1, dropout: float = 0.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.num_labels = checked_whole("num_labels", num_labels, 1, LARGEST_WIDTH)
        if heads not in TEMPERATURES:
            raise ValueError(f"`heads` must be one of {sorted(TEMPERATURES)}. Received: heads={heads}")
        self.heads = heads
        (self.residual_weight,) = checked_numbers("residual_weight", [residual_weight], 1, 0.0)
        (self.dropout,) = checked_numbers("dropout", [dropout], 1, 0.0, LARGEST_DROPOUT)

    def build(self, map_shape: Shape) -> None:
        self.drop = keras.layers.SpatialDropout2D(self.dropout, dtype=self.dtype_policy, name="dropout")
        self.classifier = keras.layers.Dense(self.num_labels * self.heads, dtype="float32", name="classifier")
        self.classifier.build((None, map_shape[-1]))

    def call(self, feature_map: Tensor, training: bool | None = None) -> Tensor:
        scores = self._scores(self.drop(feature_map, training=training))
        return ops.sum(self._shares(scores) * scores, axis=(1, 2))

    def evidence_maps(self, feature_map: Tensor) -> Tensor:
        """What each position adds to each label's logit over the average position: `[batch, C, h, w]`, float32.

        Exact, not a first-order estimate: a logit is the sum over positions of (1/N + λ·s) · y.
        """
        scores = self._scores(feature_map)
        added = ops.sum(self._shares(scores) * (scores - ops.mean(scores, axis=1, keepdims=True)), axis=2)
        _, height, width, _ = ops.shape(feature_map)
        return ops.reshape(ops.transpose(added, (0, 2, 1)), (-1, self.num_labels, height, width))

    def _scores(self, feature_map):
        """y `[batch, N, H, C]`, float32."""
        _, height, width, _ = ops.shape(feature_map)
        scores = self.classifier(ops.cast(feature_map, "float32"))
        return ops.reshape(scores, (-1, height * width, self.heads, self.num_labels))

    def _shares(self, scores):
        """1/N + λ · s, of the shape of the scores: what each of them counts in the logit."""
        scale = ops.convert_to_tensor(TEMPERATURES[self.heads], "float32")
        attention = ops.softmax(scores * ops.reshape(scale, (1, 1, -1, 1)), axis=1)
        return 1 / ops.cast(ops.shape(scores)[1], "float32") + self.residual_weight * attention

    def compute_output_shape(self, map_shape: Shape) -> Shape:
        return (map_shape[0], self.num_labels)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_labels": self.num_labels,
            "heads": self.heads,
            "residual_weight": self.residual_weight,
            "dropout": self.dropout,
        }
