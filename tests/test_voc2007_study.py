"""The study of VOC 2007: its variants are valid flags, its forms of the graph start as the model they derive from."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from msrn_tf.evaluation.bootstrap import paired_comparison

FOLDER = Path(__file__).parent.parent / "benchmarks" / "voc2007"
LABELS = ("person", "horse", "dog", "sofa", "train")


@pytest.fixture
def study(monkeypatch):
    """Imports a module of the study by name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in ("study", "tables", "variants", "heads", "single_positive", "label_errors"):
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
from msrn_tf.flagfile import expanded

subjects = (TrainingDataConfig, ModelConfig, OptimizationConfig, RunConfig)
for subject in subjects:
    command_line.define_flags(subject)
config = study.StudyConfig()
for group in variants.GROUPS.values():
    assert len({{(variant.recipe, variant.name) for variant in group}}) == len(group)
    for variant in group:
        with flagsaver.flagsaver():
            assert flags.FLAGS(expanded(["train", *study.train_flags(config, variant, 0)]))[1:] == []
            check_training(*[command_line.from_flags(subject) for subject in subjects])

best = next(variant for variant in variants.GROUPS["best_finetuned"] if variant.name == variants.BEST)
runs = []
studied = study.train_flags(study.StudyConfig(phase="final"), best, 0)
for argv in (studied, ["--flagfile=configs/voc2007_mobilenet.cfg"]):
    with flagsaver.flagsaver():
        flags.FLAGS(expanded(["train", *argv]))
        runs.append([command_line.from_flags(subject) for subject in subjects])
for once, again in zip(*runs):
    for field in dataclasses.fields(once):
        if not field.metadata["may_change"]:
            assert getattr(once, field.name) == getattr(again, field.name), field.name
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
