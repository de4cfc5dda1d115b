"""What a run says of itself at its start and at its end."""

import math
import os
from collections.abc import Sequence
from typing import Any

from msrn_tf.data.examples import Examples
from msrn_tf.label_graph import LabelGraph
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.taps import activation_elements
from msrn_tf.terminal import say
from msrn_tf.training.memory import OPTIMIZER_SLOTS


def print_start(
    configs: Sequence[Any],
    strategy: Any,
    model: MultiLabelClassifier,
    label_graph: LabelGraph,
    train_examples: Examples,
    val_examples: Sequence[Any],
) -> None:
    """Devices, data, label graph, parameters by part, memory. `configs`: data, model, optimisation, run."""
    _, model_config, optimization, _ = configs
    kind = strategy.extended.worker_devices[0].split(":")[-2]
    say(f"devices    {strategy.num_replicas_in_sync} × {kind}, {optimization.batch_size} images a step")
    say(
        f"data       {len(train_examples)} images to train on, {len(val_examples)} to validate, "
        f"{model.image_size} pixels"
    )
    if model_config.model == "msrn":
        say(f"graph      {label_graph.describe(model_config.graph_threshold)}")
    say(f"model      {model_config.model} on {model_config.backbone}, {model.count_params():,} parameters")
    sizes = {layer.name: sum(math.prod(weight.shape) for weight in layer.weights) for layer in model.layers}
    parts = [f"{name} {size:,}" for name, size in sizes.items() if size]
    say(f"           {', '.join(parts)}")
    images = optimization.batch_size // strategy.num_replicas_in_sync // optimization.accumulation_steps
    fixed, activations = memory_estimate(model_config, optimization, model, images)
    say(
        f"memory     about {(fixed + activations) / 2**20:,.0f} MB a replica: {fixed / 2**20:,.0f} for weights, "
        f"gradients and optimizer, {activations / 2**20:,.0f} for the backbone's activations of {images} images"
    )


def memory_estimate(
    model_config: Any, optimization: Any, model: MultiLabelClassifier, images: int
) -> tuple[float, float]:
    """Bytes that a replica needs for a step, roughly.

    Args:
        model_config, optimization: of `msrn_tf.config`.
        model: a built `MultiLabelClassifier`.
        images: int, how many go through the network at a time.

    Returns:
        `(fixed, activations)`: weights, gradients, optimizer slots and moving averages in float32; what the backbone's
        layers put out, in the compute dtype. Recomputation keeps about the square root of the layers' number; of
        frozen layers nothing is kept.
    """
    trainable = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    copies = 1 + OPTIMIZER_SLOTS[optimization.optimizer] + optimization.keeps_average
    fixed = 4 * (model.count_params() + trainable * copies)
    layers = [layer for layer in model.backbone.layers if layer.weights]
    learning = sum(bool(layer.trainable_weights) for layer in layers)
    activations = activation_elements(model.backbone, model.image_size) * images * learning / max(1, len(layers))
    if model_config.recompute_backbone:
        activations /= max(1.0, math.sqrt(len(model.backbone.layers)) / 2)
    return fixed, activations * (4 if model.compute_dtype == "float32" else 2)


def print_end(data: Any, run: Any, best: dict[str, Any] | None, splits: Sequence[str]) -> None:
    """The best epoch, and the commands that come next.

    Args:
        best: the record of the epoch whose model was kept; None where the run's records are gone.
        splits: those of the data set.
    """
    path = os.path.join(run.workdir, "model.keras")
    folder = f" --data_dir={data.data_dir}" if data.data_dir else ""
    split = "test" if "test" in splits else data.val_split or data.train_split
    name = os.path.basename(os.path.abspath(run.workdir))
    if best is None:
        say(f"best       {path}; of which epoch, {run.workdir}/metrics.jsonl no longer says")
    else:
        chosen = "the last" if best.get("val_mAP") is None else f"validation mAP {best['val_mAP']:.2f}"
        say(f"best       epoch {best['epoch']}, {chosen}: {path}")
    say(f"next       python -m msrn_tf.evaluate --model={path} --dataset={data.dataset}{folder} --split={split}")
    say(f"           python -m msrn_tf.predict --model={path} --heatmaps={run.workdir}/heatmaps PHOTO...")
    say(f"           python -m export.saved_model --model={path} --output=serving/{name}")
