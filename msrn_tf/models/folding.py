"""Batch normalisation folded into the convolutions before it: the same function with fewer operations.

In inference a batch norm is y = γ·(x − μ)/√(σ² + ε) + β with constant statistics, an affine map of each channel. After
a convolution it becomes part of the kernel and the bias.
"""

import collections

import keras
import numpy as np

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def fold_batch_norms(network: keras.Model) -> keras.Model:
    """A copy of a functional model in which each batch norm that alone follows a linear convolution is gone into it.

    Args:
        network: functional `keras.Model`; it is left as it is.

    Returns:
        A functional model with the same inputs and outputs, equal to `network` in inference.
    """
    folded = _foldable(network)
    batch_norms = {batch_norm.name for batch_norm in folded.values()}
    convolutions = {convolution.name: batch_norm for convolution, batch_norm in folded.items()}

    def clone(layer):
        config = layer.get_config()
        if layer.name in convolutions:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call(layer, *args, **kwargs):
        return args[0] if layer.name in batch_norms else layer(*args, **kwargs)

    copy = keras.models.clone_model(network, clone_function=clone, call_function=call)
    for layer in network.layers:
        if layer.name in convolutions:
            copy.get_layer(layer.name).set_weights(_folded_weights(layer, convolutions[layer.name]))
        elif layer.name not in batch_norms and layer.weights:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def _foldable(network):
    """Convolution → the batch norm that is its one consumer."""
    consumers = collections.defaultdict(list)
    for layer in network.layers:
        for tensor in keras.tree.flatten(layer.input) if not isinstance(layer, keras.layers.InputLayer) else []:
            consumers[id(tensor)].append(layer)
    outputs = {id(tensor) for tensor in network.outputs}
    found = {}
    for layer in network.layers:
        if not isinstance(layer, CONVOLUTIONS) or layer.activation is not keras.activations.linear:
            continue
        followers = consumers[id(layer.output)]
        if (
            id(layer.output) not in outputs
            and len(followers) == 1
            and isinstance(followers[0], keras.layers.BatchNormalization)
        ):
            found[layer] = followers[0]
    return found


def _folded_weights(convolution, batch_norm):
    """Kernel and bias of the convolution with the batch norm in it, computed in float64."""
    kernel = np.asarray(convolution.kernel, np.float64)
    bias = np.asarray(convolution.bias, np.float64) if convolution.use_bias else 0.0
    mean, variance = (np.asarray(value, np.float64) for value in (batch_norm.moving_mean, batch_norm.moving_variance))
    gamma = np.asarray(batch_norm.gamma, np.float64) if batch_norm.scale else 1.0
    beta = np.asarray(batch_norm.beta, np.float64) if batch_norm.center else 0.0
    scale = gamma / np.sqrt(variance + batch_norm.epsilon)
    # A depthwise kernel is [height, width, channels, multiplier]; its output channel is (channel, multiplier).
    is_depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
    kernel = kernel * (scale.reshape(kernel.shape[2:]) if is_depthwise else scale)
    return [kernel.astype(np.float32), ((bias - mean) * scale + beta).astype(np.float32)]
