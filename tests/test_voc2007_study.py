"""The study of VOC 2007: its variants are valid flags, its forms of the graph start as the model they derive from."""

import importlib
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from msrn_tf.config import ModelConfig
from msrn_tf.evaluation.bootstrap import paired_comparison
from msrn_tf.label_graph import LabelGraph

FOLDER = Path(__file__).parent.parent / "benchmarks" / "voc2007"
LABELS = ("person", "horse", "dog", "sofa", "train")


@pytest.fixture
def study(monkeypatch):
    """Imports a module of the study by name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in ("study", "tables", "variants", "graph_forms"):
        sys.modules.pop(name, None)


def test_variants_are_made_of_flags_that_training_accepts_and_the_flagfile_of_the_best_repeats_its_run():
    code = f"""
import dataclasses
import sys
sys.path[:0] = [".", {str(FOLDER)!r}]
from absl import flags
from absl.testing import flagsaver
import study, variants
from msrn_tf import command_line
from msrn_tf.config import ModelConfig, OptimizationConfig, RunConfig, TrainingDataConfig, check_training

concerns = (TrainingDataConfig, ModelConfig, OptimizationConfig, RunConfig)
for concern in concerns:
    command_line.define_flags(concern)
config = study.StudyConfig()
for group in variants.GROUPS.values():
    assert len({{(variant.recipe, variant.name) for variant in group}}) == len(group)
    for variant in group:
        with flagsaver.flagsaver():
            assert flags.FLAGS(["train", *study.train_flags(config, variant, 0)])[1:] == []
            check_training(*[command_line.from_flags(concern) for concern in concerns])

best = next(variant for variant in variants.GROUPS["best_finetuned"] if variant.name == variants.BEST)
runs = []
studied = study.train_flags(study.StudyConfig(phase="final"), best, 0)
for argv in (studied, ["--flagfile=configs/voc2007_mobilenet.cfg"]):
    with flagsaver.flagsaver():
        flags.FLAGS(["train", *argv])
        runs.append([command_line.from_flags(concern) for concern in concerns])
for once, again in zip(*runs):
    for field in dataclasses.fields(once):
        if not field.metadata["may_change"]:
            assert getattr(once, field.name) == getattr(again, field.name), field.name
print("all accepted")
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=FOLDER.parent.parent, capture_output=True, text=True)
    assert "all accepted" in ran.stdout, ran.stderr


@pytest.fixture(scope="module")
def label_graph():
    rng = np.random.default_rng(0)
    targets = (rng.random((200, len(LABELS))) < 0.4).astype(np.int8)
    graph = LabelGraph.from_targets(LABELS, targets)
    return LabelGraph(
        graph.labels, graph.counts, graph.cooccurrence, 200, rng.normal(size=(len(LABELS), 300)).astype(np.float32)
    )


def small_model(creator, form, label_graph):
    keras.utils.set_random_seed(1)
    config = ModelConfig(
        backbone="resnet_tiny", head="elementwise", channels=16, strides=(32,), tap_pooling="none", pool_ratio=0.4
    )
    return creator(form)(config, LABELS, 64, label_graph, False)


@pytest.mark.parametrize("form", ["cornet", "feature_graph"])
def test_a_form_that_adds_to_the_model_starts_as_the_model(study, label_graph, form):
    creator = study("graph_forms").creator
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    plain, changed = (small_model(creator, name, label_graph) for name in ("", form))
    own = {weight.path: weight for weight in changed.weights}
    for weight in plain.weights:
        own[weight.path].assign(weight)
    np.testing.assert_allclose(changed(images), plain(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "form",
    [
        "average",
        "random_words",
        "edge_bias",
        "learned_edges",
        "cornet",
        "logit_graph",
        "feature_graph",
        "cooccurrence_groups",
    ],
)
def test_a_form_learns_with_all_of_its_weights_and_survives_saving(study, label_graph, form, tmp_path):
    model = small_model(study("graph_forms").creator, form, label_graph)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=True)) + sum(model.losses)
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    assert all(gradient is not None for gradient in gradients)
    before = np.array(model(images))
    assert np.isfinite(before).all()
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "model.keras")(images), before, rtol=1e-5, atol=1e-5)


def test_the_tables_difference_of_one_seed_is_the_paired_comparison(study, tmp_path):
    tables = study("tables")
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 3)) < 0.3).astype(np.int8)
    scores = {}
    for name in ("a", "b"):
        scores[name] = rng.random(targets.shape) + 0.3 * targets
        np.savez(
            tmp_path / f"{name}.npz",
            scores=scores[name],
            targets=targets,
            labels=np.array(list("xyz")),
            seconds=1.0,
            parameters=1,
        )
    a, b = (tables.read_runs({0: tmp_path / f"{name}.npz"}, 200) for name in ("a", "b"))
    found = tables.difference(a, b)
    expected = paired_comparison(scores["a"], scores["b"], targets, list("xyz"), resamples=200)
    np.testing.assert_allclose(found[0], [expected["mAP_difference"], *expected["interval"]])
    np.testing.assert_allclose(found[1:], list(expected["AP_difference"].values()))


def test_the_tables_compare_variants_over_the_seeds_that_both_have(study, tmp_path):
    tables = study("tables")
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 3)) < 0.3).astype(np.int8)
    for seed in (0, 1):
        np.savez(
            tmp_path / f"{seed}.npz",
            scores=rng.random((60, 3)),
            targets=targets,
            labels=list("xyz"),
            seconds=1,
            parameters=1,
        )
    files = {seed: tmp_path / f"{seed}.npz" for seed in (0, 1)}
    both, second = tables.read_runs(files, 50), tables.read_runs({1: files[1]}, 50)
    np.testing.assert_allclose(tables.difference(second, both), 0, atol=1e-12)
    assert np.abs(both.precisions.mean(axis=0) - second.precisions[0]).max() > 0.1
