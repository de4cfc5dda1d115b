"""TF-Serving's REST API, by Tornado, and the page that Prometheus reads.

The same `Answering` and `ModelManager` as gRPC's: one door, one queue, the same limits.
"""

import asyncio
import contextlib
import re
import ssl
import urllib.parse
import zlib
from collections.abc import Callable
from typing import Any

import grpc
import tornado.httpserver
import tornado.iostream
import tornado.web
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from export.serving import methods, rest_json
from export.serving.admission import Arrivals
from export.serving.answering import Answering
from export.serving.limits import RequestLimits
from export.serving.requests import DEFAULT_SIGNATURE, example_bytes
from export.serving.serving_error import ServingError, invalid
from export.serving.version_folders import LARGEST_VERSION
from export.serving.versions import ModelManager

METRICS_PATH = "/monitoring/prometheus/metrics"
MODEL = r"(?i)/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
POST_PATH = re.compile(MODEL + ":(?P<method>classify|regress|predict)")
GET_PATH = re.compile(MODEL + "(?P<metadata>/metadata)?")
LARGEST_HEADERS = 16 << 10
MOST_CONNECTIONS = 500
"""Connections without a whole request, at which the oldest of them is closed for each that comes."""
Code = grpc.StatusCode
HTTP_STATUS = {
    Code.CANCELLED: 499, Code.INVALID_ARGUMENT: 400, Code.DEADLINE_EXCEEDED: 504, Code.NOT_FOUND: 404,
    Code.PERMISSION_DENIED: 403, Code.RESOURCE_EXHAUSTED: 429, Code.FAILED_PRECONDITION: 400, Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501, Code.UNAVAILABLE: 503,
}  # fmt: skip
"""TF-Serving's; 500 for all others."""


class RestApi:
    """What the REST handler answers with.

    Args:
        manager: `ModelManager`.
        answering: `Answering`.
        limits: `RequestLimits`.
        max_body_bytes: of a request's body and of an answer's tensors.
        seconds: for a request: HTTP has no deadlines.
    """

    def __init__(
        self, manager: ModelManager, answering: Answering, limits: RequestLimits, max_body_bytes: int, seconds: float
    ):
        self.answering, self.max_body_bytes = answering, max_body_bytes
        self._manager, self._limits, self._seconds = manager, limits, seconds

    async def answer(self, method: str, path: str, body: bytes, encoding: str) -> bytes:
        """The JSON answer to a request. Raises `ServingError`."""
        found = {"POST": POST_PATH, "GET": GET_PATH}[method].fullmatch(path) if method in ("POST", "GET") else None
        if not found:
            raise invalid(f"Malformed request: {method} {path}")
        spec = _model_spec(found)
        if method == "GET":
            if found["metadata"]:
                return await self.answering.answer("GetModelMetadata", spec.name, lambda: self._metadata(spec))
            return await self.answering.answer("GetModelStatus", spec.name, lambda: self._status(spec))
        work = {"predict": self._predict, "classify": self._classify, "regress": self._regress}[found["method"].lower()]
        name = found["method"].lower().capitalize()
        return await self.answering.answer(name, spec.name, lambda: self._with_body(work, spec, body, encoding))

    async def _with_body(self, work, spec, body, encoding):
        """Does the work on a body as it is when it is unzipped, which is held as long as the request is."""
        if encoding in ("", "identity"):
            return await self._with_objects(work, spec, body, len(body))
        if encoding != "gzip":
            raise invalid(f"Content-Encoding {encoding}: only gzip is read")
        # Half a megabyte of gzip may hold 500 of zeros, and says so in its last bytes: that counts before it is made.
        size = min(int.from_bytes(body[-4:], "little"), self.max_body_bytes)
        with self.answering.admission.holding(size, len(body)):
            unzipped = self.answering.converted(len(body) + size, _unzipped, body, size, self.max_body_bytes)
            return await self._with_objects(work, spec, await unzipped, len(body) + size)

    async def _with_objects(self, work, spec, body, held):
        """Does the work on a body whose Python objects are held as long as the request is: they may be much larger."""
        size = await self.answering.converted(len(body), rest_json.object_bytes, body)
        with self.answering.admission.holding(size, held):
            return await work(spec, body)

    async def _predict(self, spec, body):
        document = await self.answering.converted(len(body), rest_json.read_object, body)
        spec.signature_name = rest_json.signature_name(document)

        async def read(signature_defs):
            name = spec.signature_name or DEFAULT_SIGNATURE
            if name not in signature_defs:
                raise invalid(f'Serving signature name: "{name}" not found in signature def')
            signature = signature_defs[name]
            inputs = await self.answering.converted(
                len(body), rest_json.predict_inputs, document, signature.inputs, self._limits
            )
            return name, inputs, sorted(signature.outputs)

        answered = await methods.predict(self._manager, spec, read, self._seconds)
        size = sum(output.nbytes for output in answered.outputs.values())
        if size > self.max_body_bytes:
            raise ServingError(Code.RESOURCE_EXHAUSTED, f"the answer would be larger than {self.max_body_bytes} bytes")
        as_rows = rest_json.is_row_form(document)
        return await self.answering.converted(size, rest_json.write_outputs, answered.outputs, as_rows)

    async def _classify(self, spec, body):
        document = await self.answering.converted(len(body), rest_json.read_object, body)
        request = await self.answering.converted(len(body), rest_json.classification_request, document)
        spec.signature_name = request.model_spec.signature_name
        request.model_spec.CopyFrom(spec)
        # A context is repeated for each example.
        made = min(example_bytes(request.input), self._limits.max_bytes)
        with self.answering.admission.holding(made, len(body)):
            return rest_json.write_classes(await methods.classify(self._manager, request, self._limits, self._seconds))

    async def _regress(self, _spec, _body):
        raise ServingError(
            Code.UNIMPLEMENTED, "Regress: this model says which labels a photo shows; use Predict or Classify"
        )

    async def _metadata(self, spec):
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        return rest_json.write_metadata(methods.metadata(self._manager, request))

    async def _status(self, spec):
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        return rest_json.write_status(methods.model_status(self._manager, request))


