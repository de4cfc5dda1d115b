"""MSRN for TensorFlow: multi-label image classification with a label graph and attention at several layers.

Importing the package registers its layers and models with Keras, so that `keras.saving.load_model` can restore them.
"""

import os

# TensorFlow's start-up messages about missing GPUs and CPU instructions say nothing to act on.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from msrn_tf.models import MSRN, PooledClassifier  # noqa: E402

__version__ = "0.1.0"
__all__ = ["MSRN", "PooledClassifier"]
