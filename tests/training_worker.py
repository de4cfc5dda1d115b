"""Run by test_training.py in a process of its own: trains a small model on some replicas and prints its losses."""

import dataclasses
import json
import sys
import tempfile

import keras
import numpy as np

from msrn_tf.config import ModelConfig, OptimizationConfig
from msrn_tf.data.demo import DEMO_LABELS, draw_example
from msrn_tf.data.pipeline import InputPlan
from msrn_tf.models.factory import create_model
from msrn_tf.training.checkpoints import RunCheckpoints
from msrn_tf.training.distribution import make_strategy, worker_index
from msrn_tf.training.run_log import RunLog
from msrn_tf.training.setup import make_train_step, prepare_label_graph
from msrn_tf.training.trainer import FitPlan, Trainer

MODEL = ModelConfig(backbone="resnet_tiny", channels=16, head="elementwise", word_vectors="learned")
OPTIMIZATION = OptimizationConfig(epochs=3, batch_size=8, learning_rate=0.005, clip_norm=1.0, decay_epochs=[2])


def main(replicas, changes, synchronized=True):
    """`changes`: fields of `OptimizationConfig` and `ModelConfig` by name."""
    strategy = make_strategy("auto", replicas)
    keras.utils.set_random_seed(1)
    examples = [draw_example("train", n) for n in range(24)]
    fields = {field.name for field in dataclasses.fields(OptimizationConfig)}
    optimization = dataclasses.replace(OPTIMIZATION, **{k: v for k, v in changes.items() if k in fields})
    model_config = dataclasses.replace(MODEL, **{k: v for k, v in changes.items() if k not in fields})
    graph, _ = prepare_label_graph(model_config, DEMO_LABELS, examples, 0)
    with strategy.scope():
        model = create_model(model_config, DEMO_LABELS, 64, graph, synchronized)
        train_step = make_train_step(optimization, model, strategy, len(examples))
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = RunCheckpoints(
            folder, model, train_step.optimizer, train_step.moving_average, worker=worker_index(strategy)
        )
        trainer = Trainer(train_step, checkpoints, RunLog(folder, False), folder)
        trainer.fit(examples, examples[:10], FitPlan(optimization.epochs, seed=0, inputs=InputPlan(64)))
        records = trainer.run_log.records()
    weights = {variable.path: np.asarray(variable.value.numpy()).ravel()[:50].tolist() for variable in model.weights}
    print(json.dumps({"records": records, "weights": weights, "replicas": strategy.num_replicas_in_sync}))


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]) if len(sys.argv) > 2 else {})
