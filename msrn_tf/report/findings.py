"""What is worth showing of a measurement: confusions, best and worst photos, annotations that are likely wrong."""

import dataclasses

import numpy as np

from msrn_tf.evaluation.measurement import Measurement


@dataclasses.dataclass(frozen=True)
class Finding:
    """A photo and a label of it: indices, the score, and whether the annotation says that the label is present."""

    image: int
    label: int
    score: float
    present: bool


def confusions(measurement: Measurement) -> np.ndarray:
    """int `[C, C]`: photos in which row's label is missed and column's label is named though it is absent."""
    named = measurement.scores >= measurement.thresholds
    missed = (measurement.targets == 1) & ~named
    invented = (measurement.targets == 0) & named
    return missed.T.astype(int) @ invented.astype(int)


def best_and_worst(measurement: Measurement, label: int, count: int) -> list[list[Finding]]:
    """`(best, worst)` findings of a label: of the photos that show it those with the highest and lowest scores.

    A label of few photos is not shown twice: worst are taken from what best leaves.
    """
    scores = measurement.scores[:, label]
    shown = np.flatnonzero(measurement.targets[:, label] == 1)
    order = shown[np.argsort(-scores[shown], kind="stable")]
    best = order[:count]
    worst = order[count:][::-1][:count]
    return [[Finding(int(i), label, float(scores[i]), True) for i in part] for part in (best, worst)]


def suspects(measurement: Measurement, count: int) -> list[list[Finding]]:
    """`(invented, overlooked)`: where model and annotation disagree most, the surest first.

    Invented: the model names what the annotation lacks. Overlooked: the annotation has what the model does not see.
    A well calibrated model that is sure and "wrong" has often found a wrong annotation (Northcutt et al., arXiv
    1911.00068), so the order is by the annotation's likelihood under the model.
    """
    found = []
    for present in (False, True):
        places = np.argwhere(measurement.targets == int(present))
        scores = measurement.scores[places[:, 0], places[:, 1]]
        wrong = (scores >= measurement.thresholds[places[:, 1]]) != present
        places, scores = places[wrong], scores[wrong]
        order = np.argsort(scores if present else -scores, kind="stable")
        chosen, seen = [], set()
        for index in order:
            image, label = map(int, places[index])
            if image not in seen:  # a photo is looked at once
                seen.add(image)
                chosen.append(Finding(image, label, float(scores[index]), present))
            if len(chosen) == count:
                break
        found.append(chosen)
    return found
