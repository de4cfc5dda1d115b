"""Backbones: feature maps at strides 8, 16 and 32 of networks from KerasHub and `keras.applications`, a file a family.

A backbone here is a functional Keras model from normalised images to its taps (`models.taps`).
"""

from collections.abc import Sequence
from typing import Any

import keras

from msrn_tf.choices import STRIDES
from msrn_tf.errors import UserError
from msrn_tf.models.backbones.family import Request
from msrn_tf.models.backbones.registry import BACKBONES, FAMILIES
from msrn_tf.models.normalization import PixelNormalization
from msrn_tf.models.taps import fixed_size, layer_shapes


def build_backbone(
    name: str, weights: str = "", dtype: Any = None, strides: Sequence[int] = STRIDES, image_size: int = 224
) -> tuple[keras.Model, PixelNormalization]:
    """The backbone's taps as a model, and how its input is normalised.

    Args:
        name: one of `BACKBONES`.
        weights: `imagenet`, for those that its authors published, from an installed package or downloaded; or a file
            of the same network: of Keras (`.weights.h5`, `.h5`, `.keras`; also a model of this package), or for a
            ResNet or EfficientNet-Lite of PyTorch (`.pth`, `.safetensors`); empty: random weights.
        dtype: dtype policy of its layers.
        strides: of the taps, some of `STRIDES`.
        image_size: int, pixels. Convolutional networks take other sizes too; a transformer's positions are for one.

    Returns:
        `(taps, normalization)`: a model `[batch, height, width, 3]` → a list of maps, one a stride, and the
        `PixelNormalization` that its weights were trained with.

    Raises:
        UserError: no such backbone, or weights that cannot be had, cannot be read or do not fit.
    """
    if name not in BACKBONES:
        known = "; ".join(family.describe() for family in FAMILIES)
        raise UserError(
            f"`backbone`={name}: no such backbone; choose one of these (parameters; licence of the weights): {known}"
        )
    return BACKBONES[name].build(Request(name, weights, dtype, strides, image_size))


def freeze(taps: keras.Model, *, everything: bool = False, batch_norm: bool = False, stride: int = 0) -> None:
    """Keeps a part of the backbone as it is: its weights, and its batch norms' statistics.

    Args:
        taps: of `build_backbone`.
        everything: bool. The whole backbone.
        batch_norm: bool. All batch norms.
        stride: int. Layers whose output is at this stride or a finer one; 0: none.

    Raises:
        UserError: no layer's is.
    """
    if everything:
        taps.trainable = False
        return
    size = fixed_size(taps) or 16 * STRIDES[-1]
    shapes = [(layer, shape) for layer, shape in layer_shapes(taps, size) if layer.weights]
    frozen = [layer for layer, shape in shapes if stride and shape[1] * stride >= size]
    if stride and not frozen:
        raise UserError(
            f"`frozen_stride`={stride}: this backbone has no layers of feature maps at this stride or a finer one; "
            "use 0, or freeze it whole with `freeze_backbone`"
        )
    if batch_norm:  # those within layers of layers too
        frozen += [layer for layer in taps._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in frozen:
        layer.trainable = False
