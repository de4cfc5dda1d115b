"""A person's photos decoded in batches, while a model works on those before."""

import os

import numpy as np
import tensorflow as tf

from msrn_tf.data.decoding import evaluation_pixels
from msrn_tf.data.example import Example
from msrn_tf.data.pipeline import PREFETCHED_BATCHES, why_not_decoded


def decoded_batches(paths, image_size, batch_size):
    """Batches of the photos that can be decoded, in their order, read ahead on all processors.

    Yields:
        `(indices, images)`: int `[batch]` into `paths`, uint8 `[batch, image_size, image_size, 3]`.
    """

    def decode(index, path):
        return index, evaluation_pixels(tf.io.read_file(path), image_size)

    dataset = tf.data.Dataset.from_tensor_slices((np.arange(len(paths)), list(paths)))
    dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors().batch(batch_size)
    for indices, images in dataset.prefetch(PREFETCHED_BATCHES):
        yield indices.numpy(), images.numpy()


def why_unreadable(path):
    """Why a photo cannot be read or decoded, in a few words."""
    if not os.path.isfile(path):
        return "no such file"
    return why_not_decoded(Example(path, np.zeros(1, np.int8), image_path=path)) or "cannot be read"
