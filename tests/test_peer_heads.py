"""Attention by cosines, CSRA and ML-Decoder: their equations word for word, PyTorch's parts, every export."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_layers_and_models import LABELS, small_model

from export.device_classifier import DeviceClassifier
from export.saved_model import write_saved_model
from export.signatures import combined_maps
from export.tflite import tflite_bytes
from msrn_tf.errors import UserError
from msrn_tf.layers import CosineAttention, QueryDecoderHead, ResidualAttentionHead
from msrn_tf.layers.residual_attention import TEMPERATURES
from msrn_tf.models.inference_model import inference_model


def filled(layer, rng):
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape) / 2)
    return layer


def cosine(x, y):
    return x @ y / np.linalg.norm(x) / np.linalg.norm(y)


def softmax(x):
    x = np.exp(x - x.max())
    return x / x.sum()


@pytest.mark.parametrize("heads", [1, 2])
def test_cosine_attention_adds_what_each_label_finds_to_the_average(rng, heads):
    positions, semantics = rng.normal(size=(2, 9, 6)), rng.normal(size=(4, 6))
    layer = CosineAttention(heads, key_channels=3)
    layer.build(positions.shape, semantics.shape)
    keys, queries = positions @ filled(layer, rng).key_kernel.numpy(), semantics @ layer.query_kernel.numpy()
    expected, width = np.empty((2, 4, 6)), 6 // heads
    for b, k, h in np.ndindex(2, 4, heads):
        part, own = slice(3 * h, 3 * h + 3), slice(width * h, width * h + width)
        cosines = [cosine(key, queries[k, part]) for key in keys[b, :, part]]
        weights = softmax(8 * np.exp(layer.log_temperature.numpy()[h]) * np.array(cosines))
        expected[b, k, own] = positions[b, :, own].mean(0) + weights @ positions[b, :, own]
    np.testing.assert_allclose(layer(positions, semantics), expected, atol=1e-5)


def test_no_length_of_keys_or_queries_sharpens_what_cosine_attention_looks_at(rng):
    positions, semantics = rng.normal(size=(2, 9, 6)), rng.normal(size=(4, 6))
    layer = CosineAttention(2, key_channels=3)
    layer.build(positions.shape, semantics.shape)
    looked_at = filled(layer, rng)(positions, semantics)
    for weight in (layer.key_kernel, layer.query_kernel):
        weight.assign(1000 * weight)
    np.testing.assert_allclose(layer(positions, semantics), looked_at, atol=1e-4)
    np.testing.assert_allclose(layer(np.zeros((2, 9, 6)), semantics), 0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.zeros((2, 9, 6)), tf.zeros((4, 6))))
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(loss, layer.trainable_weights))


def test_a_device_takes_keys_of_zero_which_integers_make_of_short_ones(rng):
    model = small_model(attention="cosine")
    model.attention.key_kernel.assign(0 * model.attention.key_kernel)
    image = rng.integers(0, 256, (model.image_size, model.image_size, 3), dtype=np.uint8)
    (expected,) = model.probabilities(image[None])
    classifier = DeviceClassifier("small.tflite", content=tflite_bytes(model, "none", [image[None]]))
    np.testing.assert_allclose(classifier.scores(image), expected, atol=1e-4)


def test_evidence_of_cosine_attention_sums_to_what_looking_adds(rng):
    """Over positions: Σ_d g · (r − 2 · mean of p), what is found over the average taken twice."""
    positions, semantics, gradients = rng.normal(size=(2, 9, 6)), rng.normal(size=(4, 6)), rng.normal(size=(2, 4, 6))
    layer = CosineAttention(2, key_channels=3)
    found = layer(positions, semantics) - 2 * positions.mean(1, keepdims=True)
    maps = layer.evidence_maps(positions, semantics, gradients)
    assert maps.shape == (2, 4, 9)
    np.testing.assert_allclose(np.sum(maps, -1), np.sum(gradients * found, -1), atol=1e-5)


@pytest.mark.parametrize("heads", [1, 4])
def test_csra_is_its_authors_equation(rng, heads):
    feature_map = rng.normal(size=(2, 3, 4, 6)).astype("float32")
    head = ResidualAttentionHead(5, heads, residual_weight=0.4)
    head.build(feature_map.shape)
    kernel, bias = (weight.numpy() for weight in filled(head, rng).weights)
    kernel, bias = kernel.reshape(6, heads, 5), bias.reshape(heads, 5)
    expected = np.zeros((2, 5))
    for b, h, c in np.ndindex(2, heads, 5):
        x = feature_map[b].reshape(12, 6)
        scores = x @ kernel[:, h, c] + bias[h, c]
        expected[b, c] += scores.mean() + 0.4 * softmax(TEMPERATURES[heads][h] * scores) @ scores
    np.testing.assert_allclose(head(feature_map), expected, atol=1e-5)


def test_the_sharpest_temperature_of_csra_is_the_maximum(rng):
    feature_map = 5 * rng.normal(size=(1, 3, 3, 6)).astype("float32")
    head = ResidualAttentionHead(3, 2, residual_weight=1.0)
    head.build(feature_map.shape)
    kernel = head.classifier.kernel.numpy()
    kernel[:, :3] = 0  # the head of temperature 1 says nothing
    head.classifier.kernel.assign(kernel)
    scores = feature_map.reshape(9, 6) @ kernel[:, 3:]
    np.testing.assert_allclose(head(feature_map)[0], scores.mean(0) + scores.max(0), atol=1e-3)


def test_evidence_of_csra_is_exact(rng):
    """With the average position's part, H · (1 + λ) times its score, the cells add up to the logit."""
    feature_map = rng.normal(size=(2, 3, 4, 6)).astype("float32")
    head = ResidualAttentionHead(5, 2, residual_weight=0.4)
    logits = head(feature_map)
    averages = np.reshape(head.classifier(feature_map), (2, 12, 2, 5)).mean(1).sum(1)
    np.testing.assert_allclose(np.sum(head.evidence_maps(feature_map), (2, 3)) + 1.4 * averages, logits, atol=1e-5)


