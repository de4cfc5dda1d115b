"""Graph layers by hand; models on several backbones; saved and restored in a new process; word for word."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from running import ROOT

from msrn_tf.config import ModelConfig
from msrn_tf.errors import UserError
from msrn_tf.label_graph import LabelGraph, one_hot_word_vectors
from msrn_tf.layers import (
    CosineAttention,
    DiffPool,
    ElementwiseHead,
    FeatureProjection,
    GraphAttention,
    GraphConvolution,
    MLPHead,
    QueryDecoderHead,
    ResidualAttentionHead,
)
from msrn_tf.models import ConstantSemantics
from msrn_tf.models.backbones import build_backbone
from msrn_tf.models.factory import create_model, load_model, save_model
from msrn_tf.models.receptive_field import position_centre

LABELS = ("cat", "dog", "sofa", "car", "road")


def small_graph():
    targets = np.array([[1, 0, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1], [1, 1, 0, 0, 0]])
    graph = LabelGraph.from_targets(LABELS, targets)
    return dataclasses.replace(graph, word_vectors=one_hot_word_vectors(5))


def small_model(image_size=64, **choices):
    choices = {"backbone": "resnet_tiny", "channels": 16, "head": "elementwise", "pool_ratio": 0.4} | choices
    return create_model(ModelConfig(**choices), LABELS, image_size, small_graph())


# Layers


def test_graph_attention_by_hand():
    """Two nodes that see each other, one that sees itself alone."""
    layer = GraphAttention(2)
    layer.build((3, 2))
    kernel = np.array([[1.0, 0.5], [-0.5, 1.0]])
    a = np.array([0.3, -0.2, 0.7, 0.1])
    layer.kernel.assign(kernel)
    layer.attention_kernel.assign(a[:, None])
    nodes = np.array([[1.0, 2.0], [0.5, -1.0], [-1.0, 0.0]])
    adjacency = np.array([[1, 0.3, 0], [0.2, 1, 0], [0, 0, 1]])
    h = nodes @ kernel
    expected = np.zeros((3, 2))
    for i in range(3):
        neighbours = np.flatnonzero(adjacency[i] > 0)
        raw = np.array([a[:2] @ h[i] + a[2:] @ h[j] for j in neighbours])
        weights = np.exp(np.where(raw > 0, raw, 0.2 * raw))
        out = (weights / weights.sum()) @ h[neighbours] + h[i]
        expected[i] = np.where(out > 0, out, np.exp(out) - 1)
    np.testing.assert_allclose(layer(nodes, adjacency), expected, atol=1e-6)


@pytest.mark.parametrize("encoder", ["gat", "gcn"])
def test_labels_take_from_neighbours_and_themselves_alone(encoder):
    model = small_model(encoder=encoder)
    semantics = model.semantics
    weights = np.asarray(semantics.neighbour_weights())
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert np.array_equal(weights > 0, np.asarray(semantics.adjacency) > 0)
    if encoder == "gat":  # what the layer itself computes: ELU(weights · h + h)
        layer, dense = semantics.graph1, semantics.dense(semantics.word_vectors)
        h = np.asarray(dense) @ np.asarray(layer.kernel)
        found = layer(dense, semantics.adjacency)
        np.testing.assert_allclose(found, tf.nn.elu(weights @ h + h), atol=1e-5)


def test_graph_convolution_by_hand():
    layer = GraphConvolution(1)
    layer.build((2, 2))
    layer.kernel.assign([[1.0], [2.0]])
    adjacency = np.array([[0.5, 0.5], [0.0, -1.0]])
    # x W = [5, −1]; Â x W = [2, 1]; then [−5 …] for the negative side.
    np.testing.assert_allclose(layer(np.array([[1.0, 2.0], [1.0, -1.0]]), adjacency), [[2.0], [1.0]], atol=1e-6)
    np.testing.assert_allclose(layer(np.array([[-1.0, -2.0], [0.0, 0.0]]), adjacency), [[-0.5], [0.0]], atol=1e-6)


def test_diff_pool_pools_by_its_assignment_and_adds_the_group_loss(rng):
    layer = DiffPool(2)
    labels, adjacency = rng.normal(size=(4, 6)).astype("float32"), np.eye(4, dtype="float32")
    groups, assignment, loss = layer(labels, adjacency)
    np.testing.assert_allclose(np.sum(assignment, axis=1), 1, atol=1e-6)
    embedded = layer.embedding(np.maximum(labels, 0), adjacency)
    np.testing.assert_allclose(groups, np.transpose(assignment) @ np.asarray(embedded), atol=1e-5)
    own = np.asarray(groups)[np.argmax(assignment, axis=1)]
    expected = 1e-4 * np.linalg.norm(labels - own, axis=1).sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_label_that_equals_its_group_has_a_finite_gradient():
    layer = DiffPool(1)
    labels = tf.zeros((2, 3))
    with tf.GradientTape() as tape:
        tape.watch(labels)
        _, _, loss = layer(labels, tf.eye(2))
    assert np.isfinite(tape.gradient(loss, labels)).all()


@pytest.mark.parametrize("head", [MLPHead, ElementwiseHead])
def test_head_logits_are_float32_under_mixed_precision(head):
    layer = head(3, dtype="mixed_bfloat16")
    logits = layer(tf.zeros((2, 5, 12), tf.bfloat16), tf.ones((3, 2)) / 2)
    assert logits.shape == (2, 3) and logits.dtype == tf.float32


@pytest.mark.parametrize(
    "layer",
    [GraphAttention(3), GraphConvolution(3), GraphConvolution(3, activation="tanh"), DiffPool(2), MLPHead(4, 8, 0.1),
     ElementwiseHead(4, 0.1), CosineAttention(2, 8), ResidualAttentionHead(4, 2, 0.3, 0.1),
     QueryDecoderHead(4, 8, 2, 16, 0.1)],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_layer_configuration_round_trips(layer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer) and copy.get_config() == layer.get_config()


# Backbones and models


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", [128, 256, 512]),
        ("resnet101", [512, 1024, 2048]),
        ("resnet_tiny", [64, 128, 128]),
        ("mobilenet_v2", [192, 576, 1280]),
        ("efficientnet_b0", [240, 672, 1280]),
        ("densenet121", [256, 512, 1024]),
        ("mobilenet_v3_small", [96, 288, 576]),
        ("convnext_tiny", [192, 384, 768]),
    ],
)
def test_taps_are_at_strides_8_16_32(name, channels):
    taps, _ = build_backbone(name)
    shapes = taps.compute_output_shape((1, 96, 160, 3))
    assert [shape[1:3] for shape in shapes] == [(12, 20), (6, 10), (3, 5)]
    assert [shape[3] for shape in shapes] == channels


def test_an_unknown_backbone_and_weights_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(UserError, match="`backbone`=vgg"):
        small_model(backbone="vgg")
    (tmp_path / "x.weights.h5").write_bytes(b"no weights")
    for file in ("x.weights.h5", "missing.weights.h5", "x.pth"):
        with pytest.raises(UserError, match="`backbone_weights`"):
            small_model(backbone_weights=str(tmp_path / file))


def test_real_backbone_weights_load(shared, rng):
    path = str(shared / "weights" / "mobilenet_v2_1.0_224_notop.weights.h5")
    network = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(None, None, 3))
    network.load_weights(path)
    images = rng.uniform(-1, 1, (1, 96, 96, 3)).astype("float32")
    taps, normalization = build_backbone("mobilenet_v2", path)
    np.testing.assert_array_equal(taps(images)[-1], network(images))
    assert normalization.mean == (127.5, 127.5, 127.5)


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"head": "mlp", "head_units": 8},
        {"encoder": "gcn"},
        {"word_vectors": "learned"},
        {"model": "gap"},
        {"model": "gmp", "dropout": 0.2},
        {"model": "csra", "attention_heads": 2, "dropout": 0.2},
        {"model": "ml_decoder", "head_units": 8},
        {"attention": "cosine", "attention_heads": 2},
        {"backbone": "mobilenet_v2", "tap_pooling": "none"},
    ],
    ids=str,
)
def test_a_saved_model_is_restored_whole(tmp_path, rng, choices):
    model = small_model(**choices)
    images = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    path = str(tmp_path / "model.keras")
    save_model(model, path)
    restored = load_model(path)
    assert (restored.labels, restored.image_size, restored.thresholds) == (LABELS, 64, (0.5,) * 5)
    np.testing.assert_array_equal(restored(images), model(images))
    assert len(restored.trainable_variables) == len(model.trainable_variables)
    assert os.listdir(tmp_path) == ["model.keras"]


@pytest.mark.parametrize("choices", [pytest.param({}, marks=pytest.mark.slow), {"model": "gap"}], ids=str)
def test_a_loaded_model_behaves_as_a_built_keras_model(tmp_path, rng, choices):
    model = small_model(**choices)
    images = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    expected = np.asarray(model(images))
    save_model(model, str(tmp_path / "model.keras"))

    def loaded():
        return keras.saving.load_model(str(tmp_path / "model.keras"), compile=False)

    assert [tuple(tensor.shape) for tensor in (*loaded().inputs, *loaded().outputs)] == [(None, 64, 64, 3), (None, 5)]
    restored = loaded()
    functional = keras.Model(restored.inputs, restored.outputs)
    np.testing.assert_allclose(functional([images]), expected, atol=1e-5)
    if not choices:
        np.testing.assert_array_equal(loaded().semantics.adjacency, model.semantics.adjacency)

    loaded().save_weights(str(tmp_path / "model.weights.h5"))
    other = small_model(**choices)
    assert np.abs(np.asarray(other(images)) - expected).max() > 1e-3
    other.load_weights(str(tmp_path / "model.weights.h5"))
    np.testing.assert_array_equal(other(images), expected)
    with pytest.raises(ValueError, match=r"save a `\.keras` file, or only the weights"):
        loaded().save(str(tmp_path / "model.h5"))

    loaded().export(str(tmp_path / "exported"), verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(exported.serve(images.astype(np.float32)), expected, atol=1e-4)

    content = tf.lite.TFLiteConverter.from_keras_model(loaded()).convert()
    interpreter = Interpreter(model_content=content)
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, [1, 64, 64, 3])
    if choices:  # attention has a loop that TFLite's own kernels do not run: `export.tflite` lays it out without
        interpreter.allocate_tensors()
        interpreter.set_tensor(place, images[:1].astype(np.float32))
        interpreter.invoke()
        found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        np.testing.assert_allclose(found, expected[:1], atol=1e-4)


def test_a_model_file_whose_build_names_its_argument_otherwise_is_read(tmp_path, rng):
    """As files of version 0.1 do."""
    model = small_model()
    save_model(model, str(tmp_path / "model.keras"))
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    configuration = json.loads(contents["config.json"])
    configuration["build_config"] = {"shapes_dict": {"images_shape": [None, None, None, 3]}}
    with zipfile.ZipFile(tmp_path / "old.keras", "w") as archive:
        for name, content in (contents | {"config.json": json.dumps(configuration)}).items():
            archive.writestr(name, content)
    images = rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(load_model(str(tmp_path / "old.keras"))(images), model(images))


ON_JAX = """
import os
os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"
import sys
import keras, numpy as np
from msrn_tf.layers import (
    DiffPool, CosineAttention, ElementwiseHead, GraphAttention, GraphConvolution, MLPHead, QueryDecoderHead,
    ResidualAttentionHead, SemanticAttention,
)
assert keras.backend.backend() == "jax"
inputs = np.load(sys.argv[1])
nodes, adjacency, positions, semantics, features, assignment, feature_map = (inputs[name] for name in inputs.files)

