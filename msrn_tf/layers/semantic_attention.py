"""Semantic attention: every label and every group looks at the feature map, channel by channel.

Equations (Qu et al., arXiv 2106.11596, §3.3), with positions p `[batch, N, D]` and semantics e `[K, D]`::

    w[b,n,k,d] = softmax over n of (p[b,n,d] · e[k,d])
    r[b,k,d]   = Σₙ w[b,n,k,d] · p[b,n,d]

r is the derivative of log Σₙ exp(p·e) with respect to e, that is the mean of p under the tilted weights w. Hence

    ∂r/∂e    = Σₙ w·(p − r)²              (a variance: never negative)
    ∂r/∂p[n] = w[n]·(1 + e·(p[n] − r))

and neither pass needs the `[batch, N, K, D]` tensor of weights. Channels never mix, so both passes walk over blocks of
channels that fit into a processor's cache and recompute the weights of a block where they need them, as FlashAttention
(Dao et al., arXiv 2205.14135) does for dot-product attention.
"""

import keras
from keras import ops

BLOCK_ELEMENTS = 1 << 19
"""Weights computed at a time, in numbers: 2 MiB of float32, about what stays in a processor's cache."""

MAX_BLOCK_CHANNELS = 32
UNKNOWN_SIZE_BLOCK_CHANNELS = 8


@keras.saving.register_keras_serializable("msrn_tf")
class SemanticAttention(keras.layers.Layer):
    """Aggregates a feature map once for each semantics vector.

    Exponentials and sums are computed in float32 whatever the dtype policy (in float64 for float64 inputs), with the
    maximum subtracted. Memory beyond inputs and outputs is one block of `batch × K × N × channels-in-block` numbers.

    Args:
        block_channels: int or None. Channels processed at a time; must divide D. None chooses the largest divisor of D
            that keeps a block within `BLOCK_ELEMENTS` numbers.

    Call arguments:
        positions: `[batch, N, D]`, the projected feature map; batch and N may be unknown until run time.
        semantics: `[K, D]`, label and group semantics, shared by the batch.

    Returns:
        `[batch, K, D]`, in the layer's compute dtype.

    Reference:
        Qu et al., arXiv 2106.11596, §3.3; the closed form of the gradient is derived in the module's docstring.
    """

    def __init__(self, block_channels=None, **kwargs):
        super().__init__(**kwargs)
        if block_channels is not None and block_channels < 1:
            raise ValueError(f"`block_channels` must be positive. Received: block_channels={block_channels}")
        self.block_channels = block_channels

    def build(self, positions_shape, semantics_shape):
        channels = semantics_shape[-1]
        if self.block_channels and channels % self.block_channels:
            raise ValueError(f"`block_channels` must divide {channels}. Received: block_channels={self.block_channels}")

    def call(self, positions, semantics):
        block = self._block_channels(positions, semantics)
        dtype = _sum_dtype(positions.dtype)
        aggregated = semantic_attention(ops.cast(positions, dtype), ops.cast(semantics, dtype), block)
        return ops.cast(aggregated, self.compute_dtype)

    def evidence_maps(self, positions, semantics, gradients):
        """How much each position speaks for each label, through the attention of that label: `[batch, K, N]`.

        To first order, what attending to position n adds to a logit over looking everywhere alike::

            map[b,k,n] = Σ_d gradients[b,k,d] · w[b,n,k,d] · (p[b,n,d] − mean over n of p[b,n,d])

        It may be negative; summed over positions it is Σ_d gradients · (r − mean of p). The weights alone, averaged
        over channels, hardly differ between labels: which channels a label listens to is in the gradients.

        Args:
            positions: `[batch, N, D]`.
            semantics: `[K, D]`.
            gradients: `[batch, K, D]`, of each label's logit with respect to its aggregated features.
        """
        block = self._block_channels(positions, semantics)
        dtype = _sum_dtype(positions.dtype)
        p, e = _channel_blocks(ops.cast(positions, dtype), ops.cast(semantics, dtype), block)
        g = _to_channel_blocks(ops.cast(gradients, dtype), block)

        def add_block(total, xs):
            p, e, g = xs
            weights = _weights(p, e)
            weights = weights * ops.expand_dims(g / ops.sum(weights, axis=-1), -1)
            deviation = p - ops.mean(p, axis=-1, keepdims=True)
            return total + ops.sum(weights * ops.expand_dims(deviation, 2), axis=0), None

        shape = (ops.shape(positions)[0], ops.shape(semantics)[0], ops.shape(positions)[1])
        return ops.scan(add_block, ops.zeros(shape, dtype), (p, e, g))[0]

    def compute_output_shape(self, positions_shape, semantics_shape):
        return (positions_shape[0], semantics_shape[0], semantics_shape[1])

    def get_config(self):
        return {**super().get_config(), "block_channels": self.block_channels}

    def _block_channels(self, positions, semantics):
        if self.block_channels:
            return self.block_channels
        batch, num_positions, channels = positions.shape
        if batch is None or num_positions is None:
            wanted = UNKNOWN_SIZE_BLOCK_CHANNELS
        else:
            wanted = BLOCK_ELEMENTS // (batch * num_positions * semantics.shape[0])
        wanted = max(1, min(wanted, MAX_BLOCK_CHANNELS, channels))
        return next(size for size in range(wanted, 0, -1) if channels % size == 0)