def test_csra_drops_the_same_channels_at_every_position(rng):
    feature_map = np.ones((1, 3, 3, 64), "float32")
    head = ResidualAttentionHead(2, dropout=0.5)
    logits = [head(feature_map, training=True).numpy() for _ in range(2)]
    assert not np.allclose(*logits)
    # Where all positions are alike, so are they after dropout: attention adds λ times the average.
    head.residual_weight = 0.0
    plain = head(feature_map)
    head.residual_weight = 1.0
    np.testing.assert_allclose(head(feature_map), 2 * plain, rtol=1e-5)


@pytest.mark.parametrize("labels", [7, 250])
def test_ml_decoder_equals_its_equations_in_pytorch(rng, labels):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    feature_map = rng.normal(size=(2, 3, 4, 6)).astype("float32")
    head = QueryDecoderHead(labels, channels=16, heads=4, hidden_units=24)
    head(feature_map)
    filled(head, rng)
    weights = {weight.path.split("/", 1)[-1]: torch.from_numpy(weight.numpy()) for weight in head.weights}

    def dense(x, name):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    def norm(x, number):
        return torch.nn.functional.layer_norm(
            x, (16,), weights[f"norm{number}/gamma"], weights[f"norm{number}/beta"], eps=1e-5
        )

    embedded = torch.relu(dense(torch.from_numpy(feature_map.reshape(2, 12, 6)), "embedding"))
    attention = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    names = ("query", "key", "value")
    with torch.no_grad():
        attention.in_proj_weight.copy_(
            torch.cat([weights[f"attention/{name}/kernel"].reshape(16, 16).T for name in names])
        )
        attention.in_proj_bias.copy_(torch.cat([weights[f"attention/{name}/bias"].reshape(16) for name in names]))
        attention.out_proj.weight.copy_(weights["attention/attention_output/kernel"].reshape(16, 16).T)
        attention.out_proj.bias.copy_(weights["attention/attention_output/bias"])
        q1 = norm(weights["queries"], 1).expand(2, -1, -1)
        q2 = norm(q1 + attention(q1, embedded, embedded)[0], 2)
        q3 = norm(q2 + dense(torch.relu(dense(q2, "hidden")), "output"), 3)
        each = [q3[:, g] @ weights["kernel"][g] for g in range(len(weights["queries"]))]
        expected = torch.cat(each, 1)[:, :labels] + weights["bias"]
    assert len(each) == min(labels, 100)
    np.testing.assert_allclose(head(feature_map), expected, atol=2e-5)


