"""Graph attention over labels (Veličković et al., arXiv 1710.10903), in the form that MSRN uses (arXiv 2106.11596)."""

from typing import Any

import keras
from keras import ops

from msrn_tf.type_names import Shape, Tensor

MASKED_SCORE = -1e9
"""Score where the graph has no edge: its softmax weight is exactly 0. (Every label has an edge to itself.)"""


@keras.saving.register_keras_serializable("msrn_tf")
class GraphAttention(keras.layers.Layer):
    """One attention head over the neighbours of each node, with the node's own features added.

    ::

        h          = x W
        score[i,j] = LeakyReLU₀.₂(a₁·h[i] + a₂·h[j])
        out        = activation(softmax over j with adjacency[i,j] > 0 (score) · h + h)

    Args:
        units: int. Width of the output.
        activation: activation of the output. Defaults to `"elu"`.

    Call arguments:
        nodes: `[nodes, features]`.
        adjacency: `[nodes, nodes]`; only the sign of its entries is used. Each row needs a positive entry.

    Returns:
        `[nodes, units]`.

    Examples:

    >>> labels = keras.random.normal((3, 4))
    >>> adjacency = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    >>> layer = GraphAttention(8)
    >>> tuple(layer(labels, adjacency).shape)
    (3, 8)
    >>> np.asarray(layer.neighbour_weights(labels, adjacency))[1].tolist()
    [0.0, 1.0, 0.0]

    Reference:
        Qu et al., arXiv 2106.11596, §3.2, after Veličković et al., arXiv 1710.10903.
    """

    def __init__(self, units: int, activation: Any = "elu", **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)

    def build(self, nodes_shape: Shape, adjacency_shape: Shape | None = None) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(nodes_shape[-1], self.units))
        self.attention_kernel = self.add_weight(name="attention_kernel", shape=(2 * self.units, 1))

    def call(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        h = ops.matmul(nodes, self.kernel)
        return self.activation(ops.matmul(self._attention(h, adjacency), h) + h)

    def neighbour_weights(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        """How much each node attends to each, `[nodes, nodes]`; rows sum to 1."""
        return self._attention(ops.matmul(nodes, self.kernel), adjacency)

    def _scores(self, h):
        a_self, a_neighbour = self.attention_kernel[: self.units], self.attention_kernel[self.units :]
        score = ops.matmul(h, a_self) + ops.transpose(ops.matmul(h, a_neighbour))
        return ops.leaky_relu(score, negative_slope=0.2)

    def _attention(self, h, adjacency):
        score = self._scores(h)
        score = ops.where(adjacency > 0, score, ops.cast(MASKED_SCORE, score.dtype))
        return ops.softmax(score, axis=-1)

    def compute_output_shape(self, nodes_shape: Shape, adjacency_shape: Shape | None = None) -> Shape:
        return (nodes_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
        }
