"""The training loop: a `tf.function` over `strategy.run`, for one device or many.

Keras' own `fit` cannot run on several machines (its symbolic build reduces a PerReplica batch); this loop gives the
same weights on one device, on mirrored devices and on several workers.
"""

import math
import os
import time

import tensorflow as tf

from msrn_tf.data.pipeline import training_batches
from msrn_tf.errors import DivergenceError, UserError
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.models.factory import save_model
from msrn_tf.progress import ProgressBar
from msrn_tf.training.losses import binary_crossentropy
from msrn_tf.training.optimizers import all_reduce_and_clip

STEPS_BETWEEN_CHECKS = 10


class Trainer:
    """Trains a model, validates it after each epoch and keeps the best.

    Args:
        model: a built `MultiLabelClassifier`, made in the strategy's scope.
        optimizer: a Keras optimizer whose `apply` takes gradients already summed over replicas (`GroupSGD`), made in
            the strategy's scope.
        strategy: `tf.distribute.Strategy`.
        batch_size: int, over all replicas.
        clip_norm: float; 0 does not clip.
    """

    def __init__(self, model, optimizer, strategy, *, batch_size, clip_norm=0.0):
        if batch_size % strategy.num_replicas_in_sync:
            raise UserError(
                f"--batch_size={batch_size}: is not divisible by {strategy.num_replicas_in_sync} replicas; "
                f"use a multiple of {strategy.num_replicas_in_sync}"
            )
        self.model, self.optimizer, self.strategy = model, optimizer, strategy
        self.batch_size, self.clip_norm = batch_size, clip_norm
        self.evaluator = Evaluator(model, batch_size, strategy)
        with strategy.scope():
            optimizer.build(model.trainable_variables)

    def fit(self, train_examples, val_examples, *, epochs, augment, seed, workdir, run_log):
        """Trains for `epochs`; returns the best epoch's record.

        Raises:
            UserError: fewer examples than one batch.
            DivergenceError: the loss is no longer a number.
        """
        if len(train_examples) < self.batch_size:
            raise UserError(f"--batch_size={self.batch_size}: more than the {len(train_examples)} training images")
        best = None
        for epoch in range(1, epochs + 1):
            record = self._train_epoch(train_examples, epoch, epochs, augment=augment, seed=seed)
            record |= self._validate(val_examples, epoch, epochs)
            record["best"] = best is None or record["val_mAP"] > best["val_mAP"]
            if record["best"]:
                best = record
                save_model(self.model, os.path.join(workdir, "model.keras"))
            run_log.write(record)
            print(_summary(record, epochs), flush=True)
        return best

    def _train_epoch(self, examples, epoch, epochs, *, augment, seed):
        dataset = training_batches(
            examples,
            image_size=self.model.image_size,
            batch_size=self.batch_size,
            augment=augment,
            seed=seed,
            epoch=epoch,
        )
        steps = len(examples) // self.batch_size
        first_step = (epoch - 1) * steps + 1
        history, checked = [], 0
        started = time.perf_counter()
        with ProgressBar(f"epoch {epoch}/{epochs}", steps, "steps") as bar:
            for step, batch in enumerate(self.strategy.experimental_distribute_dataset(dataset), 1):
                history.append(self.train_step(*batch))
                if step % STEPS_BETWEEN_CHECKS == 0 or step == steps:
                    checked = self._check_finite(history, checked, first_step)
                    rate = step * self.batch_size / (time.perf_counter() - started)
                    bar.update(step, f"loss {float(history[-1]['loss']):.4f}, {rate:.1f} images/s")
        seconds = time.perf_counter() - started
        means = {name: float(sum(float(h[name]) for h in history)) / len(history) for name in history[0]}
        return {
            "epoch": epoch,
            "step": epoch * steps,
            **means,
            "learning_rate": float(self.optimizer.learning_rate),
            "images_per_second": steps * self.batch_size / seconds,
        }

    @tf.function
    def train_step(self, images, targets):
        """One step on a distributed batch; returns scalars: losses of the whole batch, global gradient norm."""
        scalars = self.strategy.run(self._replica_step, args=(images, targets))
        return {
            name: self.strategy.reduce("MEAN" if name == "gradient_norm" else "SUM", value, axis=None)
            for name, value in scalars.items()
        }

    def _replica_step(self, images, targets):
        """A replica's share: its images' part of the mean over the global batch, and an equal part of other losses."""
        with tf.GradientTape() as tape:
            logits, group_loss = self.model.forward(images, training=True)
            classification_loss = tf.reduce_sum(binary_crossentropy(targets, logits)) / self.batch_size
            group_loss = group_loss / self.strategy.num_replicas_in_sync
            loss = classification_loss + group_loss
        gradients = tape.gradient(loss, [variable.value for variable in self.model.trainable_variables])
        gradients, norm = all_reduce_and_clip(gradients, self.clip_norm)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return {
            "loss": loss,
            "classification_loss": classification_loss,
            "group_loss": group_loss,
            "gradient_norm": norm,
        }

    def _check_finite(self, history, checked, first_step):
        """Raises where a loss since the last check is not finite; reading it now and then lets the device run ahead."""
        for index in range(checked, len(history)):
            if not math.isfinite(float(history[index]["loss"])):
                raise DivergenceError(
                    f"the loss became {float(history[index]['loss'])} at step {first_step + index}; "
                    "lower --learning_rate, or set --clip_norm or --warmup_epochs"
                )
        return len(history)

    def _validate(self, examples, epoch, epochs):
        with ProgressBar(f"validating {epoch}/{epochs}", len(examples)) as bar:
            metrics = self.evaluator.metrics(examples, bar.update)
        return {f"val_{name}": metrics[name] for name in ("mAP", "CF1", "OF1")}


def _summary(record, epochs):
    return (
        f"epoch {record['epoch']}/{epochs}  loss {record['loss']:.4f}  val mAP {record['val_mAP']:.2f}  "
        f"CF1 {record['val_CF1']:.2f}  OF1 {record['val_OF1']:.2f}  {record['images_per_second']:.1f} images/s"
        f"{'  best so far' if record['best'] else ''}"
    )
