"""evaluate and calibrate as a person meets them, in this process; protocols and what they refuse."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from msrn_tf import calibrate, evaluate
from msrn_tf.config import DataConfig, ModelConfig
from msrn_tf.data import demo
from msrn_tf.data.batch_source import PhotoSource
from msrn_tf.data.decoding import evaluation_pixels
from msrn_tf.data.examples import Examples
from msrn_tf.data.pipeline import InputPlan
from msrn_tf.errors import UserError
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.evaluation.measurement import Protocol, measure
from msrn_tf.evaluation.metrics import evaluate_scores
from msrn_tf.label_graph import LabelGraph, one_hot_word_vectors
from msrn_tf.models.calibration import Calibration
from msrn_tf.models.factory import create_model, load_model, save_model

DATA = DataConfig()


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch):
    monkeypatch.setattr(demo, "SPLIT_SIZES", {"train": 8, "val": 40, "test": 24})


def drawn(split, count):
    return Examples.of((demo.draw_example(split, number) for number in range(count)), len(demo.DEMO_LABELS))


@pytest.fixture(scope="module")
def model():
    examples = drawn("val", 30)
    graph = LabelGraph.from_targets(demo.DEMO_LABELS, examples.targets)
    graph = dataclasses.replace(graph, word_vectors=one_hot_word_vectors(12))
    keras.utils.set_random_seed(0)
    config = ModelConfig(backbone="resnet_tiny", channels=8, head="elementwise", strides=(8,))
    return create_model(config, demo.DEMO_LABELS, 32, graph)


@pytest.fixture(scope="module")
def evaluator(model):
    return Evaluator(model, 8)


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    save_model(model, str(path))
    return str(path)


def run_evaluate(path, **choices):
    evaluate.main(DATA, evaluate.EvaluationConfig(model=path, batch_size=8, **{"bootstrap": 20} | choices))


def test_evaluation_states_its_protocol_and_compares_with_a_baseline(path, tmp_path, capsys):
    output, report = tmp_path / "metrics.json", tmp_path / "report.html"
    run_evaluate(path, baseline=path, output=str(output), report=str(report), report_photos=1, report_maps=1, flip=True)
    metrics = json.loads(output.read_text())
    assert metrics["num_images"] == 24 and len(metrics["AP"]) == len(metrics["intervals"]["AP"]) == 12
    assert metrics["intervals"]["mAP"][0] <= metrics["mAP"] <= metrics["intervals"]["mAP"][1]
    assert metrics["comparison"]["mAP_difference"] == 0 and metrics["comparison"]["gained"] == []
    assert "mirrored" in metrics["protocol"]["images"] and "0.5" in metrics["protocol"]["thresholds"]
    said = capsys.readouterr().out
    for words in (
        "95 % interval",
        "demo, split test",
        "mirrored",
        "no significant difference",
        "no label significantly",
    ):
        assert words in said
    assert "Against the baseline" in report.read_text()


@pytest.mark.slow
def test_test_time_augmentation_is_the_mean_of_logits(model):
    examples = drawn("test", 5)
    found = Evaluator(model, 4, image_sizes=(32, 48), flip=True).logits(PhotoSource(examples, InputPlan(32)))
    expected = []
    for size in (32, 48):
        images = np.stack([evaluation_pixels(example.image_bytes, size) for example in examples])
        expected += [np.asarray(model(images)), np.asarray(model(images[:, :, ::-1]))]
    np.testing.assert_allclose(found, np.mean(expected, axis=0), atol=1e-4)
    assert np.abs(found - expected[0]).max() > 1e-3


def test_thresholds_from_the_measured_photos_are_refused(evaluator):
    reader = demo.Demo()
    examples = reader.read("test")

    def measured(**choices):
        return measure(evaluator, examples, Protocol("demo", "test", "calibrated", **choices), reader)

    with pytest.raises(UserError, match="`calibration_split`=test holds 24 of the 24 photos"):
        measured(calibration_split="test")
    with pytest.raises(UserError, match="`calibration_split` is missing"):
        measured()
    optimistic = measured(calibration_split="test", i_know_this_is_optimistic=True).metrics
    honest = measured(calibration_split="val").metrics
    assert "demo:val" in honest["protocol"]["thresholds"] and len(set(honest["thresholds"].values())) > 1
    assert optimistic["OF1"] != honest["OF1"]


def test_a_calibrated_model_says_so_and_is_not_measured_where_it_was_calibrated(path, tmp_path, capsys):
    output, figures = tmp_path / "calibrated.keras", tmp_path / "figures.json"
    config = calibrate.CalibrationConfig(
        model=path, output=str(output), target_recall=0.8, min_positives=12, batch_size=8, json=str(figures)
    )
    calibrate.main(DATA, config)
    model, said = load_model(str(output)), json.loads(figures.read_text())
    assert (model.calibration.dataset, model.calibration.split) == ("demo", "val")
    assert not model.calibration.is_identity and list(said["thresholds"].values()) == list(model.thresholds)
    kept = said["kept_global_threshold"]
    assert kept and len({said["thresholds"][label] for label in kept}) == 1
    assert "the threshold of all labels" in capsys.readouterr().out
    run_evaluate(str(output))
    assert "fitted to demo:val" in capsys.readouterr().out
    with pytest.raises(UserError, match="was calibrated on split val"):
        run_evaluate(str(output), split="val")
    for thresholds in ("fixed", "calibrated"):  # its probabilities were fitted to them, too
        with pytest.raises(UserError, match="was calibrated on split val"):
            run_evaluate(str(output), split="val", thresholds=thresholds, calibration_split="test")


def test_calibrated_scores_are_those_of_the_evaluator(model, evaluator):
    examples = drawn("test", 3)
    images = np.stack([evaluation_pixels(example.image_bytes, 32) for example in examples])
    before = model.calibration
    model.calibration = Calibration(np.linspace(0.5, 2, 12), np.linspace(-1, 1, 12))
    found = evaluator.scores(PhotoSource(examples, InputPlan(32)))
    np.testing.assert_allclose(found, model.probabilities(images), atol=1e-5)
    model.calibration = before


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"model": ""}, "--model is missing"),
        ({"image_sizes": (8,)}, "--image_sizes=8"),
        ({"bootstrap": 0, "baseline": "x"}, "--bootstrap=0"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_loaded(choices, words):
    with pytest.raises(UserError, match=words):
        evaluate.check_flags(evaluate.EvaluationConfig(**{"model": "missing.keras"} | choices))


def test_a_baseline_that_lacks_labels_is_refused_before_anything_is_measured(path, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "measure", None)
    few = create_model(ModelConfig(model="gap", backbone="resnet_tiny"), demo.DEMO_LABELS[2:], 32, None)
    save_model(few, str(tmp_path / "few.keras"))
    with pytest.raises(UserError, match=r"--baseline=.*few.keras: does not know sky, cloud, which --model does"):
        run_evaluate(path, baseline=str(tmp_path / "few.keras"))


@pytest.fixture
def other_labels(monkeypatch):
    """The demo set without its first label, with one that the model does not know in its place."""
    names = ("zebra", *demo.DEMO_LABELS[1:])
    monkeypatch.setattr(demo.Demo, "labels", names)
    return names


def test_labels_of_one_side_alone_are_said_and_those_of_both_are_measured(path, other_labels, tmp_path, capsys):
    run_evaluate(path, output=str(tmp_path / "m.json"), report=str(tmp_path / "r.html"), report_maps=1)
    said = " ".join(capsys.readouterr().err.split())
    first, *others = demo.DEMO_LABELS
    assert f"are not measured: {first}" in said and "that the model lacks are left out: zebra" in said
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["AP"][first] is None and metrics["positives"][first] == 0
    measured = [metrics["AP"][label] for label in others if metrics["AP"][label] is not None]
    assert metrics["mAP"] == pytest.approx(np.mean(measured))


def test_a_label_that_is_not_measured_takes_no_place_among_the_best_three(rng):
    scores, targets = rng.random((50, 6)), rng.integers(0, 2, (50, 6)).astype(np.int8)
    scores[:, 2] = 0.99
    targets[:, 2] = -1
    names = list("abcdef")
    with_it = evaluate_scores(scores, targets, names)
    without = evaluate_scores(np.delete(scores, 2, 1), np.delete(targets, 2, 1), names[:5])
    for name in ("mAP", "CF1", "OF1", "OR_top3", "OP_top3", "OF1_top3", "hamming_loss", "label_ranking_loss"):
        assert with_it[name] == pytest.approx(without[name]), name


def test_data_without_any_label_of_the_model_are_refused(path, monkeypatch):
    monkeypatch.setattr(demo.Demo, "labels", tuple(f"other {n}" for n in range(12)))
    with pytest.raises(UserError, match="has no label of the data set"):
        run_evaluate(path)


def test_a_split_that_shows_no_label_is_measured_but_neither_compared_nor_calibrated_on(path, monkeypatch, capsys):
    draw = demo.draw_example
    nothing = np.zeros(12, np.int8)
    monkeypatch.setattr(demo, "draw_example", lambda *which: dataclasses.replace(draw(*which), target=nothing))
    run_evaluate(path)
    assert "no positive" in capsys.readouterr().out
    with pytest.raises(UserError, match="--split=test: no image in it shows a label"):
        run_evaluate(path, baseline=path)
    with pytest.raises(UserError, match=r"--split=val: .* known to be present"):
        calibrate.main(DATA, calibrate.CalibrationConfig(model=path))


@pytest.mark.slow
def test_photos_that_cannot_be_decoded_are_counted_where_that_is_asked_for(evaluator):
    sound = drawn("test", 20)

    def source(bad):
        contents = [b"nothing" if n in bad else row.image_bytes for n, row in enumerate(sound)]
        return PhotoSource(sound.with_contents(contents), InputPlan(32))

    broken = source((0, 9, 19))
    bad = {}
    rows = evaluator.logits(broken, bad=bad)
    assert bad.keys() == {0, 9, 19} and all("nothing" not in reason for reason in bad.values())
    others = [n for n in range(20) if n not in bad]
    np.testing.assert_allclose(rows[others], evaluator.logits(source(()))[others], atol=1e-5)
    with pytest.raises(UserError, match=f"{sound[0].image_id}.* is not a photo"):
        evaluator.logits(broken)
    with pytest.raises(UserError, match="none of the photos"):
        evaluator.logits(source(range(20)), bad={})


def test_calibrate_refuses_two_goals(path):
    with pytest.raises(UserError, match="--target_recall"):
        calibrate.main(DATA, calibrate.CalibrationConfig(model=path, target_precision=0.9, target_recall=0.9))
