"""From encoded bytes to RGB pixels of the model's size: one definition for evaluation, prediction and serving."""

import tensorflow as tf


def decode(encoded):
    """RGB uint8 `[height, width, 3]` of JPEG, PNG, GIF (first frame) or BMP bytes."""
    # The accurate DCT equals Pillow's (libjpeg-turbo's default); the faster one differs by a few grey levels.
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, [None, None, 3])


def resize(image, image_size, antialias=True):
    """Warps uint8 `[height, width, 3]` to uint8 `[image_size, image_size, 3]`, bilinear, as published.

    With `antialias` a shrunken image equals Pillow's; without it is twice as fast.
    """
    image = tf.image.resize(image, (image_size, image_size), "bilinear", antialias=antialias)
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)


def evaluation_pixels(encoded, image_size):
    """What a model sees of a photo outside training: uint8 `[image_size, image_size, 3]`."""
    return resize(decode(encoded), image_size)
