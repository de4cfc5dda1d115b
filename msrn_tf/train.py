"""`python -m msrn_tf.train`: trains a model on a labelled data set (DESIGN §4 says what it writes)."""

import os

import keras

from msrn_tf import command_line
from msrn_tf.config import ModelConfig, OptimizationConfig, RunConfig, TrainingDataConfig, check_training
from msrn_tf.data.example import targets_of
from msrn_tf.data.readers import open_dataset
from msrn_tf.errors import UserError
from msrn_tf.models.factory import create_model
from msrn_tf.training.distribution import make_strategy
from msrn_tf.training.run_log import RunLog
from msrn_tf.training.setup import check_positives, make_optimizer, prepare_label_graph
from msrn_tf.training.trainer import Trainer


def main(data, model_config, optimization, run):
    """Trains as configured; the dataclasses are those of `msrn_tf.config`."""
    check_training(data, model_config, optimization, run)
    if os.path.exists(os.path.join(run.workdir, "flags.cfg")):
        raise UserError(f"--workdir={run.workdir}: already holds a run; give another folder, or delete it")
    strategy = make_strategy(run.num_cpu_replicas)
    keras.utils.set_random_seed(run.seed)

    reader = open_dataset(data.dataset, data.data_dir)
    train_examples, val_examples = reader.read(data.train_split), reader.read(data.val_split)
    check_positives(reader.labels, targets_of(train_examples), data.train_split)
    label_graph, warnings = prepare_label_graph(model_config, reader.labels, train_examples, run.seed)

    with strategy.scope():
        model = create_model(model_config, reader.labels, data.image_size, label_graph, run.sync_batch_norm)
        optimizer = make_optimizer(optimization, model, len(train_examples))
        trainer = Trainer(
            model, optimizer, strategy, batch_size=optimization.batch_size, clip_norm=optimization.clip_norm
        )

    os.makedirs(run.workdir, exist_ok=True)
    with open(os.path.join(run.workdir, "flags.cfg"), "w", encoding="utf-8") as file:
        file.write(command_line.flagfile_text(data, model_config, optimization, run))
    label_graph.save(os.path.join(run.workdir, "label_graph.npz"))

    print(f"devices    {strategy.num_replicas_in_sync} × {strategy.extended.worker_devices[0].split(':')[-2]}, "
          f"{optimization.batch_size} images a step")  # fmt: skip
    print(
        f"data       {len(train_examples)} images to train on, {len(val_examples)} to validate, "
        f"{data.image_size} pixels"
    )
    if model_config.model == "msrn":
        print(f"graph      {label_graph.describe(model_config.graph_threshold)}")
        for warning in warnings:
            print(f"warning: {warning}")
    print(f"model      {model_config.model} on {model_config.backbone}, {model.count_params():,} parameters")

    best = trainer.fit(
        train_examples,
        val_examples,
        epochs=optimization.epochs,
        augment=data.augment,
        seed=run.seed,
        workdir=run.workdir,
        run_log=RunLog(run.workdir, run.tensorboard),
    )
    path = os.path.join(run.workdir, "model.keras")
    print(f"best       epoch {best['epoch']}, validation mAP {best['val_mAP']:.2f}: {path}")
    print(f"next       python -m msrn_tf.evaluate --model={path} --dataset={data.dataset} "
          f"{f'--data_dir={data.data_dir} ' if data.data_dir else ''}--split=test")  # fmt: skip


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(TrainingDataConfig, ModelConfig, OptimizationConfig, RunConfig))
