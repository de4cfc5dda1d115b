"""Vision Transformer (Dosovitskiy et al., arXiv 2010.11929), by KerasHub: its positions are learnt for one size."""

import keras

from msrn_tf.layers import InnerOutputs
from msrn_tf.models.backbone_weights import IMAGENET_WEIGHTS
from msrn_tf.models.backbones.family import Family, Request
from msrn_tf.models.backbones.hub import hub_network
from msrn_tf.models.backbones.tokens import check_size, check_trained_size, pyramid_of_tokens
from msrn_tf.models.normalization import PLUS_MINUS_ONE, PixelNormalization

# Patch, layers, width, heads; sizes that its weights were trained at.
SIZES = {
    "vit_base16": (16, 12, 768, 12, (224, 384)),
    "vit_large16": (16, 24, 1024, 16, (224, 384)),
    "vit_base32": (32, 12, 768, 12, (384,)),
    "vit_large32": (32, 24, 1024, 16, (384,)),
}
LAST_TOKENS = "vit_encoder"


def build(request: Request) -> tuple[keras.Model, PixelNormalization]:
    """See `Family.build`."""
    from keras_hub.models import ViTBackbone

    patch_size, layers, width, heads, trained_sizes = SIZES[request.name]
    size = request.image_size
    check_size(request.name, size, patch_size)
    if request.weights == IMAGENET_WEIGHTS:
        check_trained_size(request.name, size, trained_sizes)
    network, normalization = hub_network(
        ViTBackbone,
        {"patch_size": patch_size, "num_layers": layers, "hidden_dim": width, "num_heads": heads, "mlp_dim": 4 * width},
        f"vit_{request.name.removeprefix('vit_').rstrip('0123456789')}_patch{patch_size}_{size}_imagenet",
        request,
        image_shape=(size, size, 3),
    )
    images = keras.Input((size, size, 3), name="images")
    (tokens,) = InnerOutputs(network, [LAST_TOKENS], name="network")(images)
    taps = pyramid_of_tokens(images, tokens, patch_size=patch_size, prefix_tokens=1, strides=request.strides)
    return taps, normalization or PLUS_MINUS_ONE


FAMILY = Family(
    title="ViT",
    licence="Apache-2.0",
    parameters={"vit_base16": 85.8, "vit_large16": 303.3, "vit_base32": 87.5, "vit_large32": 305.6},
    build=build,
)
