"""A new model from an old one, and how a model is trained: frozen parts, recomputed activations, half precision."""

import dataclasses
import os
import shutil
import subprocess
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from msrn_tf.config import ModelConfig
from msrn_tf.errors import UserError
from msrn_tf.label_graph import LabelGraph, random_word_vectors
from msrn_tf.models.backbones import freeze
from msrn_tf.models.factory import create_model, load_model, save_model
from msrn_tf.models.pooled import PooledClassifier
from msrn_tf.models.recomputation import recomputed_outputs, split_into_segments
from msrn_tf.models.transfer import transfer_weights

# Transfer to other labels


def small_model(labels, name="msrn", head="elementwise", **changes):
    targets = np.ones((4, len(labels)), "int8")
    graph = dataclasses.replace(
        LabelGraph.from_targets(labels, targets), word_vectors=random_word_vectors(len(labels), len(name + head))
    )
    config = ModelConfig(
        model=name, backbone="resnet_tiny", channels=8, head=head, head_units=4, word_vectors="learned", **changes
    )
    return create_model(config, labels, 64, graph)


@pytest.mark.parametrize("head", ["mlp", "elementwise"])
def test_weights_go_over_by_name_and_heads_by_label(head):
    source, target = (
        small_model(["cat", "dog", "hat", "sun", "cup"], head=head),
        small_model(["sun", "sea", "cat"], head=head),
    )
    before = {variable.path: np.array(variable) for variable in target.weights}
    report = transfer_weights(source, target)
    assert report.shared_labels == ("sun", "cat")
    there = {variable.path: np.array(variable) for variable in source.weights}
    after = {variable.path: np.array(variable) for variable in target.weights}
    for path in ("conv1_conv/kernel", "msrn/semantics/graph2/kernel", "msrn/projection/projection_stride32/kernel"):
        np.testing.assert_array_equal(after[path], there[path])
    if head == "elementwise":
        np.testing.assert_array_equal(after["msrn/head/kernel"][[0, 2]], there["msrn/head/kernel"][[3, 0]])
        np.testing.assert_array_equal(after["msrn/head/kernel"][1], before["msrn/head/kernel"][1])
    else:
        np.testing.assert_array_equal(after["msrn/head/logits/kernel"][:, 0], there["msrn/head/logits/kernel"][:, 3])
        blocks = after["msrn/head/hidden/kernel"].reshape(4, 24, 4), there["msrn/head/hidden/kernel"].reshape(6, 24, 4)
        np.testing.assert_array_equal(blocks[0][2], blocks[1][0])
    assert not report.left


def test_only_the_backbone_goes_from_a_baseline_to_msrn_and_the_rest_is_named():
    source, target = small_model(["cat", "dog"], "gap"), small_model(["cat", "dog"])
    report = transfer_weights(source, target)
    assert "conv1_conv/kernel" in report.whole
    assert {name for name, _ in report.left} >= {
        "projection/projection_stride8/kernel",
        "semantics/diff_pool/embedding/kernel",
    }
    assert any("not taken: projection/projection_stride8/kernel" in line for line in report.describe())


@pytest.mark.parametrize(
    ("name", "choices"), [("gap", {}), ("gmp", {}), ("csra", {"attention_heads": 2}), ("ml_decoder", {})], ids=str
)
def test_a_shared_label_keeps_its_scores_whatever_the_head(name, choices, rng):
    source = small_model(["cat", "dog", "hat"], name, **choices)
    images = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    expected = np.asarray(source(images))
    assert np.ptp(expected, axis=1).min() > 1e-4
    for labels, here, there in ((["hat", "sea", "cat"], [0, 2], [2, 0]), (["dog", "cat"], [0, 1], [1, 0])):
        target = small_model(labels, name, **choices)
        assert not transfer_weights(source, target).left
        np.testing.assert_allclose(np.asarray(target(images))[:, here], expected[:, there], rtol=1e-5, atol=1e-6)


