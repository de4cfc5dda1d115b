"""The training loop: epochs of steps, validation after each, the best model kept, and checkpoints to go on from."""

import contextlib
import dataclasses
import math
import os
import time

import tensorflow as tf

from msrn_tf.data import pipeline
from msrn_tf.data.example import targets_of
from msrn_tf.data.pipeline import InputPlan, epoch_order, why_not_decoded
from msrn_tf.errors import DivergenceError, LostWorkerError, UserError
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.evaluation.metrics import evaluate_scores
from msrn_tf.models.factory import save_model
from msrn_tf.progress import ProgressBar
from msrn_tf.training.checkpoints import SUMMED, reason_of

STEPS_BETWEEN_CHECKS = 10


@dataclasses.dataclass(frozen=True)
class FitPlan:
    """How long to train, on what order of images, how often to write checkpoints, and which steps to profile."""

    epochs: int
    seed: int
    inputs: InputPlan
    skip_bad_images: bool = True
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int = 0
    profile_steps: tuple[int, ...] = ()
    backbone_factor: float = 1.0


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
        workdir: the run's folder.
        stop: `StopSignals`, or None.
        pipeline: what gives `training_batches` and `evaluation_batches`: the module, or a `FeatureCache`.
    """

    def __init__(self, train_step, checkpoints, run_log, workdir, stop=None, pipeline=pipeline):
        self.train_step, self.checkpoints, self.run_log, self.workdir = train_step, checkpoints, run_log, workdir
        self.model, self.optimizer, self.strategy = train_step.model, train_step.optimizer, train_step.strategy
        self.batch_size = train_step.batch_size
        self.stop, self.pipeline = stop, pipeline
        self.evaluator = Evaluator(self.model, self.batch_size, self.strategy, pipeline=pipeline)
        self.is_chief = self.strategy.extended.should_checkpoint
        self._is_profiling = False
        self._bad_images = {}

    def fit(self, train_examples, val_examples, plan):
        """Trains from where the checkpoints are to the end of the last epoch.

        Returns:
            The best epoch's record.

        Raises:
            UserError: fewer examples than one batch, or a checkpoint that cannot be written.
            DivergenceError: the loss is no longer a number.
            Interrupted: a stop signal came; a checkpoint is written.
            LostWorkerError: another worker is gone.
        """
        try:
            return self._fit(train_examples, val_examples, plan)
        except LOST_WORKER as error:
            raise LostWorkerError(
                f"another worker is gone ({reason_of(error)}); start the same command on every worker again: it goes "
                "on from the last checkpoint"
            ) from error

    def _fit(self, train_examples, val_examples, plan):
        if len(train_examples) < self.batch_size:
            raise UserError(f"--batch_size={self.batch_size}: more than the {len(train_examples)} training images")
        self._check_same_position()
        self._last_checkpoint = time.monotonic()
        for epoch in range(int(self.checkpoints.epoch), plan.epochs + 1):
            record = self._train_epoch(train_examples, epoch, plan)
            averaged = self.train_step.moving_average.applied if self.train_step.moving_average else _as_it_is
            with averaged():
                record |= self._validate(val_examples, record, plan.epochs)
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
        batches = self._batches(examples, epoch, first, plan)
        started = time.perf_counter()
        pending = []
        with ProgressBar(f"epoch {epoch}/{plan.epochs}", steps, "steps", quiet=not self.is_chief) as bar:
            for step, batch in enumerate(batches, first + 1):
                with self._profiled((epoch - 1) * steps + step, plan):
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
            **self._learning_rates(plan),
            "bad_images": len(self._bad_images),
            "images_per_second": (steps - first) * self.batch_size / seconds,
        }

    def _batches(self, examples, epoch, first, plan):
        """The epoch's batches from number `first`; for a photo that cannot be decoded, the next one stands in."""
        done = first
        while True:
            sound = self._without_bad_images(examples)
            batches = self._distributed(
                lambda shard, sound=sound, first=done: self.pipeline.training_batches(
                    sound,
                    plan.inputs,
                    batch_size=self.batch_size,
                    seed=plan.seed,
                    epoch=epoch,
                    first_batch=first,
                    shard=shard,
                )
            )
            try:
                for batch in batches:
                    yield batch
                    done += 1
                return
            except tf.errors.InvalidArgumentError:
                if not self._find_bad_images(sound, epoch, done, plan):
                    raise

    def _find_bad_images(self, examples, epoch, batch, plan):
        """Remembers the photos of a batch that cannot be decoded; returns how many there are."""
        order, positions = epoch_order(len(examples), self.batch_size, plan.seed, epoch)
        found = {}
        for index in order[positions[batch]]:
            reason = why_not_decoded(examples[index], plan.inputs.max_pixels)
            if reason:
                found[int(index)] = reason
                name = examples[index].image_path or examples[index].image_id
                if not plan.skip_bad_images:
                    raise UserError(
                        f"{name}: is no photo that can be decoded ({reason}); mend it, or use --bad_images=skip"
                    )
                print(f"skipped    {name}: {reason}", flush=True)
        self._bad_images |= found
        if len(self._bad_images) == len(examples):
            raise UserError("none of the training photos can be decoded")
        return len(found)

    def _without_bad_images(self, examples):
        sound, count = list(examples), len(examples)
        for index in self._bad_images:
            stand_in = next(n % count for n in range(index + 1, index + count) if n % count not in self._bad_images)
            sound[index] = examples[stand_in]
        return sound

    def _distributed(self, make_dataset):
        """`make_dataset(shard)`, whose batches are a worker's part of the global batch, split over its replicas."""
        images_per_replica = self.batch_size // self.strategy.num_replicas_in_sync
        return self.strategy.distribute_datasets_from_function(
            lambda context: make_dataset((context.input_pipeline_id, context.num_input_pipelines)).rebatch(
                images_per_replica, drop_remainder=True
            )
        )

    def _learning_rates(self, plan):
        """Of both groups, at the last step."""
        rate = float(self.optimizer.learning_rate)
        return {"learning_rate": rate, "backbone_learning_rate": rate * plan.backbone_factor}

    @contextlib.contextmanager
    def _profiled(self, step, plan):
        """Writes a profile of the planned steps for TensorBoard."""
        first, last = plan.profile_steps or (0, 0)
        if self.is_chief and step == first:
            tf.profiler.experimental.start(os.path.join(self.workdir, "tensorboard"))
            self._is_profiling = True
        yield
        if self._is_profiling and step == last:
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

    def _check_same_position(self):
        """Refuses to train on where workers restored different checkpoints."""
        if not self._has_workers():
            return
        epoch, batch = int(self.checkpoints.epoch), int(self.checkpoints.batch)
        votes = self.strategy.run(lambda: tf.constant([[epoch, batch]], tf.int64))
        positions = self.strategy.gather(votes, axis=0).numpy()
        if (positions != positions[0]).any():
            raise UserError(
                f"--workdir={self.workdir}: the workers start in different places (epoch, step: "
                f"{', '.join(str(tuple(map(int, position))) for position in positions)}); give a folder that all share"
            )

    def _advance(self, epoch, batch, sums):
        self.checkpoints.epoch.assign(epoch)
        self.checkpoints.batch.assign(batch)
        for name, total in sums.items():
            self.checkpoints.sums[name].assign(total)

    def _save_checkpoint(self):
        self.checkpoints.save()
        self._last_checkpoint = time.monotonic()

    def _validate(self, examples, record, epochs):
        with ProgressBar(f"validating {record['epoch']}/{epochs}", len(examples), quiet=not self.is_chief) as bar:
            scores = self.evaluator.scores(examples, bar.update)
        targets = targets_of(examples)
        if self.is_chief:
            self.run_log.write_predictions(record["step"], self.model.labels, scores, targets)
        metrics = evaluate_scores(scores, targets, self.model.labels, self.model.thresholds)
        return {f"val_{name}": metrics[name] for name in ("mAP", "CF1", "OF1", "AP")}


@contextlib.contextmanager
def _as_it_is():
    yield


def _summary(record, epochs):
    return (
        f"epoch {record['epoch']}/{epochs}  loss {record['loss']:.4f}  val mAP {record['val_mAP']:.2f}  "
        f"CF1 {record['val_CF1']:.2f}  OF1 {record['val_OF1']:.2f}  {record['images_per_second']:.1f} images/s"
        f"{f'  {bad} photos skipped' if (bad := record['bad_images']) else ''}"
        f"{'  best so far' if record['best'] else ''}"
    )
