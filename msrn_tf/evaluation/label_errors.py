"""Annotations that are likely wrong: scores by heads that have not seen them, ranked by confident learning.

The heads are logistic regressions of a frozen backbone's average-pooled features, one a label and fold: a label's
photos fall into k folds, and what the photos of a fold score comes from the head of the others. A wrong annotation that
photos like it do not share is improbable under that head. How many of a label's annotations are wrong, and in which
order to look at them, is confident learning's (Northcutt, Jiang and Chuang, arXiv 1911.00068), by cleanlab's
multi-label functions. These know no unknown targets: each label is judged on the photos where it is known.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from msrn_tf.data.targets import ABSENT, PRESENT, UNKNOWN
from msrn_tf.errors import UserError
from msrn_tf.extras import needs
from msrn_tf.type_names import Progress

with needs("report"):
    import scipy.optimize
    import scipy.special
    from cleanlab.multilabel_classification import filter as label_filter
    from cleanlab.multilabel_classification import rank as label_rank

MOST_ITERATIONS = 100
SMALLEST_DEVIATION = 1e-6
ROWS_AT_A_TIME = 1 << 13


@dataclasses.dataclass(frozen=True)
class Suspects:
    """Known annotations in the order to look at them, the most improbable first.

    Attributes:
        rows, columns: int `[known]`: photo and label.
        scores: float `[known]`, the out-of-fold probability that the label is present.
        annotated: int `[known]`, 1 or 0.
        estimated: how many are wrong by confident learning's estimate.
    """

    rows: np.ndarray
    columns: np.ndarray
    scores: np.ndarray
    annotated: np.ndarray
    estimated: int


def fold_numbers(labels: Sequence[str], targets: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold that each photo is in, for each label: int `[N, C]`; a label's positives are spread evenly.

    Args:
        labels: C names.
        targets: `[N, C]` of 1, 0, −1.
        folds: int, at least 2.
        seed: int.

    Raises:
        UserError: there are fewer photos than folds, or a label is known to be present, or absent, in fewer.
    """
    if len(targets) < folds:
        raise UserError(f"`folds`={folds}: are more than the {len(targets)} photos; give fewer folds, or more photos")
    for state, word in ((PRESENT, "present"), (ABSENT, "absent")):
        counts = (targets == state).sum(axis=0)
        if (counts < folds).any():
            few = [f"{label} ({count})" for label, count in zip(labels, counts, strict=True) if count < folds]
            more = f" and {len(few) - 10} more" if len(few) > 10 else ""
            raise UserError(
                f"`folds`={folds}: labels that are known to be {word} in fewer photos cannot be checked: "
                f"{', '.join(few[:10])}{more}; give fewer folds, or leave such labels out with `min_photos`={folds}"
                + (" or `labels`" if state == ABSENT else "")
            )
    rng = np.random.default_rng(seed)
    numbers = np.empty(targets.shape, np.int64)
    for column in range(targets.shape[1]):
        for state in (PRESENT, ABSENT, UNKNOWN):
            rows = rng.permutation(np.flatnonzero(targets[:, column] == state))
            numbers[rows, column] = np.arange(len(rows)) % folds
    return numbers


def out_of_fold_logits(
    features: np.ndarray, targets: np.ndarray, numbers: np.ndarray, l2: float, progress: Progress | None = None
) -> np.ndarray:
    """Logits float64 `[N, C]`, each by a head that was trained on the other folds of its label.

    The heads of all labels and folds are one minimisation, by L-BFGS: they share no weight, so that its minimum is
    theirs, and each step is one matrix product.

    ::

        mean over known photos of bce(xW + b, target) + l2/2 · |W|²        x: features, each of mean 0 and deviation 1

    Args:
        features: float32 `[N, F]`.
        targets: `[N, C]` of 1, 0, −1.
        numbers: of `fold_numbers`.
        l2: float, above 0.
        progress: called with the number of evaluations done; `MOST_ITERATIONS` is about as many as there are.
    """
    inputs = features - features.mean(axis=0)
    inputs /= np.maximum(inputs.std(axis=0), SMALLEST_DEVIATION)
    folds, (count, num_labels) = int(numbers.max()) + 1, targets.shape
    shape = (features.shape[1] + 1, folds, num_labels)
    known = np.stack([((targets >= 0) & (numbers != fold)).sum(axis=0) for fold in range(folds)])
    evaluations = 0

    def loss_and_gradient(flat):
        nonlocal evaluations
        weights = flat.reshape(shape[0], -1).astype(np.float32)
        loss = l2 / 2 * float((weights[:-1].astype(np.float64) ** 2).sum())
        gradient = np.vstack([l2 * weights[:-1], 0 * weights[-1:]])
        for start in range(0, count, ROWS_AT_A_TIME):
            rows = slice(start, start + ROWS_AT_A_TIME)
            x, target = inputs[rows], targets[rows, None]
            logits = (x @ weights[:-1] + weights[-1]).reshape(-1, *shape[1:])
            share = ((target >= 0) & (numbers[rows, None] != np.arange(folds)[:, None])) / known.astype(np.float32)
            loss += float((share * (np.logaddexp(0, logits) - (target == PRESENT) * logits)).sum())
            error = (share * (scipy.special.expit(logits) - (target == PRESENT))).reshape(len(x), -1)
            gradient[:-1] += x.T @ error
            gradient[-1] += error.sum(axis=0)
        evaluations += 1
        if progress:
            progress(min(evaluations, MOST_ITERATIONS))
        return loss, gradient.astype(np.float64).ravel()

    found = scipy.optimize.minimize(
        loss_and_gradient,
        np.zeros(int(np.prod(shape))),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MOST_ITERATIONS, "maxfun": MOST_ITERATIONS},
    )
    weights = found.x.reshape(shape)
    logits = np.empty(targets.shape)
    for fold in range(folds):
        held_out = numbers == fold
        logits[held_out] = (inputs @ weights[:-1, fold] + weights[-1, fold])[held_out]
    return logits


def rank_suspects(targets: np.ndarray, logits: np.ndarray) -> Suspects:
    """All known annotations in the order to look at them.

    Args:
        targets: `[N, C]` of 1, 0, −1.
        logits: of `out_of_fold_logits`.
    """
    scores = scipy.special.expit(logits)
    estimated = 0
    quality = np.full(targets.shape, np.inf)
    for column in range(targets.shape[1]):
        known = np.flatnonzero(targets[:, column] >= 0)
        annotated = [[0] if value == PRESENT else [] for value in targets[known, column]]
        probabilities = scores[known, column, None]
        estimated += int(label_filter.find_multilabel_issues_per_class(annotated, probabilities, n_jobs=1).sum())
        quality[known, column] = label_rank.get_label_quality_scores_per_class(annotated, probabilities)[:, 0]
    order = np.argsort(quality, axis=None, kind="stable")[: np.count_nonzero(targets >= 0)]
    rows, columns = np.unravel_index(order, targets.shape)
    return Suspects(rows, columns, scores[rows, columns], targets[rows, columns].astype(int), estimated)
