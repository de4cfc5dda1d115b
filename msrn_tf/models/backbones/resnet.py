"""ResNets as torchvision and timm lay them out (He et al., arXiv 1512.03385), by KerasHub; and a tiny one."""

import keras

from msrn_tf.models.backbone_weights import load_resnet_weights
from msrn_tf.models.backbones.family import Family, Request
from msrn_tf.models.normalization import IMAGENET, PixelNormalization
from msrn_tf.models.taps import pyramid_taps

RESNET_BLOCKS = {
    "resnet18": ("basic_block", (2, 2, 2, 2)),
    "resnet34": ("basic_block", (3, 4, 6, 3)),
    "resnet50": ("bottleneck_block", (3, 4, 6, 3)),
    "resnet101": ("bottleneck_block", (3, 4, 23, 3)),
    "resnet152": ("bottleneck_block", (3, 8, 36, 3)),
}
RESNET_TINY = "resnet_tiny"


def build(request: Request) -> tuple[keras.Model, PixelNormalization]:
    """See `Family.build`."""
    from keras_hub.models import ResNetBackbone  # heavy to import, and not needed to load a trained model

    if request.name == RESNET_TINY:
        block_type, blocks, filters, stem = "basic_block", (1, 1, 1, 1), (64, 64, 128, 128), (64, 3)
    else:
        block_type, blocks = RESNET_BLOCKS[request.name]
        filters, stem = (64, 128, 256, 512), (64, 7)
    network = ResNetBackbone(
        input_conv_filters=[stem[0]],
        input_conv_kernel_sizes=[stem[1]],
        stackwise_num_filters=list(filters),
        stackwise_num_blocks=list(blocks),
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=block_type,
        use_pre_activation=False,
        image_shape=(None, None, 3),
        dtype=request.dtype,
    )
    normalization = IMAGENET
    if request.weights:
        normalization = load_resnet_weights(network, request.name, request.weights) or normalization
    return pyramid_taps(network, request.strides), normalization


FAMILY = Family(
    title="ResNet",
    licence="timm's a1_in1k: Apache-2.0; torchvision's: BSD-3-Clause",
    parameters={
        "resnet18": 11.2, "resnet34": 21.3, "resnet50": 23.6, "resnet101": 42.6, "resnet152": 58.2, RESNET_TINY: 0.7,
    },
    build=build,
)  # fmt: skip
