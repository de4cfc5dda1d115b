"""Calibrating a model on a labelled split: its probabilities, then its thresholds, and what both promise."""

import dataclasses

import numpy as np

from msrn_tf.evaluation.calibration import (
    calibrated_scores,
    classwise_calibration_error,
    cross_fitted_scores,
    expected_calibration_error,
    fit_calibration,
    sigmoid,
)
from msrn_tf.evaluation.metrics import precision_and_recall, ratio
from msrn_tf.evaluation.thresholds import DEFAULT, fit_thresholds
from msrn_tf.models.calibration import Calibration


@dataclasses.dataclass(frozen=True)
class CalibrationResult:
    """What was fitted to all photos of a split, and what it gives on photos that it was not fitted to.

    Attributes:
        calibration: `Calibration`.
        thresholds: `Thresholds`.
        positives: int `[C]`, present photos.
        before, after: dicts of CP … OF1 in percent, `ECE`, `classwise_ECE` in [0, 1], and `F1`, `precision`, `recall`
            `[C]` in percent; before: raw probabilities at 0.5; after: cross-fitted over five folds.
    """

    calibration: Calibration
    thresholds: object
    positives: np.ndarray
    before: dict
    after: dict

    def note(self, index):
        """What a person should know of a label, or nothing."""
        if self.thresholds.is_global[index]:
            return f"only {self.positives[index]} photos show it, so it keeps the threshold of all labels"
        return (
            ""
            if self.thresholds.reached[index]
            else "the goal is out of reach; its threshold is the one that comes nearest"
        )


def calibrate(logits, targets, goal, method="platt"):
    """Fits calibration and thresholds to logits `[images, C]` and targets `[images, C]` of {1, 0, −1}.

    Args:
        goal: `ThresholdGoal`.
        method: of `calibration.METHODS`.
    """

    def fit(logits, targets):
        calibration = fit_calibration(logits, targets, method, goal.min_positives)
        return calibration, fit_thresholds(calibrated_scores(logits, calibration), targets, goal)

    raw = sigmoid(logits)
    return CalibrationResult(
        *fit(logits, targets),
        (targets == 1).sum(axis=0),
        before=figures(raw, np.full(raw.shape, DEFAULT), targets),
        after=figures(*cross_fitted_scores(logits, targets, fit), targets),
    )


def figures(scores, thresholds, targets):
    """CP … OF1, calibration errors, and precision, recall and F1 by label, for scores at thresholds."""
    predicted, present = (scores >= thresholds) & (targets >= 0), targets == 1
    correct, predictions, positives = (x.sum(axis=0) for x in (predicted & present, predicted, present))
    return precision_and_recall(predicted, targets) | {
        "ECE": expected_calibration_error(scores, targets),
        "classwise_ECE": classwise_calibration_error(scores, targets),
        "precision": 100 * ratio(correct, predictions),
        "recall": 100 * ratio(correct, positives),
        "F1": 100 * ratio(2 * correct, predictions + positives),
    }
