"""Both forms of semantic attention against the equation written out, autodiff of it, and finite differences."""

import os
import subprocess
import sys

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies
from running import ROOT

from msrn_tf.layers import SemanticAttention, direct_attention, moment_attention, semantic_attention

FORMS = ("direct", "moments", "auto")
all_forms = pytest.mark.parametrize("form", FORMS)


def naive(positions, semantics):
    """The equation as it stands, with its [batch, N, K, D] tensor."""
    weights = tf.nn.softmax(positions[:, :, None, :] * semantics[None, None], axis=1)
    return tf.reduce_sum(weights * positions[:, :, None, :], axis=1)


def gradients(function, positions, semantics, upstream):
    positions, semantics = tf.convert_to_tensor(positions), tf.convert_to_tensor(semantics)
    with tf.GradientTape() as tape:
        tape.watch([positions, semantics])
        value = tf.reduce_sum(function(positions, semantics) * upstream)
    return tape.gradient(value, [positions, semantics])


def attention(form, dtype="float64", **arguments):
    return SemanticAttention(form, dtype=dtype, **arguments)


def random_case(rng, batch, num_positions, nodes, channels, length=3):
    return (
        rng.normal(size=(batch, num_positions, channels)),
        rng.normal(size=(nodes, channels)) * length,
        rng.normal(size=(batch, nodes, channels)),
    )


def with_range(rng, positions, nodes, exponent_range):
    """Semantics `[nodes, D]` whose exponents have this range in every channel."""
    half = np.ptp(positions, axis=1).max(axis=0) / 2
    directions = rng.uniform(-1, 1, (nodes, positions.shape[-1]))
    directions[0] = 1
    return directions * exponent_range / np.where(half > 0, half, 1)


@all_forms
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 5, 3, 8), (3, 49, 7, 12), (1, 30, 24, 20)])
def test_value_and_gradients_equal_autodiff_of_the_equation_in_float64(rng, form, shape):
    positions, semantics, upstream = random_case(rng, *shape)
    layer = attention(form)
    np.testing.assert_allclose(
        layer(tf.constant(positions), tf.constant(semantics)), naive(positions, semantics), atol=1e-12
    )
    ours = gradients(layer, positions, semantics, upstream)
    for mine, reference in zip(ours, gradients(naive, positions, semantics, upstream), strict=True):
        np.testing.assert_allclose(mine, reference, atol=1e-11)


@all_forms
def test_gradients_equal_finite_differences(rng, form):
    positions, semantics, upstream = random_case(rng, 2, 6, 3, 4)
    ours = gradients(attention(form), positions, semantics, upstream)
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


DISTRIBUTIONS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy tails": lambda rng, shape: rng.normal(size=shape) ** 3,
    "two values": lambda rng, shape: np.where(rng.random(shape) < 0.3, 1.0, -1.0),
    "one position far above": lambda rng, shape: _with_ends(rng.normal(size=shape) * 1e-3, 5.0, None),
    "one far above and one far below": lambda rng, shape: _with_ends(np.full(shape, 0.3), 5.0, -5.0),
}


def _with_ends(positions, first, last):
    positions[:, 0] = first
    if last is not None and positions.shape[1] > 1:
        positions[:, -1] = last
    return positions


@pytest.mark.parametrize("form", ["direct", "moments"])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_float32_is_within_a_hundred_thousandth_of_the_positions_range(rng, form, distribution):
    layer = attention(form, "float32")
    call = tf.function(layer, reduce_retracing=True)
    for num_positions in (1, 2, 49, 784, 3136):
        positions = DISTRIBUTIONS[distribution](rng, (1, num_positions, 16)).astype("float32")
        for exponent_range in (0.1, 1, 2, 5, 12, 30):
            semantics = with_range(rng, positions, 6, exponent_range).astype("float32")
            exact = naive(positions.astype("float64"), semantics.astype("float64")).numpy()
            error = np.abs(call(positions, semantics).numpy() - exact)
            assert (error <= 1e-5 * np.ptp(positions, axis=1)[:, None] + 1e-7 * np.abs(positions).max()).all()


