"""Bootstrap intervals: resampled metrics equal scikit-learn's on the photos drawn, and intervals hold the truth."""

import numpy as np
import pytest
import sklearn.metrics

from msrn_tf.evaluation import bootstrap, metrics


@pytest.fixture
def case(rng):
    scores, targets = np.round(rng.random((150, 3)), 1), (rng.random((150, 3)) < 0.3).astype(np.int8)
    targets[rng.random(targets.shape) < 0.1] = -1
    return scores, targets


def test_weighted_average_precision_is_that_of_the_photos_drawn(case, rng):
    scores, targets = case
    drawn = rng.integers(0, len(scores), (4, len(scores)))
    weights = np.stack([np.bincount(row, minlength=len(scores)) for row in drawn])
    found = bootstrap.weighted_average_precision(scores, targets, weights.astype(float))
    for index, row in enumerate(drawn):
        for c in range(3):
            known = row[targets[row, c] >= 0]
            expected = sklearn.metrics.average_precision_score(targets[known, c], scores[known, c])
            assert found[index, c] == pytest.approx(expected, abs=1e-12)


def test_intervals_hold_the_point_estimates_and_come_again_with_the_seed(case):
    scores, targets = case
    labels, thresholds = ["a", "b", "c"], np.full(3, 0.5)
    found = bootstrap.metric_intervals(scores, targets, labels, thresholds, resamples=200)
    point = metrics.evaluate_scores(scores, targets, labels, thresholds)
    for name in ("mAP", "CP", "CR", "CF1", "OP", "OR", "OF1"):
        assert found[name][0] < point[name] < found[name][1]
    assert found == bootstrap.metric_intervals(scores, targets, labels, thresholds, resamples=200)


def test_an_interval_of_a_share_is_that_of_the_normal_approximation():
    outcomes = np.repeat([1.0, 0.0], [300, 700])
    samples = bootstrap.bootstrap(lambda weights: (weights @ outcomes / 1000)[:, None], 1000, resamples=4000)
    spread = 1.96 * np.sqrt(0.3 * 0.7 / 1000)
    assert bootstrap.interval(samples)[0] == pytest.approx([0.3 - spread, 0.3 + spread], abs=0.003)


def test_a_label_without_a_positive_has_no_interval(case):
    scores, targets = case
    targets[:, 1] = 0
    found = bootstrap.metric_intervals(scores, targets, ["a", "b", "c"], [0.5] * 3, resamples=20)
    assert found["AP"]["b"] is None and found["AP"]["a"] and found["mAP"]
    targets[:] = -1
    assert bootstrap.metric_intervals(scores, targets, ["a", "b", "c"], [0.5] * 3, resamples=20)["mAP"] is None


def test_a_better_model_is_found_and_the_same_model_is_not(rng):
    targets = (rng.random((400, 3)) < 0.4).astype(np.int8)
    noise = rng.normal(size=targets.shape)
    good, bad = targets + 0.5 * noise, targets + np.array([0.5, 0.5, 3.0]) * noise
    found = bootstrap.paired_comparison(good, bad, targets, ["a", "b", "c"], resamples=200)
    assert found["gained"] == ["c"] and found["lost"] == [] and found["interval"][0] > 0
    assert found["mAP_difference"] == pytest.approx(found["AP_difference"]["c"][0] / 3)
    expected = [sklearn.metrics.average_precision_score(targets[:, c], bad[:, c]) for c in range(3)]
    assert found["baseline"] == pytest.approx(100 * np.mean(expected))
    back = bootstrap.paired_comparison(bad, good, targets, ["a", "b", "c"], resamples=200)
    assert back["lost"] == ["c"] and back["mAP_difference"] == pytest.approx(-found["mAP_difference"])
    same = bootstrap.paired_comparison(good, good, targets, ["a", "b", "c"], resamples=50)
    assert same["gained"] == same["lost"] == [] and same["interval"] == [0, 0]
