"""From a trained `model.keras` to TF-Serving and to devices."""

import msrn_tf  # noqa: F401  first of all: it starts TensorFlow without its messages and registers the layers
