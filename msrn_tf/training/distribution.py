"""Which devices a run uses, as a `tf.distribute` strategy."""

import os
import shutil

import tensorflow as tf

from msrn_tf.errors import UserError
from msrn_tf.gpus import find_gpus


def make_strategy(name: str = "auto", num_cpu_replicas: int = 1) -> tf.distribute.Strategy:
    """A strategy over one device, over all of this machine, or over several machines.

    Must be called before TensorFlow touches a device when `num_cpu_replicas` is above 1 or there are several workers.

    Args:
        name: one of `choices.STRATEGIES`. `multi_worker` reads the cluster from `TF_CONFIG`, or from Slurm's variables.
        num_cpu_replicas: int. Above 1 the CPU is split into this many logical devices, and GPUs are left alone.

    Raises:
        UserError: TensorFlow is already initialised with another number of CPU devices, or no cluster is described.
    """
    if name == "auto":
        name = "multi_worker" if os.environ.get("TF_CONFIG") else "mirrored"
    cluster = read_cluster() if name == "multi_worker" else None  # before a device is seen: Slurm's chooses this task's
    gpus = find_gpus(meant=num_cpu_replicas == 1)
    if num_cpu_replicas > 1:
        _split_cpu(num_cpu_replicas)
        devices = [f"CPU:{index}" for index in range(num_cpu_replicas)]
    else:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        devices = [f"GPU:{index}" for index in range(len(gpus))] or ["CPU:0"]
    if cluster:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=cluster)
    return tf.distribute.MirroredStrategy(devices[:1] if name == "one" else devices)


def check_batch_size(batch_size: int, strategy: tf.distribute.Strategy, accumulation_steps: int = 1) -> None:
    """Refuses a batch that cannot be divided among replicas and their steps. Raises `UserError`."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % (replicas * accumulation_steps):
        steps = f" × {accumulation_steps} accumulation steps" if accumulation_steps > 1 else ""
        raise UserError(
            f"`batch_size`={batch_size}: is not divisible by {replicas} replicas{steps}; use a multiple of "
            f"{replicas * accumulation_steps}"
        )


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """0 for the chief, or where there is one worker."""
    resolver = strategy.cluster_resolver
    return resolver.task_id or 0 if resolver else 0


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether several processes train together."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def any_worker(strategy: tf.distribute.Strategy, *wishes: bool) -> tuple[bool, ...]:
    """Each wish, a bool, as soon as one worker has it: all of them act at the same step."""
    return tuple(map(any, zip(*of_all_workers(strategy, *wishes), strict=True)))


def of_all_workers(strategy: tf.distribute.Strategy, *numbers: int) -> list[tuple[int, ...]]:
    """A few whole numbers of each worker, known to all: a list of tuples."""
    if not has_workers(strategy):
        return [numbers]
    rows = strategy.run(lambda: tf.constant([numbers], tf.int64))
    return [tuple(map(int, row)) for row in strategy.gather(rows, axis=0).numpy()]


def _split_cpu(num_devices):
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * num_devices)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) < num_devices:
            raise UserError(f"`num_cpu_replicas`={num_devices}: TensorFlow is already running") from error


def read_cluster() -> tf.distribute.cluster_resolver.ClusterResolver:
    """The cluster resolver of `TF_CONFIG` or of a Slurm step. Raises `UserError` where neither describes workers."""
    if os.environ.get("TF_CONFIG"):
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        try:
            workers = resolver.cluster_spec().as_dict().get("worker", [])
            valid = resolver.task_type == "worker" and 0 <= resolver.task_id < len(workers)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise UserError(f"TF_CONFIG: cannot be read ({error}); docs/distributed.md shows one") from error
        if not valid:
            raise UserError(
                f"TF_CONFIG: names task {resolver.task_type!r} {resolver.task_id} of {len(workers)} workers; every "
                "task must be a 'worker', numbered from 0 (worker 0 is the chief)"
            )
        return resolver
    if os.environ.get("SLURM_STEP_NODELIST") and os.environ.get("SLURM_PROCID"):
        # The resolver counts GPUs with nvidia-smi and deals them out; without any, each task gets a place all the same.
        places = (
            {} if shutil.which("nvidia-smi") else {"gpus_per_node": 1024, "gpus_per_task": 1, "auto_set_gpu": False}
        )
        return tf.distribute.cluster_resolver.SlurmClusterResolver(**places)
    raise UserError(
        "`strategy`=multi_worker: neither TF_CONFIG nor a Slurm step (srun) describes the workers; docs/distributed.md"
    )
