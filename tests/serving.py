"""Helpers of the serving tests: small exported models, and a server of our own or the one that is named."""

import contextlib
import dataclasses
import functools
import os
import shutil
import socket
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf
from google.protobuf import text_format

from export.saved_model import find_versions, write_saved_model
from export.serving.configuration import model_server_config
from export.serving.serve_config import ServeConfig
from export.serving.server import Server
from msrn_tf.config import ModelConfig
from msrn_tf.data.decoding import evaluation_pixels
from msrn_tf.label_graph import LabelGraph
from msrn_tf.models.calibration import Calibration
from msrn_tf.models.factory import create_model
from msrn_tf.models.inference_model import inference_model

LABELS = ("sky", "water", "boat", "tree", "cat")
SIZE = 64


def small_model(image_size=SIZE, **choices):
    """A model with random weights, the same each time, whose scores differ from photo to photo and by label."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(1)
    graph = LabelGraph.from_targets(LABELS, rng.integers(0, 2, (40, len(LABELS))))
    graph = dataclasses.replace(graph, word_vectors=rng.standard_normal((len(LABELS), 12)).astype("float32"))
    small = {"backbone": "resnet_tiny", "channels": 8, "head": "elementwise", "strides": (8, 16)}
    config = ModelConfig(**small | choices)
    model = create_model(config, LABELS, image_size, graph)
    for variable in model.variables:
        if variable.path.endswith(("moving_variance", "gamma")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith(("moving_mean", "beta")):
            variable.assign(rng.uniform(-0.2, 0.2, variable.shape))
        elif variable.path.endswith("head/kernel"):
            variable.assign(rng.standard_normal(variable.shape))
    return model


def export_version(model, base_path, version, name="msrn"):
    """Writes a version beside and renames it, as the command does."""
    writing = os.path.join(base_path, f".writing-{version}")
    write_saved_model(inference_model(model), writing, name)
    os.rename(writing, os.path.join(base_path, str(version)))


@functools.cache
def exported_once():
    """`(model, folder of version 1)`, shared by every test of this process that only reads it.

    The model is calibrated, so that every comparison is of calibrated scores; its attention maps are of two scales.
    """
    folder = tempfile.TemporaryDirectory(prefix="exported-")
    model = small_model()
    model.calibration = Calibration(np.linspace(0.4, 1.6, len(LABELS)), np.linspace(-1, 1, len(LABELS)))
    export_version(model, folder.name, 1)
    exported_once.keep = folder  # its end is that of the process
    return model, os.path.join(folder.name, "1")


@functools.cache
def pixels_of(photo):
    """What evaluation sees of a photo's bytes."""
    return _evaluation_pixels(tf.constant(photo)).numpy()


_evaluation_pixels = tf.function(lambda encoded: evaluation_pixels(encoded, SIZE), autograph=False)


class Doubles(tf.Module):
    """A served model that doubles numbers, and takes its time over it: for what a server does with any model."""

    def __init__(self, work=0):
        super().__init__()
        self.weight, self.work = tf.Variable(2.0), work

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, "x")], autograph=False)
    def serve(self, x):
        busy = tf.while_loop(
            lambda i, value: i < self.work, lambda i, value: (i + 1, tf.tanh(value @ value)), (0, tf.eye(64))
        )[1]
        return {"y": self.weight * x + 0.0 * tf.reduce_sum(busy)}


class Lengths(tf.Module):
    """A stand-in for an exported model, with its inputs and outputs: a photo's score is 1 / (1 + its bytes)."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "image_bytes")], autograph=False)
    def serve(self, image_bytes):
        first = 1.0 / (1.0 + tf.cast(tf.strings.length(image_bytes), tf.float32))
        scores = tf.stack([1.0 - first, first], axis=1)
        rows = (tf.shape(image_bytes)[0], 1)
        return {
            "scores": scores,
            "labels": tf.tile([["größe", "cat"]], rows),
            "thresholds": tf.tile([[0.5, 0.5]], rows),
            "is_present": scores >= 0.5,
            "valid": tf.strings.length(image_bytes) > 0,
        }

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "image_bytes")], autograph=False)
    def explain(self, image_bytes):
        outputs = self.serve(image_bytes)
        ramp = tf.reshape(tf.linspace(0.0, 1.0, 12), (1, 1, 3, 4))
        return outputs | {"attention": outputs["scores"][:, :, None, None] * ramp}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "image_bytes")], autograph=False)
    def not_numbers(self, image_bytes):
        rows = tf.shape(image_bytes)[0]
        numbers = tf.constant([[float("nan"), float("inf"), float("-inf"), 0.2]])
        return {"numbers": tf.tile(numbers, (rows, 1)), "raw_bytes": image_bytes}


def write_doubles(base_path, version, work=0):
    """Writes a version of `Doubles` beside and renames it."""
    model = Doubles(work)
    _write(base_path, version, model, {"serving_default": model.serve})


def write_lengths(base_path, version):
    """Writes a version of `Lengths` beside and renames it."""
    model = Lengths()
    signatures = {"serving_default": model.serve, "explain": model.explain, "not_numbers": model.not_numbers}
    _write(base_path, version, model, signatures)


def _write(base_path, version, model, signatures):
    writing = os.path.join(base_path, f".writing-{version}")
    tf.saved_model.save(model, writing, signatures)
    os.rename(writing, os.path.join(base_path, str(version)))


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running_server(base_path="", **options):
    """(server, `host:port`) of an embedded server, without REST unless `rest_port` is given."""
    server = Server(ServeConfig(**{"model_base_path": str(base_path), "port": 0, "rest_port": 0} | options))
    port = server.start()
    try:
        yield server, f"localhost:{port}"
    finally:
        server.stop()


def write_model_config(folder, base_path, name="msrn"):
    """Writes `models.config` for the versions of a base path; returns its path."""
    path = os.path.join(folder, "models.config")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text_format.MessageToString(model_server_config(name, base_path, find_versions(base_path))))
    return path


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    for number in (1, 2):
        shutil.copytree(exported_once()[1], os.path.join(sys.argv[1], str(number)))
    write_model_config(sys.argv[1], os.path.abspath(sys.argv[1]))
