"""The training loop: epochs of steps, validation after each, the best model kept, and checkpoints to go on from."""

import contextlib
import dataclasses
import math
import os
import time

import tensorflow as tf

from msrn_tf.data.pipeline import training_batches
from msrn_tf.errors import DivergenceError, UserError
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.models.factory import save_model
from msrn_tf.progress import ProgressBar
from msrn_tf.training.checkpoints import SUMMED

STEPS_BETWEEN_CHECKS = 10


@dataclasses.dataclass(frozen=True)
class FitPlan:
    """How long to train, on what order of images, and how often to write checkpoints."""

    epochs: int
    seed: int
    augment: str = "none"
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int = 0


class Interrupted(Exception):
    """The run was asked to stop, and wrote a checkpoint."""


class Trainer:
    """Trains a model, validates it after each epoch, keeps the best and can go on where a run ended.

    Args:
        train_step: `TrainStep`.
        checkpoints: `RunCheckpoints`, restored where the run goes on.
        run_log: `RunLog`.
        workdir: the run's folder.
        stop: `StopSignals`, or None.
    """

    def __init__(self, train_step, checkpoints, run_log, workdir, stop=None):
        self.train_step, self.checkpoints, self.run_log, self.workdir = train_step, checkpoints, run_log, workdir
        self.model, self.optimizer, self.strategy = train_step.model, train_step.optimizer, train_step.strategy
        self.batch_size = train_step.batch_size
        self.stop = stop
        self.evaluator = Evaluator(self.model, self.batch_size, self.strategy)
        self.is_chief = self.strategy.extended.should_checkpoint

    def fit(self, train_examples, val_examples, plan):
        """Trains from where the checkpoints are to the end of the last epoch.

        Returns:
            The best epoch's record.

        Raises:
            UserError: fewer examples than one batch, or a checkpoint that cannot be written.
            DivergenceError: the loss is no longer a number.
            Interrupted: a stop signal came; a checkpoint is written.
        """
        if len(train_examples) < self.batch_size:
            raise UserError(f"--batch_size={self.batch_size}: more than the {len(train_examples)} training images")
        self._last_checkpoint = time.monotonic()
        for epoch in range(int(self.checkpoints.epoch), plan.epochs + 1):
            record = self._train_epoch(train_examples, epoch, plan)
            averaged = self.train_step.moving_average.applied if self.train_step.moving_average else _as_it_is
            with averaged():
                record |= self._validate(val_examples, epoch, plan.epochs)
                record["best"] = record["val_mAP"] > float(self.checkpoints.best_map)
                if record["best"]:
                    self.checkpoints.best_map.assign(record["val_mAP"])
                    if self.is_chief:
                        save_model(self.model, os.path.join(self.workdir, "model.keras"))
            if self.is_chief:
                self.run_log.write(record)
                print(_summary(record, plan.epochs), flush=True)
            self._advance(epoch + 1, 0, dict.fromkeys(SUMMED, 0.0))
            self._save_checkpoint()
        return self.run_log.best()

    def _train_epoch(self, examples, epoch, plan):
        steps = len(examples) // self.batch_size
        first = int(self.checkpoints.batch)
        sums = {name: float(self.checkpoints.sums[name]) for name in SUMMED}
        batches = self._distributed(
            lambda shard: training_batches(
                examples,
                image_size=self.model.image_size,
                batch_size=self.batch_size,
                augment=plan.augment,
                seed=plan.seed,
                epoch=epoch,
                first_batch=first,
                shard=shard,
            )
        )
        started = time.perf_counter()
        pending = []
        with ProgressBar(f"epoch {epoch}/{plan.epochs}", steps, "steps", quiet=not self.is_chief) as bar:
            for step, batch in enumerate(batches, first + 1):
                pending.append(self.train_step(*batch))
                if step % STEPS_BETWEEN_CHECKS == 0 or step == steps or self._acts_now(plan, step):
                    last_loss = self._collect(pending, sums, (epoch - 1) * steps + step)
                    rate = (step - first) * self.batch_size / (time.perf_counter() - started)
                    bar.update(step, f"loss {last_loss:.4f}, {rate:.1f} images/s")
                    if step < steps:
                        self._checkpoint_where_due(epoch, step, sums, plan)
        seconds = time.perf_counter() - started
        return {
            "epoch": epoch,
            "step": epoch * steps,
            **{name: total / steps for name, total in sums.items()},
            **self._learning_rates(),
            "images_per_second": (steps - first) * self.batch_size / seconds,
        }

    def _distributed(self, make_dataset):
        """`make_dataset(shard)`, whose batches are a worker's part of the global batch, split over its replicas."""
        images_per_replica = self.batch_size // self.strategy.num_replicas_in_sync
        return self.strategy.distribute_datasets_from_function(
            lambda context: make_dataset((context.input_pipeline_id, context.num_input_pipelines)).rebatch(
                images_per_replica, drop_remainder=True
            )
        )

    def _learning_rates(self):
        rate = float(self.optimizer.learning_rate)
        return {"learning_rate": rate}

    def _collect(self, pending, sums, step):
        """Adds the pending steps' scalars to the sums and forgets them; returns the last loss.

        Reading them now and then, not at each step, lets the device run ahead.
        """
        for index, scalars in enumerate(pending):
            loss = float(scalars["loss"])
            if not math.isfinite(loss):
                raise DivergenceError(
                    f"the loss became {loss} at step {step - len(pending) + 1 + index}; "
                    "lower --learning_rate, or set --clip_norm or --warmup_epochs"
                )
            for name in SUMMED:
                sums[name] += float(scalars[name])
        pending.clear()
        return loss

    # Stopping and checkpoints

    def _acts_now(self, plan, step):
        """Whether a signal or the count of steps asks for a checkpoint. Several workers agree on signals less often."""
        signalled = bool(self.stop and self.stop.received) and not self._has_workers()
        return signalled or bool(plan.checkpoint_steps and step % plan.checkpoint_steps == 0)

    def _checkpoint_where_due(self, epoch, step, sums, plan):
        stopping, late = self._agree(
            bool(self.stop and self.stop.received),
            time.monotonic() - self._last_checkpoint > 60 * plan.checkpoint_minutes > 0,
        )
        counted = plan.checkpoint_steps and step % plan.checkpoint_steps == 0
        if not (stopping or late or counted):
            return
        self._advance(epoch, step, sums)
        self._save_checkpoint()
        if stopping:
            raise Interrupted(f"stopped in epoch {epoch} after step {step}")

    def _has_workers(self):
        return isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def _agree(self, *wishes):
        """Each wish, as soon as one worker has it: all workers act at the same step."""
        if not self._has_workers():
            return wishes
        votes = self.strategy.run(lambda: tf.constant(wishes, tf.float32))
        return tuple(bool(vote) for vote in self.strategy.reduce("SUM", votes, axis=None).numpy())

    def _advance(self, epoch, batch, sums):
        self.checkpoints.epoch.assign(epoch)
        self.checkpoints.batch.assign(batch)
        for name, total in sums.items():
            self.checkpoints.sums[name].assign(total)

    def _save_checkpoint(self):
        self.checkpoints.save()
        self._last_checkpoint = time.monotonic()

    def _validate(self, examples, epoch, epochs):
        with ProgressBar(f"validating {epoch}/{epochs}", len(examples), quiet=not self.is_chief) as bar:
            metrics = self.evaluator.metrics(examples, bar.update)
        return {f"val_{name}": metrics[name] for name in ("mAP", "CF1", "OF1")}


@contextlib.contextmanager
def _as_it_is():
    yield


def _summary(record, epochs):
    return (
        f"epoch {record['epoch']}/{epochs}  loss {record['loss']:.4f}  val mAP {record['val_mAP']:.2f}  "
        f"CF1 {record['val_CF1']:.2f}  OF1 {record['val_OF1']:.2f}  {record['images_per_second']:.1f} images/s"
        f"{'  best so far' if record['best'] else ''}"
    )
