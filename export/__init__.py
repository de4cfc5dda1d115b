"""From a trained `model.keras` to TF-Serving and to devices."""

import msrn_tf  # noqa: F401  before anything imports TensorFlow, whose messages it holds back
