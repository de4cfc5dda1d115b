"""Networks of `keras.applications`: MobileNet, EfficientNet, ConvNeXt and DenseNet."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from msrn_tf.models.backbone_weights import load_application_weights
from msrn_tf.models.backbones.family import Family, Request
from msrn_tf.models.normalization import IMAGENET, PLUS_MINUS_ONE, UNCHANGED, PixelNormalization
from msrn_tf.models.taps import strided_taps

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


def build(request: Request) -> tuple[keras.Model, PixelNormalization]:
    """See `Family.build`."""
    function_name, normalization = APPLICATIONS[request.name]
    application = getattr(keras.applications, function_name)
    with _dtype_policy(request.dtype):
        network = application(weights=None, include_top=False, input_shape=(None, None, 3))
    if request.weights:
        normalization = load_application_weights(network, application, request.weights) or normalization
    return strided_taps(network, request.strides), normalization


@contextlib.contextmanager
def _dtype_policy(dtype: Any) -> Iterator[None]:
    """`keras.applications` builders take no dtype: set the global policy for the time of the call."""
    before = keras.config.dtype_policy()
    if dtype is not None:
        keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _family(title, licence, parameters):
    return Family(title, licence, parameters, build)


FAMILIES = (
    _family(
        "MobileNet", "Apache-2.0",
        {"mobilenet": 3.2, "mobilenet_v2": 2.3, "mobilenet_v3_small": 0.9, "mobilenet_v3_large": 3},
    ),
    _family(
        "EfficientNet", "Apache-2.0",
        {"efficientnet_b0": 4, "efficientnet_b1": 6.6, "efficientnet_b2": 7.8, "efficientnet_b3": 10.8,
         "efficientnet_b4": 17.7, "efficientnet_b5": 28.5, "efficientnet_b6": 41, "efficientnet_b7": 64.1},
    ),
    _family(
        "EfficientNetV2", "Apache-2.0",
        {"efficientnet_v2_b0": 5.9, "efficientnet_v2_b1": 6.9, "efficientnet_v2_b2": 8.8, "efficientnet_v2_b3": 12.9,
         "efficientnet_v2_s": 20.3, "efficientnet_v2_m": 53.2, "efficientnet_v2_l": 117.7},
    ),
    _family(
        "ConvNeXt", "MIT",
        {"convnext_tiny": 27.8, "convnext_small": 49.5, "convnext_base": 87.6, "convnext_large": 196.2,
         "convnext_xlarge": 348.1},
    ),
    _family("DenseNet", "BSD-3-Clause", {"densenet121": 7, "densenet169": 12.6, "densenet201": 18.3}),
)  # fmt: skip
