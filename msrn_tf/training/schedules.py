"""Learning-rate schedules, by step."""

import keras

SCHEDULES = ("constant", "step", "cosine")


def learning_rate_schedule(name, *, learning_rate, steps_per_epoch, epochs, warmup_epochs=0.0, decay_epochs=()):
    """The learning rate as a Keras schedule.

    Args:
        name: `"constant"`, `"step"` (a tenth after each of `decay_epochs`) or `"cosine"` (down to 0 at the end).
        learning_rate: float, the highest rate.
        steps_per_epoch, epochs: ints.
        warmup_epochs: epochs of linear growth from 0, before the schedule starts.
        decay_epochs: ints, for `"step"`.
    """
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    total_steps = max(1, epochs * steps_per_epoch - warmup_steps)
    if name == "cosine":
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

    def __init__(self, schedule, learning_rate, warmup_steps):
        super().__init__()
        self.schedule = schedule
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        warm = self.learning_rate * (step + 1) / self.warmup_steps
        return keras.ops.where(step < self.warmup_steps, warm, self.schedule(step - self.warmup_steps))

    def get_config(self):
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
        }
