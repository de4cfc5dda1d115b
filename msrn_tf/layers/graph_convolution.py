"""Label-graph convolution (Kipf & Welling, arXiv 1609.02907; on labels: ML-GCN, Chen et al., arXiv 1904.03582)."""

from typing import Any

import keras
from keras import ops

from msrn_tf.type_names import Shape, Tensor


@keras.saving.register_keras_serializable("msrn_tf")
class GraphConvolution(keras.layers.Layer):
    """`out = activation(Â x W)`: each node takes the weighted sum of its neighbours.

    Args:
        units: int. Width of the output.
        activation: activation of the output. None (the default) is LeakyReLU with slope 0.2, as in ML-GCN.

    Call arguments:
        nodes: `[nodes, features]`.
        adjacency: `[nodes, nodes]`, the normalised adjacency Â (`msrn_tf.label_graph.normalized_adjacency`).

    Returns:
        `[nodes, units]`.

    Examples:

    >>> labels = keras.random.normal((3, 4))
    >>> layer = GraphConvolution(8, activation="linear")
    >>> convolved = layer(labels, np.eye(3))
    >>> np.allclose(convolved, np.asarray(labels) @ np.asarray(layer.kernel), atol=1e-4)
    True
    """

    def __init__(self, units: int, activation: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.layers.LeakyReLU(0.2) if activation is None else keras.activations.get(activation)
        self._default_activation = activation is None

    def build(self, nodes_shape: Shape, adjacency_shape: Shape | None = None) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(nodes_shape[-1], self.units))

    def call(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        adjacency = ops.cast(adjacency, self.compute_dtype)
        return self.activation(ops.matmul(adjacency, ops.matmul(nodes, self.kernel)))

    def neighbour_weights(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        """How much of each node comes from each, `[nodes, nodes]`; rows sum to 1."""
        return adjacency / ops.sum(adjacency, axis=-1, keepdims=True)

    def compute_output_shape(self, nodes_shape: Shape, adjacency_shape: Shape | None = None) -> Shape:
        return (nodes_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        activation = None if self._default_activation else keras.activations.serialize(self.activation)
        return {**super().get_config(), "units": self.units, "activation": activation}