def test_what_several_labels_share_goes_over_for_the_same_labels_alone():
    labels = [f"label{number}" for number in range(101)]  # one more than ML-Decoder has queries
    source = small_model(labels, "ml_decoder")
    assert not transfer_weights(source, small_model(labels, "ml_decoder")).left
    report = transfer_weights(source, small_model(labels[::-1], "ml_decoder"))
    assert dict(report.left) == dict.fromkeys(
        ("head/queries", "head/kernel", "head/bias"), "several labels share a query, and the labels are others"
    )
    assert "head/embedding/kernel" in report.whole


def test_a_head_of_another_kind_is_not_taken_where_its_shapes_fit():
    source, target = small_model(["cat", "dog"], "gap"), small_model(["cat", "dog"], "ml_decoder")
    assert dict(transfer_weights(source, target).left)["head/bias"] == "Dense in the file, QueryDecoderHead here"


def test_what_belongs_to_a_stride_goes_to_that_stride_alone():
    """All maps of this backbone's first two strides, and its last two, have as many channels each: shapes agree."""
    labels = ["cat", "dog", "hat"]
    for head in ("mlp", "elementwise"):
        source, target = (small_model(labels, head=head, strides=strides) for strides in ((16, 32), (8, 16)))
        before = {variable.path: np.array(variable) for variable in target.weights}
        there = {variable.path: np.array(variable) for variable in source.weights}
        report = transfer_weights(source, target)
        after = {variable.path: np.array(variable) for variable in target.weights}
        for name in ("projection_stride16", "tap_convolution_stride16"):
            path = f"msrn/projection/{name}/kernel"
            np.testing.assert_array_equal(after[path], there[path])
        kernel = "head/kernel" if head == "elementwise" else "head/hidden/kernel"
        for name in ("projection/projection_stride8/kernel", "projection/tap_convolution_stride8/kernel", kernel):
            np.testing.assert_array_equal(after[f"msrn/{name}"], before[f"msrn/{name}"])
        reasons = dict(report.left)
        assert reasons["projection/projection_stride8/kernel"] == "not in the file"
        assert reasons[kernel] == "strides [16, 32] in the file, [8, 16] here"
        if head == "mlp":
            np.testing.assert_array_equal(after["msrn/head/logits/kernel"], before["msrn/head/logits/kernel"])
            assert reasons["head/logits/kernel"] == "its hidden units are not taken"


def test_a_model_that_finds_no_room_is_one_sentence_and_the_one_before_is_whole(tmp_path, monkeypatch):
    model = small_model(["cat", "dog"])
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=14m", "tmpfs", tmp_path]).returncode:
        pytest.skip("no right to mount a small file system")
    try:
        path = tmp_path / "model.keras"
        save_model(model, str(path))
        before = path.read_bytes()
        (tmp_path / "rest").write_bytes(bytes(8 << 20))
        with pytest.raises(UserError, match=f"{path}: the model cannot be written .*MB are needed"):
            save_model(model, str(path))
        # Another process may take the room between the look and the writing.
        monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1 << 40))
        with pytest.raises(UserError, match=f"{path}: the model cannot be written"):
            save_model(model, str(path))
        assert path.read_bytes() == before and sorted(os.listdir(tmp_path)) == ["model.keras", "rest"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    with pytest.raises(UserError, match="cannot be written"):
        save_model(model, "/proc/model.keras")


# Parts of the backbone that stay, activations that are computed again, half precision


def test_frozen_parts_are_not_trained():
    whole = small_model(["cat", "dog"])
    batch_norms = small_model(["cat", "dog"], freeze_batch_norm=True)
    stem = small_model(["cat", "dog"], frozen_stride=4)
    paths = [{variable.path for variable in model.trainable_variables} for model in (whole, batch_norms, stem)]
    assert {path for path in paths[0] - paths[1]} == {path for path in paths[0] if "bn" in path and "msrn" not in path}
    assert "conv1_conv/kernel" in paths[0] - paths[2] and not any("stack2" in path for path in paths[0] - paths[2])


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_recomputing_activations_changes_neither_gradients_nor_statistics(rng, compiled):
    images = tf.constant(rng.integers(0, 256, (2, 64, 64, 3)), tf.uint8)

    def gradients_and_statistics(recompute):
        keras.utils.set_random_seed(3)
        model = small_model(["cat", "dog"], recompute_backbone=recompute)

        def step():
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(images, training=True) ** 2)
            return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

        gradients = (tf.function(step) if compiled else step)()
        return [np.array(g) for g in gradients], [np.array(v) for v in model.non_trainable_variables]

    for plain, recomputed in zip(gradients_and_statistics(False), gradients_and_statistics(True), strict=True):
        for one, other in zip(plain, recomputed, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(one).max()))


