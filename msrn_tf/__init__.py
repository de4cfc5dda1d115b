"""MSRN for TensorFlow: multi-label image classification with a label graph and attention at several layers.

Importing `msrn_tf.models`, or a name from here, registers layers and models with Keras, so that
`keras.saving.load_model` can restore them. The package by itself imports neither Keras nor TensorFlow, which devices do
not have.
"""

import importlib

from msrn_tf.quiet_import import quiet_tensorflow

__version__ = "0.1.0"
__all__ = ["MSRN", "PooledClassifier"]

quiet_tensorflow()


def __getattr__(name):
    if name in __all__:
        return getattr(importlib.import_module("msrn_tf.models"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
