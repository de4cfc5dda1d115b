"""From a trained `model.keras` to TF-Serving and to devices."""
