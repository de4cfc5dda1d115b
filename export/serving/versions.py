"""Models and their versions: found on disk, loaded and warmed up before they serve, unloaded when nobody uses them."""

import contextlib
import dataclasses
import logging
import os
import threading

import grpc
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_status_pb2

from export.serving.batching import Batcher
from export.serving.errors import ServingError, invalid, not_found

State = get_model_status_pb2.ModelVersionStatus.State
logger = logging.getLogger("export.serve")


class ServedVersion:
    """One version of a model, from its folder to answers.

    Attributes:
        state: of `ModelVersionStatus`; `error`: why it is not served.
        signature_defs: `SignatureDef`s by name, as `GetModelMetadata` gives them.
    """

    def __init__(self, name, version, folder, options, observe_batch):
        self.name, self.version, self.folder = name, version, folder
        self._options, self._observe_batch = options, observe_batch
        self.state, self.error = State.START, ""
        self._users, self._changed = 0, threading.Condition()

    def load(self, warm_up):
        """Loads and warms up; afterwards the state is AVAILABLE, or END with `error`."""
        self.state, self._stamp = State.LOADING, self._newest_change()
        try:
            content = saved_model_pb2.SavedModel()
            with open(os.path.join(self.folder, "saved_model.pb"), "rb") as file:
                content.ParseFromString(file.read())
            signature_defs = content.meta_graphs[0].signature_def
            self.signature_defs = {key: value for key, value in signature_defs.items() if not key.startswith("__")}
            self._model = tf.saved_model.load(self.folder)
            self._batchers = {
                key: Batcher(self._function(key), self._options, self._observe_batch) for key in self.signature_defs
            }
            warm_up(self)
            self.state = State.AVAILABLE
            logger.info("version available", extra={"model": self.name, "version": self.version})
        except Exception as error:  # a stranger's folder: anything may be wrong with it
            self.state, self.error = State.END, f"{type(error).__name__}: {str(error)[:300]}"
            logger.error(
                "version cannot be loaded", extra={"model": self.name, "version": self.version, "error": self.error}
            )

    def may_load_again(self):
        """Whether it was unloaded, or failed while its files were still being copied: they have changed since."""
        return self.state == State.END and (not self.error or self._stamp != self._newest_change())

    def unload(self):
        """Waits until nobody uses the version, and forgets it."""
        with self._changed:
            self.state = State.UNLOADING
            self._changed.wait_for(lambda: self._users == 0)
        for batcher in self._batchers.values():
            batcher.close()
        self._model, self._batchers = None, {}
        self.state = State.END
        logger.info("version unloaded", extra={"model": self.name, "version": self.version})

    @contextlib.contextmanager
    def used(self):
        """Keeps the version loaded for the time of a request."""
        with self._changed:
            if self.state != State.AVAILABLE:
                raise not_found(f"Servable not found for request: Specific({self.name}, {self.version})")
            self._users += 1
        try:
            yield self
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def run(self, signature, inputs, seconds=None):
        """Outputs of a signature, by name."""
        return self._batchers[signature].run(inputs, seconds)

    def queue_length(self):
        """Requests that wait."""
        return sum(len(batcher) for batcher in self._batchers.values()) if self.state == State.AVAILABLE else 0

    def _newest_change(self):
        paths = (os.path.join(folder, name) for folder, _, names in os.walk(self.folder) for name in names)
        return max((os.stat(path).st_mtime_ns for path in paths), default=0)

    def _function(self, key):
        function = self._model.signatures[key]

        def call(inputs):
            outputs = function(**{name: tf.constant(value) for name, value in inputs.items()})
            return {name: value.numpy() for name, value in outputs.items()}

        return call


@dataclasses.dataclass
class ServedModel:
    """A model's place, which of its versions are wanted, and those that are known."""

    name: str
    base_path: str
    policy: object
    labels: dict
    versions: dict = dataclasses.field(default_factory=dict)

    def wanted(self):
        """Versions that the policy asks for, of those on disk."""
        names = os.listdir(self.base_path) if os.path.isdir(self.base_path) else []
        there = sorted(int(name) for name in names if name.isdigit())
        kind = self.policy.WhichOneof("policy_choice")
        if kind == "all":
            return there
        if kind == "specific":
            return [version for version in self.policy.specific.versions if version in there]
        count = self.policy.latest.num_versions or 1
        return there[-count:]

    def available(self):
        """Available versions, ascending."""
        return sorted(version for version, served in self.versions.items() if served.state == State.AVAILABLE)


