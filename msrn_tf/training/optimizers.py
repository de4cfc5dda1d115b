"""Optimizers with parameter groups: the backbone at a fraction of the rate, biases and normalisation without decay.

`keras.optimizers.MultiOptimizer` would give two rates as well, but `tf.train.Checkpoint` drops its slots (Keras 3.15).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from msrn_tf.type_names import Tensor

_Optimizer: Any = object  # to a type checker anything: the optimizer that the mixin stands before


class ParameterGroups(_Optimizer):
    """Mixin for a Keras optimizer: a rate factor and a weight decay for each variable.

    `apply` takes gradients that are already summed over replicas. Weight decay is decoupled, and follows the variable's
    own rate: w ← w − rate · factor(w) · decay(w) · w.
    """

    def set_groups(
        self,
        *,
        slow_variables: Iterable[Any] = (),
        slow_factor: float = 1.0,
        weight_decay: float = 0.0,
        decay_vectors: bool = False,
    ) -> None:
        """Before `build`.

        Args:
            slow_variables: variables that learn at `slow_factor` times the rate.
            slow_factor: float.
            weight_decay: float ≥ 0.
            decay_vectors: bool. Whether variables of fewer than two dimensions (biases, scales of normalisation) decay.
        """
        slow_paths = {variable.path for variable in slow_variables}
        self._factor_of = lambda variable: slow_factor if variable.path in slow_paths else 1.0
        self._decay_of = lambda variable: weight_decay if decay_vectors or len(variable.shape) > 1 else 0.0

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        self._factors = [self._factor_of(variable) for variable in variables]
        self._decays = [self._decay_of(variable) for variable in variables]

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        index = self._get_variable_index(variable)
        rate = ops.cast(learning_rate * self._factors[index], variable.dtype)
        self.update_variable(gradient, variable, rate, self._decays[index])

    def update_variable(self, gradient: Tensor, variable: Any, rate: Tensor, decay: float) -> None:
        """One variable's step, at its own rate and decay."""
        if decay:
            self.assign_sub(variable, rate * decay * variable)
        super().update_step(gradient, variable, rate)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars


class GroupSGD(ParameterGroups, keras.optimizers.Optimizer):
    """Stochastic gradient descent with momentum as PyTorch (and so the published code) defines it.

    ::

        g ← gradient + decay(w) · w        v ← momentum · v + g        w ← w − rate · factor(w) · v

    Weight decay is part of the gradient and the velocity holds no learning rate, unlike in `keras.optimizers.SGD`: the
    two differ after a change of rate.
    """

    def __init__(self, learning_rate: Any = 0.01, momentum: float = 0.9, name: str = "group_sgd"):
        super().__init__(learning_rate=learning_rate, name=name)
        self.momentum = momentum

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update_variable(self, gradient: Tensor, variable: Any, rate: Tensor, decay: float) -> None:
        velocity = self.velocities[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, variable.dtype) + decay * variable
        self.assign(velocity, self.momentum * velocity + gradient)
        self.assign_sub(variable, rate * velocity)


class GroupAdamW(ParameterGroups, keras.optimizers.Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101) and parameter groups."""


class GroupLion(ParameterGroups, keras.optimizers.Lion):
    """Lion (Chen et al., arXiv 2302.06675), whose weight decay is decoupled, with parameter groups."""


def make_optimizer(
    config: Any, schedule: Any, slow_variables: Iterable[Any], loss_scaling: bool = False
) -> keras.optimizers.Optimizer:
    """The chosen optimizer.

    Args:
        config: `msrn_tf.config.OptimizationConfig`.
        schedule: float or `keras.optimizers.schedules.LearningRateSchedule`.
        slow_variables: variables that learn at `config.backbone_factor` times the rate.
        loss_scaling: bool. Scale the loss so that float16 gradients neither vanish nor overflow.
    """
    if config.optimizer == "sgd":
        optimizer: ParameterGroups = GroupSGD(schedule, momentum=config.momentum)
    else:
        optimizer = {"adamw": GroupAdamW, "lion": GroupLion}[config.optimizer](schedule)
    optimizer.set_groups(
        slow_variables=slow_variables,
        slow_factor=config.backbone_factor,
        weight_decay=config.weight_decay,
        decay_vectors=config.decay_vectors,
    )
    return keras.optimizers.LossScaleOptimizer(optimizer) if loss_scaling else optimizer


def global_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together, a scalar."""
    return ops.sqrt(ops.sum([ops.sum(ops.square(gradient)) for gradient in gradients]))


def clipped(gradients: Sequence[Tensor], norm: Tensor, clip_norm: float) -> list[Tensor]:
    """Gradients, possibly scaled ones, whose unscaled `global_norm` is `norm`, shortened where it is above `clip_norm`.

    Where `norm` is no finite number, they are NaN.
    """
    factor = clip_norm * ops.minimum(1.0 / norm, 1.0 / clip_norm) + (norm - norm)
    return [gradient * factor for gradient in gradients]
