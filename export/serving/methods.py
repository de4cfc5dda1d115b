"""What the services do, whatever the protocol: TF-Serving's methods on a `ModelManager`, its codes and messages."""

import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
)

from export.serving.limits import RequestLimits
from export.serving.requests import classify_signature, example_inputs
from export.serving.served_version import ServedVersion
from export.serving.serving_error import ServingError, invalid
from export.serving.versions import ModelManager


@dataclasses.dataclass(frozen=True)
class Answered:
    """The outputs of a request, and the version and signature that gave them."""

    served: ServedVersion
    signature: str
    outputs: dict[str, np.ndarray]

    def fill(self, spec: model_pb2.ModelSpec) -> None:
        """Writes who answered into a response's `ModelSpec`."""
        spec.name, spec.signature_name = self.served.name, self.signature
        spec.version.value = self.served.version


async def predict(
    manager: ModelManager,
    spec: model_pb2.ModelSpec,
    read: Callable[[Any], Awaitable[tuple[str, dict[str, np.ndarray], list[str]]]],
    seconds: float | None,
) -> Answered:
    """Runs a signature.

    Args:
        manager: `ModelManager`.
        spec: `ModelSpec` that names model and version.
        read: given the signatures of that version, `(signature, inputs, wanted outputs)` of the request.
        seconds: until the request's deadline, or None.
    """
    with served_version(manager, spec) as served:
        signature, inputs, wanted = await read(served.signature_defs)
        outputs = await served.outputs(signature, inputs, seconds)
        return Answered(served, signature, {name: outputs[name] for name in wanted})


async def classify(
    manager: ModelManager,
    request: classification_pb2.ClassificationRequest,
    limits: RequestLimits,
    seconds: float | None,
) -> classification_pb2.ClassificationResponse:
    """The `ClassificationResponse` to a `ClassificationRequest`: every label with its score, best first."""
    check_spec(request)
    with served_version(manager, request.model_spec) as served:
        name, signature = classify_signature(served.signature_defs, request.model_spec)
        outputs = await served.outputs(name, example_inputs(signature, request.input, limits), seconds)
    response = classification_pb2.ClassificationResponse()
    Answered(served, name, outputs).fill(response.model_spec)
    for labels, scores in zip(outputs["classes"], outputs["scores"], strict=True):
        classes = response.result.classifications.add().classes
        for label, score in zip(labels, scores, strict=True):
            classes.add(label=label.decode(), score=float(score))
    return response


def metadata(
    manager: ModelManager, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The `GetModelMetadataResponse`: signatures."""
    check_spec(request)
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != "signature_def":
            raise invalid(f"Metadata field {field} is not supported")
    with served_version(manager, request.model_spec) as served:
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        Answered(served, "", {}).fill(response.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in served.signature_defs.items():
            signatures.signature_def[name].CopyFrom(signature)
        response.metadata["signature_def"].Pack(signatures)
        return response


def model_status(
    manager: ModelManager, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """The `GetModelStatusResponse`: versions with their states."""
    check_spec(request)
    response = get_model_status_pb2.GetModelStatusResponse()
    for served in manager.statuses(request.model_spec):
        status = response.model_version_status.add(version=served.version, state=served.state)
        status.status.SetInParent()
        if served.error:
            status.status.error_code, status.status.error_message = tf.errors.UNKNOWN, served.error
    return response


def reload(
    manager: ModelManager, request: model_management_pb2.ReloadConfigRequest, folders: Sequence[str]
) -> model_management_pb2.ReloadConfigResponse:
    """Applies a `ModelServerConfig`; answers when its models are served, or fails with why they are not.

    `folders`: where its models may lie; none: nobody may change anything.
    """
    missing = manager.apply(request.config, folders)
    if missing:
        raise ServingError(grpc.StatusCode.UNKNOWN, f"Some models did not become available: {{{', '.join(missing)}}}")
    return model_management_pb2.ReloadConfigResponse()


@contextlib.contextmanager
def served_version(manager: ModelManager, spec: model_pb2.ModelSpec) -> Iterator[ServedVersion]:
    """The version that a `ModelSpec` names, kept loaded meanwhile."""
    served = manager.resolve(spec)
    while not served.acquire():  # it left just now, and another has come
        served = manager.resolve(spec)
    try:
        yield served
    finally:
        served.release()


def check_spec(request: Any) -> None:
    """Raises `ServingError` where a request names no model at all."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
