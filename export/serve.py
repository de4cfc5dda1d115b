"""`python -m export.serve`: TF-Serving's gRPC API for the models of this package, in one Python process.

For a laptop, a test, or a small load where no TF-Serving is installed. It watches the model's folder and changes
versions without failing a request. SIGTERM: what was accepted is answered, then it ends.
"""

import concurrent.futures
import dataclasses
import logging
import os
import signal
import sys
import threading

import grpc
from google.protobuf import text_format
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import (
    model_service_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from export.serving import servicer
from export.serving.admission import Admission
from export.serving.batching import BatchingOptions
from export.serving.log import write_log
from export.serving.metrics import ServerMetrics
from export.serving.serving_error import ServingError
from export.serving.ssl_config import server_credentials
from export.serving.versions import ModelManager
from export.serving.warm_up import warm_up
from msrn_tf import command_line
from msrn_tf.config import option
from msrn_tf.errors import UserError
from msrn_tf.terminal import say

logger = logging.getLogger("export.serve")


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """Server"""

    model_base_path: str = option(
        "", "folder with the versions of one model, as export.saved_model writes it", path="input"
    )
    model_name: str = option("", "its name; empty: the folder's")
    model_config_file: str = option(
        "", "ModelServerConfig text proto, for several models or version labels", path="input"
    )
    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0: every one of the machine")
    port: int = option(8500, "gRPC port; 0: a free one", low=0, high=65535)
    metrics_port: int = option(0, "port for Prometheus; 0: none", low=0, high=65535)
    max_batch_size: int = option(16, "rows that run together at most; 1: no batching", low=1)
    batch_timeout_ms: float = option(0.0, "how long a request waits for others", low=0.0)
    max_queued_requests: int = option(64, "requests that wait for each signature; more are refused", low=1)
    num_batch_threads: int = option(2, "batches that run at the same time", low=1)
    max_message_mb: int = option(64, "largest request or answer", low=1, high=2047)
    poll_seconds: float = option(1.0, "how often the folders are looked at for new versions", low=0.05)
    drain_seconds: float = option(60.0, "time for accepted requests at the end", low=0.0)
    ssl_config: str = option(
        "", "SSLConfig text proto (server_key, server_cert, custom_ca, client_verify); empty: no TLS"
    )
    log_requests: bool = option(False, "a JSON line on standard error for each request, never with its content")


class Server:
    """The embedded server. Args: `config`, a `ServeConfig`."""

    def __init__(self, config: ServeConfig):
        self._config, self._stopping = config, threading.Event()
        options = BatchingOptions(
            config.max_batch_size, config.batch_timeout_ms / 1000, config.max_queued_requests, config.num_batch_threads
        )
        self.metrics = ServerMetrics(lambda: self.manager.queue_length())
        self.manager = ModelManager(options, warm_up, self.metrics.observe_batch)
        self._admission = Admission()
        self._health = health.HealthServicer()
        # Each request holds a thread while it waits, so that there must be more than can wait: a refusal comes at once.
        threads = 2 * (config.max_queued_requests + config.max_batch_size * config.num_batch_threads) + 8
        size = config.max_message_mb << 20
        self._grpc = grpc.server(
            concurrent.futures.ThreadPoolExecutor(threads),
            options=[
                ("grpc.max_receive_message_length", size),
                ("grpc.max_send_message_length", size),
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=threads,
        )
        self._add_services()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> int:
        """Loads the models and opens the port; returns its number.

        Raises:
            UserError: a model cannot be served, or the port is taken.
        """
        config = self._config
        try:
            self.manager.apply(_model_server_config(config))
        except ServingError as error:
            raise UserError(f"--model_config_file={config.model_config_file}: {error}") from error
        address = f"{config.host}:{config.port}"
        try:
            if config.ssl_config:
                port = self._grpc.add_secure_port(address, server_credentials(config.ssl_config))
            else:
                port = self._grpc.add_insecure_port(address)
        except RuntimeError as error:
            raise UserError(f"--port={config.port}: {address} cannot be opened; is another server there?") from error
        if config.metrics_port:
            try:
                self.metrics.serve(config.metrics_port)
            except OSError as error:
                raise UserError(f"--metrics_port={config.metrics_port}: cannot be opened ({error.strerror})") from error
        self._tell_health()
        self._grpc.start()
        self._watcher.start()
        logger.info("serving", extra={"address": f"{config.host}:{port}", "ready": self.manager.is_ready()})
        return port

    def stop(self) -> None:
        """Refuses new requests, answers those that were accepted, and ends."""
        self._stopping.set()
        self._health.enter_graceful_shutdown()
        self._admission.close(self._config.drain_seconds)
        self._grpc.stop(self._config.drain_seconds).wait()
        self.manager.close()
        logger.info("ended")

    def _add_services(self):
        observe = self.metrics.observe_request
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            servicer.PredictionService(self.manager, self._admission, observe), self._grpc
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            servicer.ModelService(self.manager, self._admission, observe), self._grpc
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        services = [
            prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name,
            model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
            health.SERVICE_NAME,
            reflection.SERVICE_NAME,
        ]
        self._services = ["", *services[:2]]
        reflection.enable_server_reflection(services, self._grpc)

    def _tell_health(self):
        ready = self.manager.is_ready()
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in self._services:
            self._health.set(service, status)

    def _watch(self):
        while not self._stopping.wait(self._config.poll_seconds):
            try:
                self.manager.poll()
                self._tell_health()
            except Exception:
                logger.exception("looking for versions failed")


def _model_server_config(config):
    if bool(config.model_config_file) == bool(config.model_base_path):
        raise UserError("--model_base_path or --model_config_file is needed, one of the two")
    result = model_server_config_pb2.ModelServerConfig()
    if config.model_config_file:
        try:
            with open(config.model_config_file, encoding="utf-8-sig") as file:
                return text_format.Parse(file.read(), result)
        except OSError as error:
            raise UserError(f"--model_config_file={config.model_config_file}: {error.strerror}") from error
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise UserError(
                f"--model_config_file={config.model_config_file}: is no ModelServerConfig text proto ({error})"
            ) from error
    if not os.path.isdir(config.model_base_path):
        raise UserError(f"--model_base_path={config.model_base_path}: no such folder; export.saved_model writes one")
    name = config.model_name or os.path.basename(os.path.abspath(config.model_base_path))
    result.model_config_list.config.add(name=name, base_path=config.model_base_path, model_platform="tensorflow")
    return result


def main(config: ServeConfig) -> None:
    """Serves until SIGTERM or SIGINT."""
    write_log(sys.stderr, config.log_requests)
    server = Server(config)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    port = server.start()
    say(f"serving on {config.host}:{port}")
    ended.wait()
    server.stop()


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, extra_flags=ServeConfig)
