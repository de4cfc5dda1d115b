"""Patch tokens of a vision transformer as a feature map."""

from typing import Any

import keras
from keras import ops

from msrn_tf.type_names import Shape, Tensor
from msrn_tf.validation import LARGEST_WIDTH, checked_whole


@keras.saving.register_keras_serializable("msrn_tf")
class TokenMap(keras.layers.Layer):
    """Puts tokens back to where their patches lie in the picture, and drops those that are of no patch.

    Args:
        height, width: int. Of the map, in patches.
        prefix_tokens: int. Class and register tokens, which come first.
        patch_size: int, pixels: the map's stride.

    Call arguments:
        tokens: `[batch, prefix_tokens + height · width, features]`, row by row.

    Returns:
        `[batch, height, width, features]`.

    Examples:

    >>> tokens = keras.random.normal((2, 1 + 6, 8))
    >>> tuple(TokenMap(2, 3, prefix_tokens=1, patch_size=16)(tokens).shape)
    (2, 2, 3, 8)
    """

    def __init__(self, height: int, width: int, prefix_tokens: int = 0, patch_size: int = 16, **kwargs: Any):
        super().__init__(**kwargs)
        self.height = checked_whole("height", height, 1, LARGEST_WIDTH)
        self.width = checked_whole("width", width, 1, LARGEST_WIDTH)
        self.prefix_tokens = checked_whole("prefix_tokens", prefix_tokens, 0, LARGEST_WIDTH)
        self.patch_size = checked_whole("patch_size", patch_size, 1, LARGEST_WIDTH)

    def call(self, tokens: Tensor) -> Tensor:
        patches = tokens[:, self.prefix_tokens :] if self.prefix_tokens else tokens
        return ops.reshape(patches, (-1, self.height, self.width, tokens.shape[-1]))

    def compute_output_shape(self, tokens_shape: Shape) -> Shape:
        return (tokens_shape[0], self.height, self.width, tokens_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "height": self.height,
            "width": self.width,
            "prefix_tokens": self.prefix_tokens,
            "patch_size": self.patch_size,
        }
