"""MSRN for TensorFlow: multi-label image classification with a label graph and attention at several layers.

Importing the package registers its layers and models with Keras, so that `keras.saving.load_model` can restore them.
"""

import os
import sys

from msrn_tf.quiet_import import import_tensorflow

# That one command runs on devices, where there is no TensorFlow.
if "export.ondevice" not in sys.orig_argv:
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        import_tensorflow()
    from msrn_tf.models import MSRN, PooledClassifier

__version__ = "0.1.0"
__all__ = ["MSRN", "PooledClassifier"]
