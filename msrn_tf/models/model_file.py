"""A `.keras` file before Keras reads it: its weights are counted by headers, and a model with more is not made.

Keras makes all variables that a file's configuration asks for, and then looks for their values; both may ask for more
than there is memory.
"""

import contextlib
import io
import math
import os
import threading
import zipfile
from collections.abc import Iterator

import keras

from msrn_tf.arrays import check_archive
from msrn_tf.hdf5 import count_numbers

CONFIGURATION, WEIGHTS = "config.json", "model.weights.h5"
LARGEST_CONFIGURATION = 2**26  # bytes; ResNet-152's has 400 kB


def count_weights(path: str) -> int:
    """How many numbers the weights of a `.keras` file are.

    Raises:
        ValueError: it would unpack to far more than it is. What is no such file, or not whole, raises many kinds.
    """
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, os.path.getsize(path))
        if missing := {CONFIGURATION, WEIGHTS} - set(archive.namelist()):
            raise ValueError(f"it lacks {' and '.join(sorted(missing))}")
        if archive.getinfo(CONFIGURATION).file_size > LARGEST_CONFIGURATION:
            raise ValueError(f"its {CONFIGURATION} is too large for any model")
        # Packed or not, a member is read whole: to step back in one is to read it from its start.
        content = archive.read(WEIGHTS)
    return count_numbers(io.BytesIO(content), len(content))


@contextlib.contextmanager
def at_most_weights(numbers: int) -> Iterator[None]:
    """Within it, layers that this thread makes may have so many numbers together.

    Raises:
        ValueError: a layer asks for more, before it gets them.
    """
    add_weight, thread, left = keras.Layer.add_weight, threading.get_ident(), [numbers]

    def counted(layer, shape=None, *arguments, **options):
        if threading.get_ident() == thread:
            size = math.prod(shape if isinstance(shape, list | tuple) else [shape or 1])
            left[0] -= size
            if left[0] < 0:
                raise ValueError(f"its configuration asks for more than the {numbers:,} numbers that its weights have")
        return add_weight(layer, shape, *arguments, **options)

    keras.Layer.add_weight = counted
    try:
        yield
    finally:
        keras.Layer.add_weight = add_weight
