"""The plain baselines that every paper compares with: global pooling of the last feature map and one Dense layer."""

import keras
from keras import ops

from msrn_tf.models.backbones import tap_shapes
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.validation import LARGEST_DROPOUT, checked_numbers


@keras.saving.register_keras_serializable("msrn_tf")
class PooledClassifier(MultiLabelClassifier):
    """Global average (`gap`) or global maximum (`gmp`) pooling, then one Dense layer.

    Args:
        pooling: `"avg"` or `"max"`.
        dropout: float. Rate of dropout before the Dense layer, in training.
        **kwargs: see `MultiLabelClassifier`, also for call arguments and result.
    """

    def __init__(self, *args, pooling="avg", dropout=0.0, **kwargs):
        super().__init__(*args, **kwargs)
        if pooling not in ("avg", "max"):
            raise ValueError(f"`pooling` must be 'avg' or 'max'. Received: pooling={pooling}")
        self.pooling = pooling
        (self.dropout,) = checked_numbers("dropout", [dropout], 1, 0.0, LARGEST_DROPOUT)

    def build(self, input_shape):
        channels = tap_shapes(self.backbone)[-1][-1]
        self.drop = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy, name="dropout")
        self.head = keras.layers.Dense(len(self.labels), dtype="float32", name="head")
        self.head.build((None, channels))

    def call(self, images, training=None):
        feature_map = self.taps(images, training=training)[-1]
        reduce = ops.mean if self.pooling == "avg" else ops.max
        return self.head(self.drop(reduce(feature_map, axis=(1, 2)), training=training))

    def get_config(self):
        return {**super().get_config(), "pooling": self.pooling, "dropout": self.dropout}
