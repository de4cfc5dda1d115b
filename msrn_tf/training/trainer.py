"""The training loop: epochs of steps, validation after each, the best model kept, and checkpoints to go on from."""

import contextlib
import math
import os
import time
from typing import Any

import numpy as np
import tensorflow as tf

from msrn_tf.data.batch_source import BatchSource
from msrn_tf.data.examples import UNKNOWN, name_of
from msrn_tf.errors import DivergenceError, LostWorkerError, UserError
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.evaluation.metrics import evaluate_scores
from msrn_tf.models.factory import save_model
from msrn_tf.progress import ProgressBar
from msrn_tf.terminal import say
from msrn_tf.training.batches import TrainingBatches
from msrn_tf.training.checkpoints import SUMMED, RunCheckpoints, reason_of
from msrn_tf.training.distribution import any_worker, has_workers, of_all_workers
from msrn_tf.training.run_log import RunLog
from msrn_tf.training.train_step import TrainStep

STEPS_BETWEEN_CHECKS = 10


LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class Interrupted(Exception):
    """The run was asked to stop, and wrote a checkpoint."""


class Trainer:
    """Trains a model, validates it after each epoch, keeps the best and can go on where a run ended.

    Args:
        train_step: `TrainStep`.
        checkpoints: `RunCheckpoints`, restored where the run goes on.
        run_log: `RunLog`.
        optimization, run: of `msrn_tf.config`: how long, in what order and with which checkpoints to train.
        skip_bad_images: bool. Skip photos that cannot be decoded, rather than to end the run.
        stop: `StopSignals`, or None.
    """

    def __init__(
        self,
        train_step: TrainStep,
        checkpoints: RunCheckpoints,
        run_log: RunLog,
        optimization: Any,
        run: Any,
        skip_bad_images: bool = True,
        stop: Any = None,
    ):
        self.train_step, self.checkpoints, self.run_log = train_step, checkpoints, run_log
        self.optimization, self.run, self.skip_bad_images = optimization, run, skip_bad_images
        self.model, self.optimizer, self.strategy = train_step.model, train_step.optimizer, train_step.strategy
        self.batch_size = train_step.batch_size
        self.stop = stop
        self.evaluator = Evaluator(self.model, self.batch_size, self.strategy)
        self.is_chief = self.strategy.extended.should_checkpoint
        self._is_profiling = False
        self._bad_validation = {}

    def fit(self, training: BatchSource, validation: BatchSource | None) -> dict[str, Any]:
        """Trains from where the checkpoints are to the end of the last epoch.

        Args:
            training, validation: `BatchSource`; `validation` is None where there is nothing to validate on.

        Returns:
            The best epoch's record.

        Raises:
            UserError: fewer examples than one batch, or a checkpoint that cannot be written.
            DivergenceError: the loss is no longer a number.
            Interrupted: a stop signal came; a checkpoint is written.
            LostWorkerError: another worker is gone.
        """
        try:
            return self._fit(training, validation)
        except LOST_WORKER as error:
            if not has_workers(self.strategy):  # a store answers with the same
                raise
            raise LostWorkerError(
                f"another worker is gone ({reason_of(error)}); start the same command on every worker again: it "
                "continues from the last checkpoint"
            ) from error
        finally:
            self._end_profile()

    def _fit(self, training, validation):
        if len(training.examples) < self.batch_size:
            raise UserError(f"`batch_size`={self.batch_size}: more than the {len(training.examples)} training images")
        self._check_same_position()
        self._last_checkpoint = time.monotonic()
        if any_worker(self.strategy, self._is_stopping()) == (True,):
            raise Interrupted("stopped before the first step")
        batches = TrainingBatches(
            training,
            self.strategy,
            self.batch_size,
            self.run.seed,
            self.skip_bad_images,
            self.optimization.sampling,
        )
        for epoch in range(int(self.checkpoints.epoch), self.optimization.epochs + 1):
            record = self._train_epoch(batches, epoch)
            averaged = self.train_step.moving_average.applied if self.train_step.moving_average else _as_it_is
            with self._stopped_while_validating(epoch), averaged():
                record |= self._validate(validation, record)
                score, best = record.get("val_mAP") or -1.0, float(self.checkpoints.best_map)
                # Without a score (nothing to validate on, or no label present that can be decoded) one model is kept.
                record["best"] = validation is None or score > best or best < 0
                if record["best"]:
                    self.checkpoints.best_map.assign(score)
                    if self.is_chief:
                        self.checkpoints.check_held()
                        save_model(self.model, os.path.join(self.run.workdir, "model.keras"))
            if self.is_chief:
                self.run_log.write(record)
                say(_summary(record, self.optimization.epochs))
            self._advance(epoch + 1, 0, dict.fromkeys(SUMMED, 0.0))
            self._save_checkpoint()
        return self.run_log.best()

    def _train_epoch(self, batches, epoch):
        steps, first = batches.steps, int(self.checkpoints.batch)
        sums = {name: float(self.checkpoints.sums[name]) for name in SUMMED}
        started = time.perf_counter()
        pending = []
        with ProgressBar(f"epoch {epoch}/{self.optimization.epochs}", steps, "steps", quiet=not self.is_chief) as bar:
            for step, batch in enumerate(batches.in_epoch(epoch, first), first + 1):
                with self._profiled((epoch - 1) * steps + step):
                    pending.append(self.train_step(*batch))
                if step % STEPS_BETWEEN_CHECKS == 0 or step == steps or self._acts_now(step):
                    last_loss = self._collect(pending, sums, (epoch - 1) * steps + step)
                    rate = (step - first) * self.batch_size / (time.perf_counter() - started)
                    bar.update(step, f"loss {last_loss:.4f}, {rate:.1f} images/s")
                    self._checkpoint_where_due(epoch, step, steps, sums)
        seconds = time.perf_counter() - started
        return {
            "epoch": epoch,
            "step": epoch * steps,
            **{name: total / steps for name, total in sums.items()},
            **self._learning_rates(),
            "bad_images": len(batches.bad),
            "images_per_second": (steps - first) * self.batch_size / seconds,
        }

    def _learning_rates(self):
        """Of both groups, at the last step."""
        rate = float(self.optimizer.learning_rate)
        return {"learning_rate": rate, "backbone_learning_rate": rate * self.optimization.backbone_factor}

    @contextlib.contextmanager
    def _profiled(self, step):
        """Writes a profile of the planned steps for TensorBoard."""
        first, last = self.run.profile_steps or (0, 0)
        if self.is_chief and step == first:
            tf.profiler.experimental.start(os.path.join(self.run.workdir, "tensorboard"))
            self._is_profiling = True
        yield
        if step == last:
            self._end_profile()

    def _end_profile(self):
        """Also where the run ends before the last planned step."""
        if self._is_profiling:
            tf.profiler.experimental.stop()
            self._is_profiling = False

    def _collect(self, pending, sums, step):
        """Adds the pending steps' scalars to the sums and forgets them; returns the last loss.

        Reading them now and then, not at each step, lets the device run ahead.
        """
        for index, scalars in enumerate(pending):
            loss = float(scalars["loss"])
            if not math.isfinite(loss):
                raise DivergenceError(
                    f"the loss became {loss} at step {step - len(pending) + 1 + index}; "
                    "lower `learning_rate`, or set `clip_norm` or `warmup_epochs`"
                )
            for name in SUMMED:
                value = float(scalars[name])
                # A gradient that overflowed in float16 changed nothing: its step was left out.
                sums[name] += value if math.isfinite(value) else 0.0
        pending.clear()
        return loss

    # Stopping and checkpoints

    def _acts_now(self, step):
        """Whether a signal or the count of steps asks for a checkpoint. Several workers agree on signals less often."""
        signalled = self._is_stopping() and not has_workers(self.strategy)
        return signalled or self._is_counted(step)

    def _is_counted(self, step):
        return bool(self.run.checkpoint_steps and step % self.run.checkpoint_steps == 0)

    def _checkpoint_where_due(self, epoch, step, steps, sums):
        """Writes what is due, also after the last step where the run stops: validation would keep it waiting."""
        is_late = time.monotonic() - self._last_checkpoint > 60 * self.run.checkpoint_minutes > 0
        stopping, late = any_worker(self.strategy, self._is_stopping(), is_late)
        counted = self._is_counted(step)
        self._advance(epoch, step, sums)
        if stopping or (step < steps and (late or counted)):
            self._save_checkpoint()
        if stopping:
            raise Interrupted(f"stopped in epoch {epoch} after step {step}")

    def _is_stopping(self):
        return bool(self.stop and self.stop.received)

    @contextlib.contextmanager
    def _stopped_while_validating(self, epoch):
        """A stop signal meanwhile: the epoch's training is in the checkpoint, and is validated when the run goes on."""
        try:
            yield
        except Interrupted:
            self._save_checkpoint()
            raise Interrupted(f"stopped in epoch {epoch} while validating") from None

    def _check_same_position(self):
        """Refuses to train on where workers restored different checkpoints."""
        positions = of_all_workers(self.strategy, int(self.checkpoints.epoch), int(self.checkpoints.batch))
        if len(set(positions)) > 1:
            raise UserError(
                f"`workdir`={self.run.workdir}: the workers start in different places (epoch, step: "
                f"{', '.join(map(str, positions))}); give a folder that all share"
            )

    def _advance(self, epoch, batch, sums):
        self.checkpoints.epoch.assign(epoch)
        self.checkpoints.batch.assign(batch)
        for name, total in sums.items():
            self.checkpoints.sums[name].assign(total)

    def _save_checkpoint(self):
        self.checkpoints.save()
        self._last_checkpoint = time.monotonic()

    def _validate(self, source, record):
        """What to add to the epoch's record: metrics, or nothing where there is nothing to validate on."""
        if source is None:
            return {}
        examples = source.examples
        title = f"validating {record['epoch']}/{self.optimization.epochs}"
        with ProgressBar(title, len(examples), quiet=not self.is_chief) as bar:

            def progress(done):
                bar.update(done)
                # Several workers validate to the end together: none may leave the others waiting.
                if self._is_stopping() and not has_workers(self.strategy):
                    raise Interrupted

            bad, before = (self._bad_validation if self.skip_bad_images else None), len(self._bad_validation)
            scores = self.evaluator.scores(source, progress, bad)
        targets = np.array(examples.targets)
        if bad is not None:
            self._share_bad(source, before)
            targets[list(bad)] = UNKNOWN
        if self.is_chief:
            self.run_log.write_predictions(record["step"], self.model.labels, scores, targets)
        metrics = evaluate_scores(scores, targets, self.model.labels, self.model.thresholds)
        found = {f"val_{name}": metrics[name] for name in ("mAP", "CF1", "OF1", "AP")}
        return found | {"val_bad_images": len(self._bad_validation)}

    def _share_bad(self, source, before):
        """Says which validation photos were skipped for the first time; every worker learns of those of all."""
        bad = self._bad_validation
        if has_workers(self.strategy) and any_worker(self.strategy, len(bad) > before) == (True,):
            reasons = ((row, source.why_not_decoded(row)) for row in range(len(source.examples)))
            bad |= {index: reason for index, reason in reasons if reason}
        for index in list(bad)[before:] if self.is_chief else []:
            say(f"skipped    {name_of(source.examples[index])}: {bad[index]} (validation)")


@contextlib.contextmanager
def _as_it_is():
    yield


def _summary(record, epochs):
    metrics = [
        f"val {name} {record[f'val_{name}']:.2f}"
        for name in ("mAP", "CF1", "OF1")
        if record.get(f"val_{name}") is not None
    ]
    parts = [
        f"epoch {record['epoch']}/{epochs}",
        f"loss {record['loss']:.4f}",
        *metrics,
        f"{record['images_per_second']:.1f} images/s",
        *([f"{record['bad_images']} photos skipped"] if record["bad_images"] else []),
        *([f"{record['val_bad_images']} of validation skipped"] if record.get("val_bad_images") else []),
        *(["best so far"] if metrics and record["best"] else []),
    ]
    return "  ".join(parts)
