"""From the backbone's feature maps to positions of the semantics' width (arXiv 2106.11596, §3.3)."""

from collections.abc import Sequence
from typing import Any

import keras

from msrn_tf.type_names import Shape, Tensor
from msrn_tf.validation import LARGEST_WIDTH, checked_whole

COARSEST_STRIDE = 32
"""Its map takes no convolution before the pooling, as published."""


@keras.saving.register_keras_serializable("msrn_tf")
class FeatureProjection(keras.layers.Layer):
    """Each map: a 1×1 convolution of its own width (not at stride 32), 2×2 maximum, a 1×1 convolution to D channels.

    Args:
        channels: int. D, the width of the projected maps.
        strides: of the maps, in their order.
        pooled: sequence of bools, one a stride: whether its map is pooled. Defaults to all, as published.

    Call arguments:
        maps: list of `[batch, h, w, features]`, one a stride.

    Returns:
        List of `[batch, h, w, D]`; a pooled map has half the height and width.

    Examples:

    >>> maps = [keras.random.normal((2, 8, 8, 24)), keras.random.normal((2, 4, 4, 48))]
    >>> projection = FeatureProjection(16, strides=(16, 32), pooled=(True, False))
    >>> [tuple(projected.shape) for projected in projection(maps)]
    [(2, 4, 4, 16), (2, 4, 4, 16)]
    """

    def __init__(self, channels: int, strides: Sequence[int], pooled: Sequence[bool] | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = checked_whole("channels", channels, 1, LARGEST_WIDTH)
        self.strides = tuple(checked_whole("strides", stride, 1, LARGEST_WIDTH) for stride in strides)
        if not self.strides or sorted(set(self.strides)) != list(self.strides):
            raise ValueError(f"`strides` must be one or more, each larger than the last. Received: {strides}")
        self.pooled = (True,) * len(self.strides) if pooled is None else tuple(map(bool, pooled))
        if len(self.pooled) != len(self.strides):
            raise ValueError(f"`pooled` must have {len(self.strides)} entries, one for each stride. Received: {pooled}")

    def build(self, maps_shape: Sequence[Shape]) -> None:
        widths = [shape[-1] for shape in maps_shape]
        self.tap_convolutions = [
            self._convolution(width, width, f"tap_convolution_stride{stride}")
            for stride, width in zip(self.strides, widths, strict=True)
            if stride < COARSEST_STRIDE
        ]
        self.projections = [
            self._convolution(width, self.channels, f"projection_stride{stride}")
            for stride, width in zip(self.strides, widths, strict=True)
        ]
        self.pool = keras.layers.MaxPooling2D(2, dtype=self.dtype_policy, name="pool")

    def _convolution(self, width, channels, name):
        layer = keras.layers.Conv2D(channels, 1, dtype=self.dtype_policy, name=name)
        layer.build((None, None, None, width))
        return layer

    def call(self, maps: Sequence[Tensor]) -> list[Tensor]:
        finer = len(self.tap_convolutions)
        maps = [*(layer(m) for layer, m in zip(self.tap_convolutions, maps, strict=False)), *maps[finer:]]
        maps = [self.pool(m) if pooled else m for pooled, m in zip(self.pooled, maps, strict=True)]
        return [projection(m) for projection, m in zip(self.projections, maps, strict=True)]

    def compute_output_shape(self, maps_shape: Sequence[Shape]) -> list[Shape]:
        def halved(size, pooled):
            return size // 2 if pooled and size else size

        return [
            (batch, halved(height, pooled), halved(width, pooled), self.channels)
            for (batch, height, width, _), pooled in zip(maps_shape, self.pooled, strict=True)
        ]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "channels": self.channels,
            "strides": list(self.strides),
            "pooled": list(self.pooled),
        }
