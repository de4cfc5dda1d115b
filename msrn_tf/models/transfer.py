"""Weights of a trained model for a new one, also of other labels: what is shared goes over whole, what belongs to a
label goes over by the label's name."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from msrn_tf.layers import ElementwiseHead, MLPHead, QueryDecoderHead, ResidualAttentionHead
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.msrn import MSRN

FLATTENED = "head/hidden/kernel"  # of `MLPHead`, [(C + m) · 3D, units]: a block of rows for each label, then each group
OF_THE_GRAPH, WORD_VECTORS = "semantics/adjacency", "semantics/word_vectors"
OF_ALL_STRIDES = ("head/kernel", FLATTENED)  # whose features are the strides' side by side
AFTER_FLATTENED = "head/logits/kernel"  # reads hidden units, which mean nothing where others come before them
OF_QUERIES = ("head/queries", "head/kernel", "head/bias")  # of `QueryDecoderHead`


@dataclasses.dataclass
class TransferReport:
    """What went over: names of variables taken whole, by label, and left as they were with the reason."""

    whole: list = dataclasses.field(default_factory=list)
    by_label: list = dataclasses.field(default_factory=list)
    left: list = dataclasses.field(default_factory=list)
    shared_labels: tuple = ()

    def describe(self) -> list[str]:
        """Sentences for a person."""
        lines = [f"{len(self.whole)} variables whole, {len(self.by_label)} for {len(self.shared_labels)} shared labels"]
        if self.shared_labels:
            lines.append(f"shared labels: {', '.join(self.shared_labels)}")
        lines += [f"not taken: {name} ({reason})" for name, reason in self.left]
        return lines


def transfer_weights(source: MultiLabelClassifier, target: MultiLabelClassifier) -> TransferReport:
    """Copies what fits from one `MultiLabelClassifier` to another; variables are matched by their paths.

    Returns:
        `TransferReport`.
    """
    report = TransferReport(shared_labels=tuple(label for label in target.labels if label in source.labels))
    rows = [(source.labels.index(label), target.labels.index(label)) for label in report.shared_labels]
    there = {_name(variable, source): variable for variable in source.weights}
    views = _label_views(source), _label_views(target)
    for variable in target.weights:
        name = _name(variable, target)
        if name == OF_THE_GRAPH or (name == WORD_VECTORS and not variable.trainable):
            continue
        reason = "" if name in there else "not in the file"
        reason = reason or _why_not(name, source, target, report)
        if reason:
            report.left.append((name, reason))
            continue
        value, old = np.asarray(there[name]), np.array(variable)
        if name in views[1]:
            taken, value = report.by_label, _merge(value, old, rows, *(view[name] for view in views))
        else:
            taken = report.whole
        if value is None or value.shape != old.shape:
            report.left.append((name, f"shape {list(there[name].shape)} in the file, {list(old.shape)} here"))
            continue
        variable.assign(value)
        taken.append(name)
    return report


def _why_not(name, source, target, report):
    """Why a variable of this name in the file means something else here; empty where it does not."""
    if name.startswith("head/") and type(source.head) is not type(target.head):
        return f"{type(source.head).__name__} in the file, {type(target.head).__name__} here"
    if _strides(source) != _strides(target) and name in OF_ALL_STRIDES:
        return f"strides {_strides(source)} in the file, {_strides(target)} here"
    if name == AFTER_FLATTENED and FLATTENED not in report.by_label:
        return "its hidden units are not taken"
    if name in OF_QUERIES and _shares_queries(source, target) and source.labels != target.labels:
        return "several labels share a query, and the labels are others"
    return ""


def _shares_queries(*models):
    """Whether more labels than queries make parts of `QueryDecoderHead` belong to several labels each."""
    return any(isinstance(model.head, QueryDecoderHead) and model.head.labels_a_query > 1 for model in models)


def _label_views(model):
    """Variables with a part for each label: name → (how to see the array, the axis of that view that counts labels)."""
    count, head = len(model.labels), model.head
    views: dict[str, tuple[Callable[[Any], Any], int]] = {}
    if isinstance(model, MSRN):
        views[WORD_VECTORS] = (_as_it_is, 0)
    if isinstance(head, MLPHead):
        nodes = model.semantics.num_labels + model.semantics.num_groups
        views[FLATTENED] = (lambda array: array.reshape(nodes, -1, array.shape[-1]), 0)
        views |= {AFTER_FLATTENED: (_as_it_is, 1), "head/logits/bias": (_as_it_is, 0)}
    elif isinstance(head, ElementwiseHead):
        views |= {"head/kernel": (_as_it_is, 0), "head/bias": (_as_it_is, 0)}
    elif isinstance(head, keras.layers.Dense):
        views |= {"head/kernel": (_as_it_is, 1), "head/bias": (_as_it_is, 0)}
    elif isinstance(head, ResidualAttentionHead):
        views["head/classifier/kernel"] = (lambda array: array.reshape(-1, head.heads, count), 2)
        views["head/classifier/bias"] = (lambda array: array.reshape(head.heads, count), 1)
    elif isinstance(head, QueryDecoderHead) and not _shares_queries(model):
        views |= dict.fromkeys(OF_QUERIES, (_as_it_is, 0))
    return views


def _as_it_is(array):
    return array


def _merge(value, old, rows, value_view, old_view):
    """`old` with the shared labels' parts of `value`; None where a label's part has another shape."""
    (seen, axis), (seen_here, axis_here) = value_view, old_view
    merged = old.copy()
    parts, own = np.moveaxis(seen(value), axis, 0), np.moveaxis(seen_here(merged), axis_here, 0)  # a view of `merged`
    if parts.shape[1:] != own.shape[1:]:
        return None
    for there, here in rows:
        own[here] = parts[there]
    return merged


def _name(variable, model):
    """The variable's path in its model."""
    return variable.path.removeprefix(f"{model.name}/")


def _strides(model):
    return list(model.projection.strides) if isinstance(model, MSRN) else []
