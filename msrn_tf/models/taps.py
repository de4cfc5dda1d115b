"""Taps: a backbone's feature maps at strides 8, 16 and 32, as a functional model with an output for each.

KerasHub's feature-pyramid backbones name theirs (`P3`, `P4`, `P5`); in a `keras.applications` model a tap is the last
layer whose output is exactly image size / stride.
"""

import math
from collections.abc import Sequence

import keras

from msrn_tf.choices import STRIDES
from msrn_tf.errors import UserError
from msrn_tf.type_names import Shape


def pyramid_taps(backbone: keras.Model, strides: Sequence[int] = STRIDES) -> keras.Model:
    """Taps of a KerasHub `FeaturePyramidBackbone`: its `pyramid_outputs` at these strides."""
    outputs = backbone.pyramid_outputs
    return keras.Model(backbone.input, [outputs[f"P{int(math.log2(stride))}"] for stride in strides], name="backbone")


def strided_taps(network: keras.Model, strides: Sequence[int] = STRIDES) -> keras.Model:
    """Taps of any functional image network: the last layer whose output is image size / stride, for each stride.

    Raises:
        UserError: the network has no layer at one of the strides.
    """
    size = 16 * STRIDES[-1]
    shapes = layer_shapes(network, size)
    taps = []
    for stride in strides:
        matching = [layer for layer, shape in shapes if shape[1:3] == (size // stride, size // stride)]
        if not matching:
            raise UserError(f"backbone {network.name} has no feature map at stride {stride}")
        taps.append(matching[-1].output)
    return keras.Model(network.input, taps, name="backbone")


def tap_shapes(taps: keras.Model, images_shape: Shape = (None, None, None, 3)) -> list[Shape]:
    """Shapes of a backbone's maps, a list also where there is one; of a network for one size, of that one."""
    size = fixed_size(taps)
    shapes = taps.compute_output_shape((images_shape[0], size, size, 3) if size else images_shape)
    return shapes if isinstance(shapes, list) else [shapes]


def fixed_size(network: keras.Model) -> int | None:
    """Height and width in pixels that a network was made for, or None where it takes any."""
    return network.input.shape[1]


def activation_elements(taps: keras.Model, size: int) -> int:
    """How many numbers all layers of the backbone put out for one `size`×`size` image: what a backward pass keeps."""
    return sum(math.prod(shape[1:]) for _, shape in layer_shapes(taps, size))


def layer_shapes(network: keras.Model, size: int) -> list[tuple[keras.layers.Layer, Shape]]:
    """(layer, output shape) of each layer with a map for a `size`×`size` image, in order of computation.

    Of a network that was made for one size, for that one.
    """
    size = fixed_size(network) or size
    layers = [layer for layer in network.layers if isinstance(layer.output, keras.KerasTensor)]
    layers = [layer for layer in layers if len(layer.output.shape) == 4]
    probe = keras.Model(network.input, [layer.output for layer in layers])
    return list(zip(layers, probe.compute_output_shape((None, size, size, 3)), strict=True))
