"""Multi-label metrics in NumPy; an unknown target (−1) is left out everywhere.

Definitions: non-interpolated average precision as scikit-learn's (ties share a rank); 11-point interpolation as in the
PASCAL VOC 2007 devkit; CP … OF1 as in Wang et al. (CNN-RNN, arXiv 1604.04573), CF1 and OF1 being the harmonic means of
CP, CR and of OP, OR; coverage error, ranking average precision and ranking loss as in Tsoumakas et al. (2010).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

FIGURES = ("CP", "CR", "CF1", "OP", "OR", "OF1")
"""Precision, recall and F1, by label and over all decisions, in the order in which they are told."""


def evaluate_scores(
    scores: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    thresholds: Sequence[float] | np.ndarray | None = None,
) -> dict[str, Any]:
    """All metrics of the metrics file (docs/evaluation.md).

    Args:
        scores: float `[images, C]`, probabilities.
        targets: int `[images, C]` of 1 present, 0 absent, −1 unknown.
        labels: C names.
        thresholds: C probabilities from which a label counts as predicted; 0.5 where not given.

    Returns:
        A dict; mAP, AP and the six precision and recall figures in percent. A label without a present target has an
        AP of None and is left out of the means.
    """
    scores, targets = np.asarray(scores, np.float64), np.asarray(targets)
    thresholds = np.full(scores.shape[1], 0.5) if thresholds is None else np.asarray(thresholds, np.float64)
    precision = [average_precision(scores[:, c], targets[:, c]) for c in range(len(labels))]
    eleven_point = [average_precision_11point(scores[:, c], targets[:, c]) for c in range(len(labels))]
    result = {
        "mAP": _mean_percent(precision),
        "mAP_11point": _mean_percent(eleven_point),
        "AP": {label: None if np.isnan(value) else 100 * value for label, value in zip(labels, precision, strict=True)},
        **precision_and_recall(scores >= thresholds, targets),
    }
    # As in ML-GCN and MSRN: of an image's three best labels, those that also reach their threshold.
    # A label that is nowhere known takes no place from the others.
    ranked = np.where((targets >= 0).any(axis=0), scores, -1.0)
    top3 = top_k(ranked, 3) & (scores >= thresholds)
    result |= {f"{name}_top3": value for name, value in precision_and_recall(top3, targets).items()}
    result |= {
        "coverage_error": coverage_error(scores, targets),
        "label_ranking_average_precision": label_ranking_average_precision(scores, targets),
        "label_ranking_loss": label_ranking_loss(scores, targets),
        "hamming_loss": hamming_loss(scores >= thresholds, targets),
        "num_images": len(scores),
    }
    return result


def average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Non-interpolated average precision of one label, in [0, 1]; NaN where no target is 1.

    Σ over distinct scores of (recall gained) · (precision there), best score first.
    """
    precision, recall, _ = precision_recall_curve(scores, targets)
    if precision is None:
        return np.nan
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def average_precision_11point(scores: np.ndarray, targets: np.ndarray) -> float:
    """VOC 2007's average precision of one label: mean over recall 0, 0.1, …, 1 of the best precision from there on."""
    precision, recall, _ = precision_recall_curve(scores, targets)
    if precision is None:
        return np.nan
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    # The devkit's comparison is recall ≥ t in floating point, with t = 0, 0.1, … as MATLAB counts it.
    first = np.searchsorted(recall, np.arange(11) / 10 - 1e-12)
    return float(np.mean(np.append(best_from_here, 0.0)[np.minimum(first, len(recall))]))


def precision_recall_curve(scores: np.ndarray, targets: np.ndarray) -> tuple[Any, Any, Any]:
    """Precision, recall and score at each distinct score of the known targets, best first.

    Without a present target there is no recall: (None, None, None).
    """
    known = targets >= 0
    scores, present = scores[known], targets[known] == 1
    if not present.any():
        return None, None, None
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(present[order])
    ends = last_of_each_score(scores)
    return hits[ends] / (ends + 1), hits[ends] / hits[-1], scores[ends]


def last_of_each_score(ordered: np.ndarray) -> np.ndarray:
    """Of scores in their order, the index of the last one of each value: where ties end."""
    return np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)


def precision_and_recall(predicted: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """CP, CR, CF1 (means over labels) and OP, OR, OF1 (over all decisions), in percent.

    A label that is never predicted has precision 0, as published; one without a present target is left out of both
    means.
    """
    known, present = targets >= 0, targets == 1
    predicted = predicted & known
    correct, predictions, positives = (x.sum(axis=0) for x in (predicted & present, predicted, present))
    return {name: float(value) for name, value in figures_of_counts(correct, predictions, positives).items()}


def figures_of_counts(correct: np.ndarray, predictions: np.ndarray, positives: np.ndarray) -> dict[str, np.ndarray]:
    """CP … OF1 in percent from counts by label, `[..., C]`: arrays `[...]`."""
    counted = positives > 0
    num_labels = np.maximum(counted.sum(axis=-1), 1)
    cp = (ratio(correct, predictions) * counted).sum(axis=-1) / num_labels
    cr = (ratio(correct, positives) * counted).sum(axis=-1) / num_labels
    op, or_ = (ratio(correct.sum(axis=-1), counts.sum(axis=-1)) for counts in (predictions, positives))
    figures = {"CP": cp, "CR": cr, "CF1": _harmonic(cp, cr), "OP": op, "OR": or_, "OF1": _harmonic(op, or_)}
    return {name: 100 * value for name, value in figures.items()}


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """bool `[images, C]`: the k best-scored labels of each image."""
    k = min(k, scores.shape[1])
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    chosen = np.zeros(scores.shape, bool)
    np.put_along_axis(chosen, best, True, axis=1)
    return chosen


def coverage_error(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean over images of how far down the ranking one must go to cover the present labels."""
    known, present = targets >= 0, targets == 1
    lowest = np.where(present, scores, np.inf).min(axis=1, keepdims=True)
    return float(((scores >= lowest) & known).sum(axis=1).mean())


def label_ranking_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean over images of the mean over present labels of (present labels ranked as high) / (labels ranked as high).

    An image whose known labels are all present, or all absent, counts 1, as in scikit-learn.
    """
    values = []
    for image_scores, image_targets in zip(scores, targets, strict=True):
        known = image_targets >= 0
        present = image_targets[known] == 1
        if present.all() or not present.any():
            values.append(1.0)
            continue
        as_high = image_scores[known][None, :] >= image_scores[known][present][:, None]
        values.append((as_high[:, present].sum(axis=1) / as_high.sum(axis=1)).mean())
    return float(np.mean(values))


def label_ranking_loss(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean over images of the share of (present, absent) pairs of labels ranked the wrong way; ties are wrong."""
    present, absent = targets == 1, targets == 0
    losses = np.zeros(len(scores))
    for index, image_scores in enumerate(scores):
        high, low = image_scores[present[index]], image_scores[absent[index]]
        if len(high) and len(low):
            losses[index] = np.mean(low[None, :] >= high[:, None])
    return float(losses.mean())


def hamming_loss(predicted: np.ndarray, targets: np.ndarray) -> float:
    """Share of wrong decisions among all known ones."""
    known = targets >= 0
    return float(((predicted != (targets == 1)) & known).sum() / max(1, known.sum()))


def _mean_percent(values):
    values = np.asarray(values)
    return float(100 * np.nanmean(values)) if np.isfinite(values).any() else None


def ratio(numerator: Any, denominator: Any) -> np.ndarray:
    """numerator / denominator, and 0 where the denominator is."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _harmonic(a, b):
    return ratio(2 * a * b, a + b)
