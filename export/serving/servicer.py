"""The official PredictionService and ModelService on a `ModelManager`, with TF-Serving's status codes and messages."""

import contextlib
import functools
import logging
import time
from collections.abc import Callable
from typing import Any, NoReturn

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from export.serving.admission import Admission
from export.serving.requests import classify_signature, example_inputs, output_names, predict_signature, tensor_inputs
from export.serving.serving_error import ServingError, invalid
from export.serving.versions import ModelManager

logger = logging.getLogger("export.serve")


def predict(
    manager: ModelManager, request: predict_pb2.PredictRequest, seconds: float | None = None
) -> predict_pb2.PredictResponse:
    """The `PredictResponse` to a `PredictRequest`. Raises `ServingError`."""
    with _version(manager, request) as served:
        name, signature = predict_signature(served.signature_defs, request.model_spec)
        inputs = tensor_inputs(signature, request.inputs)
        wanted = output_names(signature, request.output_filter)
        outputs = served.run(name, inputs, seconds)
        response = predict_pb2.PredictResponse()
        _fill_spec(response.model_spec, served, name)
        for alias in wanted:
            response.outputs[alias].CopyFrom(tf.make_tensor_proto(outputs[alias]))
        return response


def classify(
    manager: ModelManager, request: classification_pb2.ClassificationRequest, seconds: float | None = None
) -> classification_pb2.ClassificationResponse:
    """The `ClassificationResponse` to a `ClassificationRequest`: every label with its score, best first."""
    with _version(manager, request) as served:
        name, signature = classify_signature(served.signature_defs, request.model_spec)
        outputs = served.run(name, example_inputs(signature, request.input), seconds)
        response = classification_pb2.ClassificationResponse()
        _fill_spec(response.model_spec, served, name)
        for labels, scores in zip(outputs["classes"], outputs["scores"], strict=True):
            classes = response.result.classifications.add().classes
            for label, score in zip(labels, scores, strict=True):
                classes.add(label=label.decode(), score=float(score))
        return response


def metadata(
    manager: ModelManager, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The `GetModelMetadataResponse`: signatures."""
    _check_spec(request)
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != "signature_def":
            raise invalid(f"Metadata field {field} is not supported")
    with _version(manager, request) as served:
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _fill_spec(response.model_spec, served)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in served.signature_defs.items():
            signatures.signature_def[name].CopyFrom(signature)
        response.metadata["signature_def"].Pack(signatures)
        return response


def model_status(
    manager: ModelManager, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """The `GetModelStatusResponse`: versions with their states."""
    _check_spec(request)
    response = get_model_status_pb2.GetModelStatusResponse()
    for served in manager.statuses(request.model_spec):
        status = response.model_version_status.add(version=served.version, state=served.state)
        if served.error:
            status.status.error_code, status.status.error_message = tf.errors.UNKNOWN, served.error
    return response


def reload(
    manager: ModelManager, request: model_management_pb2.ReloadConfigRequest
) -> model_management_pb2.ReloadConfigResponse:
    """Applies a `ModelServerConfig`; answers when its models are served, or fails with why they are not."""
    missing = manager.apply(request.config)
    if missing:
        raise ServingError(grpc.StatusCode.UNKNOWN, f"Some models did not become available: {{{', '.join(missing)}}}")
    return model_management_pb2.ReloadConfigResponse()


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """gRPC's side of `predict`, `classify` and `metadata`."""

    def __init__(self, manager: ModelManager, admission: Admission, observe: Callable[..., Any]):
        self._manager = manager
        self._answering = functools.partial(_answering, admission, observe)

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        with self._answering(context, "Predict", request.model_spec):
            return predict(self._manager, request, context.time_remaining())

    def Classify(
        self, request: classification_pb2.ClassificationRequest, context: grpc.ServicerContext
    ) -> classification_pb2.ClassificationResponse:
        with self._answering(context, "Classify", request.model_spec):
            return classify(self._manager, request, context.time_remaining())

    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        with self._answering(context, "GetModelMetadata", request.model_spec):
            return metadata(self._manager, request)

    def Regress(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        with self._answering(context, "Regress", request.model_spec):
            raise _unimplemented("Regress: this model says which labels a photo shows; use Predict or Classify")

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> NoReturn:  # noqa: ARG002
        with self._answering(context, "MultiInference", None):
            raise _unimplemented("MultiInference: use Predict, or Classify, once for each signature")


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """gRPC's side of `model_status` and `reload`."""

    def __init__(self, manager: ModelManager, admission: Admission, observe: Callable[..., Any]):
        self._manager = manager
        self._answering = functools.partial(_answering, admission, observe)

    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        with self._answering(context, "GetModelStatus", request.model_spec):
            return model_status(self._manager, request)

    def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        with self._answering(context, "HandleReloadConfigRequest", None):
            return reload(self._manager, request)


@contextlib.contextmanager
def _answering(admission, observe, context, method, spec):
    """Turns failures into status codes; logs and counts the request, never its content."""
    started, code, message = time.perf_counter(), grpc.StatusCode.OK, ""
    try:
        with admission.request():
            yield
    except ServingError as error:
        code, message = error.code, str(error)
    except tf.errors.OpError as error:
        code, message = grpc.StatusCode.INVALID_ARGUMENT, _reason(error)
    except Exception as error:
        code, message = grpc.StatusCode.INTERNAL, f"{type(error).__name__} while answering {method}"
        logger.exception("request failed", extra={"method": method})
    seconds = time.perf_counter() - started
    model = spec.name if spec is not None else ""
    observe(method, code.name, seconds)
    logger.info("request", extra={"method": method, "model": model, "code": code.name, "ms": round(seconds * 1000, 2)})
    if code is not grpc.StatusCode.OK:
        context.abort(code, message)


@contextlib.contextmanager
def _version(manager, request):
    """The version that a request names, kept loaded meanwhile."""
    _check_spec(request)
    served = manager.resolve(request.model_spec)
    while not served.acquire():  # it left just now, and another has come
        served = manager.resolve(request.model_spec)
    try:
        yield served
    finally:
        served.release()


def _check_spec(request):
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")


def _fill_spec(spec, served, signature=""):
    spec.name, spec.signature_name = served.name, signature
    spec.version.value = served.version


def _reason(error):
    """The sentence of TensorFlow's message; where in the graph it was comes before it or is indented."""
    lines = [line for line in error.message.splitlines() if line and not line.startswith("\t")]
    return lines[-1][:500] if lines else type(error).__name__


def _unimplemented(message):
    return ServingError(grpc.StatusCode.UNIMPLEMENTED, message)
