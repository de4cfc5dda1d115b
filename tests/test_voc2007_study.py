"""The study of VOC 2007: its variants are valid flags, its forms of the graph start as the model they derive from."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from running import ROOT

from msrn_tf.data.augmentation import crop_candidate
from msrn_tf.data.batch_source import PhotoSource
from msrn_tf.data.decoding import resize, training_resize
from msrn_tf.data.multi_scale_crops import NUM_CROP_CANDIDATES
from msrn_tf.data.pipeline import InputPlan
from msrn_tf.data.readers import open_dataset, read_split
from msrn_tf.evaluation.bootstrap import paired_comparison
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.models.factory import load_model
from msrn_tf.training.batches import TrainingBatches
from msrn_tf.training.losses import binary_crossentropy
from msrn_tf.training.setup import make_train_step

FOLDER = ROOT / "benchmarks" / "voc2007"
LABELS = ("person", "horse", "dog", "sofa", "train")


NO_JAX = "JAX is not installed (requirements-dev.txt has it)"


@pytest.fixture
def study(monkeypatch):
    """Imports a module of the study by name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in ("study", "jax_study", "runs", "tables", "variants", "heads", "single_positive", "label_errors"):
        sys.modules.pop(name, None)


def test_variants_are_made_of_flags_that_training_accepts_and_the_flagfiles_of_the_best_repeat_their_runs():
    code = f"""
import dataclasses
import sys
sys.path[:0] = [".", {str(FOLDER)!r}]
import runs, variants
from msrn_tf.config import check_training

for group in variants.GROUPS.values():
    assert len({{(variant.recipe, variant.name) for variant in group}}) == len(group)
    for variant in group:
        check_training(*runs.choices(variant, "--seed=0", "--workdir=run"))

pairs = {{
    ("best_finetuned", variants.BEST): "voc2007_mobilenet",
    ("tuning_lite2", variants.BEST_LITE): "voc2007_lite2",
}}
for (group, name), flagfile in pairs.items():
    best = next(variant for variant in variants.GROUPS[group] if variant.name == name)
    studied = runs.choices(best, "--train_split=trainval")
    again = runs.parsed(f"--flagfile=configs/{{flagfile}}.cfg")
    for one, other in zip(studied, again, strict=True):
        for field in dataclasses.fields(one):
            if not field.metadata["may_change"] and field.name != "workdir":
                assert getattr(one, field.name) == getattr(other, field.name), (flagfile, field.name)
print("all accepted")
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=FOLDER.parent.parent, capture_output=True, text=True)
    assert "all accepted" in ran.stdout, ran.stderr


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


def test_a_single_positive_is_one_of_the_photos_own_and_nothing_else_is_listed(study):
    rng = np.random.default_rng(0)
    targets = rng.choice(np.array([1, 0, -1], np.int8), (500, 6), p=[0.3, 0.6, 0.1])
    kept = study("single_positive").one_positive(targets, seed=1)
    shows = (targets == 1).any(axis=1)
    np.testing.assert_array_equal(kept.sum(axis=1), shows)
    assert set(np.unique(kept)) == {0, 1} and (targets[kept == 1] == 1).all()
    chances = np.array([(kept[row] == 1)[targets[row] == 1] for row in np.flatnonzero((targets == 1).sum(axis=1) == 2)])
    assert 0.35 < chances[:, 0].mean() < 0.65
    assert (kept != study("single_positive").one_positive(targets, seed=2)).any()


def test_flips_are_a_part_of_the_known_labels_and_the_table_says_what_was_flipped(study, tmp_path):
    from msrn_tf.data.examples import Example, Examples
    from msrn_tf.data.readers import open_dataset

    errors = study("label_errors")
    targets = np.random.default_rng(0).choice(np.array([1, 0, -1], np.int8), (200, 5), p=[0.3, 0.6, 0.1])
    flips = errors.drawn_flips(targets, 0.05, seed=3)
    assert flips.sum() == round(0.05 * (targets >= 0).sum()) and (targets[flips] >= 0).all()
    wrong = np.where(flips, 1 - targets, targets)
    photos = tmp_path / "photos"
    photos.mkdir()
    rows = []
    for number, target in enumerate(wrong):
        (photos / f"{number}.jpg").touch()
        rows.append(Example(str(number), target, image_path=str(photos / f"{number}.jpg")))
    (tmp_path / "data").mkdir()
    errors.write_table(str(tmp_path / "data" / "labels.csv"), LABELS, {"trainval": Examples.of(rows, 5)})
    reader = open_dataset("csv", str(tmp_path / "data"))
    order = [reader.labels.index(label) for label in LABELS]
    np.testing.assert_array_equal(reader.read("trainval").targets[:, order], wrong)


def test_photos_and_crops_on_a_gpu_are_those_of_the_input_pipeline(study):
    pytest.importorskip("jax", reason=NO_JAX)
    ours, rng = study("jax_study"), np.random.default_rng(0)
    sizes, side, image_size = np.array([(24, 40), (40, 24), (30, 30), (20, 50)]), 50, 32
    photos = rng.integers(0, 256, (len(sizes), side, side, 3)).astype(np.uint8)  # also where a photo has no pixels
    boxes, flips = ours.crop_boxes(sizes, image_size, rng), np.array([False, True, False, True])
    for part, antialias, resized in ((ours.whole(sizes), True, resize), (boxes, False, training_resize)):
        always = np.full(len(sizes), antialias)
        seen = np.asarray(ours.photos_seen(photos, np.arange(len(sizes)), part, flips, image_size, always))
        for row, (top, left, height, width) in enumerate(part):
            expected = resized(photos[row, top : top + height, left : left + width], image_size).numpy()
            expected = expected[:, ::-1] if flips[row] else expected
            assert np.abs(seen[row] - expected).max() <= 1, row
            assert (seen[row] != expected).mean() < 0.01

    drawn = {tuple(box) for box in ours.crop_boxes(np.tile(sizes[:1], (20000, 1)), image_size, rng)}
    candidates = [crop_candidate(24, 40, image_size, index).numpy() for index in range(NUM_CROP_CANDIDATES)]
    assert drawn == {tuple(box) for box in candidates}


def test_the_loss_on_a_gpu_is_that_of_training(study):
    jnp = pytest.importorskip("jax.numpy", reason=NO_JAX)
    rng = np.random.default_rng(0)
    targets, logits = rng.integers(-1, 2, (6, 5)), rng.normal(0, 20, (6, 5)).astype(np.float32)
    found = study("jax_study").binary_crossentropy(jnp.array(targets), jnp.array(logits))
    np.testing.assert_allclose(found, binary_crossentropy(targets, logits), rtol=1e-5)


ON_JAX = """
import os, sys
sys.path[:0] = [".", {folder!r}]
import jax_study, variants
flags = ("--backbone=resnet_tiny", "--backbone_weights=", "--image_size=32", "--strides=32", "--channels=8",
         "--batch_size=8", "--epochs=2", "--frozen_stride=0", "--nofreeze_batch_norm", "--label_graph=", "--dropout=0")
