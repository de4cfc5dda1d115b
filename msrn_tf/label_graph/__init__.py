"""The label graph: counts, adjacency, word vectors, and the file that holds them."""

from msrn_tf.label_graph.adjacency import DEFAULT_THRESHOLD, label_edges, normalized_adjacency
from msrn_tf.label_graph.label_graph import LabelGraph
from msrn_tf.label_graph.word_vectors import glove_word_vectors, one_hot_word_vectors, random_word_vectors

__all__ = [
    "DEFAULT_THRESHOLD",
    "LabelGraph",
    "glove_word_vectors",
    "label_edges",
    "normalized_adjacency",
    "one_hot_word_vectors",
    "random_word_vectors",
]
