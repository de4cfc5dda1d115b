"""What a run says of itself at its start and at its end."""

import math
import os


def print_start(configs, strategy, model, label_graph, train_examples, val_examples):
    """Devices, data, label graph, and the model's parameters by part. `configs`: data, model, optimisation, run."""
    data, model_config, optimization, _ = configs
    kind = strategy.extended.worker_devices[0].split(":")[-2]
    print(f"devices    {strategy.num_replicas_in_sync} × {kind}, {optimization.batch_size} images a step")
    print(
        f"data       {len(train_examples)} images to train on, {len(val_examples)} to validate, "
        f"{data.image_size} pixels"
    )
    if model_config.model == "msrn":
        print(f"graph      {label_graph.describe(model_config.graph_threshold)}")
    print(f"model      {model_config.model} on {model_config.backbone}, {model.count_params():,} parameters")
    parts = {layer.name: sum(math.prod(weight.shape) for weight in layer.weights) for layer in model.layers}
    parts = [f"{name} {size:,}" for name, size in parts.items() if size]
    print(f"           {', '.join(parts)}")


def print_end(data, run, best):
    """The best epoch, and the commands that come next."""
    path = os.path.join(run.workdir, "model.keras")
    print(f"best       epoch {best['epoch']}, validation mAP {best['val_mAP']:.2f}: {path}")
    print(f"next       python -m msrn_tf.evaluate --model={path} --dataset={data.dataset} "
          f"{f'--data_dir={data.data_dir} ' if data.data_dir else ''}--split=test")  # fmt: skip
