"""From which probability a label counts as present: thresholds for the best F1, or for a wanted precision or recall."""

import dataclasses
from typing import Any

import numpy as np

from msrn_tf.evaluation.metrics import precision_recall_curve, ratio

DEFAULT = 0.5
ONE_SIDED_90 = 1.2816  # standard errors


@dataclasses.dataclass(frozen=True)
class ThresholdGoal:
    """What thresholds are for: the best F1 where neither a precision nor a recall is wanted.

    Attributes:
        target_precision: in [0, 1]; 0: none. The highest recall with this precision.
        target_recall: in [0, 1]; 0: none. The highest precision with this recall.
        min_positives: a label with fewer present photos gets the threshold of all labels together.
    """

    target_precision: float = 0.0
    target_recall: float = 0.0
    min_positives: int = 10


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """One entry a label.

    Attributes:
        values: float `[C]`.
        is_global: bool `[C]`. Too few positives: the threshold of all labels together.
        reached: bool `[C]`. Whether the goal is reached.
    """

    values: np.ndarray
    is_global: np.ndarray
    reached: np.ndarray


def fit_thresholds(scores: np.ndarray, targets: np.ndarray, goal: ThresholdGoal) -> Thresholds:
    """`Thresholds` for calibrated scores `[images, C]` and targets `[images, C]` of {1, 0, −1}."""
    common, common_reached = best_threshold(scores.reshape(-1), targets.reshape(-1), goal)
    num_labels = scores.shape[1]
    values, reached = np.full(num_labels, common), np.full(num_labels, common_reached)
    is_global = (targets == 1).sum(axis=0) < max(1, goal.min_positives)
    for c in np.flatnonzero(~is_global):
        values[c], reached[c] = best_threshold(scores[:, c], targets[:, c], goal)
    return Thresholds(values, is_global, reached)


def best_threshold(scores: np.ndarray, targets: np.ndarray, goal: ThresholdGoal) -> tuple[float, bool]:
    """(threshold, whether the goal is reached) for one label.

    It lies halfway between two scores that were seen. A wanted precision or recall must hold with 90 %
    confidence (Wilson 1927), since the best of many thresholds looks better than it is. Where none
    reaches the goal, it is the one that comes nearest.
    """
    precision, recall, distinct = precision_recall_curve(scores, targets)
    if precision is None:
        return DEFAULT, False
    positives = (targets == 1).sum()
    hits = recall * positives
    between = np.append((distinct[:-1] + distinct[1:]) / 2, distinct[-1] / 2)
    if goal.target_precision:
        bound = wilson_lower_bound(hits, np.round(hits / precision.clip(1e-12)))
        good = np.flatnonzero((bound >= goal.target_precision) & (hits > 0))
        return (between[good[-1]], True) if len(good) else (between[np.argmax(bound)], False)
    if goal.target_recall:
        bound = wilson_lower_bound(hits, np.full(len(hits), positives))
        good = np.flatnonzero(bound >= goal.target_recall)
        return (between[good[np.argmax(precision[good])]], True) if len(good) else (between[-1], False)
    return between[np.argmax(ratio(2 * precision * recall, precision + recall))], True


def wilson_lower_bound(hits: Any, trials: Any, z: float = ONE_SIDED_90) -> Any:
    """Lower end of Wilson's score interval of hits / trials at z standard errors."""
    trials = np.maximum(trials, 1)
    share = hits / trials
    spread = z * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return (share + z**2 / (2 * trials) - spread) / (1 + z**2 / trials)