CHOICES = [
    {"model": "csra", "attention_heads": 2},
    {"model": "ml_decoder", "head_units": 8},
    {"attention": "cosine", "strides": (16, 32)},
]


@pytest.mark.parametrize("choices", CHOICES, ids=str)
def test_logits_are_float32_and_gradients_reach_every_weight_in_half_precision(rng, choices):
    model = small_model(mixed_precision="bfloat16", **choices)
    images = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_sum(logits**2)
    assert logits.dtype == tf.float32
    variables = [v for layer in model.layers if layer is not model.backbone for v in layer.trainable_variables]
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    without = [v.path for v, g in zip(variables, gradients, strict=True) if g is None]
    assert not without


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"model": "csra", "attention_heads": 3}, "`attention_heads`=3: csra has temperatures for"),
        ({"model": "ml_decoder", "channels": 12}, "`attention_heads`=8: does not divide `channels`=12"),
        ({"attention": "cosine", "attention_heads": 5}, "`attention_heads`=5: does not divide `channels`=16"),
    ],
)
def test_heads_that_cannot_be_are_one_sentence(choices, sentence):
    with pytest.raises(UserError, match=sentence):
        small_model(**choices)


def test_csra_has_heatmaps_of_labels_and_the_others_say_what_they_have(rng):
    images = rng.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    model = small_model(model="csra")
    assert model.explains and model.num_groups == 0
    logits, (evidence,) = model.classify_and_explain(images)
    np.testing.assert_allclose(logits, model(images), atol=1e-6)
    assert evidence.shape == (2, len(LABELS), 2, 3) and np.min(evidence) >= 0
    with pytest.raises(ValueError, match="`of` must be 'labels'"):
        model.classify_and_explain(images, of="groups")
    assert not small_model(model="ml_decoder").explains
    attending = small_model(attention="cosine")
    _, maps = attending.classify_and_explain(images, of="groups")
    assert attending.num_groups == 2 and [scale.shape[1] for scale in maps] == [2, 2, 2]


def test_exports_name_the_paper_that_a_model_is_of():
    papers = {"csra": "2108.02456", "ml_decoder": "2111.12933", "msrn": "2106.11596"}
    for name, paper in papers.items():
        assert paper in small_model(model=name).reference
    assert small_model(model="gap").reference == ""


def test_a_head_of_another_number_of_labels_is_refused():
    model = small_model(model="csra")
    with pytest.raises(ValueError, match="`head` must be of 5 labels"):
        model.with_parts(backbone=model.backbone, head=ResidualAttentionHead(4))


@pytest.mark.parametrize(
    "choices", [CHOICES[0], *(pytest.param(choices, marks=pytest.mark.slow) for choices in CHOICES[1:])], ids=str
)
def test_exports_give_the_models_scores(rng, tmp_path, choices):
    model = small_model(**choices)
    images = rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    expected = model.probabilities(images)
    write_saved_model(inference_model(model), str(tmp_path / "1"), "small")
    served = tf.saved_model.load(str(tmp_path / "1")).signatures
    assert ("explain" in served) == model.explains and ("embed" in served) == ("model" not in choices)
    answer = served["serving_pixels"](image=tf.constant(images))
    for row, scores in enumerate(expected):
        np.testing.assert_allclose(answer["scores"][row], np.sort(scores)[::-1], atol=1e-5)
    for quantize, tolerance in (("none", 1e-4), ("int8", 0.1)):
        photos = [image[None] for image in images]
        content = tflite_bytes(model, quantize, photos, with_attention=model.explains)
        classifier = DeviceClassifier("small.tflite", content=content)
        for image, scores in zip(images, expected, strict=True):
            np.testing.assert_allclose(classifier.scores(image), scores, atol=tolerance, err_msg=quantize)
            if model.explains and quantize == "none":
                maps = combined_maps(model.classify_and_explain(image[None])[1])
                np.testing.assert_allclose(classifier.attention()[None], maps, atol=1e-3)


def test_layers_are_found_by_name_when_a_file_is_read():
    for layer in (CosineAttention(2), ResidualAttentionHead(3), QueryDecoderHead(3)):
        assert keras.saving.get_registered_name(type(layer)) == f"msrn_tf>{type(layer).__name__}"
