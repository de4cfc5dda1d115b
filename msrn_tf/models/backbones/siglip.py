"""The image encoders of SigLIP (Zhai et al., arXiv 2303.15343) and SigLIP 2 (Tschannen et al., arXiv 2502.14786).

By KerasHub, without the text encoder and the head that pools the tokens. Positions are learnt for one size.
"""

import keras

from msrn_tf.models.backbone_weights import IMAGENET_WEIGHTS, load_keras_file
from msrn_tf.models.backbones.family import Family, Request
from msrn_tf.models.backbones.hub import fetch_preset
from msrn_tf.models.backbones.tokens import check_trained_size, pyramid_of_tokens
from msrn_tf.models.normalization import PLUS_MINUS_ONE, PixelNormalization

PATCH_SIZE = 16
# Layers, width, heads; sizes that its weights were trained at.
SIZES = {
    "siglip_base16": (12, 768, 12, (224, 256, 384, 512)),
    "siglip_large16": (24, 1024, 16, (256, 384)),
    "siglip2_base16": (12, 768, 12, (224, 256, 384)),
    "siglip2_large16": (24, 1024, 16, (256, 384, 512)),
}
LAST_TOKENS = "post_layer_norm"


def build(request: Request) -> tuple[keras.Model, PixelNormalization]:
    """See `Family.build`."""
    from keras_hub.models import SigLIPBackbone, SigLIPVisionEncoder

    layers, width, heads, trained_sizes = SIZES[request.name]
    size, normalization = request.image_size, None
    if request.weights == IMAGENET_WEIGHTS:
        check_trained_size(request.name, size, trained_sizes)
        preset = f"{request.name.removesuffix('16')}_patch{PATCH_SIZE}_{size}"
        encoder = fetch_preset(SigLIPBackbone, preset, dtype=request.dtype).vision_encoder
    else:
        encoder = SigLIPVisionEncoder(
            patch_size=PATCH_SIZE,
            hidden_dim=width,
            num_layers=layers,
            num_heads=heads,
            intermediate_dim=4 * width,
            image_shape=(size, size, 3),
            dtype=request.dtype,
        )
    last = next(layer for layer in encoder.layers if layer.name.endswith(LAST_TOKENS))
    images = encoder.input["images"]
    if request.weights and request.weights != IMAGENET_WEIGHTS:
        normalization = load_keras_file(keras.Model(images, last.output, name=request.name), request.weights)
    taps = pyramid_of_tokens(images, last.output, patch_size=PATCH_SIZE, prefix_tokens=0, strides=request.strides)
    return taps, normalization or PLUS_MINUS_ONE


FAMILY = Family(
    title="SigLIP",
    licence="Apache-2.0",
    parameters={"siglip_base16": 85.8, "siglip_large16": 303.2, "siglip2_base16": 85.8, "siglip2_large16": 303.2},
    build=build,
)
