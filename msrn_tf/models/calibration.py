"""Probability calibration of a trained model: Platt scaling of each label's logit (Platt 1999; Guo et al. 2017)."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Self


@dataclasses.dataclass(frozen=True)
class Calibration:
    """probability[c] = sigmoid(slopes[c] · logit[c] + intercepts[c]).

    Temperature scaling by T is slopes of 1/T and intercepts of 0. Slopes are positive, so that calibration never
    changes the order of a label's scores, nor its average precision.

    Attributes:
        slopes: C floats above 0.
        intercepts: C floats.
        dataset, split: what it, and the model's thresholds, were fitted to, so that nobody measures them there.
    """

    slopes: Sequence[float]
    intercepts: Sequence[float]
    dataset: str = ""
    split: str = ""

    def __post_init__(self):
        for name in ("slopes", "intercepts"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        if len(self.slopes) != len(self.intercepts):
            raise ValueError(
                f"`slopes` and `intercepts` must have the same length. Received: {len(self.slopes)}, "
                f"{len(self.intercepts)}"
            )
        if not all(0 < slope < math.inf for slope in self.slopes):
            raise ValueError(f"`slopes` must be above 0 and finite. Received: slopes={self.slopes}")
        if not all(map(math.isfinite, self.intercepts)):
            raise ValueError(f"`intercepts` must be finite. Received: intercepts={self.intercepts}")

    @classmethod
    def identity(cls, num_labels: int) -> Self:
        """The one that changes nothing, which every model has until it is calibrated."""
        return cls((1.0,) * num_labels, (0.0,) * num_labels)

    @property
    def is_identity(self) -> bool:
        return set(self.slopes) <= {1.0} and set(self.intercepts) <= {0.0}
