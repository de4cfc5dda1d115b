"""Recomputing the backbone's activations in the backward pass (Chen et al., arXiv 1604.06174).

The network is cut where a single tensor passes from one part to the next. Only those tensors are kept in the forward
pass; the backward pass computes a part again before it goes through it: about the square root of the memory for one
more forward pass.
"""

import contextlib
import math

import keras

from msrn_tf.type_names import Tensor


def split_into_segments(network: keras.Model) -> list[tuple[keras.Model, list[bool]]]:
    """Cuts a functional model into about √(number of cuts) models, each fed by the one before.

    Args:
        network: functional Keras model of one input; all its outputs but the last may lie anywhere.

    Returns:
        List of (model, bools): the model's outputs, the last of which feeds the next model; which of them are outputs
        of the network.
    """
    outputs = {id(tensor) for tensor in network.outputs}
    layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)]
    cuts = _cut_points(network, layers)
    stride = max(1, round(math.sqrt(len(cuts))))
    chosen = [*cuts[stride - 1 :: stride]]
    if not chosen or chosen[-1] != len(layers) - 1:
        chosen.append(len(layers) - 1)
    segments, source, first = [], network.input, 0
    for last in chosen:
        inside = [layer.output for layer in layers[first : last + 1]]
        kept = [tensor for tensor in inside[:-1] if id(tensor) in outputs] + [inside[-1]]
        segments.append((keras.Model(source, kept), [id(tensor) in outputs for tensor in kept]))
        source, first = inside[-1], last + 1
    return segments


def recomputed_outputs(segments: list[tuple[keras.Model, list[bool]]], inputs: Tensor) -> list[Tensor]:
    """The network's outputs in training, each segment recomputed in the backward pass."""
    outputs = []
    for segment, are_outputs in segments:
        found = keras.tree.flatten(keras.remat(_alike_when_repeated(segment))(inputs))
        inputs = found[-1]
        outputs += [tensor for tensor, is_output in zip(found, are_outputs, strict=True) if is_output]
    return outputs


def _cut_points(network, layers):
    """Positions in `layers` after which only that layer's output is still needed."""
    last_use = {}
    for position, layer in enumerate(layers):
        sources = layer.input if isinstance(layer.input, list) else [layer.input]
        for tensor in sources:
            last_use[id(tensor)] = position
    cuts = []
    for position in range(len(layers)):
        before = [network.input, *(other.output for other in layers[:position])]
        if all(last_use.get(id(tensor), -1) <= position for tensor in before):
            cuts.append(position)
    return cuts


def _alike_when_repeated(segment):
    """The segment as a function that computes the same again in the backward pass, and changes no state there.

    Random layers drop what they dropped in the forward pass, or the gradient would be that of another loss; batch-norm
    statistics move the first time alone.
    """
    seeds = [generator.state for layer in segment._flatten_layers() for generator in layer._seed_generators]
    first_values = []

    def function(inputs):
        if not first_values:
            first_values.append(_copies(seeds))
            return segment(inputs, training=True)
        with _frozen_statistics(segment), _from_values(seeds, first_values[0]):
            return segment(inputs, training=True)

    return function


def _copies(variables):
    """Tensors of what the variables hold now, whatever is assigned later."""
    return [variable.value * 1 for variable in variables]


@contextlib.contextmanager
def _from_values(variables, values):
    """The variables start with these values, and hold again afterwards what they held before."""
    before = _copies(variables)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


@contextlib.contextmanager
def _frozen_statistics(segment):
    """Batch norms use the batch's statistics, and their moving averages stay (a momentum of 1)."""
    layers = [layer for layer in segment._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 1.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum
