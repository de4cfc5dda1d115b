"""DINOv2 (Oquab et al., arXiv 2304.07193), also with registers (Darcet et al., arXiv 2309.16588), by KerasHub.

Patches of 14 pixels; positions are interpolated to the photos' size, as in the authors' code.
"""

import keras

from msrn_tf.models.backbones.dino import build_dino
from msrn_tf.models.backbones.family import Family, Request
from msrn_tf.models.normalization import PixelNormalization

PATCH_SIZE = 14
TRAINED_SIZE = 518
# Layers, width, heads, register tokens, KerasHub's preset.
SIZES = {
    "dinov2_small": (12, 384, 6, 0, "dinov2_small"),
    "dinov2_base": (12, 768, 12, 0, "dinov2_base"),
    "dinov2_large": (24, 1024, 16, 0, "dinov2_large"),
    "dinov2_registers_small": (12, 384, 6, 4, "dinov2_with_registers_small"),
    "dinov2_registers_base": (12, 768, 12, 4, "dinov2_with_registers_base"),
    "dinov2_registers_large": (24, 1024, 16, 4, "dinov2_with_registers_large"),
}


def build(request: Request) -> tuple[keras.Model, PixelNormalization]:
    """See `Family.build`."""
    from keras_hub.models import DINOV2Backbone

    layers, width, heads, registers, preset = SIZES[request.name]
    return build_dino(
        DINOV2Backbone,
        request,
        layers=layers,
        width=width,
        heads=heads,
        patch_size=PATCH_SIZE,
        register_tokens=registers,
        preset=preset,
        position_embedding_shape=(TRAINED_SIZE, TRAINED_SIZE),
        antialias_in_interpolation=bool(registers),
    )


FAMILY = Family(
    title="DINOv2",
    licence="Apache-2.0",
    parameters={
        "dinov2_small": 22.2, "dinov2_base": 86.8, "dinov2_large": 304.7, "dinov2_registers_small": 22.2,
        "dinov2_registers_base": 86.8, "dinov2_registers_large": 304.7,
    },
    build=build,
)  # fmt: skip
