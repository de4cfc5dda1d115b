"""Photos on which an export is compared with the model that it was made of."""

import io
import os

import numpy as np
import tensorflow as tf
from PIL import Image

from msrn_tf.data.decoding import evaluation_pixels
from msrn_tf.data.photos import find_photos
from msrn_tf.errors import UserError

MOST_PHOTOS = 32


def example_photo(size: int) -> bytes:
    """JPEG bytes of a smooth picture of `size`×`size` pixels: something to decode."""
    ramp = np.linspace(0, 255, size, dtype=np.uint8)
    pixels = np.stack(
        [np.tile(ramp, (size, 1)), np.tile(ramp[:, None], (1, size)), np.full((size, size), 96, np.uint8)]
    )
    stream = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def read_photos(folder: str, image_size: int) -> list[tuple[bytes, np.ndarray]]:
    """`(bytes, pixels as evaluation sees them)` of the first photos of a folder; of a drawn one without a folder."""
    pixels_of = tf.function(lambda encoded: evaluation_pixels(encoded, image_size), autograph=False)
    if folder:
        encoded = [tf.io.read_file(os.fsencode(path)).numpy() for path in find_photos([folder])[:MOST_PHOTOS]]
    else:
        encoded = [example_photo(image_size)]
    try:
        return [(photo, pixels_of(tf.constant(photo)).numpy()) for photo in encoded]
    except tf.errors.OpError as error:
        raise UserError(f"`photos`={folder}: holds a file that is not a photo ({error.message[:80]})") from error
