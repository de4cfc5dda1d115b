"""Exponential moving average of all weights, batch-norm statistics included."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from msrn_tf.type_names import Tensor


def decay_of_share(share: float, steps: int) -> float:
    """The decay whose average looks back on a share of a run's steps: 1 − 1 / (share · steps).

    It is in force from 9 · share of the run on.
    """
    return 1.0 - 1.0 / max(1.0, share * steps)


class MovingAverage:
    """average ← d · average + (1 − d) · weight after each step, d = min(decay, (1 + t) / (10 + t)) at step t.

    The small d of the first steps lets the average leave the random weights quickly; `decay` is in force from step
    9 / (1 − decay) on.

    Args:
        variables: Keras variables, made in the strategy's scope that is current now.
        decay: float in [0, 1), for example 0.9997.
    """

    def __init__(self, variables: Sequence[Any], decay: float):
        self.variables = [variable.value for variable in variables if variable.dtype.startswith(("float", "bfloat"))]
        self.decay = decay
        self.strategy = tf.distribute.get_strategy()
        self.averages = [tf.Variable(variable.read_value(), trainable=False) for variable in self.variables]

    def update(self, step: Tensor) -> None:
        """One update, in the cross-replica context; `step` counts from 0."""
        step = tf.cast(step, tf.float32)
        decay = tf.minimum(self.decay, (1.0 + step) / (10.0 + step))
        for average, variable in zip(self.averages, self.variables, strict=True):
            self.strategy.extended.update(average, lambda a, v: a.assign_sub((1.0 - decay) * (a - v)), args=(variable,))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averages in place of its weights."""
        weights = [variable.read_value() for variable in self.variables]
        self._assign(self.averages)
        try:
            yield
        finally:
            self._assign(weights)

    def _assign(self, values):
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(value)
