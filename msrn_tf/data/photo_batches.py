"""A person's photos decoded in batches, while a model works on those before."""

import functools
import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from msrn_tf import storage
from msrn_tf.choices import MAX_PIXELS, READS_IN_FLIGHT
from msrn_tf.data.decoding import evaluation_pixels
from msrn_tf.data.examples import Example
from msrn_tf.data.photos import why_no_photo_is_there, why_not_a_photo_file
from msrn_tf.data.pipeline import PREFETCHED_BATCHES, as_written, decoded, is_of_the_photo, why_not_decoded


def decoded_batches(paths: Sequence[str], image_size: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of the photos that can be read and decoded, in their order, read ahead on all processors.

    Yields:
        `(indices, images)`: int `[batch]` into `paths`, uint8 `[batch, image_size, image_size, 3]`.
    """
    reasons = storage.in_flight(why_not_a_photo_file, paths, remote=any(map(storage.is_address, paths)))
    files = [index for index, reason in enumerate(reasons) if not reason]
    if not files:
        return
    named = tf.data.Dataset.from_tensor_slices((files, [os.fsencode(paths[index]) for index in files]))
    encoded = named.map(as_written(_read), num_parallel_calls=READS_IN_FLIGHT, use_unbounded_threadpool=True)
    photos = encoded.map(as_written(_decode_as_read(image_size)), num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    for indices, images in photos.batch(batch_size).prefetch(PREFETCHED_BATCHES):
        yield indices.numpy(), images.numpy()


def _read(index, path):
    return index, tf.io.read_file(path)


@functools.lru_cache
def _decode_as_read(image_size):
    """The function of (index, bytes) → (index, pixels), which takes TensorFlow seconds to trace: once for all calls."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.string)], autograph=False)
    def decode(index, encoded):
        return index, evaluation_pixels(encoded, image_size)

    return decode


def evaluation_photo(path: str, image_size: int) -> tuple[np.ndarray, str]:
    """What a model sees of one photo.

    Returns:
        `(pixels, reason)`: uint8 `[image_size, image_size, 3]` and `""`, or a black photo and why there is no other.

    Raises:
        OSError, tf.errors.OpError: a disk or a store fails; the photo may be read another time.
    """
    try:
        reason = why_no_photo_is_there(path)
        if not reason:
            encoded = tf.io.read_file(os.fsencode(path))
            return _decode_as_read(image_size)(0, encoded)[1].numpy(), ""
    except (OSError, tf.errors.OpError) as error:
        if not is_of_the_photo(error, path):
            raise
        reason = why_unreadable(path)
    return np.zeros((image_size, image_size, 3), np.uint8), reason


def whole_photo(path: str) -> Image.Image:
    """A photo of any size, upright, as a `PIL.Image`. Raises `tf.errors.OpError` where it cannot be decoded."""
    return Image.fromarray(decoded(tf.io.read_file(os.fsencode(path)), MAX_PIXELS).numpy())


def why_unreadable(path: str) -> str:
    """Why a photo cannot be read or decoded, in a few words."""
    reason = why_not_a_photo_file(path)
    return reason or why_not_decoded(Example(path, np.zeros(1, np.int8), image_path=path)) or "it can be decoded here"
