"""Label semantics: from word vectors to one vector a label, by way of the label graph (arXiv 2106.11596, §3.2)."""

import keras

from msrn_tf.layers import GraphAttention, GraphConvolution

ENCODERS = {"gat": GraphAttention, "gcn": GraphConvolution}


@keras.saving.register_keras_serializable("msrn_tf")
class LabelEncoder(keras.layers.Layer):
    """Dense 256 → graph layer 300 → graph layer D.

    Args:
        units: int. D, the width of the label semantics.
        encoder: `"gat"` (graph attention, the paper's) or `"gcn"` (label-graph convolution).
        hidden_units: widths of the Dense layer and of the first graph layer.

    Call arguments:
        word_vectors: `[C, V]`.
        adjacency: `[C, C]`, the normalised adjacency Â.

    Returns:
        E `[C, D]`.
    """

    def __init__(self, units, encoder="gat", hidden_units=(256, 300), **kwargs):
        super().__init__(**kwargs)
        if encoder not in ENCODERS:
            raise ValueError(f"`encoder` must be one of {sorted(ENCODERS)}. Received: encoder={encoder}")
        self.units = units
        self.encoder = encoder
        self.hidden_units = tuple(hidden_units)

    def build(self, word_vectors_shape, adjacency_shape):
        graph_layer = self._graph_layer()
        dense_units, graph_units = self.hidden_units
        self.dense = keras.layers.Dense(dense_units, dtype=self.dtype_policy, name="dense")
        self.graph1 = graph_layer(graph_units, dtype=self.dtype_policy, name="graph1")
        self.graph2 = graph_layer(self.units, dtype=self.dtype_policy, name="graph2")
        labels = word_vectors_shape[0]
        self.dense.build(word_vectors_shape)
        self.graph1.build((labels, dense_units), adjacency_shape)
        self.graph2.build((labels, graph_units), adjacency_shape)

    def _graph_layer(self):
        """Class of the graph layers."""
        return ENCODERS[self.encoder]

    def call(self, word_vectors, adjacency):
        x = self.dense(word_vectors)
        return self.graph2(self.graph1(x, adjacency), adjacency)

    def neighbour_weights(self, word_vectors, adjacency):
        """How much each label takes from each in the first graph layer, `[C, C]`; rows sum to 1."""
        return self.graph1.neighbour_weights(self.dense(word_vectors), adjacency)

    def compute_output_shape(self, word_vectors_shape, adjacency_shape):
        return (word_vectors_shape[0], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "encoder": self.encoder,
            "hidden_units": list(self.hidden_units),
        }
