"""Reads a `.keras` file, of today's form or the older one."""

import keras

from msrn_tf.models.model_file import at_most_weights, count_weights
from msrn_tf.models.older_files import is_older, load_older_model


def read_keras_file(path: str) -> keras.Model:
    """The Keras model of a file. No more weights are made than the file has.

    Raises:
        ValueError: it would unpack to far more than it is, or asks for more weights than it has. What is no such file,
            or not whole, or has layers that are not known, raises many kinds.
    """
    with at_most_weights(count_weights(path)):
        return load_older_model(path) if is_older(path) else keras.saving.load_model(path, compile=False)
