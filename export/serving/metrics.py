"""What Prometheus reads from the embedded server."""

from collections.abc import Callable

import prometheus_client


class ServerMetrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self, queue_length: Callable[[], int]):
        self.registry = prometheus_client.CollectorRegistry()
        self._requests = prometheus_client.Counter(
            "msrn_requests", "Requests by method and status code", ["method", "code"], registry=self.registry
        )
        self._seconds = prometheus_client.Histogram(
            "msrn_request_seconds", "Time to answer", ["method"], registry=self.registry
        )
        self._batches = prometheus_client.Histogram(
            "msrn_batch_size", "Rows that ran together", registry=self.registry, buckets=(1, 2, 4, 8, 16, 32, 64, 128)
        )
        waiting = prometheus_client.Gauge("msrn_queue_length", "Requests that wait", registry=self.registry)
        waiting.set_function(queue_length)

    def observe_request(self, method: str, code: str, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method, code).inc()
        self._seconds.labels(method).observe(seconds)

    def observe_batch(self, size: int) -> None:
        """A batch runs."""
        self._batches.observe(size)

    def page(self) -> bytes:
        """What Prometheus reads, as text."""
        return prometheus_client.generate_latest(self.registry)
