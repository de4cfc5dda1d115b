"""From choices to the parts of a run: examples that can be trained on, the training step."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from msrn_tf.data.examples import ABSENT, Examples
from msrn_tf.data.label_policies import UNLISTED
from msrn_tf.errors import UserError
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.training.losses import make_loss
from msrn_tf.training.moving_average import MovingAverage, decay_of_share
from msrn_tf.training.optimizers import make_optimizer
from msrn_tf.training.schedules import learning_rate_schedule
from msrn_tf.training.train_step import TrainStep
from msrn_tf.training.unlisted import LargeLosses, growing_share


def check_positives(labels: Sequence[str], examples: Examples, split: str) -> None:
    """Refuses a label that is nowhere present. Raises `UserError`."""
    missing = [label for label, seen in zip(labels, examples.counts(), strict=True) if not seen]
    if missing:
        raise UserError(
            f"`train_split`={split}: no image shows {', '.join(missing)}; leave out such labels with `min_photos`=1, "
            "or name those to train with `labels`"
        )


def check_validation(labels: Sequence[str], examples: Examples, split: str) -> list[str]:
    """Whether a validation split can choose the best model.

    Returns:
        Warnings: a sentence about labels that it does not show.

    Raises:
        UserError: it shows no label at all.
    """
    missing = [label for label, seen in zip(labels, examples.counts(), strict=True) if not seen]
    if len(missing) == len(labels):
        raise UserError(
            f"`val_split`={split}: no image shows any label, so nothing can choose the best model; choose another "
            "split, or `val_split`= for none"
        )
    more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
    return [f"`val_split`={split}: no image shows {', '.join(missing[:10])}{more}"] if missing else []


def check_absent(examples: Examples) -> list[str]:
    """A warning where no label is known to be absent in any photo: a model that names all of them has no loss then."""
    if (examples.counts(ABSENT) + examples.counts(UNLISTED)).any():
        return []
    return ["no label of the training photos is known to be absent; `unlisted`=suspect learns from such data"]


def positive_weights(labels: Sequence[str], examples: Examples) -> np.ndarray:
    """How many absent labels there are for each present one, float32 `[C]`; what is not listed counts as absent.

    Raises:
        UserError: a label is present in no photo, or absent in none.
    """
    present, absent = examples.counts(), examples.counts(ABSENT) + examples.counts(UNLISTED)
    for state, counts in (("present", present), ("absent", absent)):
        if not counts.all():
            raise UserError(
                f"`positive_weight`=balanced: {labels[int(counts.argmin())]} is known to be {state} in no training "
                "photo; leave that label out, or choose `positive_weight`=none"
            )
    return (absent / present).astype(np.float32)


def make_train_step(
    config: Any,
    model: MultiLabelClassifier,
    strategy: Any,
    num_examples: int,
    feature_maps: Callable[..., list] | None = None,
    weights: np.ndarray | None = None,
) -> TrainStep:
    """`TrainStep` with the chosen loss, schedule, optimizer and moving average. Call it in the strategy's scope.

    Args:
        config: `msrn_tf.config.OptimizationConfig`.
        model: a built `MultiLabelClassifier`.
        strategy: `tf.distribute.Strategy`.
        num_examples: int, size of the training split.
        feature_maps: as in `TrainStep`.
        weights: of present labels, from `positive_weights`; None: 1.
    """
    steps_per_epoch = max(1, num_examples // config.batch_size)
    decay = decay_of_share(config.ema_share, config.epochs * steps_per_epoch) if config.ema_share else config.ema_decay
    schedule = learning_rate_schedule(
        config.schedule,
        learning_rate=config.learning_rate,
        steps_per_epoch=steps_per_epoch,
        epochs=config.epochs,
        warmup_epochs=config.warmup_epochs,
        decay_epochs=config.decay_epochs,
    )
    optimizer = make_optimizer(
        config, schedule, model.backbone_variables(), loss_scaling=model.compute_dtype == "float16"
    )
    optimizer.build(model.trainable_variables)
    suspecting = config.unlisted == "suspect"
    share = growing_share(optimizer.iterations, steps_per_epoch, config.suspect_growth)
    return TrainStep(
        model,
        optimizer,
        strategy,
        loss=make_loss(config, weights, LargeLosses(share, config.suspects == "correct") if suspecting else None),
        batch_size=config.batch_size,
        clip_norm=config.clip_norm,
        accumulation_steps=config.accumulation_steps,
        moving_average=MovingAverage(model.weights, decay) if config.keeps_average else None,
        feature_maps=feature_maps,
        jit_compile=config.jit_compile,
    )
