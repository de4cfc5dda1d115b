"""DINOv3 (Siméoni et al., arXiv 2508.10104), by KerasHub: patches of 16 pixels, rotary positions for any size."""

import keras

from msrn_tf.models.backbones.dino import build_dino
from msrn_tf.models.backbones.family import Family, Request
from msrn_tf.models.normalization import PixelNormalization

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
    return build_dino(
        DINOV3Backbone,
        request,
        layers=layers,
        width=width,
        heads=heads,
        patch_size=PATCH_SIZE,
        register_tokens=REGISTER_TOKENS,
        preset=request.name.replace("dinov3_", "dinov3_vit_") + "_lvd1689m",
        use_key_bias=False,
    )


FAMILY = Family(
    title="DINOv3",
    licence="DINOv3 License, Meta's own",
    parameters={"dinov3_small": 21.6, "dinov3_base": 85.7, "dinov3_large": 303.1},
    build=build,
)
