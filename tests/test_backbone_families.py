"""Each family of backbones, as small as its architecture allows: what it gives, keeps, and is exported to."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from export.device_classifier import DeviceClassifier
from export.saved_model import write_saved_model
from export.tflite import tflite_bytes
from msrn_tf.errors import UserError
from msrn_tf.evaluate import EvaluationConfig, load_models
from msrn_tf.layers import InnerOutputs, TokenMap
from msrn_tf.models.backbones import (
    build_backbone,
    dinov2,
    dinov3,
    freeze,
    hgnetv2,
    siglip,
    swin,
    vit,
)
from msrn_tf.models.backbones.registry import BACKBONES, FAMILIES
from msrn_tf.models.factory import load_model, save_model
from msrn_tf.models.msrn import make_msrn
from msrn_tf.models.receptive_field import position_centre
from msrn_tf.models.taps import tap_shapes

# Module, name, its size in small, pixels, widths at strides 8, 16 and 32, side of the finest map, patch or 0.
SMALL = {
    "hgnetv2": (
        hgnetv2, "hgnetv2_b4",
        ([3, 4, 8], [(8, 4, 8, 1, 1, 3), (8, 4, 16, 1, 1, 3), (16, 4, 24, 1, 1, 5), (24, 4, 32, 1, 1, 5)]),
        64, (16, 24, 32), 8, 0,
    ),
    "swin": (swin, "swin_tiny", (8, (1, 1, 1, 1), (1, 1, 2, 2), 2), 64, (16, 32, 64), 8, 0),
    "dinov2": (dinov2, "dinov2_small", (1, 16, 2, 0, ""), 75, (16, 16, 16), 10, 14),
    "dinov2 with registers": (dinov2, "dinov2_registers_small", (1, 16, 2, 4, ""), 75, (16, 16, 16), 10, 14),
    "dinov3": (dinov3, "dinov3_small", (1, 32, 2), 70, (32, 32, 32), 8, 16),
    "vit": (vit, "vit_base16", (16, 1, 16, 2, (224,)), 64, (16, 16, 16), 8, 16),
    "siglip": (siglip, "siglip_base16", (1, 16, 2, (224,)), 70, (16, 16, 16), 8, 16),
}  # fmt: skip
PLAIN = [name for name, small in SMALL.items() if small[-1]]


@pytest.fixture
def small(family, monkeypatch):
    """A family's `(name, pixels, widths, side of the finest map)`, its network in small."""
    module, name, sizes, *expected, _ = SMALL[family]
    monkeypatch.setitem(module.SIZES, name, sizes)
    return name, *expected


def small_model(name, size, strides=(8, 16, 32)):
    backbone, normalization = build_backbone(name, image_size=size, strides=strides)
    model = make_msrn(
        backbone, ["cat", "dog", "sofa"], size, mean=normalization.mean, std=normalization.std, strides=strides,
        word_vector_size=4, num_groups=0, channels=8, head="elementwise", name="msrn",
    )  # fmt: skip
    model.build((None, None, None, 3))
    model.semantics.adjacency.assign(np.eye(3))
    model.semantics.word_vectors.assign(np.random.default_rng(1).normal(size=(3, 4)))
    return model


