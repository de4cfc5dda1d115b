"""`python -m msrn_tf.train`: trains a model on a labelled data set and writes it to `--workdir`.

If a run was interrupted or killed, give the same command again to continue. Flagfiles are in `configs/`; README.md
says what the run writes.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from msrn_tf import command_line
from msrn_tf.config import ModelConfig, OptimizationConfig, RunConfig, TrainingDataConfig, check_training
from msrn_tf.data.addons import import_addons_image
from msrn_tf.data.batch_source import BatchSource, PhotoSource
from msrn_tf.data.examples import Examples
from msrn_tf.data.pipeline import InputPlan, evaluation_batches, in_memory, why_not_decoded
from msrn_tf.data.readers import read_split
from msrn_tf.errors import argument
from msrn_tf.label_graph import LabelGraph
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.factory import create_model, load_model
from msrn_tf.models.transfer import transfer_weights
from msrn_tf.terminal import say
from msrn_tf.training import run_directory
from msrn_tf.training.batches import check_photos
from msrn_tf.training.checkpoints import RunCheckpoints, checkpoint_paths
from msrn_tf.training.distribution import check_batch_size, make_strategy, worker_index
from msrn_tf.training.feature_cache import FeatureCache
from msrn_tf.training.graph_setup import prepare_label_graph
from msrn_tf.training.interruption import StopSignals
from msrn_tf.training.memory import check_memory
from msrn_tf.training.run_log import RunLog
from msrn_tf.training.setup import check_absent, check_positives, check_validation, make_train_step, positive_weights
from msrn_tf.training.summary import print_end, print_start
from msrn_tf.training.trainer import Interrupted, Trainer
from msrn_tf.visualization.heatmaps import contact_sheet

SAMPLE_PICTURES = 6
AUTO_CACHE, CACHE_FOLDER = "auto", "feature_maps"


def main(data: TrainingDataConfig, model_config: ModelConfig, optimization: OptimizationConfig, run: RunConfig) -> None:
    """Trains as configured; the dataclasses are those of `msrn_tf.config`."""
    check_training(data, model_config, optimization, run)
    with StopSignals() as stop:
        try:
            _train(data, model_config, optimization, run, stop)
        except Interrupted as interrupted:
            who = stop.received or "another worker"
            say(f"{interrupted} by {who}; the same command continues from there")


def _train(data, model_config, optimization, run, stop):
    if run.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = make_strategy(run.strategy, run.num_cpu_replicas)
    check_batch_size(optimization.batch_size, strategy, optimization.accumulation_steps)
    keras.utils.set_random_seed(run.seed)
    # Of several workers the first alone writes.
    alone = worker_index(strategy) == 0
    with run_directory.held(run.workdir) if alone else contextlib.nullcontext(lambda: None) as check_held:
        _train_on(strategy, (data, model_config, optimization, run), stop, check_held)


def _train_on(strategy, configs, stop, check_held):
    data, model_config, optimization, run = configs
    goes_on = run_directory.is_started(run.workdir)
    if goes_on:
        run_directory.check_same_flags(run.workdir, configs)
    inputs = read_inputs(configs, goes_on)
    warnings = inputs.warnings + check_memory(model_config, optimization, strategy, inputs.label_graph)
    with strategy.scope():
        model = create_model(model_config, inputs.labels, data.image_size, inputs.label_graph, run.sync_batch_norm)
        has_checkpoint = bool(checkpoint_paths(run.workdir))
        # Feature maps are of the backbone that training started with, and come before a checkpoint is read.
        takes = data.cache_features or not has_checkpoint
        transferred = transfer_into(model, model_config.init_from) if takes else []
    training, validation, cached = open_sources(data, model, inputs, run.workdir)
    with strategy.scope():
        train_step = make_train_step(
            optimization, model, strategy, len(inputs.training), training.feature_maps(model), inputs.positive_weights
        )
    worker = worker_index(strategy)
    is_chief = worker == 0
    checkpoints = RunCheckpoints(
        run.workdir,
        model,
        train_step.optimizer,
        train_step.moving_average,
        keep=run.keep_checkpoints,
        worker=worker,
        check_held=check_held,
    )
    pictures = sample_pictures(model, inputs.validation, data.max_pixels)
    run_log = RunLog(run.workdir, run.tensorboard and is_chief, pictures)
    path, damaged = checkpoints.restore() if goes_on else (None, [])
    if is_chief:
        if not goes_on:
            run_directory.start(run.workdir, configs, inputs.training, inputs.labels)
            inputs.label_graph.save(os.path.join(run.workdir, "label_graph.npz"))
        run_log.keep_before(int(checkpoints.epoch))
        print_start(configs, strategy, model, inputs.label_graph, inputs.training, inputs.validation or ())
        say_each("cache      ", cached)
        say_each("transfer   ", [] if has_checkpoint else transferred)
        say_each("warning: ", [command_line.with_flags(warning, *configs) for warning in [*warnings, *damaged]])
        if path:
            say(f"continues  in epoch {int(checkpoints.epoch)} after step {int(checkpoints.batch)}, from {path}")
    trainer = Trainer(train_step, checkpoints, run_log, optimization, run, data.bad_images == "skip", stop)
    best = trainer.fit(training, validation)
    if is_chief:
        print_end(data, run, best, inputs.splits)


@dataclasses.dataclass(frozen=True)
class TrainingInputs:
    """What a run reads before it makes a model.

    Attributes:
        labels: C names.
        splits: of the data set.
        training, validation: `Examples`; `validation` is None where there is no such split.
        label_graph: `LabelGraph` with word vectors.
        warnings: sentences for a person.
        positive_weights: float32 `[C]` of `--positive_weight`; None: 1.
    """

    labels: Sequence[str]
    splits: Sequence[str]
    training: Examples
    validation: Examples | None
    label_graph: LabelGraph
    warnings: list[str]
    positive_weights: np.ndarray | None


def read_inputs(configs: Sequence[Any], goes_on: bool) -> TrainingInputs:
    """`TrainingInputs`, checked: what can be known at the start to be wrong is said before anything is computed."""
    data, model_config, optimization, run = configs
    reader = data.open(data.train_split, optimization.unlisted)
    training = read_split(reader, data.train_split, data.drop_unlabelled)
    validation = read_split(reader, data.val_split, data.drop_unlabelled) if data.val_split else None
    check_positives(reader.labels, training, data.train_split)
    weights = positive_weights(reader.labels, training) if optimization.positive_weight == "balanced" else None
    warnings = check_absent(training)
    warnings += check_validation(reader.labels, validation, data.val_split) if validation else []
    if data.bad_images == "fail" and validation:
        check_photos(validation, data.max_pixels)
    if goes_on:
        run_directory.check_same_data(run.workdir, training, reader.labels)
    if data.augment == "addons":
        import_addons_image()
    if data.cache_images:
        training, validation = in_memory(training), validation and in_memory(validation)
    label_graph, more = prepare_label_graph(model_config, reader.labels, training, run.seed)
    return TrainingInputs(reader.labels, reader.splits, training, validation, label_graph, warnings + more, weights)


def transfer_into(model: MultiLabelClassifier, path: str) -> list[str]:
    """Takes what fits from the model of `--init_from`, and returns sentences about it."""
    if not path:
        return []
    with argument("init_from"):
        source = load_model(path)
    return transfer_weights(source, model).describe()


def open_sources(
    data: TrainingDataConfig, model: MultiLabelClassifier, inputs: TrainingInputs, workdir: str
) -> tuple[BatchSource, BatchSource | None, list[str]]:
    """`(training, validation, sentences)`: the sources of batches, and what a cache of feature maps says of itself."""
    if not data.cache_features:
        plan = InputPlan.of(data)
        validation = PhotoSource(inputs.validation, plan) if inputs.validation else None
        return PhotoSource(inputs.training, plan), validation, []
    folder = os.path.join(workdir, CACHE_FOLDER) if data.cache_features == AUTO_CACHE else data.cache_features
    cache = FeatureCache(folder, model, data.max_pixels)
    training, sentence = cache.open(inputs.training, augment=data.augment, training=True)
    if not inputs.validation:
        return training, None, [sentence]
    held_out, another = cache.open(inputs.validation, training=False)
    return training, held_out, [sentence, another]


def say_each(beginning: str, sentences: Iterable[str]) -> None:
    """A line for each."""
    for sentence in sentences:
        say(f"{beginning}{sentence}")


def sample_pictures(
    model: MultiLabelClassifier, examples: Examples | None, max_pixels: int
) -> Callable[[], dict[str, np.ndarray]] | None:
    """For TensorBoard: a function that shows where the model looks in a few photos; None for a model that does not."""
    if not model.explains or not examples:
        return None
    few = examples[:: -(-len(examples) // SAMPLE_PICTURES)]

    def pictures():
        sound = few.take([row for row, example in enumerate(few) if not why_not_decoded(example, max_pixels)])
        if not sound:
            return {}
        batches = evaluation_batches(sound, image_size=model.image_size, batch_size=len(sound), max_pixels=max_pixels)
        images, _ = next(iter(batches))
        return {"predictions": contact_sheet(model, images)}

    return pictures


if __name__ == "__main__":
    command_line.run(
        main,
        usage=__doc__,
        configs=(TrainingDataConfig, ModelConfig, OptimizationConfig, RunConfig),
        chooses_devices=True,  # under Slurm, each task its own
    )
