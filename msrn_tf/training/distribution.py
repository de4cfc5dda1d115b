"""Which devices a run uses, as a `tf.distribute` strategy."""

import tensorflow as tf

from msrn_tf.errors import UserError


def make_strategy(num_cpu_replicas=1):
    """`MirroredStrategy` over all GPUs, or over logical CPU devices.

    Must be called before TensorFlow touches a device when `num_cpu_replicas` is above 1.

    Args:
        num_cpu_replicas: int. Above 1 the CPU is split into this many logical devices, and GPUs are left alone.

    Raises:
        UserError: TensorFlow is already initialised with another number of CPU devices.
    """
    if num_cpu_replicas > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * num_cpu_replicas)
        except RuntimeError as error:
            if len(tf.config.list_logical_devices("CPU")) < num_cpu_replicas:
                raise UserError(f"--num_cpu_replicas={num_cpu_replicas}: TensorFlow is already running") from error
        return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(num_cpu_replicas)])
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(len(gpus))] or ["CPU:0"])
