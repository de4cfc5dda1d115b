"""Label and group semantics: what a label means, from word vectors and the label graph (arXiv 2106.11596, §3.2)."""

import typing
from typing import Any, Self

import keras
from keras import ops

from msrn_tf.layers import DiffPool, GraphAttention, GraphConvolution
from msrn_tf.type_names import Tensor
from msrn_tf.validation import LARGEST_WIDTH, checked_whole

GRAPH_LAYERS: dict[str, Any] = {"gat": GraphAttention, "gcn": GraphConvolution}
HIDDEN_UNITS = (256, 300)
"""Widths of the Dense layer and of the first graph layer, as published."""


class Semantics(typing.NamedTuple):
    """What a model knows of its labels before it sees a photo.

    Attributes:
        vectors: `[C + m, D]`: of each label, then of each group of labels.
        assignment: `[C, m]`: each label's share in each group; rows sum to 1. m may be 0.
        loss: float32 scalar, the group loss, for training.
    """

    vectors: typing.Any
    assignment: typing.Any
    loss: typing.Any


def no_semantics() -> Semantics:
    """Of a model without a label graph."""
    return Semantics(vectors=None, assignment=None, loss=ops.zeros(()))


class _WithoutInput(keras.layers.Layer):
    """A layer whose call takes nothing, which Keras' own `__call__` has no place for. Float32 under every policy."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})

    def __call__(self):
        if not self.built:
            self.build()
        return self.call()

    def _weight(self, name, shape, trainable=False):
        return self.add_weight(name=name, shape=shape, trainable=trainable, autocast=False, initializer="zeros")


@keras.saving.register_keras_serializable("msrn_tf")
class SemanticsEncoder(_WithoutInput):
    """Word vectors → Dense 256 → graph layer 300 → graph layer D: label semantics E; DiffPool of E: group semantics.

    The layer takes no input: the label graph and the word vectors are weights of it, zeros until they are assigned or
    loaded. It computes in float32 under every dtype policy: the label graph is small, and its softmax sensitive.

    Args:
        num_labels: int. C.
        word_vector_size: int. V.
        units: int. D, the width of the semantics.
        num_groups: int. m, the number of groups of labels. Defaults to 0: labels alone.
        graph_layer: `"gat"` (graph attention, the paper's) or `"gcn"` (label-graph convolution).
        train_word_vectors: bool. Whether the word vectors are learnt with the rest. Defaults to False.

    Returns:
        `Semantics`. Its loss is not added to the layer's losses, which replicas of `tf.distribute` share.

    Examples:

    >>> encoder = SemanticsEncoder(num_labels=4, word_vector_size=6, units=8, num_groups=2)
    >>> encoder.build()
    >>> _ = encoder.adjacency.assign(np.eye(4))
    >>> _ = encoder.word_vectors.assign(np.random.normal(size=(4, 6)))
    >>> semantics = encoder()
    >>> tuple(semantics.vectors.shape), tuple(semantics.assignment.shape)
    ((6, 8), (4, 2))
    """

    def __init__(
        self,
        num_labels: int,
        word_vector_size: int,
        units: int,
        num_groups: int = 0,
        graph_layer: str = "gat",
        train_word_vectors: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_labels = checked_whole("num_labels", num_labels, 1, LARGEST_WIDTH)
        self.word_vector_size = checked_whole("word_vector_size", word_vector_size, 1, LARGEST_WIDTH)
        self.units = checked_whole("units", units, 1, LARGEST_WIDTH)
        self.num_groups = checked_whole("num_groups", num_groups, 0, num_labels)
        if graph_layer not in GRAPH_LAYERS:
            raise ValueError(f"`graph_layer` must be one of {sorted(GRAPH_LAYERS)}. Received: {graph_layer}")
        self.graph_layer = graph_layer
        self.train_word_vectors = train_word_vectors

    def build(self) -> None:
        labels, (dense_units, graph_units) = self.num_labels, HIDDEN_UNITS
        self.adjacency = self._weight("adjacency", (labels, labels))
        self.word_vectors = self._weight("word_vectors", (labels, self.word_vector_size), self.train_word_vectors)
        layer = GRAPH_LAYERS[self.graph_layer]
        self.dense = keras.layers.Dense(dense_units, dtype="float32", name="dense")
        self.graph1 = layer(graph_units, dtype="float32", name="graph1")
        self.graph2 = layer(self.units, dtype="float32", name="graph2")
        self.dense.build((labels, self.word_vector_size))
        self.graph1.build((labels, dense_units), (labels, labels))
        self.graph2.build((labels, graph_units), (labels, labels))
        if self.num_groups:
            self.diff_pool = DiffPool(self.num_groups, dtype="float32", name="diff_pool")
            self.diff_pool.build((labels, self.units), (labels, labels))

    def call(self) -> Semantics:
        labels = self.label_semantics()
        if not self.num_groups:
            return Semantics(labels, ops.zeros((self.num_labels, 0)), ops.zeros(()))
        groups, assignment, loss = self.diff_pool(labels, self.adjacency)
        return Semantics(ops.concatenate([labels, groups], axis=0), assignment, loss)

    def label_semantics(self) -> Tensor:
        """E `[C, D]`."""
        return self.graph2(self.graph1(self.dense(self.word_vectors), self.adjacency), self.adjacency)

    def neighbour_weights(self) -> Tensor:
        """How much each label takes from each in the first graph layer, `[C, C]`; rows sum to 1."""
        return self.graph1.neighbour_weights(self.dense(self.word_vectors), self.adjacency)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_labels": self.num_labels,
            "word_vector_size": self.word_vector_size,
            "units": self.units,
            "num_groups": self.num_groups,
            "graph_layer": self.graph_layer,
            "train_word_vectors": self.train_word_vectors,
        }


@keras.saving.register_keras_serializable("msrn_tf")
class ConstantSemantics(_WithoutInput):
    """The semantics of a trained model as constants: they do not depend on the photo, so inference needs no encoder.

    Args:
        num_labels: int. C.
        units: int. D.
        num_groups: int. m.

    Returns:
        `Semantics`, with a loss of 0.

    Examples:

    >>> constant = ConstantSemantics.of(SemanticsEncoder(num_labels=4, word_vector_size=6, units=8))
    >>> tuple(constant().vectors.shape), len(constant.trainable_variables)
    ((4, 8), 0)
    """

    def __init__(self, num_labels: int, units: int, num_groups: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_labels = checked_whole("num_labels", num_labels, 1, LARGEST_WIDTH)
        self.units = checked_whole("units", units, 1, LARGEST_WIDTH)
        self.num_groups = checked_whole("num_groups", num_groups, 0, num_labels)

    @classmethod
    def of(cls, layer: SemanticsEncoder | Self) -> Self:
        """With the present values of a built `SemanticsEncoder` (or of another `ConstantSemantics`)."""
        vectors, assignment, _ = layer()
        constant = cls(layer.num_labels, layer.units, layer.num_groups, name=layer.name)
        constant.build()
        constant.vectors.assign(vectors)
        constant.assignment.assign(assignment)
        return constant

    def build(self) -> None:
        self.vectors = self._weight("vectors", (self.num_labels + self.num_groups, self.units))
        self.assignment = self._weight("assignment", (self.num_labels, self.num_groups))

    def call(self) -> Semantics:
        return Semantics(ops.convert_to_tensor(self.vectors), ops.convert_to_tensor(self.assignment), ops.zeros(()))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_labels": self.num_labels,
            "units": self.units,
            "num_groups": self.num_groups,
        }
