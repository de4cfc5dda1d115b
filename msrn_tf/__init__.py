"""MSRN for TensorFlow: multi-label image classification with a label graph and attention at several layers.

What `__all__` names is imported when it is first used, and registers layers and models with Keras, so that
`keras.saving.load_model` can restore them. The package by itself imports neither Keras nor TensorFlow, which devices do
not have.
"""

import importlib
from typing import Any

from msrn_tf.quiet_import import quiet_tensorflow

__version__ = "0.1.0"
__all__ = ["MSRN", "PooledClassifier", "datasets", "layers", "load_model", "losses", "models", "new_model"]

_NAMES = {
    "MSRN": "msrn_tf.models",
    "PooledClassifier": "msrn_tf.models",
    "load_model": "msrn_tf.models.factory",
    "new_model": "msrn_tf.library",
}
"""Name → the module that has it; other names of `__all__` are modules."""

quiet_tensorflow()


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
