"""A model to train, made by one call: what `msrn_tf.train` begins with, for `keras.Model.fit` or a loop of your own."""

from collections.abc import Sequence
from typing import Any

from msrn_tf.choices import STRIDES
from msrn_tf.config import ModelConfig, are_strides, check_values
from msrn_tf.errors import UserError
from msrn_tf.label_graph import LabelGraph
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.factory import create_model
from msrn_tf.training.graph_setup import in_order, with_word_vectors


def new_model(
    labels: Sequence[str],
    label_graph: LabelGraph | str | None = None,
    *,
    image_size: int = 448,
    seed: int = 0,
    **choices: Any,
) -> MultiLabelClassifier:
    """A built model with random weights but for the backbone's, where `backbone_weights` are given.

    Args:
        labels: C names, in the order of the targets and logits.
        label_graph: as `msrn_tf.datasets.read` counts it, or the path of a `label_graph.npz`; the baselines
            (every `model` but `"msrn"`) need none.
        image_size: int, pixels.
        seed: int, of word vectors that no file gives. Weights come of Keras' own seed (`keras.utils.set_random_seed`).
        **choices: fields of `msrn_tf.config.ModelConfig`, which are the flags of `msrn_tf.train`: `backbone`,
            `backbone_weights`, `freeze_backbone`, `head`, `strides`, `dropout` …

    Raises:
        UserError: a choice that cannot be had, or a label graph that is missing or of other labels.
        TypeError: a choice that is none.
        ValueError: a value that is none of an argument's choices, or beyond its bounds.
    """
    config = ModelConfig(**choices)
    check_values(config)
    if not are_strides(config.strides):
        known = ", ".join(map(str, STRIDES))
        raise ValueError(f"`strides` must be some of {known}, in order. Received: {config.strides}")
    if config.model != "msrn":
        return create_model(config, labels, image_size)
    if label_graph is None:
        raise UserError("`label_graph` is missing: give that of `msrn_tf.datasets.read`, or a label_graph.npz")
    if isinstance(label_graph, str):
        graph = in_order(LabelGraph.load(label_graph), labels, label_graph)
    else:
        graph = in_order(label_graph, labels, f"LabelGraph of {len(label_graph.labels)} labels")
    graph, _ = with_word_vectors(config, graph, seed)
    return create_model(config, labels, image_size, graph)
