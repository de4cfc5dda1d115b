"""The embedded server's options."""

import dataclasses

from msrn_tf.config import option


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """Server"""

    model_base_path: str = option(
        "", "folder with the versions of one model, written by export.saved_model", path="input"
    )
    model_name: str = option("", "name of that model; empty: the folder's name")
    model_config_file: str = option(
        "", "ModelServerConfig text proto, for several models or for version labels", path="input"
    )
    host: str = option("127.0.0.1", "address to listen on, for every port; 0.0.0.0: all addresses of the machine")
    port: int = option(8500, "gRPC port; 0: any free one", low=0, high=65535)
    rest_port: int = option(8501, "REST port; 0: no REST", low=0, high=65535)
    metrics_port: int = option(
        0, "separate port for Prometheus; 0: only /monitoring/prometheus/metrics on the REST port", low=0, high=65535
    )
    prefer_tflite_model: bool = option(
        False,
        "compute scores with LiteRT if a version has a model.tflite (export.saved_model --tflite): faster on CPUs",
    )
    max_batch_size: int = option(16, "most rows that run together; 1: no batching", low=1)
    batch_timeout_ms: float = option(0.0, "milliseconds that a request waits for others to join its batch", low=0.0)
    max_queued_requests: int = option(64, "requests that may wait for each signature; more are refused", low=1)
    num_batch_threads: int = option(2, "batches that run at the same time", low=1)
    max_request_rows: int = option(64, "largest number of rows (photos) in one request", low=1)
    max_message_mb: int = option(
        64, "largest request, answer, and tensor that a request expands to, in MB", low=1, high=2047
    )
    max_held_mb: int = option(512, "MB that all requests may hold together; more are refused", low=1)
    arrival_seconds: float = option(
        30.0, "seconds for a request to arrive in full, and for a REST connection to stay idle", low=0.01
    )
    rest_seconds: float = option(
        30.0, "seconds to answer a REST request; gRPC clients set their own deadline", low=0.01
    )
    poll_seconds: float = option(1.0, "seconds between checks for new versions", low=0.05)
    reload_folder: tuple[str, ...] = option(
        (),
        "folder that may hold the models of a client's HandleReloadConfigRequest (may be repeated); none: "
        "clients cannot change the configuration",
        repeated=True,
        path="input",
    )
    drain_seconds: float = option(20.0, "seconds to finish requests at shutdown", low=0.0)
    ssl_config: str = option(
        "", "SSLConfig text proto (server_key, server_cert, custom_ca, client_verify); empty: no TLS", path="input"
    )
    log_requests: bool = option(False, "log a JSON line to standard error for each request, without its content")