@tf.function(
    input_signature=[tf.TensorSpec([1, None, 1], tf.float64), tf.TensorSpec([None, 1], tf.float64)], autograph=False
)
def moments_and_gradients(positions, semantics):
    """Of the sum of all values; traced once, for its loop over segments is long."""
    layer = attention("moments")
    return layer(positions, semantics), *gradients(layer, positions, semantics, 1.0)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(data=strategies.data())
def test_moments_equal_the_equation_for_any_positions_and_semantics(data):
    number = strategies.floats(-20, 20, width=32)
    count, nodes = data.draw(strategies.integers(1, 40)), data.draw(strategies.integers(1, 5))
    positions = np.array(data.draw(strategies.lists(number, min_size=count, max_size=count)))[None, :, None]
    semantics = np.array(data.draw(strategies.lists(number, min_size=nodes, max_size=nodes)))[:, None]
    exponent_range = np.ptp(positions) / 2 * np.abs(semantics).max()
    semantics *= min(1, 64 / max(exponent_range, 1))
    value, *ours = moments_and_gradients(positions, semantics)
    np.testing.assert_allclose(value, naive(positions, semantics), atol=1e-10)
    reference = gradients(naive, positions, semantics, np.ones((1, nodes, 1)))
    np.testing.assert_allclose(ours[0], reference[0], atol=1e-8 * (1 + np.abs(reference[0]).max()))
    np.testing.assert_allclose(ours[1], reference[1], atol=1e-8 * (1 + np.ptp(positions) ** 2))


@all_forms
@pytest.mark.parametrize("nodes", [1, 5000])
def test_one_semantics_vector_or_thousands(rng, form, nodes):
    positions, semantics, _ = random_case(rng, 1, 9, nodes, 4, length=0.5)
    result = attention(form)(tf.constant(positions), tf.constant(semantics))
    np.testing.assert_allclose(result, naive(positions, semantics), atol=1e-12)


@all_forms
def test_a_channel_of_one_value_gives_that_value_and_no_gradient_of_semantics(rng, form):
    positions = np.full((2, 7, 3), 2.5)
    semantics, upstream = rng.normal(size=(4, 3)), np.ones((2, 4, 3))
    np.testing.assert_allclose(attention(form)(tf.constant(positions), tf.constant(semantics)), 2.5)
    dp, de = gradients(attention(form), positions, semantics, upstream)
    np.testing.assert_allclose(de, 0, atol=1e-12)
    np.testing.assert_allclose(dp, gradients(naive, positions, semantics, upstream)[0], atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_none_and_is_the_same_in_auto_as_in_direct(rng, value):
    positions, semantics, _ = (array.astype("float32") for array in random_case(rng, 1, 20, 3, 2))
    positions[0, 4, 0] = value
    direct, auto = (np.asarray(attention(form, "float32")(positions, semantics)) for form in ("direct", "auto"))
    assert np.isnan(direct[..., 0]).all() and np.isfinite(direct[..., 1]).all()
    np.testing.assert_array_equal(auto, direct)


@all_forms
def test_large_scores_neither_overflow_nor_lose_the_maximum(form):
    positions = np.array([[[-30.0], [10.0], [30.0]]], np.float32)
    semantics = np.array([[5.0], [-5.0], [0.0]], np.float32)
    result = attention(form, "float32")(positions, semantics)
    np.testing.assert_allclose(np.asarray(result)[0, :, 0], [30.0, -30.0, 10.0 / 3], rtol=1e-6)


def test_auto_takes_moments_for_small_exponents_and_the_direct_form_for_large_ones(rng, monkeypatch):
    taken = []
    for name, module in (("moments", moment_attention), ("direct", direct_attention)):
        original = module.aggregate
        monkeypatch.setattr(
            module, "aggregate", lambda *args, name=name, original=original: (taken.append(name), original(*args))[1]
        )
    positions = rng.normal(size=(1, 49, 4)).astype("float32")
    for exponent_range in (0.5, 60.0):
        attention("auto", "float32")(positions, with_range(rng, positions, 24, exponent_range).astype("float32"))
    assert taken == ["moments", "direct"]


@all_forms
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_sums_are_float32_under_every_dtype_policy(rng, form, policy):
    positions, semantics, _ = random_case(rng, 2, 784, 5, 8)
    layer = attention(form, policy)
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


@all_forms
def test_batch_and_positions_may_be_unknown_until_run_time(rng, form):
    layer = attention(form, "float32")
    semantics = tf.constant(rng.normal(size=(3, 16)), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 16], tf.float32)])
    def value_and_gradient(positions):
        with tf.GradientTape() as tape:
            tape.watch(positions)
            value = layer(positions, semantics)
        return value, tape.gradient(value, positions), layer.evidence_maps(positions, semantics, value)

    for batch, num_positions in ((1, 9), (4, 25)):
        positions = rng.normal(size=(batch, num_positions, 16)).astype("float32")
        value, gradient, maps = value_and_gradient(positions)
        np.testing.assert_allclose(value, naive(positions, semantics), atol=1e-5)
        reference = gradients(naive, positions, semantics, 1.0)[0]
        np.testing.assert_allclose(gradient, reference, atol=1e-4)
        expected = attention("direct", "float32").evidence_maps(positions, semantics, value)
        np.testing.assert_allclose(maps, expected, atol=1e-4)


