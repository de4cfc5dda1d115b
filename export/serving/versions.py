"""Models and their versions: found on disk, and changed without a moment in which none is served."""

import dataclasses
import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from export.serving.batching import BatchingOptions
from export.serving.served_version import ServedVersion, State
from export.serving.serving_error import ServingError, invalid, not_found
from export.serving.version_folders import version_folders

logger = logging.getLogger("export.serve")


@dataclasses.dataclass
class ServedModel:
    """A model's place, which of its versions are wanted, and those that are known."""

    name: str
    base_path: str
    policy: Any
    labels: dict
    versions: dict = dataclasses.field(default_factory=dict)

    def wanted(self) -> dict[int, str]:
        """Folders by version, of those on disk that the policy asks for."""
        folders = version_folders(self.base_path)
        there = list(folders)
        return {version: folders[version] for version in self._chosen(there)}

    def _chosen(self, there):
        kind = self.policy.WhichOneof("policy_choice")
        if kind == "all":
            return there
        if kind == "specific":
            return [version for version in self.policy.specific.versions if version in there]
        count = self.policy.latest.num_versions or 1
        return there[-count:]

    def available(self) -> list[int]:
        """Available versions, ascending."""
        return sorted(version for version, served in self.versions.items() if served.state == State.AVAILABLE)


class ModelManager:
    """All models of a server.

    Args:
        options: `BatchingOptions`.
        warm_up: called with each version before it serves.
        observe_batch: called with the rows of each batch.
        prefer_tflite: whether a version's `model.tflite` computes what it can.
    """

    def __init__(
        self,
        options: BatchingOptions,
        warm_up: Callable[[ServedVersion], None],
        observe_batch: Callable[[int], None] = lambda _size: None,
        prefer_tflite: bool = False,
    ):
        self._prefer_tflite = prefer_tflite
        self._options, self._warm_up, self._observe_batch = options, warm_up, observe_batch
        self._models = {}
        self._lock = threading.RLock()  # held while versions are loaded and unloaded, never by a request

    def apply(
        self, config: model_server_config_pb2.ModelServerConfig, folders: Sequence[str] | None = None
    ) -> list[str]:
        """Serves what a `ModelServerConfig` names, and nothing else.

        Args:
            config: the configuration.
            folders: where its models may lie; None: anywhere.

        Returns:
            Names of models that are new and have no version that can be served.

        Raises:
            ServingError: INVALID_ARGUMENT, PERMISSION_DENIED or FAILED_PRECONDITION; what was served before goes on.
            OSError: a base path cannot be read; the same.
        """
        models = _models_of(config)
        if folders is not None:
            _check_folders(models, folders)
        with self._lock:
            for name, model in models.items():
                known = self._models.get(name)
                if known and known.base_path == model.base_path:
                    model.versions = known.versions
            for model in models.values():
                model.wanted()  # before anything is loaded: whether it can be read
            for model in models.values():
                self._load_wanted(model)
            before, now = _versions_of(self._models), _versions_of(models)
            try:
                _check_labels(models)
            except ServingError:
                _unload(now - before)
                raise
            new = models.keys() - self._models.keys()
            self._models = models
            _unload(before - now)
            for model in models.values():
                _unload_unwanted(model)
            return sorted(name for name in new if not models[name].available())

    def poll(self) -> None:
        """Loads versions that are new on disk, then unloads those that are wanted no more."""
        with self._lock:
            for model in self._models.values():
                try:
                    self._load_wanted(model)
                    _unload_unwanted(model)
                except OSError:  # the other models' folders may be well
                    logger.exception("looking for versions failed", extra={"model": model.name})

    def resolve(self, spec: model_pb2.ModelSpec) -> ServedVersion:
        """The available `ServedVersion` that a `ModelSpec` names."""
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        model: Any = self._models.get(spec.name)
        available = model.available() if model else []
        choice = spec.WhichOneof("version_choice")
        if choice is None:
            if not available:
                raise not_found(f"Servable not found for request: Latest({spec.name})")
            return model.versions[available[-1]]
        version = spec.version.value
        if choice == "version_label":
            version = model.labels.get(spec.version_label) if model else None
            if version is None:
                raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        if version not in available:
            raise not_found(f"Servable not found for request: Specific({spec.name}, {version})")
        return model.versions[version]

    def statuses(self, spec: model_pb2.ModelSpec) -> list[ServedVersion]:
        """`ServedVersion`s that a `ModelSpec` names, newest first. As in TF-Serving, a label chooses none."""
        model = self._models.get(spec.name)
        versions = model.versions if model else {}
        if spec.HasField("version"):
            if spec.version.value not in versions:
                raise not_found(f"Could not find version {spec.version.value} of model {spec.name}")
            return [versions[spec.version.value]]
        if not versions:
            raise not_found(f"Could not find any versions of model {spec.name}")
        return [versions[version] for version in sorted(versions, reverse=True)]

    def is_ready(self) -> bool:
        """Whether every model has a version that is served."""
        return bool(self._models) and all(model.available() for model in self._models.values())

    def queue_length(self) -> int:
        """Requests that wait, over all versions."""
        return sum(served.queue_length() for served in _versions_of(self._models))

    def close(self) -> None:
        """Unloads everything."""
        with self._lock:
            _unload(_versions_of(self._models))

    def _load_wanted(self, model):
        for version, folder in model.wanted().items():
            served = model.versions.get(version)
            if served is None or served.may_load_again():
                served = ServedVersion(
                    model.name, version, folder, self._options, self._observe_batch, self._prefer_tflite
                )
                model.versions = model.versions | {version: served}
                served.load(self._warm_up)


