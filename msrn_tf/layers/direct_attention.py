"""Semantic attention as its equation stands: an exponential for each position, semantics vector and channel.

Channels never mix, so all three functions walk over blocks of channels, and what a block needs is computed where it is
needed, as FlashAttention (Dao et al., arXiv 2205.14135) does for dot-product attention. On a CPU a block fits into the
cache. Where XLA compiles the functions, one block holds all channels: the exponentials are fused into the sums and
reach no memory.

Shapes: positions `[batch, N, D]`, semantics `[K, D]`, float32 or float64. `block_channels` divides D.
"""

from keras import ops

from msrn_tf.type_names import Tensor


def aggregate(positions: Tensor, semantics: Tensor, block_channels: int) -> Tensor:
    """r `[batch, K, D]`."""
    p, e = _channel_blocks(positions, semantics, block_channels)
    return _from_channel_blocks(_over_blocks(_aggregate_block, (p, e)))


def gradients(positions: Tensor, semantics: Tensor, upstream: Tensor, block_channels: int) -> tuple[Tensor, Tensor]:
    """∂/∂positions and ∂/∂semantics for the upstream gradient `[batch, K, D]`."""
    p, e = _channel_blocks(positions, semantics, block_channels)
    dp, de = _over_blocks(_gradient_block, (p, e, _to_channel_blocks(upstream, block_channels)))
    return _from_channel_blocks(dp), ops.transpose(ops.reshape(de, (-1, ops.shape(semantics)[0])))


def evidence_maps(positions: Tensor, semantics: Tensor, gradients: Tensor, block_channels: int) -> Tensor:
    """`SemanticAttention.evidence_maps`: `[batch, K, N]`."""
    p, e = _channel_blocks(positions, semantics, block_channels)
    g = _to_channel_blocks(gradients, block_channels)
    if p.shape[0] == 1:
        return _evidence_block((p[0], e[0], g[0]))
    shape = (ops.shape(positions)[0], ops.shape(semantics)[0], ops.shape(positions)[1])
    start = ops.zeros(shape, positions.dtype)

    def add_block(index, total):
        return total + _evidence_block(tuple(ops.take(part, index, axis=0) for part in (p, e, g)))

    return ops.fori_loop(0, ops.shape(p)[0], add_block, start)


def _aggregate_block(block):
    """r of one block: p `[block, batch, N]`, e `[block, K]` -> `[block, batch, K]`."""
    p, e = block
    weights = _weights(p, e)
    return ops.sum(weights * ops.expand_dims(p, 2), axis=-1) / ops.sum(weights, axis=-1)


def _gradient_block(block):
    """∂/∂p `[block, batch, N]` and ∂/∂e `[block, K]` of one block for the upstream gradient g `[block, batch, K]`."""
    p, e, g = block
    weights = _weights(p, e)
    sums = ops.sum(weights, axis=-1)
    r = ops.sum(weights * ops.expand_dims(p, 2), axis=-1) / sums
    weights = weights * ops.expand_dims(g / sums, -1)
    deviation = ops.expand_dims(p, 2) - ops.expand_dims(r, -1)
    weighted = weights * deviation
    tilt = ops.expand_dims(ops.expand_dims(e, 1), -1)
    dp = ops.sum(weights + weighted * tilt, axis=2)
    de = ops.sum(weighted * deviation, axis=(1, 3))
    return dp, de


def _evidence_block(block):
    """Σ over the block's channels of g · w · (p − mean of p): `[batch, K, N]`."""
    p, e, g = block
    weights = _weights(p, e)
    weights = weights * ops.expand_dims(g / ops.sum(weights, axis=-1), -1)
    deviation = p - ops.mean(p, axis=-1, keepdims=True)
    return ops.sum(weights * ops.expand_dims(deviation, 2), axis=0)


def _weights(p, e):
    """exp(p·e − max), not yet divided by its sum: `[block, batch, K, N]`."""
    e = ops.expand_dims(e, 1)
    # The maximum of p·e over positions lies where p is largest (e > 0) or smallest (e < 0): no pass over the block.
    largest = ops.maximum(e * ops.max(p, axis=-1, keepdims=True), e * ops.min(p, axis=-1, keepdims=True))
    return ops.exp(ops.expand_dims(p, 2) * ops.expand_dims(e, -1) - ops.expand_dims(largest, -1))


def _over_blocks(function, blocks):
    """`function` of each block; a single one needs no loop, which compilers would not see through."""
    if blocks[0].shape[0] == 1:
        results = function(tuple(part[0] for part in blocks))
        return (
            tuple(ops.expand_dims(r, 0) for r in results) if isinstance(results, tuple) else ops.expand_dims(results, 0)
        )
    return ops.map(function, blocks)


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
