"""What DINOv2 and DINOv3 have in common: a plain transformer of KerasHub with a class token and registers."""

from typing import Any

import keras

from msrn_tf.models.backbones.family import Request
from msrn_tf.models.backbones.hub import hub_network
from msrn_tf.models.backbones.tokens import pyramid_of_tokens
from msrn_tf.models.normalization import IMAGENET, PixelNormalization


def build_dino(
    backbone: Any,
    request: Request,
    *,
    layers: int,
    width: int,
    heads: int,
    patch_size: int,
    register_tokens: int,
    preset: str,
    **configuration: Any,
) -> tuple[keras.Model, PixelNormalization]:
    """See `Family.build`.

    Args:
        backbone: class of `keras_hub.models`.
        request: what is asked for.
        layers, width, heads: of the transformer.
        patch_size: int, pixels.
        register_tokens: int, besides the class token.
        preset: KerasHub's name of the published weights.
        **configuration: further arguments of `backbone`.
    """
    configuration |= {
        "patch_size": patch_size,
        "num_layers": layers,
        "hidden_dim": width,
        "num_heads": heads,
        "intermediate_dim": 4 * width,
        "num_register_tokens": register_tokens,
    }
    shape = (request.image_size, request.image_size, 3)
    network, normalization = hub_network(backbone, configuration, preset, request, image_shape=shape)
    (images,) = network.input.values()
    taps = pyramid_of_tokens(
        images, network.output, patch_size=patch_size, prefix_tokens=1 + register_tokens, strides=request.strides
    )
    return taps, normalization or IMAGENET