def noisy_backbone():
    """Layers that drop values between others that learn, and a batch norm."""
    maps = images = keras.Input((None, None, 3))
    for _ in range(3):
        maps = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(maps)
        maps = keras.layers.Dropout(0.5)(maps)
    return keras.Model(images, keras.layers.BatchNormalization()(maps))


@pytest.mark.parametrize("compilation", [None, {}, {"jit_compile": True}], ids=["eager", "graph", "xla"])
def test_recomputed_activations_are_dropped_as_they_were(rng, compilation):
    images = tf.constant(rng.normal(size=(2, 16, 16, 3)), tf.float32)
    network = noisy_backbone()
    segments = split_into_segments(network)
    assert len(segments) > 1
    before = [np.array(variable) for variable in network.variables]

    def loss_gradients_and_state(outputs):
        for variable, value in zip(network.variables, before, strict=True):
            variable.assign(value)

        def step():
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(outputs() ** 3)
            return [loss, *tape.gradient(loss, [variable.value for variable in network.trainable_variables])]

        found = step() if compilation is None else tf.function(step, **compilation)()
        return [np.array(value) for value in [*found, *network.variables]]

    plain = loss_gradients_and_state(lambda: network(images, training=True))
    recomputed = loss_gradients_and_state(lambda: recomputed_outputs(segments, images)[0])
    for one, other in zip(plain, recomputed, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(one).max()))


@pytest.mark.parametrize("recompute", [False, True])
def test_a_backbone_frozen_whole_drops_nothing_and_one_frozen_in_part_does(rng, recompute):
    images = rng.integers(0, 256, (2, 32, 32, 3), "uint8")

    def maps(**frozen):
        """Without training, then twice in training."""
        model = PooledClassifier(noisy_backbone(), ["cat", "dog"], image_size=32, mean=[0] * 3, std=[255] * 3)
        freeze(model.backbone, **frozen)
        if recompute:
            model.recompute_backbone()
        return [np.array(model.feature_maps(images, training=training)[0]) for training in (False, True, True)]

    for in_training in (whole := maps(everything=True))[1:]:
        np.testing.assert_array_equal(in_training, whole[0])
    for in_part in ({"batch_norm": True}, {"stride": 2}):
        _, once, again = maps(**in_part)
        assert (once != again).any()


def test_what_was_trained_in_half_precision_is_saved_in_float32(rng, tmp_path):
    model = small_model(["cat", "dog"], mixed_precision="bfloat16")
    save_model(model, str(tmp_path / "model.keras"))
    restored = load_model(str(tmp_path / "model.keras"))
    assert (model.compute_dtype, restored.compute_dtype) == ("bfloat16", "float32")
    assert restored.backbone.layers[1].compute_dtype == "float32"
    images = rng.integers(0, 256, (2, 64, 64, 3), "uint8")
    np.testing.assert_allclose(restored(images), np.asarray(model(images), "float32"), atol=0.1)
    for one, other in zip(model.get_weights(), restored.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
