"""SGD with two learning rates, as PyTorch (and so the published code) defines it."""

import keras
import tensorflow as tf
from keras import ops


class GroupSGD(keras.optimizers.Optimizer):
    """Stochastic gradient descent with momentum; some variables learn at a fraction of the rate.

    ::

        g ← gradient + weight_decay · w        v ← momentum · v + g        w ← w − rate · factor(w) · v

    Weight decay is part of the gradient and the velocity holds no learning rate, unlike in `keras.optimizers.SGD`: the
    two differ after a change of rate. `keras.optimizers.MultiOptimizer` would give two rates as well, but
    `tf.train.Checkpoint` drops its slots (Keras 3.15).

    `apply` takes gradients that are already summed over replicas, so that what was clipped is the global gradient.

    Args:
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`.
        momentum: float in [0, 1).
        weight_decay_in_gradient: float ≥ 0.
        slow_variables: variables that learn at `slow_factor` times the rate.
        slow_factor: float.
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.9,
        weight_decay_in_gradient=0.0,
        slow_variables=(),
        slow_factor=1.0,
        name="group_sgd",
    ):
        super().__init__(learning_rate=learning_rate, name=name)
        self.momentum = momentum
        self.weight_decay_in_gradient = weight_decay_in_gradient
        self.slow_factor = slow_factor
        self._slow_paths = {variable.path for variable in slow_variables}

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")
        self._factors = [self.slow_factor if v.path in self._slow_paths else 1.0 for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        velocity = self.velocities[index]
        rate = ops.cast(learning_rate * self._factors[index], variable.dtype)
        gradient = ops.cast(gradient, variable.dtype) + self.weight_decay_in_gradient * variable
        self.assign(velocity, self.momentum * velocity + gradient)
        self.assign_sub(variable, rate * velocity)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars


def all_reduce_and_clip(gradients, max_norm):
    """The global gradient and its norm before clipping, inside a replica.

    Args:
        gradients: list of this replica's gradients of its share of the loss.
        max_norm: the global norm is clipped to this; 0 does not clip.
    """
    gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    norm = tf.linalg.global_norm(gradients)
    if max_norm:
        gradients, _ = tf.clip_by_global_norm(gradients, max_norm, use_norm=norm)
    return gradients, norm
