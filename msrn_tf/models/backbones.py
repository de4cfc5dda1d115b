"""Backbones: feature maps at strides 8, 16 and 32 of KerasHub and `keras.applications` networks.

A backbone here is a functional Keras model from normalised images to its taps (`models.taps`).
"""

from collections.abc import Sequence
from typing import Any

import keras

from msrn_tf.choices import STRIDES
from msrn_tf.errors import UserError
from msrn_tf.models.backbone_weights import load_application_weights, load_resnet_weights
from msrn_tf.models.normalization import IMAGENET, PLUS_MINUS_ONE, UNCHANGED, PixelNormalization
from msrn_tf.models.taps import layer_shapes, pyramid_taps, strided_taps

RESNET_BLOCKS = {
    "resnet18": ("basic_block", (2, 2, 2, 2)),
    "resnet34": ("basic_block", (3, 4, 6, 3)),
    "resnet50": ("bottleneck_block", (3, 4, 6, 3)),
    "resnet101": ("bottleneck_block", (3, 4, 23, 3)),
    "resnet152": ("bottleneck_block", (3, 8, 36, 3)),
}
RESNET_TINY = "resnet_tiny"
EFFICIENTNET_V2_SIZES = ("B0", "B1", "B2", "B3", "S", "M", "L")
CONVNEXT_SIZES = ("Tiny", "Small", "Base", "Large", "XLarge")


# Each builder's name in `keras.applications`, and what its weights take; UNCHANGED: it normalises inside.
APPLICATIONS = {
    "mobilenet": ("MobileNet", PLUS_MINUS_ONE),
    "mobilenet_v2": ("MobileNetV2", PLUS_MINUS_ONE),
    "mobilenet_v3_small": ("MobileNetV3Small", UNCHANGED),
    "mobilenet_v3_large": ("MobileNetV3Large", UNCHANGED),
    **{f"efficientnet_b{size}": (f"EfficientNetB{size}", UNCHANGED) for size in range(8)},
    **{f"efficientnet_v2_{size.lower()}": (f"EfficientNetV2{size}", UNCHANGED) for size in EFFICIENTNET_V2_SIZES},
    **{f"convnext_{size.lower()}": (f"ConvNeXt{size}", UNCHANGED) for size in CONVNEXT_SIZES},
    **{f"densenet{depth}": (f"DenseNet{depth}", IMAGENET) for depth in (121, 169, 201)},
}

BACKBONES = (*RESNET_BLOCKS, RESNET_TINY, *APPLICATIONS)


def build_backbone(
    name: str, weights: str = "", dtype: Any = None, strides: Sequence[int] = STRIDES
) -> tuple[keras.Model, PixelNormalization]:
    """The backbone's taps as a model, and how its input is normalised.

    Args:
        name: one of `BACKBONES`: `resnet18` … `resnet152` (torchvision's layout, from KerasHub), `resnet_tiny` (0.9
            million parameters, for the demo) or a `keras.applications` model.
        weights: `imagenet`, to be downloaded by KerasHub or `keras.applications`; or a file of the same network: of
            Keras (`.weights.h5`, `.h5`, `.keras`; also a model of this package), or for a ResNet of torchvision or timm
            (`.pth`, `.safetensors`); empty: random weights.
        dtype: dtype policy of its layers.
        strides: of the taps, some of `STRIDES`.

    Returns:
        `(taps, normalization)`: a model `[batch, height, width, 3]` → a list of maps, one a stride, and the
        `PixelNormalization` that its weights were trained with.

    Raises:
        UserError: no such backbone, or weights that cannot be had, cannot be read or do not fit.
    """
    if name in RESNET_BLOCKS or name == RESNET_TINY:
        network, normalization = _resnet(name, dtype), IMAGENET
        if weights:
            normalization = load_resnet_weights(network, name, weights) or normalization
        return pyramid_taps(network, strides), normalization
    if name not in APPLICATIONS:
        raise UserError(f"`backbone`={name}: no such backbone; choose from {', '.join(BACKBONES)}")
    function_name, normalization = APPLICATIONS[name]
    application = getattr(keras.applications, function_name)
    with _dtype_policy(dtype):
        network = application(weights=None, include_top=False, input_shape=(None, None, 3))
    if weights:
        normalization = load_application_weights(network, application, weights) or normalization
    return strided_taps(network, strides), normalization


def freeze(taps: keras.Model, *, everything: bool = False, batch_norm: bool = False, stride: int = 0) -> None:
    """Keeps a part of the backbone as it is: its weights, and its batch norms' statistics.

    Args:
        taps: of `build_backbone`.
        everything: bool. The whole backbone.
        batch_norm: bool. All batch norms.
        stride: int. Layers whose output is at this stride or a finer one; 0: none.
    """
    if everything:
        taps.trainable = False
        return
    size = 16 * STRIDES[-1]
    for layer, shape in layer_shapes(taps, size):
        is_batch_norm = isinstance(layer, keras.layers.BatchNormalization)
        if (batch_norm and is_batch_norm) or (stride and shape[1] * stride >= size):
            layer.trainable = False


def _resnet(name, dtype):
    from keras_hub.models import ResNetBackbone  # heavy to import, and not needed to load a trained model

    if name == RESNET_TINY:
        block_type, blocks, filters, stem = "basic_block", (1, 1, 1, 1), (64, 64, 128, 128), (64, 3)
    else:
        block_type, blocks = RESNET_BLOCKS[name]
        filters, stem = (64, 128, 256, 512), (64, 7)
    return ResNetBackbone(
        input_conv_filters=[stem[0]],
        input_conv_kernel_sizes=[stem[1]],
        stackwise_num_filters=list(filters),
        stackwise_num_blocks=list(blocks),
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=block_type,
        use_pre_activation=False,
        image_shape=(None, None, 3),
        dtype=dtype,
    )


class _dtype_policy:
    """`keras.applications` builders take no dtype: set the global policy for the time of the call."""

    def __init__(self, dtype):
        self.dtype = dtype

    def __enter__(self):
        self.before = keras.config.dtype_policy()
        if self.dtype is not None:
            keras.config.set_dtype_policy(self.dtype)

    def __exit__(self, *exception):
        keras.config.set_dtype_policy(self.before)
