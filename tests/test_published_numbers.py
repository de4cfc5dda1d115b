"""Is it MSRN? Every tensor and gradient that the published implementation stored, at RULE.md's tolerances."""

import json

import numpy as np
import pytest
import tensorflow as tf

from msrn_tf.layers import ElementwiseHead, MLPHead
from msrn_tf.layers.semantic_attention import FORMS
from msrn_tf.models.backbones import build_backbone
from msrn_tf.models.msrn import _flatten_positions, make_msrn
from msrn_tf.models.normalization import IMAGENET
from msrn_tf.models.published_weights import from_published, published_name, to_published

LOGIT_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-4
BACKBONE_GRADIENT_TOLERANCE = 2e-2
"""A rounding error flips the mask of a few of 9.6 million ReLUs: RULE.md, noise floor."""


@pytest.fixture(scope="module")
def published_shapes(parity):
    return dict(json.loads((parity / "voc_params.json").read_text()))


@pytest.fixture(scope="module", params=["mlp", "elementwise"])
def model(request, shared, parity, param, published_shapes):
    """The VOC model with every parameter made by the rule."""
    with np.load(shared / "label_graphs" / "voc2007.npz") as graph, np.load(parity / "voc_128.npz") as fixture:
        labels, vectors, adjacency = graph["labels"].tolist(), graph["glove"], fixture["adj"]
    backbone, _ = build_backbone("resnet101")
    model = make_msrn(
        backbone, labels, 448, mean=IMAGENET.mean, std=IMAGENET.std, num_groups=4, word_vector_size=vectors.shape[1],
        head=request.param, tap_pooling="published", name="msrn",
    )  # fmt: skip
    model.build((None, None, None, 3))
    model.semantics.adjacency.assign(adjacency)
    model.semantics.word_vectors.assign(vectors)
    for variable in model.variables:
        name = published_name(variable.path.removeprefix("msrn/"))
        if name is not None:
            variable.assign(from_published(name, param(name, published_shapes[name])))
    return model


def pixels(size, seed):
    """The fixture's images: already normalised, so undo the normalisation (and do not clip)."""
    normal = np.random.Generator(np.random.PCG64(seed)).standard_normal((2, 3, size, size), dtype=np.float32)
    images = np.clip(normal, -2, 2).transpose(0, 2, 3, 1).astype(np.float64)
    return (images * IMAGENET.std + IMAGENET.mean).astype(np.float32)


def intermediate_tensors(model, images):
    """Every stored tensor, by the fixture's names; `nchw` maps are transposed for comparison."""
    encoder, pool = model.semantics, model.semantics.diff_pool
    adjacency = tf.constant(encoder.adjacency)
    dense = encoder.dense(tf.constant(encoder.word_vectors))
    first = encoder.graph1(dense, adjacency)
    labels = encoder.graph2(first, adjacency)
    groups, assignment, group_loss = pool(labels, adjacency)
    activated = tf.nn.relu(labels)
    taps, projection = model.feature_maps(images), model.projection
    buffered = [projection.tap_convolutions[0](taps[0]), projection.tap_convolutions[1](taps[1]), taps[2]]
    pooled = [projection.pool(tap) for tap in buffered]
    projected = [layer(tap) for layer, tap in zip(projection.projections, pooled, strict=True)]
    semantics = tf.concat([labels, groups], axis=0)
    aggregated = tf.concat([model.attention(_flatten_positions(p), semantics) for p in projected], axis=-1)
    found = {
        "fc_label_out": dense, "label_embed_0": first, "label_embed": labels, "group_embed": groups,
        "assign_mat": assignment, "group_z": pool.embedding(activated, adjacency),
        "group_assign_pre": pool.assignment(activated, adjacency), "group_loss": group_loss,
        "label_dr": aggregated[:, :20], "group_dr": aggregated[:, 20:],
    }  # fmt: skip
    for index in range(3):
        found[f"layer{index + 2}_mean"] = tf.reduce_mean(taps[index], (1, 2))
        found[f"proj{index + 1}_mean"] = tf.reduce_mean(projected[index], (1, 2))
        found[f"f{index + 1}_mean"] = tf.reduce_mean(pooled[index], (1, 2))
        found[f"f{index + 1}_first4"] = tf.transpose(pooled[index][..., :4], (0, 3, 1, 2))
    if isinstance(model.head, MLPHead):
        flat = tf.reshape(tf.tanh(aggregated), (2, -1))
        found["fc1_out"] = model.head.hidden(flat)
    return found