def semantic_attention(positions, semantics, block_channels):
    """The aggregated features `[batch, K, D]` with the closed-form gradient, in blocks of `block_channels` channels."""

    @ops.custom_gradient
    def attend(positions, semantics):
        p, e = _channel_blocks(positions, semantics, block_channels)
        r = ops.map(_aggregate_block, (p, e))

        def grad(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            g = _to_channel_blocks(upstream, block_channels)
            dp, de = ops.map(_gradient_block, (p, e, r, g))
            return _from_channel_blocks(dp), ops.transpose(ops.reshape(de, (-1, ops.shape(semantics)[0])))

        return _from_channel_blocks(r), grad

    return attend(positions, semantics)


def _aggregate_block(xs):
    """r of one block: p `[block, batch, N]`, e `[block, K]` -> `[block, batch, K]`."""
    p, e = xs
    weights = _weights(p, e)
    return ops.sum(weights * ops.expand_dims(p, 2), axis=-1) / ops.sum(weights, axis=-1)


def _gradient_block(xs):
    """∂/∂p `[block, batch, N]` and ∂/∂e `[block, K]` of one block for the upstream gradient g `[block, batch, K]`."""
    p, e, r, g = xs
    weights = _weights(p, e)
    weights = weights * ops.expand_dims(g / ops.sum(weights, axis=-1), -1)
    deviation = ops.expand_dims(p, 2) - ops.expand_dims(r, -1)
    weighted = weights * deviation
    tilt = ops.expand_dims(ops.expand_dims(e, 1), -1)
    dp = ops.sum(weights + weighted * tilt, axis=2)
    de = ops.sum(weighted * deviation, axis=(1, 3))
    return dp, de


def _weights(p, e):
    """exp(p·e − max), not yet divided by its sum: `[block, batch, K, N]`."""
    e = ops.expand_dims(e, 1)
    # The maximum of p·e over positions lies where p is largest (e > 0) or smallest (e < 0): no pass over the block.
    largest = ops.maximum(e * ops.max(p, axis=-1, keepdims=True), e * ops.min(p, axis=-1, keepdims=True))
    return ops.exp(ops.expand_dims(p, 2) * ops.expand_dims(e, -1) - ops.expand_dims(largest, -1))


def _channel_blocks(positions, semantics, block_channels):
    """`[D/block, block, batch, N]` and `[D/block, block, K]`."""
    shape = ops.shape(semantics)
    e = ops.reshape(ops.transpose(semantics), (shape[1] // block_channels, block_channels, shape[0]))
    return _to_channel_blocks(positions, block_channels), e


def _to_channel_blocks(x, block_channels):
    """`[batch, M, D]` -> `[D/block, block, batch, M]`."""
    shape = ops.shape(x)
    return ops.reshape(ops.transpose(x, (2, 0, 1)), (shape[2] // block_channels, block_channels, shape[0], shape[1]))


def _from_channel_blocks(x):
    """`[D/block, block, batch, M]` -> `[batch, M, D]`."""
    shape = ops.shape(x)
    return ops.transpose(ops.reshape(x, (-1, shape[2], shape[3])), (1, 2, 0))


def _sum_dtype(dtype):
    return "float64" if keras.backend.standardize_dtype(dtype) == "float64" else "float32"
