"""Trains a small model on the demo set, here or in a process of its own that prints what came of it."""

import dataclasses
import json
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

from msrn_tf.config import ModelConfig, OptimizationConfig, RunConfig
from msrn_tf.data.batch_source import PhotoSource
from msrn_tf.data.demo import DEMO_LABELS, draw_example
from msrn_tf.data.examples import Examples
from msrn_tf.data.pipeline import InputPlan
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.evaluation.metrics import evaluate_scores
from msrn_tf.models.factory import create_model, load_model
from msrn_tf.training.checkpoints import RunCheckpoints
from msrn_tf.training.distribution import make_strategy, worker_index
from msrn_tf.training.graph_setup import prepare_label_graph
from msrn_tf.training.run_log import RunLog
from msrn_tf.training.setup import make_train_step
from msrn_tf.training.trainer import Trainer

# Of one stride: most of a run's time here TensorFlow spends on making the graph of its step.
MODEL = ModelConfig(backbone="resnet_tiny", strides=(8,), channels=8, head="elementwise", word_vectors="learned")
OPTIMIZATION = OptimizationConfig(epochs=3, batch_size=8, learning_rate=0.005, clip_norm=1.0, decay_epochs=[2])
SIZE = 32


def examples():
    """24 drawn photos: three steps an epoch."""
    return Examples.of((draw_example("train", n) for n in range(24)), len(DEMO_LABELS))


def source(count=24):
    """Batches of the first of them."""
    return PhotoSource(examples()[:count], InputPlan(SIZE))


def make_trainer(folder, replicas=1, synchronized=True, stop=None, **changes):
    """`changes`: fields of `OptimizationConfig`, `RunConfig` and `ModelConfig` by name."""
    strategy = make_strategy("auto", replicas)
    keras.utils.set_random_seed(1)
    optimization, run, model_config = (
        dataclasses.replace(
            config, **{field.name: changes[field.name] for field in dataclasses.fields(config) if field.name in changes}
        )
        for config in (OPTIMIZATION, RunConfig(workdir=folder), MODEL)
    )
    graph, _ = prepare_label_graph(model_config, DEMO_LABELS, examples(), 0)
    with strategy.scope():
        model = create_model(model_config, DEMO_LABELS, SIZE, graph, synchronized)
        train_step = make_train_step(optimization, model, strategy, len(examples()))
    worker = worker_index(strategy)
    checkpoints = RunCheckpoints(folder, model, train_step.optimizer, train_step.moving_average, worker=worker)
    return Trainer(train_step, checkpoints, RunLog(folder, False), optimization, run, stop=stop)


def main(runs, weights_files):
    """Trains as each of some dicts says; prints a list of what came of each."""
    # The CPU is split before TensorFlow touches a device: more replicas come first.
    order = sorted(range(len(runs)), key=lambda number: -runs[number].get("replicas", 1))
    results = {number: train(weights_files[number], **runs[number]) for number in order}
    print(json.dumps([results[number] for number in range(len(runs))]))


def train(weights_file, is_kept_scored=False, **changes):
    """One run, whose every weight goes to a file; its losses and the like."""
    keras.utils.clear_session()  # names as in a process of its own
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(folder, **changes)
        trainer.fit(source(), source(10))
        records = trainer.run_log.records()
        kept_map = score_of(f"{folder}/model.keras") if is_kept_scored else None
    np.savez(weights_file, **{variable.path: variable.value.numpy() for variable in trainer.model.weights})
    return {
        "records": records,
        "replicas": trainer.strategy.num_replicas_in_sync,
        "apart": apart(trainer),
        "kept_mAP": kept_map,
    }


def score_of(path):
    """mAP of a model's file on one device."""
    model, photos = load_model(path), source(10)
    scores = Evaluator(model, 10, tf.distribute.get_strategy()).scores(photos)
    return evaluate_scores(scores, photos.examples.targets, model.labels, model.thresholds)["mAP"]


def apart(trainer):
    """Names of all variables of a run of which this process' replicas hold different bits."""
    average = trainer.train_step.moving_average
    variables = [variable.value for variable in [*trainer.model.variables, *trainer.optimizer.variables]]
    variables += average.averages if average else []
    copies = [(variable.name, [one.numpy() for one in getattr(variable, "values", [])]) for variable in variables]
    return [name for name, values in copies if any(not np.array_equal(values[0], value) for value in values[1:])]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
