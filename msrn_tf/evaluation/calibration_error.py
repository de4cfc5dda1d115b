"""Fitting a model's probability calibration to labelled photos, and measuring how calibrated it is.

Platt scaling by label (Platt 1999, with his smoothed targets), temperature scaling (Guo et al., arXiv 1706.04599), and
the expected calibration error over bins of equal width (Naeini et al. 2015).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from msrn_tf.evaluation.metrics import ratio
from msrn_tf.models.calibration import Calibration

METHODS = ("platt", "temperature", "none")
BINS = 15
NEWTON_STEPS = 100
TOLERANCE = 1e-10


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(−logits)) in float64, without an overflow."""
    return 0.5 * (1 + np.tanh(np.asarray(logits, np.float64) / 2))


def fit_calibration(
    logits: np.ndarray, targets: np.ndarray, method: str = "platt", min_positives: int = 10
) -> Calibration:
    """A `Calibration` of logits `[images, C]` to targets `[images, C]`; −1 is unknown.

    A label with fewer than `min_positives` present or absent photos, or whose logits are higher where it is absent,
    gets temperature scaling, which is fitted to all labels at once.

    Args:
        method: `"platt"`, a slope and an intercept for each label; `"temperature"`, one slope for all; `"none"`.
    """
    num_labels = logits.shape[1]
    if method == "none":
        return Calibration.identity(num_labels)
    slopes = np.full(num_labels, fit_temperature(logits, targets))
    intercepts = np.zeros(num_labels)
    if method == "platt":
        for c in range(num_labels):
            known = targets[:, c] >= 0
            present = targets[known, c] == 1
            if min(present.sum(), (~present).sum()) >= min_positives:
                slope, intercept = fit_platt(logits[known, c], present)
                if slope > 0:
                    slopes[c], intercepts[c] = slope, intercept
    return Calibration(slopes.tolist(), intercepts.tolist())


def fit_platt(logits: np.ndarray, present: np.ndarray) -> tuple[float, float]:
    """(slope, intercept) of the highest likelihood, with Platt's targets (n₊+1)/(n₊+2) and 1/(n₋+2) for 1 and 0."""
    positives, negatives = present.sum(), (~present).sum()
    wanted = np.where(present, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    features = np.column_stack([logits, np.ones(len(logits))]).astype(np.float64)
    prior = np.log((positives + 1) / (negatives + 1))
    return _newton(features, wanted, start=np.array([0.0, prior]))


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The one slope, 1 / temperature, of the highest likelihood over all known targets; 1 where none is above 0."""
    known = targets >= 0
    features, wanted = logits[known].astype(np.float64)[:, None], (targets[known] == 1).astype(np.float64)
    slope = _newton(features, wanted, start=np.array([1.0]))[0]
    return slope if slope > 0 else 1.0


def _newton(features, wanted, start):
    """Weights that minimise the cross-entropy of sigmoid(features · weights) to `wanted`, which is convex."""

    def loss(weights):
        logits = features @ weights
        return np.mean(np.logaddexp(0, logits) - wanted * logits)

    weights, value = start, loss(start)
    for _ in range(NEWTON_STEPS):
        probabilities = sigmoid(features @ weights)
        gradient = features.T @ (probabilities - wanted) / len(wanted)
        curvature = (features * (probabilities * (1 - probabilities))[:, None]).T @ features / len(wanted)
        step = np.linalg.solve(curvature + 1e-12 * np.eye(len(weights)), gradient)
        while loss(weights - step) > value and np.abs(step).max() > TOLERANCE:
            step = step / 2
        weights = weights - step
        value = loss(weights)
        if np.abs(step).max() <= TOLERANCE:
            break
    return weights


def cross_fitted_scores(
    logits: np.ndarray, targets: np.ndarray, fit: Callable[[np.ndarray, np.ndarray], Any], folds: int = 5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores `[images, C]` of each fold under a calibration that was fitted to the other folds.

    What a calibration promises for photos that it has not seen; on those that it was fitted to it looks better.

    Args:
        fit: function of (logits, targets) → `(Calibration, Thresholds)`.

    Returns:
        `(scores, thresholds, unfitted)`, each `[images, C]`; the last is what a raw probability of 0.5 becomes.
    """
    fold_of = np.random.default_rng(seed).permutation(len(logits)) % folds
    scores, thresholds, unfitted = (np.zeros(logits.shape) for _ in range(3))
    for fold in range(folds):
        inside = fold_of == fold
        if inside.any():
            calibration, chosen = fit(logits[~inside], targets[~inside])
            scores[inside] = calibrated_scores(logits[inside], calibration)
            thresholds[inside] = chosen.values
            unfitted[inside] = calibrated_scores(np.zeros(logits.shape[1]), calibration)
    return scores, thresholds, unfitted


def calibrated_scores(logits: np.ndarray, calibration: Calibration) -> np.ndarray:
    """`MultiLabelClassifier.calibrated` in NumPy and float64."""
    return sigmoid(logits * np.asarray(calibration.slopes) + np.asarray(calibration.intercepts))


def reliability(scores: np.ndarray, targets: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of all known decisions, by bins of equal width of the score: mean score, share present, count, each `[bins]`."""
    known = targets >= 0
    scores, present = np.asarray(scores, np.float64)[known], targets[known] == 1
    which = np.minimum((scores * bins).astype(int), bins - 1)
    counts = np.bincount(which, minlength=bins)
    mean_score = ratio(np.bincount(which, scores, minlength=bins), counts)
    return mean_score, ratio(np.bincount(which, present, minlength=bins), counts), counts


def expected_calibration_error(scores: np.ndarray, targets: np.ndarray, bins: int = BINS) -> float:
    """Σ over bins of (share of decisions) · |mean score − share present|, in [0, 1], over all labels together."""
    mean_score, frequency, counts = reliability(scores, targets, bins)
    return float(np.sum(counts * np.abs(mean_score - frequency)) / max(1, counts.sum()))


def classwise_calibration_error(scores: np.ndarray, targets: np.ndarray, bins: int = BINS) -> float:
    """Mean over labels with a known target of each label's own expected calibration error."""
    errors = [
        expected_calibration_error(scores[:, c], targets[:, c], bins)
        for c in range(scores.shape[1])
        if (targets[:, c] >= 0).any()
    ]
    return float(np.mean(errors)) if errors else 0.0
