"""`python -m msrn_tf.train`: trains a model on a labelled data set; README says what it writes.

A run that was interrupted or killed goes on when the same command is given again.
"""

import contextlib
import os

import keras
import tensorflow as tf

from msrn_tf import command_line
from msrn_tf.config import ModelConfig, OptimizationConfig, RunConfig, TrainingDataConfig, check_training
from msrn_tf.data import pipeline as pipeline_of_images
from msrn_tf.data.addons import import_addons_image
from msrn_tf.data.example import targets_of
from msrn_tf.data.pipeline import InputPlan, evaluation_batches, in_memory
from msrn_tf.data.readers import open_dataset, read_split
from msrn_tf.errors import argument
from msrn_tf.models.factory import create_model, load_model
from msrn_tf.models.transfer import transfer_weights
from msrn_tf.terminal import say
from msrn_tf.training import run_directory
from msrn_tf.training.batches import check_photos
from msrn_tf.training.checkpoints import RunCheckpoints, checkpoint_paths
from msrn_tf.training.distribution import make_strategy, worker_index
from msrn_tf.training.feature_cache import FeatureCache
from msrn_tf.training.interruption import StopSignals
from msrn_tf.training.memory import check_memory
from msrn_tf.training.run_log import RunLog
from msrn_tf.training.setup import check_positives, check_validation, make_train_step, prepare_label_graph
from msrn_tf.training.summary import print_end, print_start
from msrn_tf.training.trainer import FitPlan, Interrupted, Trainer
from msrn_tf.visualization.heatmaps import contact_sheet

SAMPLE_PICTURES = 6


def main(data, model_config, optimization, run):
    """Trains as configured; the dataclasses are those of `msrn_tf.config`."""
    check_training(data, model_config, optimization, run)
    with StopSignals() as stop:
        try:
            _train(data, model_config, optimization, run, stop)
        except Interrupted as interrupted:
            who = stop.received or "another worker"
            say(f"{interrupted} by {who}; the same command goes on from there")


def _train(data, model_config, optimization, run, stop):
    if run.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = make_strategy(run.strategy, run.num_cpu_replicas)
    keras.utils.set_random_seed(run.seed)
    # Of several workers the first alone writes.
    with run_directory.held(run.workdir) if worker_index(strategy) == 0 else contextlib.nullcontext():
        _train_on(strategy, (data, model_config, optimization, run), stop)


def _train_on(strategy, configs, stop):
    data, model_config, optimization, run = configs
    goes_on = run_directory.is_started(run.workdir)
    if goes_on:
        run_directory.check_same_flags(run.workdir, configs)
    reader = open_dataset(data.dataset, data.data_dir, data.labels, data.min_photos, data.train_split)
    train_examples = read_split(reader, data.train_split, data.drop_unlabelled)
    val_examples = read_split(reader, data.val_split, data.drop_unlabelled) if data.val_split else []
    check_positives(reader.labels, targets_of(train_examples), data.train_split)
    warnings = check_validation(reader.labels, targets_of(val_examples), data.val_split) if val_examples else []
    if data.bad_images == "fail":
        check_photos(val_examples, data.max_pixels)
    if goes_on:
        run_directory.check_same_data(run.workdir, train_examples, reader.labels)
    if data.augment == "addons":
        import_addons_image()
    if data.cache_images:
        train_examples, val_examples = in_memory(train_examples), in_memory(val_examples)
    label_graph, more_warnings = prepare_label_graph(model_config, reader.labels, train_examples, run.seed)
    warnings += more_warnings
    warnings += check_memory(model_config, optimization, strategy, label_graph)

    with strategy.scope():
        model = create_model(model_config, reader.labels, data.image_size, label_graph, run.sync_batch_norm)
        transfer = []
        if model_config.init_from and not checkpoint_paths(run.workdir):
            with argument("init_from"):
                source = load_model(model_config.init_from)
            transfer = transfer_weights(source, model).describe()
        train_step = make_train_step(optimization, model, strategy, len(train_examples))
    worker = worker_index(strategy)
    checkpoints = RunCheckpoints(
        run.workdir,
        model,
        train_step.optimizer,
        train_step.moving_average,
        keep=run.keep_checkpoints,
        worker=worker,
    )
    is_chief = worker == 0
    run_log = RunLog(run.workdir, run.tensorboard and is_chief, sample_pictures(model, val_examples))
    pipeline, cached = open_pipeline(data, model, train_examples, val_examples)
    path, damaged = checkpoints.restore() if goes_on else (None, [])
    if is_chief:
        if not goes_on:
            run_directory.start(run.workdir, configs, train_examples, reader.labels)
            label_graph.save(os.path.join(run.workdir, "label_graph.npz"))
        run_log.keep_before(int(checkpoints.epoch))
        print_start(configs, strategy, model, label_graph, train_examples, val_examples)
        for line in cached:
            say(f"cache      {line}")
        for line in transfer:
            say(f"transfer   {line}")
        for warning in [*warnings, *damaged]:
            say(f"warning: {warning}")
        if path:
            say(f"goes on    in epoch {int(checkpoints.epoch)} after step {int(checkpoints.batch)}, from {path}")

    plan = FitPlan(
        epochs=optimization.epochs,
        seed=run.seed,
        inputs=InputPlan(data.image_size, data.augment, data.mix, data.max_pixels),
        skip_bad_images=data.bad_images == "skip",
        checkpoint_minutes=run.checkpoint_minutes,
        checkpoint_steps=run.checkpoint_steps,
        profile_steps=run.profile_steps,
        backbone_factor=optimization.backbone_factor,
    )
    trainer = Trainer(train_step, checkpoints, run_log, run.workdir, stop, pipeline)
    best = trainer.fit(train_examples, val_examples, plan)
    if is_chief:
        print_end(data, run, best, reader.splits)


def open_pipeline(data, model, train_examples, val_examples):
    """`(pipeline, lines)`: what gives the batches, with sentences for a person where it is a cache of feature maps."""
    if not data.cache_features:
        return pipeline_of_images, []
    cache = FeatureCache(data.cache_features, model, data.max_pixels)
    lines = [cache.add(train_examples, augment=data.augment, training=True)]
    return cache, lines + ([cache.add(val_examples, training=False)] if val_examples else [])


def sample_pictures(model, examples):
    """For TensorBoard: a function that shows where the model looks in a few photos; None for a model that does not."""
    if not model.explains or not examples:
        return None
    few = examples[:: -(-len(examples) // SAMPLE_PICTURES)]

    def pictures():
        images, _ = next(iter(evaluation_batches(few, image_size=model.image_size, batch_size=len(few))))
        return {"predictions": contact_sheet(model, images)}

    return pictures


if __name__ == "__main__":
    command_line.run(
        main,
        usage=__doc__,
        configs=(TrainingDataConfig, ModelConfig, OptimizationConfig, RunConfig),
        chooses_devices=True,  # under Slurm, each task its own
    )