@tornado.web.stream_request_body
class RestHandler(tornado.web.RequestHandler):
    """One request: its body arrives in parts that count against what all requests may hold."""

    def initialize(self, rest: RestApi, connections: "HttpServer") -> None:
        """Tornado's constructor."""
        self._rest, self._connections = rest, connections
        self._body, self._held = bytearray(), 0
        self._work: asyncio.Future[bytes] | None = None

    def prepare(self) -> None:
        """Refuses what says that it is too long before it comes."""
        length = self.request.headers.get("Content-Length", "0")
        if length.isdecimal() and int(length) > self._rest.max_body_bytes:
            self._refuse_length()

    def data_received(self, chunk: bytes) -> None:
        """A part of the body."""
        if self._finished:
            return
        if len(self._body) + len(chunk) > self._rest.max_body_bytes:
            self._refuse_length()
            return
        try:
            self._rest.answering.admission.hold(len(chunk), self._held)
        except ServingError as error:
            self._refuse(error)
            return
        self._held += len(chunk)
        self._body += chunk

    async def _answer(self) -> None:
        self._connections.has_arrived(self.request.connection)
        encoding = self.request.headers.get("Content-Encoding", "").strip().lower()
        method, path, body = str(self.request.method), self.request.path, bytes(self._body)
        self._body.clear()
        work = self._work = asyncio.ensure_future(self._rest.answer(method, path, body, encoding))
        with self._rest.answering.admission.sending():
            try:
                sent = self._send(200, await work)
            except ServingError as error:
                sent = self._refuse(error)
            except asyncio.CancelledError:
                if not work.cancelled():
                    raise
                return  # the client is gone
            with contextlib.suppress(tornado.iostream.StreamClosedError):  # nobody waits for it any more
                await sent

    get = post = put = delete = patch = head = options = _answer

    def on_finish(self) -> None:
        """The answer is written."""
        self._let_go()
        self._connections.waits_again(self.request.connection)

    def on_connection_close(self) -> None:
        """The client is gone: what was done for it need not be done."""
        super().on_connection_close()
        if self._work:
            self._work.cancel()
        self._let_go()

    def write_error(self, status_code: int, **_details: Any) -> None:
        """What Tornado refuses by itself: an unknown method, a path that is no text."""
        self._send(status_code, rest_json.write_error(f"Malformed request: {self.request.method} {self.request.path}"))

    def _let_go(self):
        self._rest.answering.admission.let_go(self._held)
        self._held = 0

    def _refuse(self, error):
        return self._send(HTTP_STATUS.get(error.code, 500), rest_json.write_error(str(error)))

    def _refuse_length(self):
        # Tornado's own limit would answer a second time.
        connection: Any = self.request.connection
        connection.set_max_body_size(1 << 62)
        message = f"the request is longer than {self._rest.max_body_bytes} bytes"
        self._send(413, rest_json.write_error(message))

    def _send(self, status, content):
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        return self.finish(content)


