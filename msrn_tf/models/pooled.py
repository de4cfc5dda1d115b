"""The plain baselines that every paper compares with: global pooling of the last feature map and one Dense layer."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.semantics import Semantics, no_semantics
from msrn_tf.models.taps import tap_shapes
from msrn_tf.type_names import Tensor
from msrn_tf.validation import LARGEST_DROPOUT, checked_numbers


@keras.saving.register_keras_serializable("msrn_tf")
class PooledClassifier(MultiLabelClassifier):
    """Global average (`gap`) or global maximum (`gmp`) pooling, then one Dense layer.

    Args:
        pooling: `"avg"` or `"max"`.
        dropout: float. Rate of dropout before the Dense layer, in training.
        head: the Dense layer; None: a new one.
        **kwargs: see `MultiLabelClassifier`, also for call arguments and result.

    Examples:

    >>> images = keras.Input((None, None, 3))
    >>> backbone = keras.Model(images, keras.layers.Conv2D(8, 3, 32, "same")(images))
    >>> model = PooledClassifier(
    ...     backbone, ["cat", "dog"], image_size=64, mean=(124, 116, 104), std=(58, 57, 57), pooling="max"
    ... )
    >>> tuple(model(np.zeros((2, 64, 64, 3), "uint8")).shape)
    (2, 2)
    """

    def __init__(
        self,
        *args: Any,
        pooling: str = "avg",
        dropout: float = 0.0,
        head: keras.layers.Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        if pooling not in ("avg", "max"):
            raise ValueError(f"`pooling` must be 'avg' or 'max'. Received: pooling={pooling}")
        self.pooling = pooling
        (self.dropout,) = checked_numbers("dropout", [dropout], 1, 0.0, LARGEST_DROPOUT)
        self.drop = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy, name="dropout")
        self.head = head or keras.layers.Dense(len(self.labels), dtype="float32", name="head")

    def build(self, input_shape: Any) -> None:
        if not self.head.built:
            self.head.build((None, tap_shapes(self.backbone)[-1][-1]))

    def semantics(self) -> Semantics:
        """Nothing: a baseline has no label graph."""
        return no_semantics()

    def classify(self, maps: Sequence[Tensor], semantics: Semantics, training: bool = False) -> Tensor:
        reduce = ops.mean if self.pooling == "avg" else ops.max
        return self.head(self.drop(reduce(maps[-1], axis=(1, 2)), training=training))

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "pooling": self.pooling, "dropout": self.dropout}
