"""Calibration: what a model keeps of it, how it is fitted, and what the command stores."""

import json
import zipfile

import numpy as np
import pytest
import sklearn.calibration
import sklearn.linear_model
import sklearn.metrics
from serving import LABELS, small_model

from msrn_tf import calibrate as calibrate_command
from msrn_tf.config import DataConfig
from msrn_tf.errors import UserError
from msrn_tf.evaluation import calibration_error as fitting
from msrn_tf.evaluation.calibrator import calibrate
from msrn_tf.evaluation.thresholds import ThresholdGoal, best_threshold, fit_thresholds, wilson_lower_bound
from msrn_tf.models.calibration import Calibration
from msrn_tf.models.factory import load_model, save_model


@pytest.fixture(scope="module")
def model():
    return small_model(32)


def test_a_model_is_not_calibrated_until_it_is(model, rng):
    images = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    assert model.calibration.is_identity
    logits = np.asarray(model(images), np.float64)
    np.testing.assert_allclose(model.probabilities(images), 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_calibration_is_applied_to_probabilities_and_saved_with_the_model(rng, tmp_path):
    model = small_model(32)
    images = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    logits = np.asarray(model(images), np.float64)
    slopes, intercepts = rng.uniform(0.2, 2, len(LABELS)), rng.normal(size=len(LABELS))
    model.calibration, model.thresholds = Calibration(slopes, intercepts), (0.1, 0.2, 0.3, 0.4, 0.5)
    expected = 1 / (1 + np.exp(-(logits * slopes + intercepts)))
    np.testing.assert_allclose(model.probabilities(images), expected, atol=1e-6)
    np.testing.assert_allclose(model(images), logits, atol=1e-6)  # logits stay as they are
    save_model(model, str(tmp_path / "model.keras"))
    loaded = load_model(str(tmp_path / "model.keras"))
    assert loaded.calibration == model.calibration and loaded.thresholds == model.thresholds
    np.testing.assert_allclose(loaded.probabilities(images), expected, atol=1e-6)


def test_a_file_from_before_calibration_still_loads(model, tmp_path):
    save_model(model, str(tmp_path / "new.keras"))
    with zipfile.ZipFile(tmp_path / "new.keras") as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                config = json.loads(content)
                del config["config"]["calibration"]
                content = json.dumps(config)
            old.writestr(name, content)
    assert load_model(str(tmp_path / "old.keras")).calibration.is_identity


@pytest.mark.parametrize(("slopes", "intercepts"), [((1, 0), (0, 0)), ((1, -1), (0, 0)), ((1,), (0, 0))])
def test_calibration_that_would_turn_an_order_round_is_refused(slopes, intercepts):
    with pytest.raises(ValueError, match="slopes"):
        Calibration(slopes, intercepts)


# Fitting


@pytest.fixture(scope="module")
def miscalibrated():
    """Logits three times too large and shifted by label, targets drawn from the true probabilities; a fifth unknown."""
    rng = np.random.default_rng(3)
    true = rng.normal(-1, 1.5, size=(4000, 4))
    targets = (rng.random(true.shape) < fitting.sigmoid(true)).astype(np.int8)
    targets[rng.random(true.shape) < 0.2] = -1
    return 3 * true + np.array([1.0, -2.0, 0.5, 0.0]), targets


def test_platt_scaling_finds_slope_and_intercept_that_scikit_learn_finds(miscalibrated):
    logits, targets = miscalibrated
    for c in range(4):
        known = targets[:, c] >= 0
        present = targets[known, c] == 1
        slope, intercept = fitting.fit_platt(logits[known, c], present)
        a, b = sklearn.calibration._sigmoid_calibration(logits[known, c], present.astype(float))
        assert (slope, intercept) == pytest.approx((-a, -b), abs=2e-3)
        assert slope == pytest.approx(1 / 3, abs=0.03)


def test_temperature_is_the_logistic_regression_through_the_origin(miscalibrated):
    logits, targets = miscalibrated
    known = targets >= 0
    model = sklearn.linear_model.LogisticRegression(C=1e9, fit_intercept=False, tol=1e-9)
    expected = model.fit(logits[known][:, None], targets[known]).coef_[0, 0]
    assert fitting.fit_temperature(logits, targets) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_calibration_lowers_the_error_on_photos_it_has_not_seen(miscalibrated, method):
    logits, targets = miscalibrated
    found = fitting.fit_calibration(logits[:2000], targets[:2000], method)
    before = fitting.expected_calibration_error(fitting.sigmoid(logits[2000:]), targets[2000:])
    after = fitting.expected_calibration_error(fitting.calibrated_scores(logits[2000:], found), targets[2000:])
    assert after < 0.5 * before
    assert all(np.array_equal(np.argsort(logits[:, c]), np.argsort(fitting.calibrated_scores(logits, found)[:, c]))
               for c in range(4))  # fmt: skip


def test_a_label_with_few_positives_or_reversed_scores_gets_the_common_temperature(miscalibrated):
    logits, targets = (array.copy() for array in miscalibrated)
    targets[9:, 1] = np.minimum(targets[9:, 1], 0)
    logits[:, 2] = -logits[:, 2]
    found = fitting.fit_calibration(logits, targets, "platt", min_positives=10)
    temperature = fitting.fit_temperature(logits, targets)
    assert found.slopes[1] == found.slopes[2] == temperature and found.intercepts[1] == found.intercepts[2] == 0
    assert found.slopes[0] != temperature
    assert fitting.fit_calibration(logits, targets, "none").is_identity


def test_separable_scores_stay_finite():
    slope, intercept = fitting.fit_platt(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([False, False, True, True]))
    assert np.isfinite([slope, intercept]).all() and slope > 0


def test_reliability_equals_scikit_learn_and_the_error_a_sum_by_hand(rng):
    scores, targets = rng.random((500, 3)), rng.integers(0, 2, (500, 3))
    mean, frequency, counts = fitting.reliability(scores, targets, bins=10)
    expected, expected_mean = sklearn.calibration.calibration_curve(targets.ravel(), scores.ravel(), n_bins=10)
    np.testing.assert_allclose(frequency[counts > 0], expected, atol=1e-12)
    np.testing.assert_allclose(mean[counts > 0], expected_mean, atol=1e-12)
    # Three at 0.9 of which one is present, one at 0.1 that is absent: 3/4 · |0.9 − 1/3| + 1/4 · 0.1.
    error = fitting.expected_calibration_error(np.array([[0.9], [0.9], [0.9], [0.1]]), np.array([[1], [0], [0], [0]]))
    assert error == pytest.approx(0.75 * (0.9 - 1 / 3) + 0.25 * 0.1)


# Thresholds


def test_best_f1_is_scikit_learns_best(rng):
    targets = rng.integers(0, 2, 300)
    scores = np.round(0.4 * targets + rng.random(300), 1)
    threshold, reached = best_threshold(scores, targets, ThresholdGoal())
    f1 = [sklearn.metrics.f1_score(targets, scores >= candidate) for candidate in np.unique(scores)]
    assert reached and sklearn.metrics.f1_score(targets, scores >= threshold) == pytest.approx(max(f1))


def test_a_wanted_recall_has_the_highest_precision_that_goes_with_it(rng):
    for _ in range(20):
        targets = rng.integers(0, 2, 60)
        scores = np.round(0.3 * targets + rng.random(60), 2)
        threshold, reached = best_threshold(scores, targets, ThresholdGoal(target_recall=0.5))
        precisions = []
        for candidate in np.unique(scores):
            predicted = scores >= candidate
            if wilson_lower_bound((predicted & (targets == 1)).sum(), targets.sum()) >= 0.5:
                precisions.append(sklearn.metrics.precision_score(targets, predicted))
        assert reached
        assert sklearn.metrics.precision_score(targets, scores >= threshold) == pytest.approx(max(precisions))


@pytest.mark.parametrize("wanted", [0.6, 0.8, 0.9])
def test_wanted_precision_and_recall_hold_on_photos_not_seen(rng, wanted):
    targets = (rng.random(20000) < 0.3).astype(int)
    scores = fitting.sigmoid(rng.normal(2.0 * targets, 1.0))
    halves = slice(0, 2000), slice(2000, None)
    threshold, reached = best_threshold(scores[halves[0]], targets[halves[0]], ThresholdGoal(target_precision=wanted))
    assert reached
    predicted = scores[halves[1]] >= threshold
    assert sklearn.metrics.precision_score(targets[halves[1]], predicted) >= wanted - 0.01
    threshold, _ = best_threshold(scores[halves[0]], targets[halves[0]], ThresholdGoal(target_recall=wanted))
    assert sklearn.metrics.recall_score(targets[halves[1]], scores[halves[1]] >= threshold) >= wanted - 0.01


def test_the_lower_bound_is_wilsons():
    # 8 of 10 at z = 1.96: 0.4902 to 0.9433 (Wilson 1927; the usual worked example).
    assert wilson_lower_bound(8, 10, 1.96) == pytest.approx(0.4902, abs=1e-4)


def test_a_label_with_few_positives_keeps_the_threshold_of_all(rng):
    scores = rng.random((200, 3))
    targets = (scores > 0.6).astype(np.int8)
    targets[:, 2] = 0
    targets[:3, 2] = 1
    found = fit_thresholds(scores, targets, ThresholdGoal(min_positives=10))
    assert found.is_global.tolist() == [False, False, True]
    common, _ = best_threshold(scores.ravel(), targets.ravel(), ThresholdGoal())
    assert found.values[2] == common


def test_a_goal_out_of_reach_is_said():
    scores, targets = np.array([0.9, 0.8, 0.2, 0.1]), np.array([0, 1, 0, 1])
    assert best_threshold(scores, targets, ThresholdGoal(target_precision=0.95))[1] is False
    assert best_threshold(scores, np.zeros(4, int), ThresholdGoal()) == (0.5, False)


def test_what_does_worse_than_nothing_on_photos_not_seen_is_not_taken(rng):
    """Scores that say nothing, and few photos: what is fitted to four fifths is luck, and the others tell."""
    worse = 0
    for _ in range(20):
        targets = (rng.random((30, 3)) < 0.4).astype(np.int8)
        logits = np.where(targets[:, :1] == 1, 2.0, -2.0) * [1, 0, 0] + rng.standard_normal((30, 3)) * [1.5, 2, 2]
        result = calibrate(logits, targets, ThresholdGoal(min_positives=3))
        assert result.after["CF1"] + result.after["OF1"] >= result.before["CF1"] + result.before["OF1"]
        assert min(result.after[name] - result.before[name] for name in ("ECE", "classwise_ECE")) <= 0
        assert (result.after["F1"][~result.kept] >= result.before["F1"][~result.kept]).all() or result.notes
        for c in np.flatnonzero(result.kept):
            worse += 1
            assert "decided as before" in result.note(c)
            scores = fitting.calibrated_scores(logits, result.calibration)
            decided = scores[:, c] >= result.thresholds.values[c] - 1e-12
            assert (decided == (logits[:, c] >= 0)).all()
    assert worse > 5


def test_a_wanted_precision_is_not_given_up_for_a_better_f1(miscalibrated):
    logits, targets = miscalibrated
    result = calibrate(logits, targets, ThresholdGoal(target_precision=0.95))
    assert not result.kept.any() and (result.after["F1"] < result.before["F1"]).any()


@pytest.mark.parametrize("state", [0, 1, -1])
def test_nothing_is_fitted_where_no_label_is_present_or_none_absent(rng, state):
    with pytest.raises(ValueError, match="present and absent"):
        calibrate(rng.standard_normal((20, 2)), np.full((20, 2), state, np.int8), ThresholdGoal())


def test_calibrating_promises_what_photos_not_seen_give(miscalibrated):
    logits, targets = miscalibrated
    result = calibrate(logits, targets, ThresholdGoal())
    assert result.after["ECE"] < 0.5 * result.before["ECE"] and result.after["CF1"] > result.before["CF1"]
    few = np.where(np.arange(len(targets))[:, None] < 2, targets, np.minimum(targets, 0))
    assert "the threshold of all labels" in calibrate(logits, few, ThresholdGoal()).note(0)


def test_a_model_is_written_under_a_name_that_commands_read():
    config = calibrate_command.CalibrationConfig(model="model.keras", output="calibrated")
    with pytest.raises(UserError, match=r"--output=calibrated: must end in \.keras"):
        calibrate_command.main(DataConfig(), config)