variants.GROUPS["small"] = [
    variants.Variant("msrn", (*flags, "--augment=none", "--backbone_factor=0.3", "--batch_size=80"), "finetuned"),
    variants.Variant("cropped", flags, "finetuned"),
    variants.Variant("frozen", (*flags, "--model=gap"), "frozen"),
]
config = jax_study.JaxStudyConfig(group="small", seeds=(3,), voc={voc!r}, runs={runs!r}, keep_models=True)
photos, backbones = jax_study.Photos({voc!r}, ("train", "val")), jax_study.Backbones()
first = jax_study.Run(config, variants.GROUPS["small"][0], 3, photos, backbones, {{}})
jax_study.factory.save_model(first.model, os.path.join({runs!r}, "first.keras"))
jax_study.main(config)
again = jax_study.Run(config, variants.GROUPS["small"][0], 3, photos, backbones, {{}})
for one, other in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
    assert (one == other).all()
"""


@pytest.fixture(scope="module")
def on_jax(small_voc, tmp_path_factory):
    """A folder with runs of `jax_study.py`, and the model that one of them started from."""
    pytest.importorskip("jax", reason=NO_JAX)
    folder = tmp_path_factory.mktemp("jax")
    code = ON_JAX.format(folder=str(FOLDER), voc=str(small_voc), runs=str(folder))
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["finetuned/msrn", "finetuned/cropped", "frozen/frozen"])
def test_what_keras_on_jax_trained_scores_the_same_in_tensorflow(on_jax, small_voc, name):
    examples = read_split(open_dataset("voc2007", str(small_voc)), "val")
    folder = on_jax / "tune" / name / "seed3"
    kept, model = np.load(folder / "scores.npz"), load_model(str(folder / "model.keras"))
    np.testing.assert_array_equal(kept["targets"], examples.targets)
    scores = Evaluator(model, 8).scores(PhotoSource(examples, InputPlan(model.image_size)))
    np.testing.assert_allclose(kept["scores"], scores, atol=1e-3)
    assert scores.std(axis=0).max() > 1e-3  # not all photos alike


@pytest.mark.slow
def test_four_steps_on_jax_and_in_tensorflow_end_at_the_same_weights(on_jax, small_voc, study):
    runs, variants = study("runs"), study("variants")
    flags = ("--batch_size=80", "--epochs=2", "--backbone_factor=0.3")
    optimization = runs.choices(variants.Variant("msrn", flags, "finetuned"), "--seed=3")[2]
    examples = read_split(open_dataset("voc2007", str(small_voc)), "train")
    model, found = (load_model(str(on_jax / path)) for path in ("first.keras", "tune/finetuned/msrn/seed3/model.keras"))
    first = model.get_weights()
    strategy = tf.distribute.get_strategy()
    step = make_train_step(optimization, model, strategy, len(examples))
    batches = TrainingBatches(PhotoSource(examples, InputPlan(32)), strategy, 80, seed=3)
    for epoch in (1, 2):
        for batch in batches.in_epoch(epoch):
            step(*batch)
    for weight, before, after in zip(model.weights, first, found.get_weights(), strict=True):
        moved, apart = (np.linalg.norm(weight.numpy() - other) for other in (before, after))
        # Adam divides by the gradient: where that is nearly 0, its sign is chance.
        assert apart <= 0.2 * moved, weight.path