@all_forms
def test_no_tensor_of_batch_positions_semantics_channels_is_made(rng, form):
    """Every tensor of forward and backward pass is smaller than B·N·K·D numbers, also inside loops."""
    batch, num_positions, nodes, channels = 2, 784, 84, 64
    layer = attention(form, "float32")

    @tf.function
    def both(positions, semantics):
        with tf.GradientTape() as tape:
            tape.watch([positions, semantics])
            value = tf.reduce_sum(layer(positions, semantics))
        return tape.gradient(value, [positions, semantics])

    concrete = both.get_concrete_function(
        tf.TensorSpec([batch, num_positions, channels], tf.float32), tf.TensorSpec([nodes, channels], tf.float32)
    )
    sizes = _tensor_sizes(concrete.graph)
    assert len(sizes) > 50
    assert max(sizes) <= batch * num_positions * nodes * channels // 8


def _tensor_sizes(graph):
    sizes = []
    for operation in graph.get_operations():
        sizes += [output.shape.num_elements() or 0 for output in operation.outputs]
        for attribute in ("body", "cond", "f", "then_branch", "else_branch"):
            try:
                name = operation.get_attr(attribute).name
            except (ValueError, AttributeError):
                continue
            sizes += _tensor_sizes(graph._get_function(name).graph)
    return sizes


@all_forms
def test_evidence_maps_follow_their_definition_and_sum_to_what_attention_adds(rng, form):
    positions, semantics, gradients = random_case(rng, 2, 10, 4, 6)
    maps = attention(form, block_elements=100).evidence_maps(
        tf.constant(positions), tf.constant(semantics), tf.constant(gradients)
    )
    weights = tf.nn.softmax(positions[:, :, None, :] * semantics[None, None], axis=1).numpy()
    deviation = positions - positions.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(maps, np.einsum("bkd,bnkd,bnd->bkn", gradients, weights, deviation), atol=1e-12)
    added = naive(positions, semantics).numpy() - positions.mean(axis=1)[:, None, :]
    np.testing.assert_allclose(np.sum(maps, axis=-1), (gradients * added).sum(axis=-1), atol=1e-11)


