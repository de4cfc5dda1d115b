"""From choices to the label graph of a run: counted or from a file, with its word vectors."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from msrn_tf.data.examples import Examples
from msrn_tf.errors import UserError
from msrn_tf.label_graph import LabelGraph, glove_word_vectors, one_hot_word_vectors, random_word_vectors


def prepare_label_graph(
    config: Any, labels: Sequence[str], examples: Examples, seed: int
) -> tuple[LabelGraph, list[str]]:
    """The label graph with word vectors, and warnings about it.

    Args:
        config: `msrn_tf.config.ModelConfig`.
        labels: the data set's C names.
        examples: the training split.
        seed: int, for learnt word vectors.

    Returns:
        `(label_graph, warnings)`: a `LabelGraph` in the order of `labels`, and sentences for a person.
    """
    if config.label_graph:
        graph = in_order(LabelGraph.load(config.label_graph), labels, config.label_graph)
    else:
        graph = LabelGraph(tuple(labels), examples.counts(), examples.cooccurrence(), len(examples))
    graph, warnings = with_word_vectors(config, graph, seed)
    if graph.isolated_labels(config.graph_threshold):
        warnings.append("labels without a neighbour learn nothing from the graph; `graph_threshold` makes it denser")
    return graph, warnings


def with_word_vectors(config: Any, graph: LabelGraph, seed: int) -> tuple[LabelGraph, list[str]]:
    """The label graph with the chosen word vectors, and warnings about them; see `prepare_label_graph`."""
    vectors, warnings = _word_vectors(config.word_vectors, graph, seed)
    if config.word_vector_norm:
        vectors = config.word_vector_norm * keras.utils.normalize(vectors, axis=1)
    return dataclasses.replace(graph, word_vectors=vectors), warnings


def in_order(graph: LabelGraph, labels: Sequence[str], path: str) -> LabelGraph:
    """The graph with its labels in the order of `labels`. Raises `UserError` where one is missing."""
    missing = [label for label in labels if label not in graph.labels]
    if missing:
        raise UserError(f"`label_graph`={path}: does not know {', '.join(missing)}; make it from this data set")
    order = np.array([graph.labels.index(label) for label in labels])
    return LabelGraph(
        tuple(labels),
        graph.counts[order],
        graph.cooccurrence[np.ix_(order, order)],
        graph.num_images,
        None if graph.word_vectors is None else graph.word_vectors[order],
    )


def _word_vectors(choice, graph, seed):
    num_labels = len(graph.labels)
    if choice == "onehot":
        return one_hot_word_vectors(num_labels), []
    if choice == "auto" and graph.word_vectors is not None:
        return graph.word_vectors, []
    if choice in ("auto", "learned"):
        return random_word_vectors(num_labels, seed), []
    vectors, missing = glove_word_vectors(choice, graph.labels)
    return vectors, [
        f"word vectors: {label!r} has no vector for {', '.join(words) or 'any word'}; "
        "its other words, or the mean of all labels, stand in"
        for label, words in missing.items()
    ]
