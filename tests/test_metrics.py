"""Metrics against scikit-learn, the published implementation's numbers, and by hand."""

import numpy as np
import pytest
import sklearn.metrics

from msrn_tf.evaluation import metrics

TOLERANCE = 1e-9


@pytest.fixture(params=["distinct", "ties"])
def case(request, rng):
    scores = rng.random((200, 12))
    if request.param == "ties":
        scores = np.round(scores, 1)
    return scores, (rng.random((200, 12)) < 0.3).astype(np.int8)


def test_average_precision_equals_scikit_learn(case):
    scores, targets = case
    for c in range(scores.shape[1]):
        expected = sklearn.metrics.average_precision_score(targets[:, c], scores[:, c])
        assert metrics.average_precision(scores[:, c], targets[:, c]) == pytest.approx(expected, abs=TOLERANCE)


def test_ranking_metrics_equal_scikit_learn(case):
    scores, targets = case
    for ours, theirs in (
        (metrics.coverage_error, sklearn.metrics.coverage_error),
        (metrics.label_ranking_average_precision, sklearn.metrics.label_ranking_average_precision_score),
        (metrics.label_ranking_loss, sklearn.metrics.label_ranking_loss),
    ):
        assert ours(scores, targets) == pytest.approx(theirs(targets, scores), abs=TOLERANCE), ours.__name__


def test_decisions_equal_scikit_learn(case):
    scores, targets = case
    predicted = scores >= 0.5
    expected = sklearn.metrics.hamming_loss(targets, predicted)
    assert metrics.hamming_loss(predicted, targets) == pytest.approx(expected, abs=TOLERANCE)
    figures = metrics.precision_and_recall(predicted, targets)
    for average, prefix in (("macro", "C"), ("micro", "O")):
        precision, recall, _, _ = sklearn.metrics.precision_recall_fscore_support(targets, predicted, average=average)
        assert figures[f"{prefix}P"] == pytest.approx(100 * precision, abs=1e-7)
        assert figures[f"{prefix}R"] == pytest.approx(100 * recall, abs=1e-7)


def test_unknown_targets_change_nothing(case, rng):
    """A label's metrics over known targets equal those of a set from which the unknown ones were never taken."""
    scores, targets = case
    unknown = rng.random(targets.shape) < 0.2
    masked = np.where(unknown, -1, targets)
    for c in range(scores.shape[1]):
        keep = ~unknown[:, c]
        expected = sklearn.metrics.average_precision_score(targets[keep, c], scores[keep, c])
        assert metrics.average_precision(scores[:, c], masked[:, c]) == pytest.approx(expected, abs=TOLERANCE)
    predicted = scores >= 0.5
    assert metrics.hamming_loss(predicted, masked) == pytest.approx(
        (predicted != targets)[~unknown].mean(), abs=TOLERANCE
    )
    for row in range(5):
        keep = ~unknown[row]
        one = metrics.label_ranking_loss(scores[row : row + 1], masked[row : row + 1])
        expected = sklearn.metrics.label_ranking_loss(targets[row : row + 1, keep], scores[row : row + 1, keep])
        assert one == pytest.approx(expected, abs=TOLERANCE)


def test_figures_equal_the_published_implementation(parity):
    """Its targets are 1 present, 0 difficult, −1 absent; its scores are logits, its decisions fall at 0."""
    with np.load(parity / "metrics.npz") as file:
        fixture = dict(file)
    scores, targets = fixture["scores"].astype(np.float64), fixture["targets"]
    for suffix, ours in (
        ("difficult", np.select([targets == 1, targets == 0], [1, -1], 0)),
        ("no_difficult", np.where(targets == 1, 1, 0)),
    ):
        found = [metrics.average_precision(scores[:, c], ours[:, c]) for c in range(20)]
        np.testing.assert_allclose(found, fixture[f"ap_{suffix}"], atol=1e-6)
        assert 100 * np.mean(found) == pytest.approx(float(fixture[f"map_{suffix}_x100"]), abs=1e-4)
    as_absent = np.where(targets == 1, 1, 0)
    names = ["OP", "OR", "OF1", "CP", "CR", "CF1"]
    for k in (1, 3, 5):
        found = metrics.precision_and_recall(metrics.top_k(scores, k) & (scores >= 0), as_absent)
        np.testing.assert_allclose([found[n] for n in names], 100 * fixture[f"overall_top{k}"][:6], atol=1e-4)
    for threshold, *expected in fixture["threshold_table"]:
        found = metrics.precision_and_recall(scores > threshold, as_absent)
        np.testing.assert_allclose([found[n] for n in names], 100 * np.array(expected), atol=1e-4)


