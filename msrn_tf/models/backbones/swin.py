"""Swin Transformer (Liu et al., arXiv 2103.14030): attention within windows, at strides 4 to 32, by KerasHub."""

import keras

from msrn_tf.layers import InnerOutputs, TokenMap
from msrn_tf.models.backbones.family import Family, Request
from msrn_tf.models.backbones.hub import hub_network
from msrn_tf.models.backbones.tokens import check_size
from msrn_tf.models.normalization import IMAGENET, PixelNormalization

COARSEST_STRIDE = 32
# Width, blocks of each stage, heads of each stage, window.
SIZES = {
    "swin_tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "swin_small": (96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
    "swin_base": (128, (2, 2, 18, 2), (4, 8, 16, 32), 7),
    "swin_large": (192, (2, 2, 18, 2), (6, 12, 24, 48), 7),
}
LAYER_OF_STRIDE = {8: "stage_0", 16: "stage_1", 32: "norm"}
"""A stage ends with the merging of patches, but for the last one."""


def build(request: Request) -> tuple[keras.Model, PixelNormalization]:
    """See `Family.build`."""
    from keras_hub.models import SwinTransformerBackbone

    width, depths, heads, window = SIZES[request.name]
    size = request.image_size
    check_size(request.name, size, COARSEST_STRIDE, smallest=COARSEST_STRIDE * window)
    network, normalization = hub_network(
        SwinTransformerBackbone,
        {"embed_dim": width, "depths": depths, "num_heads": heads, "window_size": window},
        f"{request.name}_patch4_window{window}_224",
        request,
        image_shape=(size, size, 3),
    )
    images = keras.Input((size, size, 3), name="images")
    tokens = InnerOutputs(network, [LAYER_OF_STRIDE[stride] for stride in request.strides], name="network")(images)
    taps = [
        TokenMap(size // stride, size // stride, patch_size=stride, name=f"map_stride{stride}")(of_stride)
        for stride, of_stride in zip(request.strides, tokens, strict=True)
    ]
    return keras.Model(images, taps, name="backbone"), normalization or IMAGENET


FAMILY = Family(
    title="Swin Transformer",
    licence="MIT",
    parameters={"swin_tiny": 27.5, "swin_small": 48.8, "swin_base": 86.7, "swin_large": 195},
    build=build,
)
