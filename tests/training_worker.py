"""Run by test_training.py in a process of its own: trains a small model on some replicas and prints its losses."""

import json
import sys
import tempfile

import keras
import numpy as np

from msrn_tf.config import ModelConfig, OptimizationConfig
from msrn_tf.data.demo import DEMO_LABELS, draw_example
from msrn_tf.models.factory import create_model
from msrn_tf.training.distribution import make_strategy
from msrn_tf.training.run_log import RunLog
from msrn_tf.training.setup import make_optimizer, prepare_label_graph
from msrn_tf.training.trainer import Trainer


def main(replicas, learning_rate=0.02, synchronized=True):
    strategy = make_strategy(replicas)
    keras.utils.set_random_seed(1)
    examples = [draw_example("train", n) for n in range(24)]
    model_config = ModelConfig(backbone="resnet_tiny", channels=16, head="elementwise", word_vectors="learned")
    optimization = OptimizationConfig(
        epochs=3, batch_size=8, learning_rate=learning_rate, clip_norm=1.0, decay_epochs=[2]
    )
    graph, _ = prepare_label_graph(model_config, DEMO_LABELS, examples, 0)
    with strategy.scope():
        model = create_model(model_config, DEMO_LABELS, 64, graph, synchronized)
        optimizer = make_optimizer(optimization, model, len(examples))
        trainer = Trainer(model, optimizer, strategy, batch_size=8, clip_norm=optimization.clip_norm)
    with tempfile.TemporaryDirectory() as folder:
        trainer.fit(
            examples, examples[:10], epochs=3, augment="none", seed=0, workdir=folder, run_log=RunLog(folder, False)
        )
        with open(f"{folder}/metrics.jsonl", encoding="utf-8") as file:
            records = [json.loads(line) for line in file]
    norms = sorted(float(np.linalg.norm(value)) for value in model.get_weights())
    print(json.dumps({"records": records, "norms": norms, "replicas": strategy.num_replicas_in_sync}))


if __name__ == "__main__":
    main(int(sys.argv[1]), *map(float, sys.argv[2:]))
