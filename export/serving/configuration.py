"""TF-Serving's own configuration files for an exported model, as text protos.

The model configuration is made with the official message class. The classes of batching parameters and of the
monitoring configuration are not in `tensorflow-serving-api`; theirs are templates after TF-Serving's documentation.
"""

import os
from collections.abc import Sequence

from google.protobuf import text_format
from tensorflow_serving.config import file_system_storage_path_source_pb2, model_server_config_pb2

from msrn_tf import storage
from msrn_tf.files import replacing

MODEL_CONFIG = "models.config"
BATCHING = """\
# --enable_batching --batching_parameters_file=batching.config
# Threads: as many as the machine has cores. On a CPU start with no wait; then try 1000 to 10000 microseconds.
max_batch_size {{ value: {max_batch_size} }}
batch_timeout_micros {{ value: {batch_timeout_micros} }}
num_batch_threads {{ value: {num_batch_threads} }}
max_enqueued_batches {{ value: {max_enqueued_batches} }}
allowed_batch_sizes: [ {allowed} ]
"""
MONITORING = """\
# --monitoring_config_file=monitoring.config, with --rest_api_port: Prometheus reads from that port.
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""


def model_server_config(
    name: str, base_path: str, versions: Sequence[int]
) -> model_server_config_pb2.ModelServerConfig:
    """`ModelServerConfig` of one model: the newest version is `canary`, the one before `stable`, a single one both."""
    policy = file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy
    served = sorted(versions)[-2:]
    model = model_server_config_pb2.ModelConfig(
        name=name,
        base_path=base_path,
        model_platform="tensorflow",
        model_version_policy=policy(specific=policy.Specific(versions=served)),
        version_labels={"stable": served[0], "canary": served[-1]},
    )
    return model_server_config_pb2.ModelServerConfig(model_config_list={"config": [model]})


def write_configuration(
    folder: str,
    name: str,
    base_path: str,
    versions: Sequence[int],
    max_batch_size: int = 16,
    threads: int | None = None,
) -> None:
    """Writes `models.config`, `batching.config` and `monitoring.config` into a folder, each beside and then renamed."""
    sizes = [2**power for power in range(20) if 2**power < max_batch_size] + [max_batch_size]
    batching = BATCHING.format(
        max_batch_size=max_batch_size,
        batch_timeout_micros=0,
        num_batch_threads=threads or os.cpu_count() or 1,
        max_enqueued_batches=64,
        allowed=", ".join(map(str, sizes)),
    )
    config = model_server_config(name, base_path, versions)
    storage.makedirs(folder)
    for file, text in (
        (MODEL_CONFIG, text_format.MessageToString(config)),
        ("batching.config", batching),
        ("monitoring.config", MONITORING),
    ):
        with replacing(os.path.join(folder, file)) as stream:
            stream.write(text)
