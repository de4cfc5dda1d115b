"""How sure a metric is: percentile bootstrap over images (Efron and Tibshirani 1993, chapter 13).

A resample of N images is N draws with replacement; it is kept as how often each image was drawn, so that scores are
ordered once for each label and not for each resample.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from msrn_tf.evaluation.metrics import FIGURES, figures_of_counts, last_of_each_score, ratio
from msrn_tf.type_names import Progress

CHUNK_ELEMENTS = 1 << 22
CONFIDENCE = 0.95
ROUNDING = 1e-9


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    num_images: int,
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> np.ndarray:
    """Values of a statistic over resamples of the images.

    Args:
        statistic: function of weights float64 `[chunk, images]` (how often each image was drawn) → `[chunk, values]`.
        num_images: int.
        resamples: int.
        seed: int; the same seed draws the same resamples, as a paired comparison needs.
        progress: called with the number of resamples done.

    Returns:
        float64 `[resamples, values]`.
    """
    rng = np.random.default_rng(seed)
    chunk, found = max(1, CHUNK_ELEMENTS // num_images), []
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        weights = rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=count)
        found.append(statistic(weights.astype(np.float64)))
        if progress:
            progress(start + count)
    return np.concatenate(found)


def interval(samples: np.ndarray) -> np.ndarray:
    """The middle 95 % of resampled values, `[..., 2]` for samples `[resamples, ...]`; NaN where there are none."""
    tail = 50 * (1 - CONFIDENCE)
    samples = np.asarray(samples)
    ends = np.full((2, *samples.shape[1:]), np.nan)
    there = ~np.isnan(samples).all(axis=0)
    ends[:, there] = np.nanpercentile(samples[:, there], [tail, 100 - tail], axis=0)
    return np.moveaxis(ends, 0, -1)


def weighted_average_precision(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision of each label, in [0, 1], where each image counts as often as its weight says.

    Args:
        scores, targets: `[images, C]`; −1 in targets is unknown.
        weights: float `[resamples, images]`.

    Returns:
        `[resamples, C]`; NaN where a resample holds no present target of a label.
    """
    values = np.full((len(weights), scores.shape[1]), np.nan)
    for c in range(scores.shape[1]):
        known = np.flatnonzero(targets[:, c] >= 0)
        order = known[np.argsort(-scores[known, c], kind="stable")]
        if not (targets[order, c] == 1).any():
            continue
        ends = last_of_each_score(scores[order, c])
        drawn = weights[:, order]
        hits = np.cumsum(drawn * (targets[order, c] == 1), axis=1)[:, ends]
        precision = ratio(hits, np.cumsum(drawn, axis=1)[:, ends])
        gained = np.diff(hits, axis=1, prepend=0.0)
        positives = hits[:, -1]
        values[:, c] = np.where(
            positives > 0, (gained * precision).sum(axis=1) / np.where(positives > 0, positives, 1), np.nan
        )
    return values


def mean_over_labels(values: np.ndarray) -> np.ndarray:
    """Mean over labels that have a value, `[resamples]`, of `[resamples, C]`; NaN where none has."""
    there = ~np.isnan(values)
    counts = there.sum(axis=1)
    return np.where(counts > 0, np.where(there, values, 0).sum(axis=1) / np.maximum(counts, 1), np.nan)


def metric_intervals(
    scores: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    thresholds: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """95 % intervals of what `metrics.evaluate_scores` gives: `mAP`, `AP` by label and CP … OF1, in percent.

    Returns:
        A dict of `[low, high]`, and for `AP` of label → `[low, high]`; None for a label without a present target.
    """
    predicted = (scores >= np.asarray(thresholds)) & (targets >= 0)
    counted = [x.astype(np.float64) for x in (predicted & (targets == 1), predicted, targets == 1)]

    def statistic(weights):
        precisions = 100 * weighted_average_precision(scores, targets, weights)
        figures = figures_of_counts(*(weights @ counts for counts in counted))
        return np.column_stack([mean_over_labels(precisions), *figures.values(), precisions])

    ends = interval(bootstrap(statistic, len(scores), resamples, seed, progress))
    found = [None if np.isnan(pair).any() else [float(value) for value in pair] for pair in ends]
    names = ["mAP", *FIGURES]
    return dict(zip(names, found, strict=False)) | {"AP": dict(zip(labels, found[len(names) :], strict=True))}


def paired_comparison(
    scores: np.ndarray,
    baseline: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The difference of two models' average precision over the same resamples of the same images.

    Args:
        scores, baseline: `[images, C]`.

    Returns:
        A dict: `baseline`, its mAP over these labels in percent; `mAP_difference` (model − baseline, percent) with
        `interval`; `AP_difference`, label → `[difference, low, high]`; `gained` and `lost`, labels whose interval lies
        above or below 0; `share_of_resamples_above_0`.
    """

    def difference(weights):
        model, other = (100 * weighted_average_precision(s, targets, weights) for s in (scores, baseline))
        return np.column_stack([mean_over_labels(model) - mean_over_labels(other), model - other])

    every_image_once = np.ones((1, len(targets)))
    found = difference(every_image_once)[0]
    samples = bootstrap(difference, len(targets), resamples, seed, progress)
    ends = interval(samples)
    by_label = {
        label: [float(found[1 + c]), *map(float, ends[1 + c])]
        for c, label in enumerate(labels)
        if not np.isnan(found[1 + c])
    }
    return {
        "baseline": float(100 * mean_over_labels(weighted_average_precision(baseline, targets, every_image_once))[0]),
        "mAP_difference": float(found[0]),
        "interval": [float(value) for value in ends[0]],
        "share_of_resamples_above_0": float((samples[:, 0] > 0).mean()),
        "AP_difference": by_label,
        "gained": [label for label, (_, low, _) in by_label.items() if low > ROUNDING],
        "lost": [label for label, (_, _, high) in by_label.items() if high < -ROUNDING],
    }
