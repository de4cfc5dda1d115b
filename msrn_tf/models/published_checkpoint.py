"""The published checkpoints: into a model of this package, and back under the published names."""

import dataclasses
import math
import re
from typing import Any

import numpy as np

from msrn_tf.choices import STRIDES
from msrn_tf.errors import UserError, first_line
from msrn_tf.label_graph import LabelGraph
from msrn_tf.layers import MLPHead, SemanticAttention
from msrn_tf.models.backbones import build_backbone
from msrn_tf.models.backbones.resnet import RESNET_BLOCKS
from msrn_tf.models.model_file import at_most_weights
from msrn_tf.models.msrn import MSRN, make_msrn
from msrn_tf.models.normalization import IMAGENET
from msrn_tf.models.published_weights import BACKBONE_PREFIX, assign, published_name, to_published
from msrn_tf.tensor_files import TensorFile

HEAD_PARAMETERS = {"mlp": ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"), "elementwise": ("W", "B")}
NEVER_USED = ("resnet_101.conv_buffer0.", "resnet_101.fc.", "ProjectMs.")
"""What checkpoints hold beside the network: made by the published code, and never called."""

HARMLESS_NUMBERS = 2**22
HEAD_UNITS, CHANNELS, WORD_VECTOR_SIZE, RESNET101_BLOCKS = 2048, 512, 300, 33


@dataclasses.dataclass
class ImportReport:
    """Parameter names of a published file: `used`; `ignored` by the model on purpose; `unknown` to it."""

    used: list
    ignored: list
    unknown: list


def model_from_published(
    tensors: TensorFile, label_graph: LabelGraph, head: str = "mlp", image_size: int = 448, graph_threshold: float = 0.4
) -> tuple[MSRN, ImportReport]:
    """The published network with the weights of a file.

    Its sizes (groups, widths, depth of the ResNet) are read off the file.

    Args:
        tensors: `TensorFile` under the published names.
        label_graph: `LabelGraph` with word vectors, of the labels and in the order that the weights were trained with.
        head: `"mlp"` or `"elementwise"`: which of the two heads in the file was trained.
        image_size: int, pixels.
        graph_threshold: P(j|i) from which labels are neighbours.

    Returns:
        `(model, ImportReport)`.

    Raises:
        UserError: the file lacks a parameter, or one has another shape, or numbers that are not finite.
    """
    num_labels = _shape(tensors, HEAD_PARAMETERS[head][-1])[0]
    if num_labels != len(label_graph.labels):
        raise tensors.error(f"is of {num_labels} labels, and the label graph of {len(label_graph.labels)}")
    assert label_graph.word_vectors is not None
    backbone, normalization = build_backbone(_backbone_name(tensors))
    model = make_msrn(
        backbone,
        label_graph.labels,
        image_size,
        mean=normalization.mean,
        std=normalization.std,
        word_vector_size=label_graph.word_vectors.shape[1],
        num_groups=_shape(tensors, "group_embed.layers.0.assign_mat.W")[1],
        channels=_shape(tensors, "label_embed.layers.1.W")[1],
        head=head,
        head_units=_shape(tensors, "fc1.bias")[0] if head == "mlp" else HEAD_UNITS,
        tap_pooling="published",
        name="msrn",
    )
    numbers = sum(math.prod(tensor.shape) for tensor in tensors.values()) + HARMLESS_NUMBERS
    try:
        with at_most_weights(2 * numbers):  # a file that lacks a tensor is told so further on
            model.build((None, None, None, 3))
    except ValueError as error:
        raise tensors.error(f"its shapes do not fit together ({first_line(error)})") from error
    model.semantics.adjacency.assign(label_graph.adjacency(graph_threshold))
    model.semantics.word_vectors.assign(label_graph.word_vectors)
    return model, assign_published(model, tensors)


def published_variables(model: MSRN) -> dict[str, Any]:
    """The model's variables by their published names."""
    named: dict[Any, Any] = {
        published_name(variable.path.removeprefix(f"{model.name}/")): variable for variable in model.variables
    }
    named.pop(None)
    return named


def assign_published(model: MSRN, tensors: TensorFile) -> ImportReport:
    """Gives an `MSRN` the weights of a published file. Returns an `ImportReport`; raises as `model_from_published`."""
    variables = published_variables(model)
    missing = [name for name in variables if name not in tensors]
    if missing:
        raise tensors.error(f"lacks {len(missing)} of {len(variables)} parameters: {_shortened(missing)}")
    for name, variable in variables.items():
        assign(variable, name, tensors)
    rest = [name for name in tensors if name not in variables]
    ignored = [name for name in rest if _is_known(name)]
    return ImportReport(list(variables), ignored, [name for name in rest if name not in ignored])


def published_state(model: MSRN) -> dict[str, np.ndarray]:
    """All parameters of the published network for an `MSRN` with graph attention: dict name → array.

    Also those that the published code makes and never uses, as zeros, so that its strict loading takes the file.

    Raises:
        UserError: the published network has no place for a part of the model.
    """
    if reason := _why_unpublishable(model):
        raise UserError(reason)
    try:
        variables = published_variables(model)
    except KeyError as error:
        raise UserError(f"the published code has no such backbone (layer {error}); use a ResNet") from error
    state = {
        name: np.ascontiguousarray(to_published(name, np.asarray(variable))) for name, variable in variables.items()
    }
    for name in [name for name in state if name.endswith("running_var")]:
        state[name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    width = variables[BACKBONE_PREFIX + "conv_buffer1.bias"].shape[0] // 2
    labels, features = len(model.labels), 3 * model.semantics.units
    unused = {
        "resnet_101.conv_buffer0.weight": (width, width, 1, 1),
        "resnet_101.conv_buffer0.bias": (width,),
        "W": (labels, 2 * features),
        "B": (labels,),
        "fc1.weight": (HEAD_UNITS, (labels + model.semantics.num_groups) * features),
        "fc1.bias": (HEAD_UNITS,),
        "fc2.weight": (labels, HEAD_UNITS),
        "fc2.bias": (labels,),
    }
    return {name: np.zeros(shape, np.float32) for name, shape in unused.items() if name not in state} | state


def unpublished_sizes(model: MSRN) -> list[str]:
    """What the published code has as constants, and this model in another size: `["channels 8 (512)", …]`."""
    units = model.head.hidden_units if isinstance(model.head, MLPHead) else HEAD_UNITS
    blocks = sum(layer.name.endswith("_out") for layer in model.backbone.layers)
    sizes = (
        ("channels", model.semantics.units, CHANNELS),
        ("hidden units", units, HEAD_UNITS),
        ("numbers a word vector", model.semantics.word_vector_size, WORD_VECTOR_SIZE),
        ("blocks of the ResNet", blocks, RESNET101_BLOCKS),
    )
    return [f"{name} {found} ({published})" for name, found, published in sizes if found != published]


def _why_unpublishable(model):
    """A sentence on a part of the model that the published network has not, or has otherwise; None: it has them all."""
    if model.semantics.graph_layer != "gat":
        return f"the published code has no `encoder`={model.semantics.graph_layer}; only gat can be written"
    if model.projection.strides != STRIDES:
        strides = " and ".join(map(str, model.projection.strides))
        return f"the published code attends at strides 8, 16 and 32, and this model at {strides}"
    if not model.semantics.num_groups:
        return "the published code has groups of labels, and this model has none (`pool_ratio`=0)"
    if not all(model.projection.pooled):
        return "the published code pools every feature map, but this model does not; train with `tap_pooling`=published"
    if not isinstance(model.attention, SemanticAttention):
        return "the published code attends channel by channel, and this model by cosines (`attention`=cosine)"
    if model.semantics.train_word_vectors:
        return (
            "the published file holds no word vectors, and this model has learned its own; train with "
            "`word_vectors`=random or a file"
        )
    if not np.allclose([model.mean, model.std], [IMAGENET.mean, IMAGENET.std], atol=1e-3):
        return f"the published code normalises pixels by ImageNet's mean and deviation, and this model by {model.mean}"
    return None


def _backbone_name(tensors):
    """The ResNet of a published file, by the number of blocks of its stages."""
    blocks = [0, 0, 0, 0]
    for name in tensors:
        if match := re.match(re.escape(BACKBONE_PREFIX) + r"layer([1-4])\.(\d+)\.", name):
            stage = int(match[1]) - 1
            blocks[stage] = max(blocks[stage], int(match[2]) + 1)
    kind = "bottleneck_block" if f"{BACKBONE_PREFIX}layer1.0.conv3.weight" in tensors else "basic_block"
    for name, layout in RESNET_BLOCKS.items():
        if layout == (kind, tuple(blocks)):
            return name
    raise tensors.error(
        f"is not a published checkpoint: no ResNet has {blocks} blocks under {BACKBONE_PREFIX}layer1 to 4"
    )


def _shape(tensors, name):
    if name not in tensors:
        raise tensors.error(f"is not a published checkpoint: lacks {name}")
    return tuple(tensors[name].shape)


def _is_known(name):
    """Whether the published file is known to hold this name beside what its network uses."""
    heads = {name for names in HEAD_PARAMETERS.values() for name in names}
    return name.endswith(".num_batches_tracked") or name.startswith(NEVER_USED) or name in heads


def _shortened(names, most=5):
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
