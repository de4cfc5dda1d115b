"""What the flags allow is what the code below them knows, and no more."""

import pytest

from msrn_tf import choices
from msrn_tf.config import OptimizationConfig
from msrn_tf.data.augmentation import CROPPED
from msrn_tf.models.semantics import GRAPH_LAYERS
from msrn_tf.training.losses import make_loss
from msrn_tf.training.schedules import learning_rate_schedule


def test_encoders_are_the_graph_layers():
    assert tuple(GRAPH_LAYERS) == choices.ENCODERS


def test_augmentations_are_those_that_crop_and_those_that_can_be_cached():
    assert sorted(choices.AUGMENTATIONS) == sorted({*CROPPED, *choices.CACHED_AUGMENTATIONS})


def test_every_loss_is_one_of_its_own():
    losses = {name: make_loss(OptimizationConfig(loss=name)) for name in choices.LOSSES}
    assert len({getattr(loss, "func", loss) for loss in losses.values()}) == len(losses)


def test_every_schedule_is_one_of_its_own():
    options = {"learning_rate": 1.0, "steps_per_epoch": 10, "epochs": 10, "decay_epochs": [3]}
    rates = {name: float(learning_rate_schedule(name, **options)(70)) for name in choices.SCHEDULES}
    assert rates["constant"] == 1.0 and rates["step"] == pytest.approx(0.1)
    assert len(set(rates.values())) == len(rates)
