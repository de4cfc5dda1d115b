"""Dynamic batching: requests that wait together run together, and a full queue says so at once."""

import asyncio
import collections
import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np

from export.serving.serving_error import ServingError, exhausted


@dataclasses.dataclass(frozen=True)
class BatchingOptions:
    """As TF-Serving's BatchingParameters.

    Attributes:
        max_batch_size: rows that run together; a larger request runs alone. 1: requests run one by one.
        batch_timeout_seconds: how long the first request of a batch waits for others.
        max_queued_requests: further ones are refused.
        threads: batches that run at the same time.
    """

    max_batch_size: int = 16
    batch_timeout_seconds: float = 0.0
    max_queued_requests: int = 64
    threads: int = 2


@dataclasses.dataclass
class _Task:
    inputs: dict
    size: int
    deadline: float
    future: concurrent.futures.Future
    queued_at: float


class Batcher:
    """Runs a function on merged requests.

    Args:
        function: dict of arrays → dict of arrays, the batch first in all of them.
        options: `BatchingOptions`.
        observe_batch: called with the number of rows of each batch that runs.
    """

    def __init__(
        self,
        function: Callable[[dict[str, Any]], dict[str, Any]],
        options: BatchingOptions,
        observe_batch: Callable[[int], None] = lambda _size: None,
    ):
        self._function, self._options, self._observe_batch = function, options, observe_batch
        self._tasks = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(options.threads)]
        for thread in self._threads:
            thread.start()

    def __len__(self):
        return len(self._tasks)

    def run(self, inputs: dict[str, np.ndarray], seconds: float | None = None) -> dict[str, np.ndarray]:
        """The outputs for one request; the thread waits for them.

        Args:
            inputs: dict of arrays with the same first axis.
            seconds: until the request's deadline; None: it waits as long as it takes.

        Raises:
            ServingError: RESOURCE_EXHAUSTED where the queue is full, DEADLINE_EXCEEDED, or what the function raised.
        """
        future = self._queued(inputs, seconds)
        try:
            return future.result(None if seconds is None else max(0.0, seconds))
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            raise _too_late() from error

    async def outputs(self, inputs: dict[str, np.ndarray], seconds: float | None = None) -> dict[str, np.ndarray]:
        """As `run`, for an event loop. A request whose client is gone before it runs is dropped."""
        future = self._queued(inputs, seconds)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except TimeoutError as error:
            raise _too_late() from error

    def close(self) -> None:
        """Ends the threads when what is queued has been answered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _queued(self, inputs, seconds):
        """The future outputs of a request that waits now."""
        now = time.monotonic()
        deadline = float("inf") if seconds is None else now + seconds
        size = len(next(iter(inputs.values())))
        task = _Task(inputs, size, deadline, concurrent.futures.Future(), now)
        # One that was given up waits on for its turn, but its arrays no longer count towards what requests hold.
        task.future.add_done_callback(lambda future: inputs.clear() if future.cancelled() else None)
        with self._changed:
            if self._closed:
                raise ServingError(grpc.StatusCode.UNAVAILABLE, "the model version is being unloaded")
            if len(self._tasks) >= self._options.max_queued_requests:
                raise exhausted(f"the queue is full: {len(self._tasks)} requests wait already; try again later")
            self._tasks.append(task)
            self._changed.notify()
        return task.future

    def _work(self):
        while batch := self._next_batch():
            self._answer(batch)

    def _next_batch(self):
        """Tasks to run together; empty when closed and nothing is left."""
        with self._changed:
            while True:
                while not self._tasks:
                    if self._closed:
                        return []
                    self._changed.wait()
                self._wait_for_others()
                if batch := self._take():
                    return batch

    def _wait_for_others(self):
        until = self._tasks[0].queued_at + self._options.batch_timeout_seconds
        while self._tasks and not self._closed and self._rows() < self._options.max_batch_size:
            left = until - time.monotonic()
            if left <= 0 or not self._changed.wait(left):
                return

    def _take(self):
        """The first tasks that fit into a batch; those that are too late or given up are dropped."""
        batch, rows = [], 0
        while self._tasks and (not batch or rows + self._tasks[0].size <= self._options.max_batch_size):
            task = self._tasks.popleft()
            is_late = time.monotonic() > task.deadline
            if not is_late and task.future.set_running_or_notify_cancel():
                batch.append(task)
                rows += task.size
        return batch

    def _rows(self):
        return sum(task.size for task in self._tasks)

    def _answer(self, batch):
        try:
            merged = {name: np.concatenate([task.inputs[name] for task in batch]) for name in batch[0].inputs}
            self._observe_batch(sum(task.size for task in batch))
            outputs = self._function(merged)
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for task in batch:  # one request's fault is not the others'
                self._answer_alone(task)
            return
        start = 0
        for task in batch:
            task.future.set_result({name: value[start : start + task.size] for name, value in outputs.items()})
            start += task.size

    def _answer_alone(self, task):
        try:
            task.future.set_result(self._function(task.inputs))
        except Exception as error:
            task.future.set_exception(error)


def _too_late():
    return ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
