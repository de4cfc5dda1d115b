"""The trained model that comes with this package: `models/` of a checkout, or the files that pip installed."""

import importlib.metadata
import os

from msrn_tf.errors import UserError

DISTRIBUTION = "msrn-tf"
CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAME = os.path.join("models", "voc2007.keras")


def default_model_path() -> str:
    """Where the model lies. Raises `UserError` where it does not."""
    for path in (os.path.join(CHECKOUT, NAME), *_installed()):
        if os.path.isfile(path):
            return path
    raise UserError("`model` is missing, and the model that comes with the project is not there: give a model.keras")


def _installed():
    """Paths of the file as pip recorded them."""
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [os.path.normpath(file.locate()) for file in files if str(file).endswith(NAME)]