def filled(layer):
    for number, weight in enumerate(layer.weights):
        weight.assign(np.random.default_rng(number).standard_normal(weight.shape) / 3)
    return layer

outputs = {}
for name, layer, arguments in (
    ("attention", GraphAttention(6), (nodes, adjacency)),
    ("convolution", GraphConvolution(6), (nodes, adjacency)),
    ("pool", DiffPool(2), (nodes, adjacency)),
    ("semantic", SemanticAttention(), (positions, semantics)),
    ("mlp", MLPHead(4, 7), (features, assignment)),
    ("elementwise", ElementwiseHead(4), (features, assignment)),
    ("cosine", CosineAttention(1, 8), (positions, semantics)),
    ("csra", ResidualAttentionHead(4, 2), (feature_map,)),
    ("ml_decoder", QueryDecoderHead(4, 8, 2, 16), (feature_map,)),
):
    layer(*arguments)
    found = filled(layer)(*arguments)
    found = found[0] if isinstance(found, tuple) else found
    outputs[name] = np.asarray(found)
np.savez(sys.argv[2], **outputs)
"""


@pytest.mark.slow
def test_layers_give_the_same_on_the_jax_backend(tmp_path, rng):
    pytest.importorskip("jax", reason="JAX is not installed (requirements-dev.txt has it)")
    arrays = {
        "nodes": rng.standard_normal((4, 5)),
        "adjacency": np.eye(4) + (rng.random((4, 4)) < 0.5),
        "positions": rng.standard_normal((2, 9, 5)),
        "semantics": rng.standard_normal((6, 5)),
        "features": rng.standard_normal((2, 6, 15)),
        "assignment": rng.random((4, 2)),
        "feature_map": rng.standard_normal((2, 3, 3, 5)),
    }
    np.savez(tmp_path / "inputs.npz", **{name: array.astype(np.float32) for name, array in arrays.items()})
    outputs = {}
    for backend in ("jax", "tensorflow"):
        script, target = ON_JAX.replace('"jax"', repr(backend)), tmp_path / f"{backend}.npz"
        run = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "inputs.npz"), str(target)],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        with np.load(target) as found:
            outputs[backend] = {name: found[name] for name in found.files}
    assert outputs["jax"].keys() == outputs["tensorflow"].keys() and len(outputs["jax"]) == 9
    for name, found in outputs["jax"].items():
        assert np.abs(found).max() > 0.1
        np.testing.assert_allclose(found, outputs["tensorflow"][name], atol=1e-5, err_msg=name)


def test_a_new_process_restores_identical_outputs(tmp_path, rng):
    model = small_model()
    images = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    save_model(model, str(tmp_path / "model.keras"))
    np.save(tmp_path / "images.npy", images)
    code = (
        "import msrn_tf.models, keras, numpy, sys; model = keras.saving.load_model(sys.argv[1]); "
        "numpy.save(sys.argv[3], model(numpy.load(sys.argv[2])))"
    )
    paths = [str(tmp_path / name) for name in ("model.keras", "images.npy", "logits.npy")]
    subprocess.run([sys.executable, "-c", code, *paths], check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(paths[2]), model(images))


def test_uint8_and_float_pixels_of_any_size_give_logits(rng):
    model = small_model()
    for height, width in ((64, 64), (96, 64)):
        images = rng.integers(0, 256, (1, height, width, 3), dtype=np.uint8)
        np.testing.assert_allclose(model(images), model(images.astype(np.float32)), atol=1e-5)


def test_taps_are_pooled_only_where_enough_positions_remain():
    assert small_model(448).projection.pooled == (True, True, True)
    assert small_model(224).projection.pooled == (True, True, False)
    assert small_model(64).projection.pooled == (False, False, False)
    assert all(small_model(64, tap_pooling="published").projection.pooled)


@pytest.mark.parametrize("head", [MLPHead(3, 7), ElementwiseHead(3)], ids=lambda head: type(head).__name__)
def test_label_gradients_equal_autodiff(head, rng):
    aggregated = tf.constant(rng.normal(size=(2, 5, 6)), tf.float32)
    assignment = tf.constant(rng.random((3, 2)), tf.float32)
    head(aggregated, assignment)
    with tf.GradientTape() as tape:
        tape.watch(aggregated)
        logits = head(aggregated, assignment)
    jacobian = tape.jacobian(logits, aggregated).numpy()
    expected = np.array([[jacobian[b, c, b, c] for c in range(3)] for b in range(2)])
    np.testing.assert_allclose(head.label_gradients(aggregated, assignment), expected, atol=1e-6)
    by_share = np.einsum("cg,bcbgf->bgf", assignment, jacobian[:, :, :, 3:])
    np.testing.assert_allclose(head.group_gradients(aggregated, assignment), by_share, atol=1e-6)


def test_attention_maps_have_the_scales_sizes_and_are_not_negative(rng):
    _, maps = small_model().classify_and_explain(rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))
    assert [tuple(m.shape) for m in maps] == [(2, 5, 8, 8), (2, 5, 4, 4), (2, 5, 2, 2)]
    assert all(np.min(scale) >= 0 and np.max(scale) > 0 for scale in maps)


def test_groups_have_maps_too(rng):
    _, maps = small_model().classify_and_explain(rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8), of="groups")
    assert [tuple(m.shape) for m in maps] == [(2, 2, 8, 8), (2, 2, 4, 4), (2, 2, 2, 2)]
    assert all(np.min(scale) >= 0 for scale in maps)


@pytest.mark.parametrize(
    ("backbone", "size", "expected"),
    [
        ("resnet_tiny", 256, [0, 0, 0]),
        ("resnet18", 512, [0, 0, 0]),
        ("mobilenet_v2", 512, [7, 15, 31]),
        ("efficientnet_lite0", 512, [7, 15, 31]),
    ],
)
def test_centres_of_positions_are_the_middle_of_the_pixels_that_move_them(backbone, size, expected):
    taps = build_backbone(backbone)[0]
    found = [position_centre(tensor) for tensor in taps.outputs]
    assert found == [(stride, centre) for stride, centre in zip((8, 16, 32), expected, strict=True)]
    probe = tf.Variable(tf.random.stateless_uniform((1, size, size, 3), (1, 2)))
    with tf.GradientTape() as tape:
        tap = taps(probe, training=False)[0]
        middle = tap.shape[1] // 2
        value = tf.reduce_sum(tap[0, middle, middle])
    moved = np.flatnonzero(np.abs(tape.gradient(value, probe)[0]).sum(axis=(1, 2)))
    assert abs((moved[0] + moved[-1]) / 2 - (expected[0] + 8 * middle)) <= 0.5


def test_the_centres_of_a_network_deeper_than_calls_may_be_nested_are_found():
    image = tensor = keras.Input((32, 32, 1))
    for _ in range(sys.getrecursionlimit() + 1):
        tensor = keras.layers.Identity()(tensor)
    assert position_centre(keras.layers.AveragePooling2D(2)(tensor)) == (2, 0.5) and image.shape[1] == 32


def test_the_backbone_group_is_the_backbone_and_the_two_tap_convolutions():
    model = small_model()
    slow = {variable.path for variable in model.backbone_variables()}
    assert {f"msrn/projection/tap_convolution_stride{i}/{leaf}" for i in (8, 16) for leaf in ("kernel", "bias")} <= slow
    assert not any(name in path for path in slow for name in ("projection_", "head", "semantics"))
    assert small_model(freeze_backbone=True).backbone.trainable_variables == []


def test_more_groups_than_labels_are_refused():
    model = small_model()
    config = model.semantics.get_config() | {"num_groups": 6}
    with pytest.raises(TypeError, match="`num_groups` must be a whole number from 0 to 5"):  # Keras wraps it up
        type(model.semantics).from_config(config)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut", b"{}"])
def test_a_file_that_is_no_model_is_named(tmp_path, content):
    path = tmp_path / "model.keras"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{path}: "):
        load_model(str(path))


def test_a_model_of_another_kind_is_refused(tmp_path):
    path = str(tmp_path / "model.keras")
    keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)]).save(path)
    with pytest.raises(UserError, match="Sequential"):
        load_model(path)


OLDER_FILES = {
    "mlp": [
        [-0.2245475947856903, 0.25684237480163574, -0.21575994789600372, 0.45752981305122375],
        [-0.21120479702949524, 0.23279143869876862, -0.2051125168800354, 0.4081915020942688],
    ],
    "elementwise": [
        [-0.6292135119438171, 0.0015932917594909668, 0.41670000553131104, 1.1805695295333862],
        [-0.634955644607544, 0.015185177326202393, 0.39571183919906616, 1.2211098670959473],
    ],
}
"""Logits that the files in `tests/data` gave in the version that wrote them: before MSRN was made of parts."""


@pytest.mark.parametrize("head", OLDER_FILES)
def test_a_file_of_an_older_version_still_loads_and_is_saved_in_todays_form(head, tmp_path):
    older, path = pathlib.Path(__file__).parent / "data" / f"msrn_{head}_before_parts.keras", tmp_path / "model.keras"
    images = (np.arange(2 * 64 * 64 * 3) % 251).reshape(2, 64, 64, 3).astype(np.uint8)
    model = load_model(str(older))
    np.testing.assert_allclose(model(images), OLDER_FILES[head], atol=1e-6)
    assert (model.labels, model.thresholds) == (("a", "b", "c", "d"), (0.4, 0.5, 0.6, 0.3))
    assert model.calibration.slopes == (1.0, 1.1, 0.9, 1.2)
    with pytest.raises(ValueError, match="older version"):
        keras.saving.load_model(older)
    save_model(model, str(path))
    np.testing.assert_array_equal(keras.saving.load_model(path)(images), model(images))


def test_semantics_of_a_trained_model_are_constants_of_the_same_value():
    encoder = small_model().semantics
    constant = ConstantSemantics.of(encoder)
    for ours, theirs in zip(constant()[:2], encoder()[:2], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert float(encoder().loss) > 0 and float(constant().loss) == 0
    assert not constant.trainable_variables
    copy = ConstantSemantics.from_config(constant.get_config())
    assert [tuple(part.shape) for part in copy()[:2]] == [tuple(part.shape) for part in encoder()[:2]]


def parts_of(model):
    return {name: getattr(model, name) for name in ("backbone", "semantics", "projection", "attention", "head")}


def test_a_model_with_constant_semantics_is_saved_and_restored(tmp_path, rng):
    model, images = small_model(), rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    constant = model.with_parts(**parts_of(model) | {"semantics": ConstantSemantics.of(model.semantics)})
    constant.build((None, None, None, 3))
    np.testing.assert_allclose(constant(images), model(images), atol=1e-6)
    save_model(constant, str(tmp_path / "model.keras"))
    np.testing.assert_allclose(load_model(str(tmp_path / "model.keras"))(images), model(images), atol=1e-6)


@pytest.mark.parametrize("of", ["labels", "groups"])
def test_one_pass_gives_the_logits_and_the_heatmaps(rng, of):
    model, images = small_model(), rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    logits, evidence = model.classify_and_explain(images, of=of)
    np.testing.assert_allclose(logits, model(images), atol=1e-6)
    maps, semantics = model.feature_maps(images), model.semantics()
    np.testing.assert_allclose(model.classify(maps, semantics), logits, atol=1e-6)
    for found, expected in zip(model.explain(maps, semantics, of=of), evidence, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("part", ["semantics", "projection", "head"])
def test_parts_that_do_not_fit_together_are_refused(part):
    model = small_model()
    other = {
        "semantics": ConstantSemantics(4, 16),
        "projection": FeatureProjection(8, (8, 16, 32)),
        "head": ElementwiseHead(4),
    }[part]
    with pytest.raises(ValueError, match=f"`{part}` must"):
        model.with_parts(**parts_of(model) | {part: other})
