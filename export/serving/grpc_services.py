"""gRPC's side: the official PredictionService and ModelService, by their names.

A request is taken as a stream of one message, which on the wire is the same: so the server knows when a call has been
opened and nothing came, and gives it up.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2,
    predict_pb2,
    prediction_service_pb2,
    regression_pb2,
)

from export.serving import methods
from export.serving.admission import Arrivals
from export.serving.answering import Answering, seconds_left
from export.serving.limits import RequestLimits
from export.serving.requests import example_bytes, output_names, predict_signature, tensor_bytes, tensor_inputs
from export.serving.serving_error import ServingError
from export.serving.tensors import tensor_of
from export.serving.versions import ModelManager

MOST_UNFINISHED = 1000
"""Calls that have been opened and whose message has not come."""


class GrpcServices:
    """The two services.

    Args:
        manager: `ModelManager`.
        answering: `Answering`.
        limits: `RequestLimits`.
        arrival_seconds: for a request to arrive whole.
        reload_folders: where models of a configuration from a client may lie; none: no such configuration is taken.
    """

    def __init__(
        self,
        manager: ModelManager,
        answering: Answering,
        limits: RequestLimits,
        arrival_seconds: float,
        reload_folders: Sequence[str],
    ):
        self._manager, self._answering, self._limits = manager, answering, limits
        self._arrival_seconds, self._reload_folders = arrival_seconds, reload_folders
        self._arrivals, self._reloading = Arrivals(MOST_UNFINISHED), asyncio.Lock()

    @property
    def names(self) -> list[str]:
        """Full names of the services."""
        return [
            prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name,
            model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
        ]

    def add_to(self, server: grpc.aio.Server) -> None:
        """Lets a server answer by these services."""
        prediction = {
            "Predict": self._handler("Predict", predict_pb2.PredictRequest, self._predict),
            "Classify": self._handler("Classify", classification_pb2.ClassificationRequest, self._classify),
            "GetModelMetadata": self._handler(
                "GetModelMetadata", get_model_metadata_pb2.GetModelMetadataRequest, self._metadata
            ),
            "Regress": self._handler("Regress", regression_pb2.RegressionRequest, self._regress),
            "MultiInference": self._handler("MultiInference", inference_pb2.MultiInferenceRequest, self._inference),
        }
        model = {
            "GetModelStatus": self._handler(
                "GetModelStatus", get_model_status_pb2.GetModelStatusRequest, self._model_status
            ),
            "HandleReloadConfigRequest": self._handler(
                "HandleReloadConfigRequest", model_management_pb2.ReloadConfigRequest, self._reload
            ),
        }
        handlers = zip(self.names, (prediction, model), strict=True)
        server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(name, methods) for name, methods in handlers)
        )

    def _handler(self, method, message: type[Message], answer: Callable[[Any, Any], Awaitable[Message]]):
        async def handle(_requests, context):
            content = await self._whole(context)
            try:
                with self._answering.admission.holding(len(content)):
                    request = message.FromString(content)
                    spec = getattr(request, "model_spec", None)
                    name = spec.name if spec else ""
                    response = await self._answering.answer(method, name, lambda: answer(request, context))
                    return response.SerializeToString()
            except DecodeError:
                code = grpc.StatusCode.INTERNAL  # as gRPC's own servers answer
                text = f"Failed to deserialize the request: no {message.DESCRIPTOR.name}"
            except ServingError as error:
                code, text = error.code, str(error)
            await context.abort(code, text)

        return grpc.stream_unary_rpc_method_handler(handle)

    async def _whole(self, context):
        """The bytes of a request; ends the call where they do not come."""
        reading = asyncio.ensure_future(context.read())
        number = self._arrivals.enter(reading.cancel)
        try:
            content = await asyncio.wait_for(reading, self._arrival_seconds)
        except TimeoutError:
            late = f"the request did not arrive within {self._arrival_seconds:g} seconds"
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, late)
        except asyncio.CancelledError:
            if not reading.cancelled() or context.cancelled():
                raise
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests have not arrived completely")
        finally:
            self._arrivals.leave(number)
        if content is grpc.aio.EOF:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call ended without a request")
        return content

    async def _predict(self, request, context):
        methods.check_spec(request)
        held = contextlib.ExitStack()

        async def read(signature_defs):
            name, signature = predict_signature(signature_defs, request.model_spec)
            # A few bytes may stand for many: they count before they are made, until they have been used.
            made = tensor_bytes(signature, request.inputs, self._limits)
            held.enter_context(self._answering.admission.holding(made, request.ByteSize()))
            size = request.ByteSize() + made
            inputs = await self._answering.converted(size, tensor_inputs, signature, request.inputs, self._limits)
            return name, inputs, output_names(signature, request.output_filter)

        with held:
            answered = await methods.predict(self._manager, request.model_spec, read, seconds_left(context))
        size = sum(output.nbytes for output in answered.outputs.values())
        return await self._answering.converted(size, _predict_response, answered)

    async def _classify(self, request, context):
        # A context is repeated for each example.
        made = min(example_bytes(request.input), self._limits.max_bytes)
        with self._answering.admission.holding(made, request.ByteSize()):
            return await methods.classify(self._manager, request, self._limits, seconds_left(context))

    async def _metadata(self, request, _context):
        return methods.metadata(self._manager, request)

    async def _model_status(self, request, _context):
        return methods.model_status(self._manager, request)

    async def _reload(self, request, _context):
        async with self._reloading:  # one at a time, and no thread for each that waits
            return await asyncio.to_thread(methods.reload, self._manager, request, self._reload_folders)

    async def _regress(self, _request, _context):
        raise _unimplemented("Regress: this model says which labels a photo shows; use Predict or Classify")

    async def _inference(self, _request, _context):
        raise _unimplemented("MultiInference: use Predict, or Classify, once for each signature")


def _predict_response(answered):
    response = predict_pb2.PredictResponse()
    answered.fill(response.model_spec)
    for alias, output in answered.outputs.items():
        response.outputs[alias].CopyFrom(tensor_of(output))
    return response


def _unimplemented(message):
    return ServingError(grpc.StatusCode.UNIMPLEMENTED, message)
