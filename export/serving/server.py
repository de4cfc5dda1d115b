"""The embedded server: its ports, its event loop, its beginning and end."""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Coroutine
from typing import Any

import grpc
import tornado.netutil
from google.protobuf import text_format
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.config import model_server_config_pb2

from export.serving.admission import Admission
from export.serving.answering import Answering
from export.serving.batching import BatchingOptions
from export.serving.grpc_services import GrpcServices
from export.serving.limits import RequestLimits
from export.serving.metrics import ServerMetrics
from export.serving.rest import HttpServer, RestApi, metrics_server, rest_server
from export.serving.serve_config import ServeConfig
from export.serving.serving_error import ServingError
from export.serving.ssl_config import read_ssl_config, server_context, server_credentials
from export.serving.versions import ModelManager
from export.serving.warm_up import warm_up
from msrn_tf.errors import UserError, first_line
from msrn_tf.text import check_whole_text

logger = logging.getLogger("export.serve")
SECONDS_TO_CLOSE = 1.0
"""For connections and threads at the end, when no request is left that anything would be lost of."""
MOST_CALLS_OF_A_CONNECTION = 1000


class Server:
    """TF-Serving's gRPC and REST APIs in this process, by one event loop in a thread of its own."""

    def __init__(self, config: ServeConfig):
        self._config, self._stopping, self._unanswered = config, threading.Event(), 0
        options = BatchingOptions(
            config.max_batch_size, config.batch_timeout_ms / 1000, config.max_queued_requests, config.num_batch_threads
        )
        self.metrics = ServerMetrics(lambda: self.manager.queue_length())
        self.manager = ModelManager(options, warm_up, self.metrics.observe_batch, config.prefer_tflite_model)
        self._answering = Answering(Admission(config.max_held_mb << 20), self.metrics.observe_request)
        self._limits = RequestLimits(config.max_request_rows, config.max_message_mb << 20)
        self._loop = asyncio.new_event_loop()
        self._http: list[HttpServer] = []
        self._loop_thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> int:
        """Loads the models and opens the ports; returns that of gRPC.

        Raises:
            UserError: a model cannot be served, or a port is taken.
        """
        config = self._config
        try:
            self.manager.apply(_model_server_config(config))
        except ServingError as error:
            raise UserError(f"`model_config_file`={config.model_config_file}: {error}") from error
        self._loop_thread.start()
        try:
            port = self._run(self._open())
        except BaseException:
            self._end_loop()
            self.manager.close()
            raise
        self._watcher.start()
        logger.info("serving", extra={"address": f"{config.host}:{port}", "ready": self.manager.is_ready()})
        return port

    def stop(self) -> int:
        """Refuses new requests, answers those that were accepted, and ends.

        Returns:
            How many accepted requests were left unanswered when the time was over. Their computations go on: the
            process had better end.
        """
        self._stopping.set()
        self._unanswered = self._run(self._close())
        self._end_loop()
        if not self._unanswered:
            self._watcher.join(SECONDS_TO_CLOSE)
            if not self._watcher.is_alive():  # it may be loading a version, for as long as that takes
                self.manager.close()
        logger.info("ended", extra={"unanswered": self._unanswered})
        return self._unanswered

    @property
    def is_at_work(self) -> bool:
        """Whether something of it still runs after `stop`: a model is being loaded, or a request computed in vain."""
        return self._watcher.is_alive() or self._unanswered > 0

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self):
        """Binds every port before any of them answers."""
        config, ssl_config = self._config, None
        if config.ssl_config:
            ssl_config = read_ssl_config(config.ssl_config)
            try:
                context = server_context(ssl_config)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"`ssl_config`={config.ssl_config}: its key or certificate is invalid ({first_line(error)})"
                ) from error
        self._grpc = grpc.aio.server(options=self._grpc_options())
        self._health = health.aio.HealthServicer()
        self._services = GrpcServices(
            self.manager, self._answering, self._limits, config.arrival_seconds, config.reload_folder
        )
        self._services.add_to(self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        reflection.enable_server_reflection(
            [*self._services.names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._grpc
        )
        port = self._bind_grpc(server_credentials(ssl_config) if ssl_config else None)
        if config.rest_port:
            rest = RestApi(
                self.manager, self._answering, self._limits, config.max_message_mb << 20, config.rest_seconds
            )
            self._bind_http(
                rest_server(rest, self.metrics.page, config.arrival_seconds, context if ssl_config else None),
                "rest_port", config.rest_port,
            )  # fmt: skip
        if config.metrics_port:
            self._bind_http(
                metrics_server(self.metrics.page, config.arrival_seconds), "metrics_port", config.metrics_port
            )
        await self._tell_health()
        await self._grpc.start()
        return port

    def _grpc_options(self):
        size = self._config.max_message_mb << 20
        return [
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", size),
            ("grpc.so_reuseport", 0),
            ("grpc.max_concurrent_streams", MOST_CALLS_OF_A_CONNECTION),
            ("grpc.server_handshake_timeout_ms", max(1, int(1000 * self._config.arrival_seconds))),
        ]

    def _bind_grpc(self, credentials):
        host, port = self._config.host, self._config.port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if credentials:
                return self._grpc.add_secure_port(address, credentials)
            return self._grpc.add_insecure_port(address)
        except RuntimeError as error:
            raise UserError(f"`port`={port}: {address} cannot be opened; is another server running there?") from error

    def _bind_http(self, server, name, port):
        try:
            server.add_sockets(tornado.netutil.bind_sockets(port, self._config.host))
        except OSError as error:
            raise UserError(
                f"`{name}`={port}: {self._config.host}:{port} cannot be opened ({error.strerror}); is another server "
                "running there?"
            ) from error
        self._http.append(server)

    async def _tell_health(self):
        ready = self.manager.is_ready()
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", *self._services.names):
            await self._health.set(service, status)

    async def _close(self):
        await self._health.enter_graceful_shutdown()
        unanswered = await self._answering.admission.close(self._config.drain_seconds)
        await self._grpc.stop(SECONDS_TO_CLOSE)  # answers on their way out; what never arrived is cut off
        for server in self._http:
            server.stop()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.close_all_connections(), SECONDS_TO_CLOSE)
        return unanswered

    def _end_loop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._loop_thread.join()
        self._answering.close()

    def _watch(self):
        while not self._stopping.wait(self._config.poll_seconds):
            try:
                self.manager.poll()
                self._run(self._tell_health())
            except Exception:
                logger.exception("looking for versions failed")


def _model_server_config(config):
    if bool(config.model_config_file) == bool(config.model_base_path):
        raise UserError("`model_base_path` or `model_config_file` is needed, one of the two")
    result = model_server_config_pb2.ModelServerConfig()
    if config.model_config_file:
        try:
            with open(config.model_config_file, encoding="utf-8-sig") as file:
                return text_format.Parse(file.read(), result)
        except OSError as error:
            raise UserError(f"`model_config_file`={config.model_config_file}: {error.strerror}") from error
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise UserError(
                f"`model_config_file`={config.model_config_file}: is not a ModelServerConfig text proto "
                f"({first_line(error)})"
            ) from error
    for flag in ("model_base_path", "model_name"):
        check_whole_text(f"`{flag}`", getattr(config, flag), "a server")
    if not os.path.isdir(config.model_base_path):
        raise UserError(f"`model_base_path`={config.model_base_path}: no such folder; export.saved_model writes one")
    name = config.model_name or os.path.basename(os.path.abspath(config.model_base_path))
    result.model_config_list.config.add(name=name, base_path=config.model_base_path, model_platform="tensorflow")
    return result
