"""A person's photos: files, folders, patterns and lists named on a command line, decoded in batches."""

import glob
import os

import numpy as np
import tensorflow as tf

from msrn_tf.data.decoding import evaluation_pixels
from msrn_tf.data.example import Example
from msrn_tf.data.pipeline import PREFETCHED_BATCHES, why_not_decoded
from msrn_tf.errors import UserError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
STANDARD_INPUT = "-"


def find_photos(arguments, listed=()):
    """Paths of photos, each once: files as they are named, what lies in folders, what matches patterns.

    Args:
        arguments: files, folders (searched by suffix, sorted, with subfolders) and patterns (`*`, `?`, `[…]`, `**`);
            `-` stands for `listed`.
        listed: lines of standard input, a path each. One that is not there is found out when it is read.

    Raises:
        UserError: nothing is named, a name does not exist, or no photo is found.
    """
    if not arguments:
        raise UserError("no photo is named: give files, folders or patterns after the flags, or - for a list")
    paths = []
    for argument in arguments:
        if argument == STANDARD_INPUT:
            paths += [line.rstrip("\r\n") for line in listed if line.strip()]
        elif os.path.isdir(argument):
            paths += _photos_in(argument)
        elif os.path.isfile(argument):
            paths.append(argument)
        else:
            matches = sorted(glob.glob(argument, recursive=True)) if glob.has_magic(argument) else []
            if not matches:
                raise UserError(f"{argument}: no such file or folder, and no pattern that matches one")
            for match in matches:
                paths += _photos_in(match) if os.path.isdir(match) else [match]
    if not paths:
        raise UserError(f"{', '.join(arguments)}: no photo found; looked for {', '.join(PHOTO_SUFFIXES)}")
    return list(dict.fromkeys(paths))


def _photos_in(folder):
    return [
        os.path.join(inner, name)
        for inner, _, names in sorted(os.walk(folder))
        for name in sorted(names)
        if name.lower().endswith(PHOTO_SUFFIXES)
    ]


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
