"""The one bridge to tensorflow-addons, whose image operations still work on TensorFlow 2.21.

Its last release (2024) was built for Keras 2, and wheels exist for Python 3.9 to 3.11. Only its package of image
operations is imported (the others register Keras 2 classes), and its one stale import is answered from `tf_keras`.
"""

import importlib
import importlib.util
import sys
import types
from types import ModuleType

from msrn_tf.extras import MissingPackageError, needs

STALE_MODULES = ("keras.src.engine", "keras.src.engine.keras_tensor")


def import_addons_image() -> ModuleType:
    """The module `tensorflow_addons.image`.

    Raises:
        MissingPackageError: tensorflow-addons or tf_keras is not installed.
    """
    name = "tensorflow_addons"
    if f"{name}.image" in sys.modules:
        return sys.modules[f"{name}.image"]
    stand_ins = {}
    try:
        with needs("addons"):
            found = importlib.util.find_spec(name)
            if found is None:
                raise ModuleNotFoundError(name=name)
            package = types.ModuleType(name)
            package.__path__ = list(found.submodule_search_locations or ())
            stand_ins = {stale: importlib.import_module(f"tf_{stale}") for stale in STALE_MODULES}
            sys.modules.update(stand_ins | {name: package})
            return importlib.import_module(f"{name}.image")
    except MissingPackageError as error:
        raise MissingPackageError(
            f"`augment`=addons: {error}, on Python 3.11 or older; `augment`=randaugment needs neither"
        ) from error
    finally:
        for stale in stand_ins:
            del sys.modules[stale]
