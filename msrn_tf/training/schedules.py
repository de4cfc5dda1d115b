"""Learning-rate schedules, by step."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from msrn_tf.type_names import Tensor

ONE_CYCLE_RISE = 0.2
ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1 / 25e4


def learning_rate_schedule(
    name: str,
    *,
    learning_rate: float,
    steps_per_epoch: int,
    epochs: int,
    warmup_epochs: float = 0.0,
    decay_epochs: Sequence[int] = (),
) -> keras.optimizers.schedules.LearningRateSchedule | float:
    """The learning rate as a Keras schedule.

    Args:
        name: `"constant"`, `"step"` (a tenth after each of `decay_epochs`), `"cosine"` (down to 0 at the end) or
            `"one_cycle"` (Smith and Topin, arXiv 1708.07120: up from a 25th by a cosine over a fifth of all steps, then
            down to nearly nothing).
        learning_rate: float, the highest rate.
        steps_per_epoch, epochs: ints.
        warmup_epochs: epochs of linear growth from 0, before the schedule starts.
        decay_epochs: ints, for `"step"`.
    """
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    total_steps = max(1, epochs * steps_per_epoch - warmup_steps)
    if name == "one_cycle":
        schedule = OneCycle(learning_rate, total_steps)
    elif name == "cosine":
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, total_steps)
    elif name == "step" and decay_epochs:
        boundaries = [epoch * steps_per_epoch - warmup_steps for epoch in decay_epochs]
        values = [learning_rate * 0.1**index for index in range(len(boundaries) + 1)]
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)
    else:
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [learning_rate, learning_rate])
    return WarmUp(schedule, learning_rate, warmup_steps) if warmup_steps else schedule


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Linear growth to `learning_rate` over `warmup_steps`, then `schedule` from its beginning."""

    def __init__(self, schedule: Any, learning_rate: float, warmup_steps: float):
        super().__init__()
        self.schedule = schedule
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps

    def __call__(self, step: Tensor) -> Tensor:
        step = keras.ops.cast(step, "float32")
        warm = self.learning_rate * (step + 1) / self.warmup_steps
        return keras.ops.where(step < self.warmup_steps, warm, self.schedule(step - self.warmup_steps))

    def get_config(self) -> dict[str, Any]:
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
        }


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """From a 25th of the highest rate up to it, and down to a 250,000th of it, each along half a cosine."""

    def __init__(self, learning_rate: float, total_steps: float):
        super().__init__()
        self.learning_rate = learning_rate
        self.total_steps = total_steps

    def __call__(self, step: Tensor) -> Tensor:
        step = keras.ops.cast(step, "float32")
        peak = ONE_CYCLE_RISE * self.total_steps
        rising = _between(ONE_CYCLE_START, 1.0, step / peak)
        falling = _between(1.0, ONE_CYCLE_END, (step - peak) / (self.total_steps - peak))
        return self.learning_rate * keras.ops.where(step < peak, rising, falling)

    def get_config(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate, "total_steps": self.total_steps}


def _between(start, end, share):
    """From `start` to `end` along half a cosine, as `share` goes from 0 to 1."""
    share = keras.ops.clip(share, 0.0, 1.0)
    return end + (start - end) * (1 + keras.ops.cos(math.pi * share)) / 2
