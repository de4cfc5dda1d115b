"""HGNetV2 (PaddlePaddle, in RT-DETR: Zhao et al., arXiv 2304.08069): a fast convolutional network, by KerasHub."""

import keras

from msrn_tf.models.backbones.family import Family, Request
from msrn_tf.models.backbones.hub import hub_network
from msrn_tf.models.normalization import IMAGENET, PixelNormalization

COMMON = {
    "use_learnable_affine_block": False,  # distilled (SSLD) weights have none
    "hidden_act": "relu",
    "apply_downsample": [False, True, True, True],
    "use_lightweight_conv_block": [False, False, True, True],
    "image_shape": (None, None, 3),
}
# Channels of the stem; in, middle and out channels, blocks, layers a block and kernel size of each stage.
SIZES = {
    "hgnetv2_b4": (
        [3, 32, 48],
        [(48, 48, 128, 1, 6, 3), (128, 96, 512, 1, 6, 3), (512, 192, 1024, 3, 6, 5), (1024, 384, 2048, 1, 6, 5)],
    ),
    "hgnetv2_b5": (
        [3, 32, 64],
        [(64, 64, 128, 1, 6, 3), (128, 128, 512, 2, 6, 3), (512, 256, 1024, 5, 6, 5), (1024, 512, 2048, 2, 6, 5)],
    ),
    "hgnetv2_b6": (
        [3, 48, 96],
        [(96, 96, 192, 2, 6, 3), (192, 192, 512, 3, 6, 3), (512, 384, 1024, 6, 6, 5), (1024, 768, 2048, 3, 6, 5)],
    ),
}
STAGE_OF_STRIDE = {8: 1, 16: 2, 32: 3}


def build(request: Request) -> tuple[keras.Model, PixelNormalization]:
    """See `Family.build`."""
    from keras_hub.models import HGNetV2Backbone

    stem, stages = SIZES[request.name]
    configuration = COMMON | {
        "stem_channels": stem,
        "embedding_size": stem[-1],
        "stackwise_stage_filters": stages,
        "hidden_sizes": [stage[2] for stage in stages],
        "depths": [stage[3] for stage in stages],
    }
    preset = f"{request.name}_ssld_stage2_ft_in1k"
    network, normalization = hub_network(HGNetV2Backbone, configuration, preset, request)
    # Stage by stage, where KerasHub has one layer of all: a tap ends at its stage, and a stage can be frozen.
    images = keras.Input((None, None, 3), name="images")
    maps = [network.embedder_layer(images)]
    for stage in network.encoder_layer.stages_list:
        maps.append(stage(maps[-1]))
    taps = keras.Model(images, [maps[1 + STAGE_OF_STRIDE[stride]] for stride in request.strides], name="backbone")
    alone = keras.models.clone_model(taps)  # KerasHub's network uses the same layers, and has them first
    alone.set_weights(taps.get_weights())
    return alone, normalization or IMAGENET


FAMILY = Family(
    title="HGNetV2",
    licence="Apache-2.0",
    parameters={"hgnetv2_b4": 13.6, "hgnetv2_b5": 33.4, "hgnetv2_b6": 69.2},
    build=build,
)
