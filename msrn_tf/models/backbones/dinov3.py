"""DINOv3 (Siméoni et al., arXiv 2508.10104), by KerasHub: patches of 16 pixels, rotary positions for any size."""

import keras

from msrn_tf.models.backbones.family import Family, Request
from msrn_tf.models.backbones.hub import hub_network
from msrn_tf.models.backbones.tokens import pyramid_of_tokens
from msrn_tf.models.normalization import IMAGENET, PixelNormalization

PATCH_SIZE = 16
REGISTER_TOKENS = 4
# Layers, width, heads.
SIZES = {
    "dinov3_small": (12, 384, 6),
    "dinov3_base": (12, 768, 12),
    "dinov3_large": (24, 1024, 16),
}


def build(request: Request) -> tuple[keras.Model, PixelNormalization]:
    """See `Family.build`."""
    from keras_hub.models import DINOV3Backbone

    layers, width, heads = SIZES[request.name]
    configuration = {
        "patch_size": PATCH_SIZE,
        "num_layers": layers,
        "hidden_dim": width,
        "num_heads": heads,
        "intermediate_dim": 4 * width,
        "num_register_tokens": REGISTER_TOKENS,
        "use_key_bias": False,
    }
    size = request.image_size
    preset = request.name.replace("dinov3_", "dinov3_vit_") + "_lvd1689m"
    network, normalization = hub_network(DINOV3Backbone, configuration, preset, request, image_shape=(size, size, 3))
    taps = pyramid_of_tokens(
        network.input["pixel_values"],
        network.output,
        patch_size=PATCH_SIZE,
        prefix_tokens=1 + REGISTER_TOKENS,
        strides=request.strides,
    )
    return taps, normalization or IMAGENET


FAMILY = Family(
    title="DINOv3",
    licence="DINOv3 License, Meta's own",
    parameters={"dinov3_small": 21.6, "dinov3_base": 85.7, "dinov3_large": 303.1},
    build=build,
)
