"""The trained model that comes with this package, which commands use where no other is given."""

from msrn_tf.errors import UserError
from msrn_tf.package_files import packaged_file

NAME = "voc2007.keras"


def default_model_path() -> str:
    """Where the model lies. Raises `UserError` where it does not."""
    path = packaged_file("models", NAME)
    if path is None:
        raise UserError(
            "`model` is missing, and the model that comes with the project is not there: give a model.keras"
        )
    return path
