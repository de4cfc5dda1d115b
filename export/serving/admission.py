"""The door for requests: it counts those inside, and lets no more in once the server ends."""

import contextlib
import threading
import time
from collections.abc import Iterator

import grpc

from export.serving.serving_error import ServingError

SECONDS_OF_REFUSAL = 0.2
"""How long a server that ends still answers "no": what has reached gRPC but no handler when it stops is cancelled."""


class Admission:
    """Lets requests in until it is closed."""

    def __init__(self):
        self._inside, self._is_closed = 0, False
        self._left = threading.Condition()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Around the work on a request. Raises `ServingError`: UNAVAILABLE, after `close`."""
        with self._left:
            if self._is_closed:
                raise ServingError(grpc.StatusCode.UNAVAILABLE, "the server is ending; send it to another")
            self._inside += 1
        try:
            yield
        finally:
            with self._left:
                self._inside -= 1
                self._left.notify_all()

    def close(self, seconds: float) -> None:
        """Refuses new requests and waits, at most `seconds`, for those inside."""
        with self._left:
            self._is_closed = True
            self._left.wait_for(lambda: not self._inside, seconds)
        time.sleep(min(SECONDS_OF_REFUSAL, seconds))
