"""One version of a model: loaded and warmed up before it serves, unloaded when nobody uses it."""

import gc
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_status_pb2

from export.serving.batching import Batcher, BatchingOptions

State = get_model_status_pb2.ModelVersionStatus.State
logger = logging.getLogger("export.serve")


class ServedVersion:
    """One version of a model, from its folder to answers.

    Args:
        name: the model's.
        version: int.
        folder: of the version.
        options: `BatchingOptions`.
        observe_batch: called with the rows of each batch.
        prefer_tflite: whether a `model.tflite` in the folder computes what it can.

    Attributes:
        state: of `ModelVersionStatus`; `error`: why it is not served.
        signature_defs: `SignatureDef`s by name, as `GetModelMetadata` gives them.
    """

    def __init__(
        self,
        name: str,
        version: int,
        folder: str,
        options: BatchingOptions,
        observe_batch: Callable[[int], None],
        prefer_tflite: bool = False,
    ):
        self.name, self.version, self.folder = name, version, folder
        self._options, self._observe_batch, self._prefer_tflite = options, observe_batch, prefer_tflite
        self.state, self.error = State.START, ""
        self._model: Any = None
        self._batchers: dict[str, Batcher] = {}
        self._users, self._changed = 0, threading.Condition()

    def load(self, warm_up: "Callable[['ServedVersion'], None]") -> None:
        """Loads and warms up; afterwards the state is AVAILABLE, or END with `error`."""
        self.state, self._stamp = State.LOADING, self._changes()
        try:
            content = saved_model_pb2.SavedModel()
            with open(os.path.join(self.folder, "saved_model.pb"), "rb") as file:
                content.ParseFromString(file.read())
            signature_defs = content.meta_graphs[0].signature_def
            self.signature_defs = {key: value for key, value in signature_defs.items() if not key.startswith("__")}
            self._model = tf.saved_model.load(self.folder)
            functions = {key: self._function(key) for key in self.signature_defs}
            if self._prefer_tflite:
                from export.serving.tflite_functions import tflite_functions

                functions |= tflite_functions(self.folder)
            self._batchers = {
                key: Batcher(function, self._options, self._observe_batch) for key, function in functions.items()
            }
            warm_up(self)
            self.state = State.AVAILABLE
            logger.info("version available", extra={"model": self.name, "version": self.version})
        except Exception as error:  # an untrusted folder: anything may be wrong with it
            self._forget()
            self.state, self.error = State.END, f"{type(error).__name__}: {str(error)[:300]}"
            logger.error(
                "version cannot be loaded", extra={"model": self.name, "version": self.version, "error": self.error}
            )

    def may_load_again(self) -> bool:
        """Whether it was unloaded, or failed while its files were still being copied: they have changed since."""
        return self.state == State.END and (not self.error or self._stamp != self._changes())

    def unload(self) -> None:
        """Waits until nobody uses the version, and forgets it."""
        with self._changed:
            self.state = State.UNLOADING
            self._changed.wait_for(lambda: self._users == 0)
        self._forget()
        self.state = State.END
        logger.info("version unloaded", extra={"model": self.name, "version": self.version})

    def acquire(self) -> bool:
        """Keeps the version loaded until `release`; False where it is leaving, or is not there yet."""
        with self._changed:
            if self.state != State.AVAILABLE:
                return False
            self._users += 1
            return True

    def release(self) -> None:
        """Ends what `acquire` began."""
        with self._changed:
            self._users -= 1
            self._changed.notify_all()

    def run(self, signature: str, inputs: dict[str, np.ndarray], seconds: float | None = None) -> dict[str, np.ndarray]:
        """Outputs of a signature, by name; the thread waits for them."""
        return self._batchers[signature].run(inputs, seconds)

    async def outputs(
        self, signature: str, inputs: dict[str, np.ndarray], seconds: float | None = None
    ) -> dict[str, np.ndarray]:
        """As `run`, for an event loop."""
        return await self._batchers[signature].outputs(inputs, seconds)

    def queue_length(self) -> int:
        """Requests that wait."""
        return sum(len(batcher) for batcher in self._batchers.values()) if self.state == State.AVAILABLE else 0

    def _forget(self):
        for batcher in self._batchers.values():
            batcher.close()
        self._model, self._batchers = None, {}
        gc.collect()  # what TensorFlow restored refers to itself in circles, and is as large as the model

    def _changes(self):
        """How many files there are and when one was last written here: `cp -a` and rsync keep the time of a change."""
        paths = [os.path.join(folder, name) for folder, _, names in os.walk(self.folder) for name in names]
        times = [os.stat(path).st_ctime_ns for path in paths if os.path.exists(path)]
        return len(times), max(times, default=0)

    def _function(self, key):
        function = self._model.signatures[key]

        def call(inputs):
            outputs = function(**{name: tf.constant(value) for name, value in inputs.items()})
            return {name: value.numpy() for name, value in outputs.items()}

        return call
