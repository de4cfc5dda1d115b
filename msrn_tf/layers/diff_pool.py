"""Group semantics by differentiable graph pooling (DiffPool, Ying et al., arXiv 1806.08804), as MSRN uses it."""

from typing import Any

import keras
from keras import ops

from msrn_tf.layers.graph_attention import GraphAttention
from msrn_tf.type_names import Shape, Tensor

GROUP_LOSS_WEIGHT = 1e-4


@keras.saving.register_keras_serializable("msrn_tf")
class DiffPool(keras.layers.Layer):
    """Pools C label semantics into m group semantics, with the group loss.

    ::

        Z = graph attention D→D of relu(E)        S = softmax over groups of graph attention D→m of relu(E)
        G = Sᵀ Z                                  loss = 1e-4 · Σᵢ ‖E[i] − G[argmax S[i]]‖₂

    Args:
        num_groups: int. m, the number of groups.
        loss_weight: float. Weight of the group loss. Defaults to 1e-4, the published value.

    Call arguments:
        labels: `[C, D]`, the label semantics E.
        adjacency: `[C, C]`, where labels are neighbours (positive entries).

    Returns:
        The group semantics G `[m, D]`, the assignment S `[C, m]`, whose rows sum to 1, and the loss, a float32 scalar.
        The loss is returned and not added to the layer's losses: replicas share those lists.

    Examples:

    >>> pool = DiffPool(2)
    >>> groups, assignment, loss = pool(keras.random.normal((5, 8)), np.eye(5))
    >>> tuple(groups.shape), tuple(assignment.shape)
    ((2, 8), (5, 2))
    >>> np.allclose(np.sum(assignment, axis=1), 1, atol=1e-5)
    True

    Reference:
        Qu et al., arXiv 2106.11596, §3.2, after Ying et al., arXiv 1806.08804.
    """

    def __init__(self, num_groups: int, loss_weight: float = GROUP_LOSS_WEIGHT, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_groups = num_groups
        self.loss_weight = loss_weight

    def build(self, labels_shape: Shape, adjacency_shape: Shape | None = None) -> None:
        self.embedding = GraphAttention(labels_shape[-1], dtype=self.dtype_policy, name="embedding")
        self.assignment = GraphAttention(self.num_groups, dtype=self.dtype_policy, name="assignment")
        self.embedding.build(labels_shape, adjacency_shape)
        self.assignment.build(labels_shape, adjacency_shape)

    def call(self, labels: Tensor, adjacency: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        activated = ops.relu(labels)
        embedded = self.embedding(activated, adjacency)
        assignment = ops.softmax(self.assignment(activated, adjacency), axis=-1)
        groups = ops.matmul(ops.transpose(assignment), embedded)
        own_group = ops.take(groups, ops.argmax(assignment, axis=-1), axis=0)
        squared = ops.sum(ops.square(ops.cast(labels - own_group, "float32")), axis=-1)
        # The floor gives a label that equals its group a zero gradient, where the bare root would give NaN.
        loss = self.loss_weight * ops.sum(ops.sqrt(ops.maximum(squared, 1e-24)))
        return groups, assignment, loss

    def compute_output_shape(
        self, labels_shape: Shape, adjacency_shape: Shape | None = None
    ) -> tuple[Shape, Shape, Shape]:
        return (self.num_groups, labels_shape[-1]), (labels_shape[0], self.num_groups), ()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_groups": self.num_groups, "loss_weight": self.loss_weight}
