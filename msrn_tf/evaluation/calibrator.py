"""Calibrating a model on a labelled split: its probabilities, then its thresholds, and what both promise."""

import dataclasses
from typing import Any

import numpy as np

from msrn_tf.evaluation.calibration_error import (
    calibrated_scores,
    classwise_calibration_error,
    cross_fitted_scores,
    expected_calibration_error,
    fit_calibration,
    sigmoid,
)
from msrn_tf.evaluation.metrics import precision_and_recall, ratio
from msrn_tf.evaluation.thresholds import DEFAULT, ThresholdGoal, Thresholds, fit_thresholds
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
        kept: bool `[C]`. The fitted threshold is worse on photos that it was not fitted to: the label stays at 0.5 of
            its raw probability.
        notes: sentences about all labels.
    """

    calibration: Calibration
    thresholds: Thresholds
    positives: np.ndarray
    before: dict
    after: dict
    kept: np.ndarray
    notes: tuple[str, ...] = ()

    def note(self, index: int) -> str:
        """What a person should know of a label, or nothing."""
        if self.kept[index]:
            return "decided as before: the fitted threshold does worse on photos that it was not fitted to"
        if self.thresholds.is_global[index]:
            return f"only {self.positives[index]} photos show it, so it keeps the threshold of all labels"
        return (
            ""
            if self.thresholds.reached[index]
            else "the goal is out of reach; its threshold is the one that comes nearest"
        )


def calibrate(logits: np.ndarray, targets: np.ndarray, goal: ThresholdGoal, method: str = "platt") -> CalibrationResult:
    """Fits calibration and thresholds to logits `[images, C]` and targets `[images, C]` of {1, 0, −1}.

    What does worse than nothing on photos that it was not fitted to is not taken: probabilities whose calibration
    errors grow stay raw, and a label whose fitted threshold is further from the goal stays at 0.5.

    Args:
        goal: `ThresholdGoal`.
        method: of `calibration.METHODS`.

    Raises:
        ValueError: no known target is 1, or none is 0: there is nothing to fit to.
    """
    if not (targets == 1).any() or not (targets == 0).any():
        raise ValueError("`targets` must hold both present and absent labels")
    result = _calibrated(logits, targets, goal, method)
    errors = ("ECE", "classwise_ECE")
    if method != "none" and all(result.after[name] >= result.before[name] for name in errors):
        raw = _calibrated(logits, targets, goal, "none")
        return dataclasses.replace(
            raw, notes=(*raw.notes, "probabilities stay as they are: calibrated ones are no better on photos not seen")
        )
    return result


def _calibrated(logits, targets, goal, method):
    def fit(logits, targets):
        calibration = fit_calibration(logits, targets, method, goal.min_positives)
        return calibration, fit_thresholds(calibrated_scores(logits, calibration), targets, goal)

    raw = sigmoid(logits)
    before = figures(raw, np.full(raw.shape, DEFAULT), targets)
    calibration, thresholds = fit(logits, targets)
    scores, crossed, undecided = cross_fitted_scores(logits, targets, fit)
    after = figures(scores, crossed, targets)
    kept = _is_further(after, before, goal)
    notes: tuple[str, ...] = ()
    after = figures(scores, np.where(kept, undecided, crossed), targets)
    if not goal.target_precision and not goal.target_recall and _is_worse(after, before):
        kept = np.ones_like(kept)
        notes = ("all labels are decided as before: fitted thresholds do worse on photos that they were not fitted to",)
        after = figures(scores, undecided, targets)
    values = np.where(kept, calibrated_scores(np.zeros(len(kept)), calibration), thresholds.values)
    return CalibrationResult(
        calibration,
        dataclasses.replace(thresholds, values=values),
        (targets == 1).sum(axis=0),
        before,
        after,
        kept,
        notes,
    )


def _is_further(after, before, goal):
    """By label: further from the goal than before. Without a wanted precision or recall it is an F1 of 100."""
    name, wanted = ("precision", goal.target_precision) if goal.target_precision else ("recall", goal.target_recall)
    name, wanted = (name, 100 * wanted) if wanted else ("F1", 100.0)
    is_measured = after["precision"] > 0 if name == "precision" else True  # of no photo found there is none
    return (after[name] < before[name]) & (after[name] < wanted) & is_measured


def _is_worse(after, before):
    return after["CF1"] + after["OF1"] < before["CF1"] + before["OF1"]


def figures(scores: np.ndarray, thresholds: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
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