def test_eleven_points_by_hand():
    # Best first: hit, miss, hit. Precision 1 up to recall 0.5, then 2/3: six points of 1 and five of 2/3.
    value = metrics.average_precision_11point(np.array([0.9, 0.8, 0.7]), np.array([1, 0, 1]))
    assert value == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_a_label_without_a_positive_is_left_out_of_the_mean():
    scores = np.array([[0.9, 0.4], [0.1, 0.6]])
    result = metrics.evaluate_scores(scores, np.array([[1, 0], [0, -1]]), ["a", "b"])
    assert result["AP"] == {"a": 100.0, "b": None} and result["mAP"] == 100.0 and result["CP"] == 100.0


def test_thresholds_decide_what_is_predicted():
    scores, targets = np.array([[0.6, 0.3]]), np.array([[1, 1]])
    assert metrics.evaluate_scores(scores, targets, ["a", "b"])["OR"] == 50.0
    assert metrics.evaluate_scores(scores, targets, ["a", "b"], [0.5, 0.2])["OR"] == 100.0


def test_top_k_takes_the_best_labels_of_each_image():
    assert metrics.top_k(np.array([[0.1, 0.9, 0.5, 0.7]]), 3).tolist() == [[False, True, True, True]]
    assert metrics.top_k(np.array([[0.1, 0.9]]), 3).all()


# Adversarial cases


@pytest.mark.parametrize("kind", ["one score for all", "ties", "all present", "none present", "one known", "infinite"])
def test_every_metric_survives_adversarial_cases_and_equals_scikit_learn_where_that_is_defined(kind, rng):
    scores, targets = rng.random((60, 4)), (rng.random((60, 4)) < 0.3).astype(np.int8)
    if kind == "one score for all":
        scores[:] = 0.5
    elif kind == "ties":
        scores = np.round(scores)
    elif kind == "infinite":
        scores[::7] = np.inf
    elif kind == "one known":
        targets[1:] = -1
    else:
        targets[:] = kind == "all present"
    result = metrics.evaluate_scores(scores, targets, list("abcd"))
    for c, label in enumerate("abcd"):
        known = targets[:, c] >= 0
        if (targets[known, c] == 1).any():
            expected = sklearn.metrics.average_precision_score(targets[known, c], np.minimum(scores[known, c], 9))
            assert result["AP"][label] == pytest.approx(100 * expected, abs=1e-9)
        else:
            assert result["AP"][label] is None
    figures = [value for name, value in result.items() if name not in ("AP", "mAP", "mAP_11point")]
    assert np.isfinite(figures).all()
    if kind not in ("one known", "infinite"):
        assert result["coverage_error"] == pytest.approx(sklearn.metrics.coverage_error(targets, scores))
        expected = sklearn.metrics.label_ranking_average_precision_score(targets, scores)
        assert result["label_ranking_average_precision"] == pytest.approx(expected)
        assert result["label_ranking_loss"] >= sklearn.metrics.label_ranking_loss(targets, scores) - 1e-12


def test_all_unknown_gives_no_average_precision_and_no_errors():
    result = metrics.evaluate_scores(np.random.default_rng(0).random((5, 3)), np.full((5, 3), -1), list("abc"))
    assert result["mAP"] is None and result["hamming_loss"] == 0 and result["OF1"] == 0
    assert result["label_ranking_loss"] == 0 and result["coverage_error"] == 0


@pytest.mark.parametrize("kind", ["random", "ties", "no positive", "unknown"])
def test_the_curve_ends_at_full_recall_and_equals_scikit_learns(kind, rng):
    scores, targets = rng.random(80), (rng.random(80) < 0.4).astype(np.int8)
    scores = np.round(scores, 1) if kind == "ties" else scores
    if kind == "no positive":
        assert metrics.precision_recall_curve(scores, 0 * targets) == (None, None, None)
        return
    if kind == "unknown":
        targets[:20] = -1
    known = targets >= 0
    precision, recall, thresholds = sklearn.metrics.precision_recall_curve(targets[known], scores[known])
    found = metrics.precision_recall_curve(scores, targets)
    for ours, theirs in zip(found, (precision[:-1], recall[:-1], thresholds), strict=True):
        np.testing.assert_allclose(ours, theirs[::-1], atol=1e-12)
    assert found[1][-1] == 1
