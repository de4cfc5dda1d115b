"""What can be chosen, one dataclass a concern; `msrn_tf.command_line` makes the commands' flags from the fields."""

import dataclasses

from msrn_tf.data.augmentation import AUGMENTATIONS
from msrn_tf.data.readers import READERS
from msrn_tf.errors import UserError
from msrn_tf.label_graph import DEFAULT_THRESHOLD
from msrn_tf.models.label_encoder import ENCODERS
from msrn_tf.training.schedules import SCHEDULES


def option(default, help, *, choices=None, low=None, high=None):
    """A dataclass field with what its flag needs: help text, allowed values, bounds (inclusive)."""
    metadata = {"help": help, "choices": choices, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Data"""

    dataset: str = option("demo", "data set to read", choices=tuple(sorted(READERS)))
    data_dir: str = option("", "folder where the data set lies; `demo` needs none")


@dataclasses.dataclass(frozen=True)
class TrainingDataConfig(DataConfig):
    """Data"""

    train_split: str = option("train", "split to train on; label counts come from it")
    val_split: str = option("val", "split that chooses the best model")
    image_size: int = option(448, "height and width in pixels that images are warped to", low=32)
    augment: str = option("multi_scale_crop", "augmentation in training", choices=AUGMENTATIONS)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Model"""

    model: str = option(
        "msrn", "msrn, or a baseline: global average or maximum pooling", choices=("msrn", "gap", "gmp")
    )
    backbone: str = option(
        "resnet101", "resnet18|34|50|101|152, resnet_tiny, or applications.NAME of keras.applications"
    )
    backbone_weights: str = option("", "Keras weights file (.weights.h5) for the backbone; empty: random")
    freeze_backbone: bool = option(False, "keep the backbone's weights and batch-norm statistics as they are")
    encoder: str = option("gat", "layers over the label graph: graph attention or convolution", choices=tuple(ENCODERS))
    head: str = option("mlp", "the published head or the small one", choices=("mlp", "elementwise"))
    head_units: int = option(2048, "hidden units of the mlp head", low=1)
    channels: int = option(512, "width of label semantics and projected feature maps", low=1)
    pool_ratio: float = option(0.2, "groups = int(pool_ratio · labels), at least 1", low=0.0, high=1.0)
    tap_pooling: str = option(
        "auto", "2×2 maximum of feature maps; auto: where 7×7 remain", choices=("auto", "published", "none")
    )
    dropout: float = option(0.0, "rate of dropout in the head", low=0.0, high=0.99)
    label_graph: str = option("", "label graph file (.npz); empty: counted on the training split")
    graph_threshold: float = option(DEFAULT_THRESHOLD, "P(j|i) from which labels are neighbours", low=0.0, high=1.0)
    word_vectors: str = option(
        "auto", "GloVe text file, or onehot or learned; auto: the label graph file's, else learned"
    )


@dataclasses.dataclass(frozen=True)
class OptimizationConfig:
    """Optimisation"""

    epochs: int = option(40, "passes over the training split", low=1)
    batch_size: int = option(16, "images a step, over all replicas", low=1)
    learning_rate: float = option(0.03, "highest learning rate", low=0.0)
    backbone_factor: float = option(0.1, "the backbone learns at this fraction of the rate", low=0.0)
    momentum: float = option(0.9, "momentum of SGD", low=0.0, high=0.9999)
    weight_decay: float = option(1e-4, "times the weight, added to the gradient", low=0.0)
    clip_norm: float = option(10.0, "the global gradient's norm is clipped to this; 0: not clipped", low=0.0)
    schedule: str = option("step", "learning-rate schedule", choices=SCHEDULES)
    warmup_epochs: float = option(0.0, "epochs of linear growth of the rate", low=0.0)
    decay_epochs: tuple[int, ...] = option((30,), "epochs after which the rate falls to a tenth, for --schedule=step")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Run"""

    workdir: str = option("", "folder for everything the run writes; must not hold another run")
    seed: int = option(0, "of weights, order and augmentation", low=0, high=2**31 - 1)
    num_cpu_replicas: int = option(1, "logical CPU devices to mirror on; 1: all GPUs, or the CPU", low=1)
    sync_batch_norm: bool = option(False, "batch-norm statistics over all replicas")
    tensorboard: bool = option(True, "write TensorBoard summaries")


def check_training(data, model, optimization, run):
    """Refuses combinations that cannot work. Raises `UserError`."""
    if not run.workdir:
        raise UserError("--workdir is missing: give a folder for the run's results")
    if optimization.batch_size % run.num_cpu_replicas:
        raise UserError(
            f"--batch_size={optimization.batch_size}: is not divisible by {run.num_cpu_replicas} replicas; "
            f"use a multiple of {run.num_cpu_replicas}"
        )
    if any(epoch < 1 for epoch in optimization.decay_epochs) or list(optimization.decay_epochs) != sorted(
        set(optimization.decay_epochs)
    ):
        raise UserError(
            f"--decay_epochs={','.join(map(str, optimization.decay_epochs))}: must be increasing and at least 1"
        )
    if optimization.warmup_epochs >= optimization.epochs:
        raise UserError(
            f"--warmup_epochs={optimization.warmup_epochs:g}: must be less than --epochs={optimization.epochs}"
        )
    if data.train_split == data.val_split:
        raise UserError(f"--val_split={data.val_split}: is the training split too; choose another")
