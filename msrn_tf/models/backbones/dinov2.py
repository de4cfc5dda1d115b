"""DINOv2 (Oquab et al., arXiv 2304.07193), also with registers (Darcet et al., arXiv 2309.16588), by KerasHub.

Patches of 14 pixels; positions are interpolated to the photos' size, as in the authors' code.
"""

import keras

from msrn_tf.models.backbones.family import Family, Request
from msrn_tf.models.backbones.hub import hub_network
from msrn_tf.models.backbones.tokens import pyramid_of_tokens
from msrn_tf.models.normalization import IMAGENET, PixelNormalization

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
    configuration = {
        "patch_size": PATCH_SIZE,
        "num_layers": layers,
        "hidden_dim": width,
        "num_heads": heads,
        "intermediate_dim": 4 * width,
        "num_register_tokens": registers,
        "position_embedding_shape": (TRAINED_SIZE, TRAINED_SIZE),
        "antialias_in_interpolation": bool(registers),
    }
    size = request.image_size
    network, normalization = hub_network(DINOV2Backbone, configuration, preset, request, image_shape=(size, size, 3))
    taps = pyramid_of_tokens(
        network.input["images"],
        network.output,
        patch_size=PATCH_SIZE,
        prefix_tokens=1 + registers,
        strides=request.strides,
    )
    return taps, normalization or IMAGENET


FAMILY = Family(
    title="DINOv2",
    licence="Apache-2.0",
    parameters={
        "dinov2_small": 22.6, "dinov2_base": 87.6, "dinov2_large": 305.8, "dinov2_registers_small": 22.6,
        "dinov2_registers_base": 87.6, "dinov2_registers_large": 305.8,
    },
    build=build,
)  # fmt: skip
