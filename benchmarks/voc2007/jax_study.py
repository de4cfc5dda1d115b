"""Trains the variants of `variants.py` with Keras on JAX: on a GPU, minutes for what takes `study.py` hours.

    KERAS_BACKEND=jax PYTHONPATH=. python benchmarks/voc2007/jax_study.py --group=tuning_lite0 --phase=tune --seeds=0

Models, photos, crops, order of epochs, loss, optimizer and schedule are those of `msrn_tf.train`. What differs: initial
weights, crops, flips and dropout are other draws, and a GPU multiplies in TF32. TensorFlow is not needed. Decoded
photos, or the feature maps of a frozen backbone, stay in the device's memory. `tables.py` reads the scores.
"""

import concurrent.futures
import dataclasses
import functools
import os
import time
from unittest import mock

import jax
import jax.numpy as jnp
import keras
import numpy as np
from attention_forms import attending
from PIL import Image
from runs import PHASES, RunsConfig, choices, keep_scores, run_folder, scores_file, trained_parameters
from variants import select

from msrn_tf import command_line
from msrn_tf.command_line import option
from msrn_tf.config import OptimizationConfig
from msrn_tf.data.examples import Examples
from msrn_tf.data.multi_scale_crops import POSITIONS, SCALE_PAIRS, SCALES, SNAP_PIXELS
from msrn_tf.data.readers import open_dataset, read_split
from msrn_tf.errors import UserError
from msrn_tf.evaluation.metrics import evaluate_scores
from msrn_tf.models import factory
from msrn_tf.training.graph_setup import prepare_label_graph
from msrn_tf.training.optimizers import make_optimizer
from msrn_tf.training.schedules import learning_rate_schedule

EVALUATED_AT_A_TIME = 64
AUGMENTATIONS = ("none", "flip", "multi_scale_crop")
FIXED = OptimizationConfig(clip_norm=0.0)
FIXED_CHOICES = (
    "loss", "clip_norm", "accumulation_steps", "unlisted", "positive_weight", "sampling", "ema_decay", "ema_share",
)  # fmt: skip
"""What of `OptimizationConfig` can only be as in `FIXED` here."""


@dataclasses.dataclass(frozen=True)
class JaxStudyConfig(RunsConfig):
    """Study"""

    runs: str = option("runs/voc2007_jax", "folder for scores and models", path="folder")
    keep_models: bool = option(False, "write each run's model.keras beside its scores")


def main(study):
    photos, backbones, programs = Photos(study.voc, PHASES[study.phase]), Backbones(), {}
    for seed in study.seeds:
        for variant in select(study.group, study.only):
            if os.path.exists(scores_file(study, variant, seed)):
                continue
            started = time.perf_counter()
            run = Run(study, variant, seed, photos, backbones, programs)
            state = run.trained()
            scores, targets = run.scores(state)
            seconds = time.perf_counter() - started
            parameters = trained_parameters(run.model)
            keep_scores(scores_file(study, variant, seed), scores, targets, run.model.labels, seconds, parameters)
            if study.keep_models:
                factory.save_model(
                    run.trained_model(state), os.path.join(run_folder(study, variant, seed), "model.keras")
                )
            found = evaluate_scores(scores, targets, run.model.labels, run.model.thresholds)["mAP"]
            print(f"{variant.name:44} seed {seed}  mAP {found:.2f}  {seconds:.0f} s", flush=True)


