"""Semantic attention against the equation written out, autodiff of it, and finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from msrn_tf.layers import SemanticAttention
from msrn_tf.layers.semantic_attention import semantic_attention


def naive(positions, semantics):
    """The equation as it stands, with its [batch, N, K, D] tensor."""
    weights = tf.nn.softmax(positions[:, :, None, :] * semantics[None, None], axis=1)
    return tf.reduce_sum(weights * positions[:, :, None, :], axis=1)


def gradients(function, positions, semantics, upstream):
    positions, semantics = tf.constant(positions), tf.constant(semantics)
    with tf.GradientTape() as tape:
        tape.watch([positions, semantics])
        value = tf.reduce_sum(function(positions, semantics) * upstream)
    return tape.gradient(value, [positions, semantics])


def random_case(rng, batch, num_positions, nodes, channels):
    return (
        rng.normal(size=(batch, num_positions, channels)),
        rng.normal(size=(nodes, channels)) * 3,
        rng.normal(size=(batch, nodes, channels)),
    )


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 5, 3, 8), (3, 49, 7, 12), (1, 30, 24, 20)])
def test_value_and_gradients_equal_autodiff_of_the_equation_in_float64(rng, shape):
    positions, semantics, upstream = random_case(rng, *shape)
    block = 4 if shape[-1] % 4 == 0 else 1
    np.testing.assert_allclose(
        semantic_attention(tf.constant(positions), tf.constant(semantics), block),
        naive(positions, semantics),
        atol=1e-12,
    )
    ours = gradients(lambda p, e: semantic_attention(p, e, block), positions, semantics, upstream)
    for mine, reference in zip(ours, gradients(naive, positions, semantics, upstream), strict=True):
        np.testing.assert_allclose(mine, reference, atol=1e-11)


def test_gradients_equal_finite_differences(rng):
    positions, semantics, upstream = random_case(rng, 2, 6, 3, 4)
    ours = gradients(lambda p, e: semantic_attention(p, e, 2), positions, semantics, upstream)
    step = 1e-6
    for which, array in enumerate((positions, semantics)):
        for index in rng.permutation(array.size)[:12]:
            shifted = []
            for sign in (1, -1):
                arrays = [positions.copy(), semantics.copy()]
                arrays[which].flat[index] += sign * step
                shifted.append(float(tf.reduce_sum(naive(*arrays) * upstream)))
            slope = (shifted[0] - shifted[1]) / (2 * step)
            assert ours[which].numpy().flat[index] == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_large_scores_neither_overflow_nor_lose_the_maximum():
    positions = np.array([[[-300.0], [10.0], [300.0]]], np.float32)
    semantics = np.array([[50.0], [-50.0], [0.0]], np.float32)
    result = SemanticAttention()(positions, semantics)
    np.testing.assert_allclose(np.asarray(result)[0, :, 0], [300.0, -300.0, 10.0 / 3], rtol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_sums_are_float32_under_every_dtype_policy(rng, policy):
    positions, semantics, _ = random_case(rng, 2, 784, 5, 8)
    layer = SemanticAttention(dtype=policy)
    half = layer.compute_dtype
    rounded = [tf.cast(tf.cast(array, half), tf.float32) for array in (positions, semantics)]
    result = layer(tf.cast(positions, half), tf.cast(semantics, half))
    assert result.dtype == half
    # Nothing but the rounding of the result itself may differ from float32 sums.
    expected = tf.cast(naive(*rounded), half)
    spacing = 2 ** (-7 if half == "bfloat16" else -10)
    np.testing.assert_allclose(
        tf.cast(result, tf.float32).numpy(), tf.cast(expected, tf.float32).numpy(), rtol=2 * spacing, atol=1e-3
    )


def test_batch_and_positions_may_be_unknown_until_run_time(rng):
    layer = SemanticAttention()
    semantics = tf.constant(rng.normal(size=(3, 16)), tf.float32)
    function = tf.function(
        lambda positions: layer(positions, semantics), input_signature=[tf.TensorSpec([None, None, 16], tf.float32)]
    )
    for batch, num_positions in ((1, 9), (4, 25)):
        positions = tf.constant(rng.normal(size=(batch, num_positions, 16)), tf.float32)
        np.testing.assert_allclose(function(positions), naive(positions, semantics), atol=1e-5)


def test_no_tensor_of_batch_positions_semantics_channels_is_made(rng):
    """Every tensor of forward and backward pass is smaller than B·N·K·D numbers, also inside loops."""
    batch, num_positions, nodes, channels = 2, 784, 84, 64
    layer = SemanticAttention()

    @tf.function
    def both(positions, semantics):
        with tf.GradientTape() as tape:
            tape.watch([positions, semantics])
            value = tf.reduce_sum(layer(positions, semantics))
        return tape.gradient(value, [positions, semantics])

    concrete = both.get_concrete_function(
        tf.TensorSpec([batch, num_positions, channels], tf.float32), tf.TensorSpec([nodes, channels], tf.float32)
    )
    graphs = [concrete.graph]
    sizes = []
    while graphs:
        graph = graphs.pop()
        for operation in graph.get_operations():
            sizes += [output.shape.num_elements() or 0 for output in operation.outputs]
            for attribute in ("body", "cond", "f"):
                try:
                    name = operation.get_attr(attribute).name
                except (ValueError, AttributeError):
                    continue
                graphs.append(graph._get_function(name).graph)
    assert len(sizes) > 50
    assert max(sizes) <= batch * num_positions * nodes * channels // 8


def test_evidence_maps_follow_their_definition_and_sum_to_what_attention_adds(rng):
    positions, semantics, gradients = random_case(rng, 2, 10, 4, 6)
    maps = SemanticAttention(block_channels=3).evidence_maps(
        tf.constant(positions), tf.constant(semantics), tf.constant(gradients)
    )
    weights = tf.nn.softmax(positions[:, :, None, :] * semantics[None, None], axis=1).numpy()
    deviation = positions - positions.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(maps, np.einsum("bkd,bnkd,bnd->bkn", gradients, weights, deviation), atol=1e-12)
    added = naive(positions, semantics).numpy() - positions.mean(axis=1)[:, None, :]
    np.testing.assert_allclose(np.sum(maps, axis=-1), (gradients * added).sum(axis=-1), atol=1e-11)


def test_configuration_round_trips_and_bad_blocks_are_refused():
    layer = SemanticAttention(block_channels=4)
    assert SemanticAttention.from_config(layer.get_config()).block_channels == 4
    with pytest.raises(ValueError, match="block_channels"):
        SemanticAttention(block_channels=0)
    with pytest.raises(ValueError, match="divide"):
        layer(keras.ops.zeros((1, 4, 6)), keras.ops.zeros((2, 6)))