class MetricsHandler(tornado.web.RequestHandler):
    """Prometheus' page."""

    def initialize(self, page: Callable[[], bytes]) -> None:
        """Tornado's constructor."""
        self._page = page

    def get(self) -> None:
        """The page."""
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish(self._page())


class HttpServer(tornado.httpserver.HTTPServer):
    """Tornado's, with a bound on connections that have not sent a whole request."""

    def initialize(self, *arguments: Any, **options: Any) -> None:
        """Tornado's constructor."""
        super().initialize(*arguments, **options)
        self._arrivals, self._numbers = Arrivals(MOST_CONNECTIONS), {}

    def handle_stream(self, stream: tornado.iostream.IOStream, address: tuple[Any, ...]) -> None:
        """A new connection."""
        self._numbers[stream] = self._arrivals.enter(stream.close)
        super().handle_stream(stream, address)

    def on_close(self, server_conn: Any) -> None:
        """A connection has ended."""
        super().on_close(server_conn)
        self._arrivals.leave(self._numbers.pop(server_conn.stream, -1))

    def has_arrived(self, connection: Any) -> None:
        """The request of a connection is whole."""
        self._arrivals.leave(self._numbers.get(connection.stream, -1))

    def waits_again(self, connection: Any) -> None:
        """The request of a connection has been answered."""
        if connection.stream in self._numbers:
            self._numbers[connection.stream] = self._arrivals.enter(connection.stream.close)


def rest_server(
    rest: RestApi, metrics_page: Callable[[], bytes], arrival_seconds: float, context: ssl.SSLContext | None
) -> HttpServer:
    """The HTTP server of the REST API. `context`: an `ssl.SSLContext`, or None for no TLS."""
    options: dict[str, Any] = {"rest": rest}
    application = _application(
        [(METRICS_PATH, MetricsHandler, {"page": metrics_page}), (r".*", RestHandler, options)], compress_response=True
    )
    server = HttpServer(
        application,
        ssl_options=context,
        max_header_size=LARGEST_HEADERS,
        max_body_size=rest.max_body_bytes,
        idle_connection_timeout=arrival_seconds,
        body_timeout=arrival_seconds,
    )
    options["connections"] = server
    return server


def metrics_server(metrics_page: Callable[[], bytes], arrival_seconds: float) -> HttpServer:
    """The HTTP server that has Prometheus' page and nothing else."""
    return HttpServer(
        _application([(r"/(?:metrics)?", MetricsHandler, {"page": metrics_page})]),
        max_header_size=LARGEST_HEADERS,
        max_body_size=LARGEST_HEADERS,
        idle_connection_timeout=arrival_seconds,
        body_timeout=arrival_seconds,
    )


def _application(handlers, **settings):
    return tornado.web.Application(handlers, log_function=lambda _handler: None, **settings)


def _model_spec(found):
    spec = model_pb2.ModelSpec(name=urllib.parse.unquote(found["name"], errors="backslashreplace"))
    if found["version"]:
        if len(found["version"]) > 40 or not 0 <= int(found["version"]) <= LARGEST_VERSION:
            raise invalid(f"Failed to convert version: {found['version']} to numeric.")
        spec.version.value = int(found["version"])
    if found["label"]:
        spec.version_label = urllib.parse.unquote(found["label"], errors="backslashreplace")
    return spec


def _unzipped(body, size, most):
    """The content of a gzip body that says that it has `size` bytes, or more than `most`."""
    reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        content = reader.decompress(body, size + 1)
    except zlib.error as error:
        raise invalid("the body is not what its Content-Encoding says, gzip") from error
    if len(content) > most:
        raise ServingError(Code.OUT_OF_RANGE, f"the body is longer than {most} bytes when it is unzipped")
    if len(content) > size:
        raise invalid(f"the body is longer than the {size} bytes that its gzip data says it has")
    if not reader.eof:
        raise invalid("the body ends in the middle of its gzip data")
    return content
