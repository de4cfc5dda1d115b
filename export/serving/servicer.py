"""The official PredictionService and ModelService on a `ModelManager`, with TF-Serving's status codes and messages."""

import contextlib
import functools
import logging
import time

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from export.serving.errors import ServingError, invalid
from export.signatures import CLASSIFY_METHOD

DEFAULT_SIGNATURE = "serving_default"
MAX_ELEMENTS = 1 << 28
"""A `TensorProto` of a few bytes may ask for any number of equal elements; more than these are refused."""

logger = logging.getLogger("export.serve")


def predict(manager, request, seconds=None):
    """The `PredictResponse` to a `PredictRequest`. Raises `ServingError`."""
    with _version(manager, request) as served:
        name, signature = _signature(served, request.model_spec)
        inputs = tensor_inputs(signature, request.inputs)
        wanted = _output_names(signature, request.output_filter)
        outputs = served.run(name, inputs, seconds)
        response = predict_pb2.PredictResponse()
        _fill_spec(response.model_spec, served, name)
        for alias in wanted:
            response.outputs[alias].CopyFrom(tf.make_tensor_proto(outputs[alias]))
        return response


def classify(manager, request, seconds=None):
    """The `ClassificationResponse` to a `ClassificationRequest`: every label with its score, best first."""
    with _version(manager, request) as served:
        name, signature = _signature(served, request.model_spec)
        if signature.method_name != CLASSIFY_METHOD:
            raise invalid(
                f"Expected classification signature method_name to be {CLASSIFY_METHOD}. Was: {signature.method_name}"
            )
        outputs = served.run(name, example_inputs(signature, request), seconds)
        response = classification_pb2.ClassificationResponse()
        _fill_spec(response.model_spec, served, name)
        for labels, scores in zip(outputs["classes"], outputs["scores"], strict=True):
            classes = response.result.classifications.add().classes
            for label, score in zip(labels, scores, strict=True):
                classes.add(label=label.decode(), score=float(score))
        return response


def example_inputs(signature, request):
    """The array by alias that a `ClassificationRequest` stands for: serialised examples."""
    if request.input.WhichOneof("kind") == "example_list_with_context":
        raise invalid("example_list_with_context is not taken; send example_list")
    examples = request.input.example_list.examples
    if not examples:
        raise invalid("Input is empty")
    return {next(iter(signature.inputs)): np.array([example.SerializeToString() for example in examples], object)}


def metadata(manager, request):
    """The `GetModelMetadataResponse`: signatures."""
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


