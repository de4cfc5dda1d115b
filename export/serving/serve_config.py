"""The embedded server's options."""

import dataclasses

from msrn_tf.config import option


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
    host: str = option("127.0.0.1", "address to listen on, for every port; 0.0.0.0: every one of the machine")
    port: int = option(8500, "gRPC port; 0: a free one", low=0, high=65535)
    rest_port: int = option(8501, "REST port; 0: no REST", low=0, high=65535)
    metrics_port: int = option(
        0, "port for Prometheus alone; 0: only /monitoring/prometheus/metrics of the REST port", low=0, high=65535
    )
    prefer_tflite_model: bool = option(
        False, "LiteRT computes scores where a version has a model.tflite (export.saved_model --tflite): faster on CPUs"
    )
    max_batch_size: int = option(16, "rows that run together at most; 1: no batching", low=1)
    batch_timeout_ms: float = option(0.0, "how long a request waits for others", low=0.0)
    max_queued_requests: int = option(64, "requests that wait for each signature; more are refused", low=1)
    num_batch_threads: int = option(2, "batches that run at the same time", low=1)
    max_request_rows: int = option(64, "rows (photos) of one request at most", low=1)
    max_message_mb: int = option(64, "largest request, answer, and tensor that a request stands for", low=1, high=2047)
    max_held_mb: int = option(512, "what all requests may hold together; more are refused", low=1)
    arrival_seconds: float = option(
        30.0, "for a request to arrive whole, and for a REST connection to stay idle", low=0.01
    )
    rest_seconds: float = option(30.0, "for a REST request to be answered; gRPC's clients say it themselves", low=0.01)
    poll_seconds: float = option(1.0, "how often the folders are looked at for new versions", low=0.05)
    reload_folder: tuple[str, ...] = option(
        (),
        "folder in which models may lie that clients name in HandleReloadConfigRequest (may be repeated); "
        "none: clients change nothing",
        repeated=True,
        path="input",
    )
    drain_seconds: float = option(20.0, "time for accepted requests at the end", low=0.0)
    ssl_config: str = option(
        "", "SSLConfig text proto (server_key, server_cert, custom_ca, client_verify); empty: no TLS", path="input"
    )
    log_requests: bool = option(False, "a JSON line on standard error for each request, never with its content")
