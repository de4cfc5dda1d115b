"""Model files from before `MSRN` was put together from parts: read once more, and saved in today's form."""

import json
import tempfile
import zipfile

import h5py
import keras

from msrn_tf.models.model_file import CONFIGURATION, WEIGHTS
from msrn_tf.models.msrn import MSRN, make_msrn

OLDER_CLASS = "msrn_tf>MSRN"
PARTS = ("dtype", "backbone", "strides", "attention")
"""What of an older configuration is made into layers first; the rest are arguments of `make_msrn`."""

MOVED = {"vars": "semantics/vars", "diff_pool": "semantics/diff_pool"} | {
    f"label_encoder/{layer}": f"semantics/{layer}" for layer in ("dense", "graph1", "graph2")
}


def is_older(path: str) -> bool:
    """Whether a `.keras` file holds an `MSRN` of the older form."""
    configuration = _configuration(path)
    return configuration.get("registered_name") == OLDER_CLASS and "semantics" not in configuration["config"]


def load_older_model(path: str) -> MSRN:
    """The `MSRN` of such a file. What cannot be read raises many kinds of errors, as Keras' own loading does."""
    config = _configuration(path)["config"]
    strides = config.get("strides", (8, 16, 32))
    model = make_msrn(
        keras.saving.deserialize_keras_object(config["backbone"]),
        strides=strides,
        dtype=keras.dtype_policies.deserialize(config["dtype"]),
        attention=keras.saving.deserialize_keras_object(config.get("attention")),
        **{name: value for name, value in config.items() if name not in PARTS},
    )
    model.build((None, None, None, 3))
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(path) as archive:
            weights = archive.extract(WEIGHTS, folder)
        with h5py.File(weights, "r+") as file:
            _move(file, convolutions=sum(stride < 32 for stride in strides), projections=len(strides))
        model.load_weights(weights)
    return model


def _move(file, convolutions, projections):
    """Gives the groups of an older file of weights the names that they have today."""
    for older, today in MOVED.items():
        if older in file:
            file.move(older, today)
    # Keras numbers the layers of a kind as they were made: first the tap convolutions, then the projections.
    names = [f"tap_convolutions/{_numbered(index)}" for index in range(convolutions)]
    names += [f"projections/{_numbered(index)}" for index in range(projections)]
    for index, name in enumerate(names):
        file.move(f"layers/{_numbered(index)}", f"projection/{name}")


def _numbered(index):
    return f"conv2d_{index}" if index else "conv2d"


def _configuration(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(CONFIGURATION))