def model_status(manager, request):
    """The `GetModelStatusResponse`: versions with their states."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    response = get_model_status_pb2.GetModelStatusResponse()
    for served in manager.statuses(request.model_spec):
        status = response.model_version_status.add(version=served.version, state=served.state)
        if served.error:
            status.status.error_code, status.status.error_message = tf.errors.UNKNOWN, served.error
    return response


def reload(manager, request):
    """Applies a `ModelServerConfig`; answers when its models are served, or says why they are not."""
    response = model_management_pb2.ReloadConfigResponse()
    try:
        manager.apply(request.config)
    except ServingError as error:
        response.status.error_code, response.status.error_message = error.code.value[0], str(error)
    return response


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """gRPC's side of `predict`, `classify` and `metadata`."""

    def __init__(self, manager, admission, observe):
        self._manager = manager
        self._answering = functools.partial(_answering, admission, observe)

    def Predict(self, request, context):
        with self._answering(context, "Predict", request.model_spec):
            return predict(self._manager, request, context.time_remaining())

    def Classify(self, request, context):
        with self._answering(context, "Classify", request.model_spec):
            return classify(self._manager, request, context.time_remaining())

    def GetModelMetadata(self, request, context):
        with self._answering(context, "GetModelMetadata", request.model_spec):
            return metadata(self._manager, request)

    def Regress(self, request, context):
        with self._answering(context, "Regress", request.model_spec):
            raise _unimplemented("Regress: this model says which labels a photo shows; use Predict or Classify")

    def MultiInference(self, request, context):
        with self._answering(context, "MultiInference", None):
            raise _unimplemented("MultiInference: use Predict, or Classify, once for each signature")


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """gRPC's side of `model_status` and `reload`."""

    def __init__(self, manager, admission, observe):
        self._manager = manager
        self._answering = functools.partial(_answering, admission, observe)

    def GetModelStatus(self, request, context):
        with self._answering(context, "GetModelStatus", request.model_spec):
            return model_status(self._manager, request)

    def HandleReloadConfigRequest(self, request, context):
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
        code, message = grpc.StatusCode.INVALID_ARGUMENT, error.message.splitlines()[0][:500]
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
    """The version that a request names, kept loaded meanwhile. One that leaves just now is looked for again."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    with contextlib.ExitStack() as stack:
        for attempt in range(10):
            try:
                served = stack.enter_context(manager.resolve(request.model_spec).used())
                break
            except ServingError:
                if attempt == 9 or request.model_spec.WhichOneof("version_choice") == "version":
                    raise
                time.sleep(0.001 * attempt)
        yield served


def _signature(served, spec):
    name = spec.signature_name or DEFAULT_SIGNATURE
    if name not in served.signature_defs:
        raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    return name, served.signature_defs[name]


def tensor_inputs(signature, given):
    """Arrays by alias, checked against the signature."""
    if len(given) != len(signature.inputs):
        sent, known = sorted(given), sorted(signature.inputs)
        extra, missing = sorted(set(sent) - set(known)), sorted(set(known) - set(sent))
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(known)} len({{{','.join(sent)}}}) != "
            f"len({{{','.join(known)}}}). Sent extra: {{{','.join(extra)}}}. "
            f"Missing but required: {{{','.join(missing)}}}."
        )
    arrays = {}
    for position, (alias, proto) in enumerate(given.items()):
        if alias not in signature.inputs:
            raise invalid(
                f"input tensor alias not found in signature: {alias}. Inputs expected to be in the set "
                f"{{{','.join(sorted(signature.inputs))}}}."
            )
        info = signature.inputs[alias]
        if proto.dtype != info.dtype:
            raise invalid(
                f"Expects arg[{position}] to be {_type_name(info.dtype)} but {_type_name(proto.dtype)} is provided"
            )
        arrays[alias] = _array(alias, proto)
        _check_shape(alias, arrays[alias].shape, [dimension.size for dimension in info.tensor_shape.dim])
    return arrays


def _array(alias, proto):
    sizes = [dimension.size for dimension in proto.tensor_shape.dim]
    elements = 1
    for size in sizes:
        elements *= size
        if size < 0 or elements > MAX_ELEMENTS:
            raise invalid(f"tensor parsing error: {alias}")
    try:
        return tf.make_ndarray(proto)
    except Exception as error:  # bytes from a stranger
        raise invalid(f"tensor parsing error: {alias}") from error


def _check_shape(alias, shape, expected):
    if not shape:
        raise invalid("Batching Run() input tensors must have at least one dimension")
    fits = len(shape) == len(expected) and all(
        wanted in (-1, size) for size, wanted in zip(shape, expected, strict=True)
    )
    if not fits:
        raise invalid(f"input {alias} has shape {list(shape)}; {expected} is needed (-1: any)")


def _output_names(signature, output_filter):
    names = list(output_filter)
    for alias in names:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{','.join(sorted(signature.outputs))}}}."
            )
    if len(set(names)) != len(names):
        raise invalid(f"duplicate output tensor alias: {next(name for name in names if names.count(name) > 1)}")
    return names or sorted(signature.outputs)


def _fill_spec(spec, served, signature=""):
    spec.name, spec.signature_name = served.name, signature
    spec.version.value = served.version


def _type_name(number):
    """As TF-Serving writes it: `float`, `uint8`, `string`."""
    names = types_pb2.DataType.DESCRIPTOR.values_by_number
    return names[number].name.removeprefix("DT_").lower() if number in names else f"type {number}"


def _unimplemented(message):
    return ServingError(grpc.StatusCode.UNIMPLEMENTED, message)
