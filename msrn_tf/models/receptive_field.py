"""Where in the picture a position of a feature map looks: the centre of its receptive field (Araujo et al. 2019).

Padding decides it. ResNets pad both sides alike, and position i at stride s looks at pixel s·i; MobileNets pad the
right side alone, and it looks at pixel s·i + s − 1. Drawn as cells that tile the picture, both are off by half a cell.
Patches of a transformer tile it.
"""

import keras
from keras import ops

from msrn_tf.layers import TokenMap
from msrn_tf.type_names import Tensor

WINDOWED = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "MaxPooling2D", "AveragePooling2D")
PROBE_SIZE = 512
"""Pixels; a multiple of every stride."""


def position_centre(tensor: keras.KerasTensor) -> tuple[int, float]:
    """(stride, centre): position i of a functional model's tensor looks at input pixel centre + stride · i.

    Heights and widths are taken to be multiples of the stride, which `padding="same"` depends on, and alike.
    """
    stride, centre = 1.0, 0.0  # from the tensor's positions to those of the tensor that the walk has come back to
    while True:
        layer, _, tensor_index = tensor._keras_history
        if isinstance(layer, keras.layers.InputLayer):
            return round(stride), centre
        step, shift = _layer_step(layer, tensor_index)
        stride, centre = step * stride, step * centre + shift
        if isinstance(layer, TokenMap):  # its patches are of the picture itself
            return round(stride), centre
        # Branches of a network meet position by position: each of them tells the centre.
        tensor = keras.tree.flatten(layer.input)[0]


def _layer_step(layer, tensor_index):
    """(step, shift): position i of the layer's output looks at position shift + step · i of its input."""
    if isinstance(layer, TokenMap):
        return layer.patch_size, (layer.patch_size - 1) / 2
    if isinstance(layer, keras.Model):  # a model within a model
        return position_centre(keras.tree.flatten(layer.outputs)[tensor_index])
    if isinstance(layer, keras.layers.ZeroPadding2D):
        return 1, -layer.padding[0][0]
    if isinstance(layer, keras.layers.UpSampling2D):  # a cell becomes several, which tile it
        return 1 / layer.size[0], (1 / layer.size[0] - 1) / 2
    inputs = keras.tree.flatten(layer.input) if layer._layers else []  # by itself: AutoGraph warns of a walrus
    if len(inputs) == 1:
        # of convolutions, which KerasHub pads on both sides alike
        shape = layer.compute_output_shape((None, PROBE_SIZE, PROBE_SIZE, inputs[0].shape[-1]))
        return PROBE_SIZE // shape[1], 0
    if type(layer).__name__ not in WINDOWED:
        return 1, 0
    window = (layer.pool_size if hasattr(layer, "pool_size") else layer.kernel_size)[0]
    window = (window - 1) * getattr(layer, "dilation_rate", (1,))[0] + 1
    step = layer.strides[0]
    padded = max(window - step, 0) // 2 if layer.padding == "same" else 0
    return step, (window - 1) / 2 - padded


def cell_shift(tensor: keras.KerasTensor, pooled: bool = False) -> float:
    """By how many cells a tensor's positions lie beyond the cells that tile the picture.

    Args:
        tensor: of a functional model, a feature map.
        pooled: whether 2×2 positions of it become one.
    """
    stride, centre = position_centre(tensor)
    if pooled:
        stride, centre = 2 * stride, centre + stride / 2
    return (centre + 0.5) / stride - 0.5


def moved_to_cells(maps: Tensor, shift: float) -> Tensor:
    """`[batch, K, h, w]` at positions, as they are over the picture's cells: linear interpolation by `cell_shift`."""
    rows, columns = (_shift_matrix(size, shift, maps.dtype) for size in ops.shape(maps)[2:])
    return ops.einsum("ih,bkhw,jw->bkij", rows, maps, columns)


def _shift_matrix(size, shift, dtype):
    """`[size, size]`: linear interpolation of a row of values at positions that lie `shift` before their own."""
    own = ops.arange(size, dtype=dtype)
    wanted = ops.clip(own - shift, 0, ops.cast(size - 1, dtype))
    return ops.relu(1 - ops.abs(ops.expand_dims(wanted, 1) - ops.expand_dims(own, 0)))
