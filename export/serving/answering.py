"""What every request goes through, of either protocol: the door, the clock, the log, and a status for each failure."""

import asyncio
import concurrent.futures
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import tensorflow as tf

from export.serving.admission import Admission
from export.serving.serving_error import ServingError

logger = logging.getLogger("export.serve")
Answer = TypeVar("Answer")

SMALL_BYTES = 1 << 18
"""What is smaller is read and written at once; anything else in another thread, while other requests go on."""
LONGEST_SECONDS = 10**7
"""gRPC says of a request without a deadline that centuries are left."""


class Answering:
    """What both protocols share.

    Args:
        admission: `Admission`.
        observe: called with method, status code's name and seconds of each request.
    """

    def __init__(self, admission: Admission, observe: Callable[[str, str, float], Any]):
        self.admission = admission
        self._observe = observe
        self._threads = concurrent.futures.ThreadPoolExecutor(2, "conversion")

    async def answer(self, method: str, model: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """What `work` gives; counts and logs the request, never its content.

        Raises:
            ServingError: the request's failure, whatever it was.
        """
        started, code = time.perf_counter(), grpc.StatusCode.OK
        try:
            with self.admission.request():
                return await work()
        except asyncio.CancelledError:  # its client is gone
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            failure = _failure(error, method)
            code = failure.code
            raise failure from error
        finally:
            seconds = time.perf_counter() - started
            self._observe(method, code.name, seconds)
            extra = {"method": method, "model": model, "code": code.name, "ms": round(seconds * 1000, 2)}
            logger.info("request", extra=extra)

    async def converted(self, size: int, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """`function(*arguments)`, which reads or writes about `size` bytes."""
        if size < SMALL_BYTES:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=False)


def seconds_left(context: grpc.aio.ServicerContext) -> float | None:
    """Until a gRPC request's deadline; None without one."""
    seconds = context.time_remaining()
    return None if seconds is None or seconds > LONGEST_SECONDS else seconds


def _failure(error, method):
    if isinstance(error, ServingError):
        return error
    if isinstance(error, tf.errors.OpError):
        return ServingError(grpc.StatusCode.INVALID_ARGUMENT, _reason(error))
    logger.exception("request failed", extra={"method": method})
    return ServingError(grpc.StatusCode.INTERNAL, f"{type(error).__name__} while answering {method}")


def _reason(error):
    """The sentence of TensorFlow's message; where in the graph it was comes before it or is indented."""
    lines = [line for line in error.message.splitlines() if line and not line.startswith("\t")]
    return lines[-1] if lines else type(error).__name__
