"""The tf.data pipeline: from examples to batches of uint8 images and int8 targets.

The order of an epoch and every random choice in it are functions of (seed, epoch, position), whatever the number of
parallel calls. Images stay uint8 up to the device, which normalises them: four times fewer bytes to move.
"""

import numpy as np
import tensorflow as tf

from msrn_tf.data.augmentation import random_crop_box, random_flip
from msrn_tf.data.decoding import decode, evaluation_pixels, resize
from msrn_tf.data.example import targets_of

PREFETCHED_BATCHES = 2


def training_batches(examples, *, image_size, batch_size, augment, seed, epoch, first_batch=0, shard=(0, 1)):
    """One epoch of shuffled, augmented, full batches.

    The last `len(examples) % batch_size` images of the epoch's order are left out: a replica with an empty batch would
    turn batch-norm statistics to NaN.

    Args:
        examples: list of `Example`.
        image_size: int. Height and width of the images.
        batch_size: int, over all replicas.
        augment: one of `augmentation.AUGMENTATIONS`.
        seed, epoch: ints.
        first_batch: int. Batches before it are left out; those that follow are what they would have been.
        shard: (index, count). This worker's part of each batch.

    Returns:
        A `tf.data.Dataset` of (uint8 `[batch / count, size, size, 3]`, int8 `[batch / count, C]`).
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(examples))
    positions = _shard_positions(len(examples) // batch_size, batch_size, shard)[first_batch:].reshape(-1)

    def load(source, is_path, target, position):
        image = decode(_read(source, is_path))
        if augment == "multi_scale_crop":
            shape = tf.shape(image)
            top, left, height, width = tf.unstack(
                random_crop_box(shape[0], shape[1], image_size, _stateless_seed(seed, epoch, position, 0))
            )
            image = image[top : top + height, left : left + width]
        image = resize(image, image_size, antialias=False)
        if augment != "none":
            image = random_flip(image, _stateless_seed(seed, epoch, position, 1))
        return image, target

    dataset = _sources([examples[index] for index in order[positions]])
    dataset = tf.data.Dataset.zip(dataset, tf.data.Dataset.from_tensor_slices(positions))
    dataset = dataset.map(lambda item, position: load(*item, position), num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(batch_size // shard[1], drop_remainder=True).prefetch(PREFETCHED_BATCHES)


def _shard_positions(num_batches, batch_size, shard):
    """Positions of an epoch's order that a worker loads, int64 `[batches, batch size / workers]`."""
    index, count = shard
    return np.arange(num_batches * batch_size).reshape(num_batches, count, batch_size // count)[:, index]


def evaluation_batches(examples, *, image_size, batch_size, shard=(0, 1)):
    """All examples in their order, as in `training_batches`.

    The last batch is filled up with black images whose labels are all unknown: every replica has work, the model is
    traced for one shape, and what is unknown adds nothing to a metric.
    """

    def load(source, is_path, target):
        return evaluation_pixels(_read(source, is_path), image_size), target

    blank = (
        tf.zeros([image_size, image_size, 3], tf.uint8),
        tf.fill([len(examples[0].target)], tf.constant(-1, tf.int8)),
    )
    positions = _shard_positions(-(-len(examples) // batch_size), batch_size, shard).reshape(-1)
    mine = [examples[position] for position in positions if position < len(examples)]
    dataset = tf.data.Dataset.from_tensors(blank).repeat(len(positions) - len(mine))
    if mine:
        dataset = _sources(mine).map(load, num_parallel_calls=tf.data.AUTOTUNE).concatenate(dataset)
    return dataset.batch(batch_size // shard[1], drop_remainder=True).prefetch(PREFETCHED_BATCHES)


def _sources(examples):
    """(path or bytes, which of the two, target) of each example."""
    is_path = np.array([example.image_bytes is None for example in examples])
    sources = [example.image_path if example.image_bytes is None else example.image_bytes for example in examples]
    return tf.data.Dataset.from_tensor_slices((tf.constant(sources, tf.string), is_path, targets_of(examples)))


def _read(source, is_path):
    return tf.cond(is_path, lambda: tf.io.read_file(source), lambda: source)


def _stateless_seed(seed, epoch, position, use):
    """A seed pair for `tf.random.stateless_*`: distinct for each epoch, position and use of a run."""
    return tf.stack([tf.constant(2 * seed + use, tf.int64), (epoch << 32) + position])