def _models_of(config):
    """`ServedModel`s by name of a `ModelServerConfig`."""
    if config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported"
        )
    if not config.model_config_list.config:
        raise invalid("the configuration names no model; the models in service stay")
    models = {}
    for model in config.model_config_list.config:
        if not model.name or not model.base_path:
            raise invalid("a model's configuration lacks its name or base_path")
        if "\0" in model.base_path:
            raise invalid(f"base_path of {model.name} is not a path")
        if model.name in models:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        if model.model_platform not in ("", "tensorflow"):
            raise invalid(f"model_platform {model.model_platform} of {model.name}: only tensorflow is served")
        policy, labels = model.model_version_policy, dict(model.version_labels)
        models[model.name] = ServedModel(model.name, model.base_path, policy, labels)
    return models


def _check_folders(models, folders):
    """Raises `ServingError`, PERMISSION_DENIED, where a model lies outside of some folders."""
    if not folders:
        raise ServingError(
            grpc.StatusCode.PERMISSION_DENIED,
            "this server takes no configuration from clients: it was started without folders that they may name",
        )
    allowed = [os.path.realpath(folder) for folder in folders]
    for model in models.values():
        path = os.path.realpath(model.base_path)
        if not any(os.path.commonpath([path, folder]) == folder for folder in allowed):
            raise ServingError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"{model.name}: its base_path is not in a folder that clients may name",
            )


def _versions_of(models):
    return {served for model in models.values() for served in model.versions.values()}


def _unload(versions):
    for served in versions:
        if served.state == State.AVAILABLE:
            served.unload()


def _unload_unwanted(model):
    """Unloads what the policy no longer asks for, once something that it asks for is there."""
    wanted, available = model.wanted(), model.available()
    if set(wanted) & set(available):
        _unload(model.versions[version] for version in available if version not in wanted)


def _check_labels(models):
    for model in models.values():
        served = set(model.available()) & set(model.wanted())
        for version in model.labels.values():
            if version not in served:
                raise ServingError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"Request to assign label to version {version} of model {model.name}, "
                    "which is not currently available for inference",
                )
