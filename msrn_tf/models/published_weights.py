"""The published implementation's parameter names and layouts, for a model of this package.

The published code is PyTorch: convolutions are stored `[out, in, height, width]`, Dense kernels `[out, in]`; here they
are `[height, width, in, out]` and `[in, out]`. Its backbone is torchvision's ResNet under the prefix `resnet_101.`.
"""

import math
import re
from typing import Any

import numpy as np

from msrn_tf.in_place import assign_block
from msrn_tf.tensor_files import BLOCK_NUMBERS, TensorFile

BACKBONE_PREFIX = "resnet_101."

_BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_LAYERS = {
    "projection/tap_convolution_stride8": "resnet_101.conv_buffer1",
    "projection/tap_convolution_stride16": "resnet_101.conv_buffer2",
    "projection/projection_stride8": "ProjectM.0",
    "projection/projection_stride16": "ProjectM.1",
    "projection/projection_stride32": "ProjectM.2",
    "semantics/dense": "fc_label",
    "semantics/graph1": "label_embed.layers.0",
    "semantics/graph2": "label_embed.layers.1",
    "semantics/diff_pool/embedding": "group_embed.layers.0.embed",
    "semantics/diff_pool/assignment": "group_embed.layers.0.assign_mat",
    "head/hidden": "fc1",
    "head/logits": "fc2",
}
_GRAPH_LAYERS = ("semantics/graph", "semantics/diff_pool/")
_GRAPH_ATTENTION = {"kernel": "W", "attention_kernel": "a"}
_ELEMENTWISE_HEAD = {"kernel": "W", "bias": "B"}


def published_name(path: str) -> str | None:
    """The published parameter's name for a variable path of `MSRN` on a ResNet, without the model's own name.

    None for what the published file does not hold (adjacency and word vectors). Raises KeyError for other paths.
    """
    owner, _, leaf = path.rpartition("/")
    if owner == "semantics" and leaf in ("adjacency", "word_vectors"):
        return None
    if owner == "head":
        return _ELEMENTWISE_HEAD[leaf]
    if owner in _LAYERS:
        graph_layer = owner.startswith(_GRAPH_LAYERS)
        return f"{_LAYERS[owner]}.{_GRAPH_ATTENTION[leaf] if graph_layer else _torch_leaf(leaf)}"
    return BACKBONE_PREFIX + torchvision_name(owner.rpartition("/")[2], leaf)


def torchvision_name(layer: str, leaf: str) -> str:
    """torchvision's name for a variable of a KerasHub ResNet.

    For example `stack2_block0_0_bn`, `gamma` → `layer3.0.downsample.1.weight`.
    """
    if match := re.fullmatch(r"conv1_(conv|bn)", layer):
        return f"{match[1].replace('conv', 'conv1').replace('bn', 'bn1')}.{_torch_leaf(leaf)}"
    match = re.fullmatch(r"stack(\d+)_block(\d+)_(\d)_(conv|bn)", layer)
    if match is None:
        raise KeyError(layer)
    stack, block, index, kind = int(match[1]), match[2], int(match[3]), match[4]
    part = f"{kind}{index}" if index else f"downsample.{0 if kind == 'conv' else 1}"
    return f"layer{stack + 1}.{block}.{part}.{_torch_leaf(leaf)}"


def from_published(name: str, array: np.ndarray) -> np.ndarray:
    """A published array in this package's layout: `….weight` is a PyTorch layer's kernel and is transposed."""
    if not name.endswith(".weight"):
        return array
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def to_published(name: str, array: np.ndarray) -> np.ndarray:
    """The inverse of `from_published`."""
    if not name.endswith(".weight"):
        return array
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def assign(variable: Any, name: str, tensors: TensorFile) -> None:
    """Gives a Keras variable the value of the tensor `name` of a `TensorFile`, turned from PyTorch's layout.

    A large kernel goes over in blocks, each written in place: the published head for COCO has 264 million numbers,
    which would be held three times otherwise.

    Raises:
        UserError: another shape, numbers that are not finite, or a file that is damaged there.
    """
    found, shape = tensors[name].shape, tuple(variable.shape)
    expected = tuple(to_published(name, np.broadcast_to(np.float32(0), shape)).shape)
    if found != expected:
        raise tensors.error(f"{name} has shape {list(found)}, and the model needs {list(expected)}")
    if len(shape) != 2 or math.prod(shape) <= BLOCK_NUMBERS:
        variable.assign(from_published(name, tensors.read(name)))
        return
    for start, block in tensors.blocks(name):
        starts = [0, start] if name.endswith(".weight") else [start, 0]
        assign_block(variable, starts, from_published(name, block))


def _torch_leaf(leaf):
    return _BATCH_NORM.get(leaf, {"kernel": "weight", "bias": "bias"}.get(leaf, leaf))
