"""Compiling a part of a layer by XLA: what `keras.ops` does not offer, for each backend."""

from collections.abc import Callable
from typing import Any

import keras


def has_accelerator() -> bool:
    """Whether the backend computes on something else than CPUs."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Physical devices: asking for logical ones would end the time in which they can still be configured.
        return bool(tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"))
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() != "cpu"
    return False


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of tensors compiled by XLA, once for each set of shapes. On other backends than these, as it is."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True, autograph=False)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function