@pytest.mark.parametrize("family", SMALL)
def test_a_family_gives_its_maps_and_is_kept_and_frozen(small, rng, tmp_path):
    name, size, widths, side = small
    model = small_model(name, size)
    photos = rng.integers(0, 256, (2, size, size, 3), np.uint8)
    maps = model.feature_maps(photos)
    sides = (side, side // 2, side // 4)
    assert [tuple(m.shape) for m in maps] == [(2, s, s, w) for s, w in zip(sides, widths, strict=True)]
    logits = model(photos)
    assert np.isfinite(logits).all() and np.std(logits) > 0

    path = str(tmp_path / "model.keras")
    save_model(model, path)
    np.testing.assert_array_equal(load_model(path)(photos), logits)
    again, _ = build_backbone(name, path, image_size=size)
    np.testing.assert_array_equal(again(model.normalize(photos))[0], maps[0])

    freeze(model.backbone, batch_norm=True)
    within = [layer for layer in model.backbone._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    assert all(not layer.trainable for layer in within) and bool(within) == (name == "hgnetv2_b4")
    assert model.backbone.trainable_weights
    freeze(model.backbone, everything=True)
    assert not model.backbone.trainable_weights


@pytest.mark.slow
@pytest.mark.parametrize("family", SMALL)
def test_a_family_is_exported_for_servers_and_devices(family, small, rng, tmp_path):
    name, size, _, side = small
    model = small_model(name, size)
    photos = rng.integers(0, 256, (2, size, size, 3), np.uint8)
    expected = model.probabilities(photos)
    _, evidence = model.classify_and_explain(photos)
    assert [tuple(m.shape[2:]) for m in evidence] == [(s, s) for s in (side, side // 2, side // 4)]

    write_saved_model(model, str(tmp_path / "saved"), "name")
    served = tf.saved_model.load(str(tmp_path / "saved"))
    pngs = tf.constant([tf.io.encode_png(photo).numpy() for photo in photos])
    answer = served.signatures["serving_default"](image_bytes=pngs)  # best first
    np.testing.assert_allclose(answer["scores"], -np.sort(-expected), atol=1e-5)
    best = [model.labels[index] for index in expected.argmax(axis=1)]
    assert [row[0].decode() for row in answer["labels"].numpy()] == best

    for mode, tolerance in (("none", 1e-5), ("float16", 0.01), ("int8", 0.1)):
        content = tflite_bytes(model, mode, [photo[None] for photo in photos])
        device = DeviceClassifier("model.tflite", content=content)
        np.testing.assert_allclose([device.scores(photo) for photo in photos], expected, atol=tolerance)


@pytest.mark.parametrize("family", PLAIN)
def test_a_cell_of_a_plain_transformers_map_is_its_patchs_token(family, rng, monkeypatch):
    """With blocks that add nothing, a patch's token depends on its pixels alone."""
    module, name, sizes, size, _, _, patch = SMALL[family]
    monkeypatch.setitem(module.SIZES, name, sizes)
    taps, _ = build_backbone(name, image_size=size, strides=(16,) if patch == 16 else (14,))
    for layer in taps._flatten_layers():
        if "attention" in layer.name or "mlp" in layer.name:
            for weight in layer.weights:
                weight.assign(np.zeros(weight.shape))
    image = rng.normal(size=(1, size, size, 3)).astype("float32")
    changed = image.copy()
    changed[0, patch : 2 * patch, 2 * patch : 3 * patch] += 1
    cells = np.argwhere(np.abs(np.asarray(taps(changed)) - np.asarray(taps(image)))[0].max(axis=-1) > 1e-6)
    assert cells.tolist() == [[1, 2]]
    assert position_centre(taps.outputs[0]) == (patch, (patch - 1) / 2)


def test_where_a_position_looks_is_where_the_gradient_lies(rng, monkeypatch):
    module, name, sizes, *_ = SMALL["hgnetv2"]
    monkeypatch.setitem(module.SIZES, name, sizes)
    keras.utils.set_random_seed(0)  # with some weights no gradient comes from the outermost rows
    taps, _ = build_backbone(name)
    image = tf.Variable(rng.normal(size=(1, 256, 256, 3)).astype("float32"))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(taps(image)[0][0, 15, 15])
    weight = np.abs(tape.gradient(value, image)).sum(axis=(0, 3))
    rows = np.flatnonzero(weight.sum(axis=1))
    stride, centre = position_centre(taps.outputs[0])
    assert stride == 8
    assert abs((rows[0] + rows[-1]) / 2 - (centre + 15 * stride)) <= stride / 4


def test_tokens_become_a_map_row_by_row():
    tokens = np.arange(14.0).reshape(1, 7, 2)
    expected = [[[[2, 3], [4, 5], [6, 7]], [[8, 9], [10, 11], [12, 13]]]]
    np.testing.assert_array_equal(TokenMap(2, 3, prefix_tokens=1)(tokens), expected)
    with pytest.raises(ValueError, match="`prefix_tokens` must be a whole number"):
        TokenMap(2, 3, prefix_tokens=-1)


def test_inner_outputs_come_back_from_their_configuration(rng):
    inputs = keras.Input((4,))
    first = keras.layers.Dense(3, name="a")
    network = keras.Model(inputs, keras.layers.Dense(2, name="b")(first(inputs)))
    layer = InnerOutputs(network, ["b", "a"])
    values = rng.normal(size=(2, 4)).astype("float32")
    copy = InnerOutputs.from_config(layer.get_config())
    copy.set_weights(layer.get_weights())
    for found, expected in zip(copy(values), (network(values), first(values)), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("vit_base16", 300, "takes multiples of 16 pixels; use 288 or 304"),
        ("swin_tiny", 300, "takes multiples of 32 pixels from 224; use 288 or 320"),
        ("swin_tiny", 64, "takes multiples of 32 pixels from 224; use 224"),
    ],
)
def test_sizes_that_a_network_does_not_take_are_refused(name, size, words):
    with pytest.raises(UserError, match=f"`image_size`={size}: {name} {words}"):
        build_backbone(name, image_size=size)


def test_published_weights_with_learnt_positions_say_their_sizes():
    for name, sizes in (("vit_base16", "224 or 384"), ("siglip2_base16", "224 or 256 or 384")):
        with pytest.raises(UserError, match=f"have learnt positions for {sizes} pixels"):
            build_backbone(name, "imagenet", image_size=448)


def test_layers_without_maps_are_not_frozen_by_stride(monkeypatch):
    module, name, sizes, size, *_ = SMALL["siglip"]
    monkeypatch.setitem(module.SIZES, name, sizes)
    taps, _ = build_backbone(name, image_size=size)
    with pytest.raises(UserError, match="`frozen_stride`=8: this backbone has no layers of feature maps"):
        freeze(taps, stride=8)


def test_a_wrong_name_lists_all_by_family_with_sizes_and_licences():
    with pytest.raises(UserError) as refusal:
        build_backbone("resnet_101")
    said = str(refusal.value)
    assert said.startswith("`backbone`=resnet_101: no such backbone")
    assert "DINOv3 (DINOv3 License, Meta's own): dinov3_small (21.6 M)" in said
    assert all(f"{name} (" in said for name in BACKBONES)
    assert len(BACKBONES) == sum(len(family.parameters) for family in FAMILIES)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, family in BACKBONES.items() if family.parameters[n] < 100])
def test_sizes_in_the_list_are_the_networks(name):
    taps, _ = build_backbone(name, image_size=224)
    assert tap_shapes(taps)[-1][-1]
    keras.backend.clear_session()
    millions = taps.count_params() / 1e6
    assert BACKBONES[name].parameters[name] == pytest.approx(millions, abs=0.06 + 0.001 * millions)


@pytest.mark.parametrize("family", ["vit"])
def test_other_sizes_than_a_transformers_own_are_refused_before_evaluation(small, tmp_path):
    name, size, *_ = small
    path = str(tmp_path / "model.keras")
    save_model(small_model(name, size), path)
    assert set(load_models(EvaluationConfig(model=path, image_sizes=(size,)))) == {"model"}
    with pytest.raises(UserError, match=f"--image_sizes=64,96: --model takes photos of {size} pixels alone"):
        load_models(EvaluationConfig(model=path, image_sizes=(size, 96)))