def test_a_fixed_number_of_segments_is_exact_within_its_range_and_needs_no_exponentials(rng):
    positions = rng.normal(size=(1, 50, 6)).astype("float32")
    semantics = with_range(rng, positions, 5, 1.0).astype("float32")
    layer = attention("moments", "float32", segments=1)
    np.testing.assert_allclose(layer(positions, semantics), naive(positions, semantics), atol=1e-6)
    wider = with_range(rng, positions, 5, 3.0).astype("float32")
    three = attention("moments", "float32", segments=3)
    np.testing.assert_allclose(three(positions, wider), naive(positions, wider), atol=2e-6)
    graph = tf.function(layer).get_concrete_function(positions, semantics).graph
    assert "Exp" not in {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize("form", ["direct", "auto"])
def test_compiled_by_xla_as_on_an_accelerator_it_gives_the_same(rng, form, monkeypatch):
    monkeypatch.setattr(semantic_attention, "has_accelerator", lambda: True)
    positions, semantics, upstream = random_case(rng, 2, 12, 3, 4)
    ours = gradients(attention(form), positions, semantics, upstream)
    for mine, reference in zip(ours, gradients(naive, positions, semantics, upstream), strict=True):
        np.testing.assert_allclose(mine, reference, atol=1e-11)


@pytest.mark.slow
def test_on_jax_forward_and_backward_pass_are_the_same(rng, tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    arrays = [array.astype("float32") for array in random_case(rng, 2, 30, 4, 8, length=0.7)]
    np.savez(tmp_path / "case.npz", *arrays)
    program = f"""
import jax, numpy as np
from msrn_tf.layers import SemanticAttention
p, e, g = np.load({str(tmp_path / "case.npz")!r}).values()
for form in ("direct", "moments"):
    layer = SemanticAttention(form)
    value, gradients = jax.jit(jax.value_and_grad(lambda p, e: (layer(p, e) * g).sum(), argnums=(0, 1)))(p, e)
    np.savez({str(tmp_path)!r} + "/" + form, value, *gradients, layer.evidence_maps(p, e, g))
"""
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, capture_output=True)
    positions, semantics, upstream = (tf.constant(array) for array in arrays)
    for form in ("direct", "moments"):
        value, dp, de, maps = np.load(tmp_path / f"{form}.npz").values()
        layer = attention(form, "float32")
        reference = gradients(layer, positions, semantics, upstream)
        assert value == pytest.approx(float(tf.reduce_sum(layer(positions, semantics) * upstream)), rel=1e-4)
        np.testing.assert_allclose(dp, reference[0], atol=1e-5)
        np.testing.assert_allclose(de, reference[1], atol=1e-4)
        np.testing.assert_allclose(maps, layer.evidence_maps(positions, semantics, upstream), atol=1e-5)


def test_a_configuration_round_trips_also_one_from_before_there_were_forms():
    layer = SemanticAttention("moments", segments=2)
    copy = SemanticAttention.from_config(layer.get_config())
    assert (copy.form, copy.segments, copy.block_elements) == ("moments", 2, None)
    older = {"name": "attention", "block_channels": None}
    assert SemanticAttention.from_config(older).form == "auto"


@pytest.mark.parametrize(
    "arguments", [{"form": "quick"}, {"block_elements": 0}, {"segments": 2}, {"form": "moments", "segments": 0}]
)
def test_arguments_that_mean_nothing_are_refused(arguments):
    with pytest.raises(ValueError, match="Received"):
        SemanticAttention(**arguments)


def test_both_forms_are_saved_and_loaded_within_a_model(rng, tmp_path):
    positions, semantics, _ = (array.astype("float32") for array in random_case(rng, 2, 9, 3, 4))
    for form in FORMS:
        inputs = keras.Input((9, 4)), keras.Input(batch_shape=(3, 4))
        model = keras.Model(inputs, SemanticAttention(form, name="attention")(*inputs))
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert loaded.get_layer("attention").form == form
        np.testing.assert_array_equal(loaded.call((positions, semantics)), model.call((positions, semantics)))