@pytest.mark.parametrize(("size", "seed"), [(128, 1), pytest.param(448, 0, marks=pytest.mark.slow)])
def test_every_stored_tensor_is_reproduced(model, parity, size, seed):
    with np.load(parity / f"voc_{size}.npz") as file:
        fixture = dict(file)
    images = pixels(size, seed)
    found = intermediate_tensors(model, images)
    for name, value in found.items():
        expected = fixture[name]
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(value, expected, atol=2e-5 * scale, rtol=0, err_msg=name)
    key = "logits" if isinstance(model.head, MLPHead) else "logits_elementwise"
    maps, semantics = model.feature_maps(images), model.semantics()
    for form in FORMS:
        model.attention.form = form
        aggregated = model.aggregate(maps, semantics)
        expected = np.concatenate([fixture["label_dr"], fixture["group_dr"]], axis=1)
        np.testing.assert_allclose(aggregated, expected, atol=2e-5 * max(1.0, np.abs(expected).max()), rtol=0)
        logits = model.head(aggregated, semantics.assignment)
        np.testing.assert_allclose(logits, fixture[f"{key}_f64"], atol=LOGIT_TOLERANCE, rtol=0)


@pytest.mark.parametrize("form", ["direct", "moments"])
def test_every_stored_gradient_is_reproduced(model, parity, form):
    model.attention.form = form
    suffix = "" if isinstance(model.head, MLPHead) else "_elementwise"
    with np.load(parity / f"voc_128_grads{suffix}.npz") as file:
        fixture = dict(file)
    images, targets = pixels(128, 1), fixture["targets"]
    # Running statistics everywhere: the fixture's gradients are those of the model in evaluation mode.
    with tf.GradientTape() as tape:
        logits = model(images, training=False)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
        loss = tf.reduce_mean(losses) + model.losses[0]
    np.testing.assert_allclose(loss, fixture["loss"], rtol=1e-5)
    variables = model.trainable_variables
    found = dict(
        zip(
            (published_name(v.path.removeprefix("msrn/")) for v in variables),
            tape.gradient(loss, [v.value for v in variables]),
            strict=True,
        )
    )
    for key, expected in fixture.items():
        kind, _, name = key.partition("/")
        if not kind.startswith("grad"):
            continue
        gradient = to_published(name, found[name].numpy()).astype(np.float64).reshape(-1)
        tolerance = BACKBONE_GRADIENT_TOLERANCE if name.startswith("resnet_101.") else GRADIENT_TOLERANCE
        if kind == "gradsum":
            size = np.linalg.norm(gradient, 1), np.linalg.norm(gradient)
            np.testing.assert_allclose(size, expected[1:], rtol=tolerance, err_msg=name)
            continue
        gradient = gradient[:1000] if kind == "grad1000" else gradient
        error = np.linalg.norm(gradient - expected.reshape(-1)) / np.linalg.norm(expected)
        assert error < tolerance, f"{name}: relative error {error:.2e}"


def test_the_elementwise_head_has_the_published_parameters(published_shapes):
    head = ElementwiseHead(20)
    head.build((None, 24, 1536), (20, 4))
    assert [list(v.shape) for v in head.trainable_variables] == [published_shapes["W"], published_shapes["B"]]