class ModelManager:
    """All models of a server.

    Args:
        options: `BatchingOptions`.
        warm_up: called with each version before it serves.
        observe_batch: called with the rows of each batch.
    """

    def __init__(self, options, warm_up, observe_batch=lambda size: None):
        self._options, self._warm_up, self._observe_batch = options, warm_up, observe_batch
        self._models = {}
        self._lock = threading.RLock()  # held while versions are loaded and unloaded, never by a request

    def apply(self, config):
        """Serves what a `ModelServerConfig` names, and nothing else.

        Raises:
            ServingError: INVALID_ARGUMENT; what was served before goes on.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise invalid("ModelServerConfig has no model_config_list")
        models = {}
        for model in config.model_config_list.config:
            if not model.name or not model.base_path:
                raise invalid("a model's configuration lacks its name or base_path")
            if model.name in models:
                raise invalid(f"Illegal to list model {model.name} multiple times in config list")
            if model.model_platform not in ("", "tensorflow"):
                raise invalid(f"model_platform {model.model_platform} of {model.name}: only tensorflow is served")
            models[model.name] = ServedModel(
                model.name, model.base_path, model.model_version_policy, dict(model.version_labels)
            )
        with self._lock:
            leaving = [model for name, model in self._models.items() if name not in models]
            for name, model in models.items():
                known = self._models.get(name)
                if known and known.base_path == model.base_path:
                    model.versions = known.versions
                elif known:
                    leaving.append(known)
            self.poll(models)
            self._check_labels(models)
            self._models = models
            for model in leaving:
                self._unload(model, list(model.versions))

    def poll(self, models=None):
        """Loads versions that are new on disk, then unloads those that are wanted no more."""
        with self._lock:
            for model in (self._models if models is None else models).values():
                wanted = model.wanted()
                for version in wanted:
                    served = model.versions.get(version)
                    if served is None or served.may_load_again():
                        folder = os.path.join(model.base_path, str(version))
                        served = ServedVersion(model.name, version, folder, self._options, self._observe_batch)
                        model.versions = model.versions | {version: served}
                        served.load(self._warm_up)
                if any(version in wanted for version in model.available()):
                    self._unload(model, [version for version in model.available() if version not in wanted])

    def resolve(self, spec):
        """The available `ServedVersion` that a `ModelSpec` names."""
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        model = self._models.get(spec.name)
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            return self._labelled(model, spec)
        available = model.available() if model else []
        if choice == "version":
            if spec.version.value not in available:
                raise not_found(f"Servable not found for request: Specific({spec.name}, {spec.version.value})")
            return model.versions[spec.version.value]
        if not available:
            raise not_found(f"Servable not found for request: Latest({spec.name})")
        return model.versions[available[-1]]

    def statuses(self, spec):
        """`ServedVersion`s that a `ModelSpec` names, newest first."""
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        model = self._models.get(spec.name)
        versions = model.versions if model else {}
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label" and model:
            return [self._labelled(model, spec)]
        if choice == "version":
            if spec.version.value not in versions:
                raise not_found(f"Could not find version {spec.version.value} of model {spec.name}")
            return [versions[spec.version.value]]
        if not versions:
            raise not_found(f"Could not find any versions of model {spec.name}")
        return [versions[version] for version in sorted(versions, reverse=True)]

    def is_ready(self):
        """Whether every model has a version that is served."""
        return bool(self._models) and all(model.available() for model in self._models.values())

    def queue_length(self):
        """Requests that wait, over all versions."""
        return sum(served.queue_length() for model in self._models.values() for served in model.versions.values())

    def close(self):
        """Unloads everything."""
        with self._lock:
            for model in self._models.values():
                self._unload(model, model.available())

    def _unload(self, model, versions):
        for version in versions:
            if model.versions[version].state == State.AVAILABLE:
                model.versions[version].unload()

    @staticmethod
    def _labelled(model, spec):
        version = model.labels.get(spec.version_label) if model else None
        if version is None:
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        if version not in model.available():
            raise not_found(f"Servable not found for request: Specific({spec.name}, {version})")
        return model.versions[version]

    @staticmethod
    def _check_labels(models):
        for model in models.values():
            for label, version in model.labels.items():
                if version not in model.available():
                    raise ServingError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label {label} to version {version} of model {model.name}, "
                        "but that version is not currently available for inference",
                    )
