"""Warm-up requests: what TF-Serving sends to a version before it serves it."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, input_pb2, model_pb2, predict_pb2, prediction_log_pb2

from export.example_photos import example_photo
from export.serving.requests import classify_signature, example_inputs, predict_signature, tensor_inputs
from export.serving.served_version import ServedVersion
from export.signatures import EXAMPLE_FEATURE
from msrn_tf.data.records import check_records

WARM_UP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")


def predict_request(model_name: str, signature: str, inputs: dict[str, Any]) -> predict_pb2.PredictRequest:
    """A `PredictRequest` with tensors by name."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def example_of(photo: bytes) -> tf.train.Example:
    """A `tf.train.Example` that holds a photo's bytes."""
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[photo]))
    return tf.train.Example(features=tf.train.Features(feature={EXAMPLE_FEATURE: feature}))


def classification_request(model_name: str, photos: Sequence[bytes]) -> classification_pb2.ClassificationRequest:
    """A `ClassificationRequest` for photos' bytes."""
    examples = input_pb2.ExampleList(examples=[example_of(photo) for photo in photos])
    return classification_pb2.ClassificationRequest(
        model_spec=model_pb2.ModelSpec(name=model_name, signature_name="classify"),
        input=input_pb2.Input(example_list=examples),
    )


def write_warm_up_requests(folder: str, model_name: str, signatures: dict[str, Any], image_size: int) -> None:
    """Writes a `PredictionLog` for each signature into a SavedModel's folder."""
    photo = example_photo(image_size)
    logs = []
    for name, (_, spec) in signatures.items():
        if name == "classify":
            request = classification_request(model_name, [photo])
            logs.append(prediction_log_pb2.PredictionLog(classify_log={"request": request}))
            continue
        value = np.zeros((1, *spec.shape[1:]), np.uint8) if spec.dtype == tf.uint8 else np.array([photo], object)
        request = predict_request(model_name, name, {spec.name: value})
        logs.append(prediction_log_pb2.PredictionLog(predict_log={"request": request}))
    path = os.path.join(folder, WARM_UP_FILE)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def read_warm_up_requests(folder: str) -> list[Any]:
    """The requests of a SavedModel's folder; none where it has no such file. Raises `ValueError` for damaged ones."""
    path = os.path.join(folder, WARM_UP_FILE)
    if not os.path.isfile(path):
        return []
    check_records(path)
    requests = []
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        kind = log.WhichOneof("log_type")
        if kind in ("predict_log", "classify_log"):
            requests.append(getattr(log, kind).request)
    return requests


def warm_up(version: ServedVersion) -> None:
    """Sends a `ServedVersion` its own warm-up requests; one that fails keeps it from being served."""
    for request in read_warm_up_requests(version.folder):
        if isinstance(request, predict_pb2.PredictRequest):
            name, signature = predict_signature(version.signature_defs, request.model_spec)
            version.run(name, tensor_inputs(signature, request.inputs))
        else:
            name, signature = classify_signature(version.signature_defs, request.model_spec)
            version.run(name, example_inputs(signature, request.input))
