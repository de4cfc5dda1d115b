"""Parts of a Keras variable, written and read without a second copy of the whole on the TensorFlow backend."""

from collections.abc import Sequence

import keras
import numpy as np


def assign_block(variable: keras.Variable, starts: Sequence[int], block: np.ndarray) -> None:
    """`variable[starts : starts + block.shape] = block`.

    Args:
        variable: `keras.Variable`.
        starts: first index of the block along each axis.
        block: array with as many axes as the variable.

    From then on TensorFlow copies this variable whenever it is read whole: for what is then saved, not for what is run.
    """
    if keras.backend.backend() != "tensorflow":
        variable.assign(keras.ops.slice_update(variable, starts, block))
        return
    import tensorflow as tf

    ends = [start + size for start, size in zip(starts, block.shape, strict=True)]
    # `variable[...].assign` would read the variable first, and so copy it before it writes.
    tf.raw_ops.ResourceStridedSliceAssign(
        ref=variable.value.handle, begin=starts, end=ends, strides=[1] * len(ends), value=block
    )


def read_rows(variable: keras.Variable, start: int, stop: int) -> np.ndarray:
    """`variable[start:stop]` as an array."""
    if keras.backend.backend() != "tensorflow":
        return keras.ops.convert_to_numpy(variable[start:stop])
    import tensorflow as tf

    # Of a variable on several replicas, tf.gather reads the one at hand.
    return tf.gather(variable.value, np.arange(start, stop)).numpy()