class Run:
    """One variant with one seed.

    Args:
        study, variant, seed: which.
        photos: `Photos`.
        backbones: `Backbones`.
        programs: the compiled `Program` of each kind of variant, to be filled.
    """

    def __init__(self, study, variant, seed, photos, backbones, programs):
        self.variant, self.seed = variant, seed
        self.data, self.model_config, self.optimization, _ = choices(
            variant, f"--seed={seed}", f"--data_dir={study.voc}"
        )
        self._check()
        self.training, self.test = photos.splits
        graph, _ = prepare_label_graph(self.model_config, photos.labels, self.training.examples, seed)
        with attending(variant.attention), backbones.shared(self.model_config, seed):
            self.model = factory.create_model(self.model_config, photos.labels, self.data.image_size, graph)
        self.photos, is_frozen = photos, self.model_config.freeze_backbone
        self.inputs = backbones.maps(self.model, photos, self.data.augment) if is_frozen else photos.on_device
        fixed = dataclasses.replace(self.optimization, learning_rate=1.0, epochs=1)
        key = self.model_config, self.data.image_size, self.data.augment, variant.attention, fixed
        if key not in programs:
            programs[key] = Program(self.model, fixed, is_frozen)
        self.program = programs[key]

    def _check(self):
        """Raises `UserError` for what this script does not do."""
        config, model = self.optimization, self.model_config
        unlike = [f"--{name}" for name in FIXED_CHOICES if getattr(config, name) != getattr(FIXED, name)]
        unlike += ["--augment"] if self.data.augment not in AUGMENTATIONS[: 2 if model.freeze_backbone else 3] else []
        unlike += ["--mix"] if self.data.mix != "none" else []
        unlike += ["--mixed_precision"] if model.mixed_precision == "float16" else []
        unlike += [f"--{name}" for name in ("init_from", "recompute_backbone") if getattr(model, name, False)]
        unlike += ["one listed label a photo"] if self.variant.single_positive else []
        if unlike:
            raise UserError(
                f"{self.variant.name}: this script does not do {', '.join(unlike)} as it says; use study.py"
            )

    def trained(self):
        """The state after all epochs: trainable and other variables, and the optimizer's."""
        rows = self.training.rows
        config, size = self.optimization, self.optimization.batch_size
        steps = len(rows) // size
        schedule = learning_rate_schedule(
            config.schedule,
            learning_rate=config.learning_rate,
            steps_per_epoch=steps,
            epochs=config.epochs,
            warmup_epochs=config.warmup_epochs,
            decay_epochs=config.decay_epochs,
        )
        rates = [float(schedule(step)) for step in range(steps * config.epochs)]
        state = self.program.first_state(self.model)
        for epoch in range(1, config.epochs + 1):
            order = np.random.default_rng((self.seed, epoch)).permutation(len(rows))[: steps * size]
            chosen = rows[order].reshape(steps, size)
            boxes, flips = self._augmented(chosen, np.random.default_rng((self.seed, epoch, 1)))
            for step in range(steps):
                rate = rates[(epoch - 1) * steps + step]
                batch = chosen[step], boxes[step], flips[step], self.photos.targets[chosen[step]]
                state = self.program.step(state, rate, self.inputs, *batch)
        return state

    def _augmented(self, rows, rng):
        """Boxes and flips of photos, as `--augment` says."""
        sizes = self.photos.sizes[rows]
        is_cropped = self.data.augment == "multi_scale_crop"
        boxes = crop_boxes(sizes, self.data.image_size, rng) if is_cropped else whole(sizes)
        flips = rng.random(rows.shape) < 0.5 if self.data.augment != "none" else np.zeros(rows.shape, bool)
        return boxes, flips

    def scores(self, state):
        """Of the photos to score on, with their targets."""
        rows = self.test.rows
        padded = np.resize(rows, -(-len(rows) // EVALUATED_AT_A_TIME) * EVALUATED_AT_A_TIME)
        parts = []
        for part in padded.reshape(-1, EVALUATED_AT_A_TIME):
            parts.append(self.program.logits(state, self.inputs, part, whole(self.photos.sizes[part])))
        logits = np.concatenate([np.asarray(part) for part in parts])[: len(rows)]
        probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
        return probabilities.astype(np.float32), self.photos.targets[rows]

    def trained_model(self, state):
        """A model of its own with the weights of a state: the network of `self.model` is also that of other runs."""
        values = dict(zip(map(id, variables_of(self.model)), [*state[0], *state[1]], strict=True))
        twin = factory.in_dtype(self.model, "float32")
        twin.set_weights([values[id(weight)] for weight in self.model.weights])
        return twin


class Program:
    """Training step and logits, compiled once for all runs that differ in seed, rate and epochs alone.

    Args:
        model: whose layers compute; its own weights are not used.
        config: `OptimizationConfig`, of a rate of 1.
        from_maps: whether inputs are feature maps and not photos.
    """

    def __init__(self, model, config, from_maps):
        self.model, self.from_maps = model, from_maps
        self.optimizer = make_optimizer(config, 1.0, model.backbone_variables())
        self.optimizer.build(model.trainable_variables)
        self.rate_at = [variable.name for variable in self.optimizer.variables].index("learning_rate")
        self.step = jax.jit(self._step, donate_argnums=0)
        self.logits = jax.jit(self._logits)

    def first_state(self, model):
        """Copies: steps take over the memory of what they are given."""
        parts = model.trainable_variables, model.non_trainable_variables, self.optimizer.variables
        return tuple([jnp.array(variable.value) for variable in part] for part in parts)

    def _step(self, state, rate, inputs, rows, boxes, flips, targets):
        trainable, others, slots = state

        def loss_of(trainable):
            with self._scope(trainable, others) as scope:
                logits, group_loss = self._classify(inputs, rows, boxes, flips, training=True)
            updated = [scope.get_current_value(variable) for variable in self.model.non_trainable_variables]
            return jnp.mean(binary_crossentropy(targets, logits)) + group_loss, updated

        gradients, others = jax.grad(loss_of, has_aux=True)(trainable)
        slots = [jnp.float32(rate) if index == self.rate_at else slot for index, slot in enumerate(slots)]
        trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
        return trainable, others, slots

    def _logits(self, state, inputs, rows, boxes):
        with self._scope(*state[:2]):
            return self._classify(inputs, rows, boxes, jnp.zeros(len(rows), bool), training=False)[0]

    def _scope(self, trainable, others):
        return keras.StatelessScope(zip(variables_of(self.model), [*trainable, *others], strict=True))

    def _classify(self, inputs, rows, boxes, flips, training):
        semantics = self.model.semantics()
        if self.from_maps:
            maps = [kept[rows, flips.astype("int32") % kept.shape[1]] for kept in inputs]
        else:
            antialias = jnp.full(len(rows), not training)
            images = photos_seen(inputs, rows, boxes, flips, self.model.image_size, antialias)
            maps = self.model.feature_maps(images, training=training)
        return self.model.classify(maps, semantics, training=training), semantics.loss


def variables_of(model):
    """In the order of a state, without the optimizer's."""
    return [*model.trainable_variables, *model.non_trainable_variables]


def binary_crossentropy(targets, logits):
    """Of each photo, as `msrn_tf.training.losses` has it."""
    logits, targets = logits.astype("float32"), targets.astype("float32")
    present = jnp.maximum(targets, 0)
    losses = present * jax.nn.softplus(-logits) + (1 - present) * jax.nn.softplus(logits)
    return jnp.mean((targets >= 0) * losses, axis=-1)


class Backbones:
    """One network for all runs that start from the same weights, and a frozen one's feature maps.

    A state holds what is trained: nothing here may assign to a model's variables, which other runs start from.
    """

    def __init__(self):
        self._built, self._maps = {}, {}

    def shared(self, config, seed):
        """Within it, models are made of networks that are there already, if they freeze the same layers.

        What a model has beside the network is drawn by the seed, whether the network was there or not.
        """
        frozen, build = (config.freeze_backbone, config.freeze_batch_norm, config.frozen_stride), factory.build_backbone

        def kept(*arguments):
            key = frozen, arguments
            if key not in self._built:
                keras.utils.set_random_seed(seed)
                self._built[key] = build(*arguments)
            keras.utils.set_random_seed(seed)
            return self._built[key]

        return mock.patch.object(factory, "build_backbone", kept)

    def maps(self, model, photos, augment):
        """float32 `[N, variants, h, w, features]` of all photos, a list; those of the backbone before are dropped."""
        variants = (False,) if augment == "none" else (False, True)
        key = id(model.backbone), model.image_size, variants
        if key not in self._maps:
            self._maps.clear()
            self._maps[key] = self._computed(model, photos, variants)
        return self._maps[key]

    def _computed(self, model, photos, variants):
        @jax.jit
        def part(inputs, values, rows, boxes, antialias):
            with keras.StatelessScope(zip(model.variables, values, strict=True)):
                seen = [
                    photos_seen(inputs, rows, boxes, jnp.full(len(rows), flip), model.image_size, antialias)
                    for flip in variants
                ]
                return [jnp.stack(scale, axis=1) for scale in zip(*map(model.feature_maps, seen), strict=True)]

        count = len(photos.sizes)
        rows = np.resize(np.arange(count), -(-count // EVALUATED_AT_A_TIME) * EVALUATED_AT_A_TIME)
        values, kept = [variable.value for variable in model.variables], None
        for first in range(0, len(rows), EVALUATED_AT_A_TIME):
            chosen = rows[first : first + EVALUATED_AT_A_TIME]
            is_scored = chosen >= len(photos.splits[0].rows)
            new = part(photos.on_device, values, chosen, whole(photos.sizes[chosen]), is_scored)
            if kept is None:
                kept = [jnp.zeros((len(rows), *scale.shape[1:]), scale.dtype) for scale in new]
            kept = _put(kept, new, first)
        return kept


@functools.partial(jax.jit, donate_argnums=0)
def _put(kept, new, first):
    return [jax.lax.dynamic_update_slice_in_dim(a, b, first, 0) for a, b in zip(kept, new, strict=True)]


@dataclasses.dataclass(frozen=True)
class Split:
    """A split's `Examples`, and the rows of `Photos` that they are."""

    examples: Examples
    rows: np.ndarray


class Photos:
    """The photos of some splits of VOC 2007, decoded, those of a split after those of the split before.

    Attributes:
        labels: C names.
        splits: a `Split` each.
        sizes: int `[N, 2]`, height and width.
        targets: int8 `[N, C]`.
        on_device: uint8 `[N, side, side, 3]`, each photo in the upper left corner.
    """

    def __init__(self, voc, splits):
        reader = open_dataset("voc2007", voc)
        self.labels = tuple(reader.labels)
        parts = [read_split(reader, name) for name in splits]
        firsts = np.cumsum([0, *map(len, parts)])
        self.splits = [Split(part, first + np.arange(len(part))) for part, first in zip(parts, firsts, strict=False)]
        self.targets = np.concatenate([part.targets for part in parts])
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            pixels = list(pool.map(_decoded, [example.image_path for part in parts for example in part]))
        self.sizes = np.array([photo.shape[:2] for photo in pixels])
        side = int(self.sizes.max())
        padded = np.zeros((len(pixels), side, side, 3), np.uint8)
        for row, photo in enumerate(pixels):
            padded[row, : photo.shape[0], : photo.shape[1]] = photo
        self.on_device = jax.device_put(padded)


def _decoded(path):
    with Image.open(path) as photo:
        return np.asarray(photo.convert("RGB"))


def whole(sizes):
    """The box `[top, left, height, width]` of all of a photo, for each."""
    return np.concatenate([np.zeros_like(sizes), sizes], axis=-1)


def crop_boxes(sizes, image_size, rng):
    """A random multi-scale crop `[…, 4]` of photos of these sizes `[…, 2]`; see `augmentation.crop_candidate`."""
    scales = np.array(SCALES)[SCALE_PAIRS[rng.integers(len(SCALE_PAIRS), size=sizes.shape[:-1])]]
    quarters = POSITIONS[rng.integers(len(POSITIONS), size=sizes.shape[:-1])]
    extents = np.maximum((sizes.min(axis=-1, keepdims=True) * scales).astype(int), 1)
    extents = np.where((abs(extents - image_size) < SNAP_PIXELS) & (image_size <= sizes), image_size, extents)
    return np.concatenate([(sizes - extents) // 4 * quarters, extents], axis=-1)


def photos_seen(photos, rows, boxes, flips, image_size, antialias):
    """What a model sees: float32 `[batch, image_size, image_size, 3]` of whole numbers, as `tf.image.resize` makes it.

    Args:
        photos: uint8 `[N, side, side, 3]`.
        rows: int `[batch]`.
        boxes: int `[batch, 4]`, the part that becomes the image.
        flips: bool `[batch]`, mirrored or not.
        image_size: int.
        antialias: bool `[batch]`. Without it, as in training, only a photo that is more than a quarter larger.
    """
    boxes = boxes.astype("float32")
    antialias = antialias | (jnp.max(boxes[:, 2:], axis=1) > 1.25 * image_size)
    count = photos.shape[1]
    vertical = _interpolation(boxes[:, 0], boxes[:, 2], count, image_size, antialias)
    horizontal = _interpolation(boxes[:, 1], boxes[:, 3], count, image_size, antialias)
    horizontal = jnp.where(flips[:, None, None], horizontal[:, ::-1], horizontal)
    pixels = photos[rows].astype("float32")
    image = jnp.einsum("bhy,byxc,bwx->bhwc", vertical, pixels, horizontal, precision="highest")
    return jnp.floor(image + 0.5)


def _interpolation(starts, lengths, count, size, antialias):
    """The weights of `count` pixels in each of `size`, `[batch, size, count]`: triangles, for linear interpolation."""
    scale = (lengths / size)[:, None, None]
    centres = starts[:, None, None] + (jnp.arange(size)[None, :, None] + 0.5) * scale
    reach = jnp.where(antialias[:, None, None], jnp.maximum(scale, 1.0), 1.0)
    pixels = jnp.arange(count) + 0.5
    inside = (pixels > starts[:, None, None]) & (pixels < (starts + lengths)[:, None, None])
    weights = jnp.where(inside, jnp.maximum(0.0, 1.0 - jnp.abs(pixels - centres) / reach), 0.0)
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(JaxStudyConfig,))
