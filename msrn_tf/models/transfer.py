"""Weights of a trained model for a new one, also of other labels: what is shared goes over whole, what belongs to a
label goes over by the label's name."""

import dataclasses

import numpy as np

from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.msrn import MSRN

# Variables with a row (or column) for each label, by the end of their path: the axis that counts labels.
LABEL_AXES = {
    "head/kernel": 0,
    "head/bias": 0,
    "logits/kernel": 1,
    "logits/bias": 0,
    "semantics/word_vectors": 0,
}
FLATTENED = "head/hidden/kernel"  # [(C + m) · 3D, units]: a block of rows for each label, then for each group
OF_THE_GRAPH, WORD_VECTORS = "semantics/adjacency", "semantics/word_vectors"
OF_ALL_STRIDES = ("head/kernel", FLATTENED)  # whose features are the strides' side by side
AFTER_FLATTENED = "head/logits/kernel"  # reads hidden units, which mean nothing where others come before them


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
    other_strides = _strides(source) != _strides(target)
    flattened_taken = False
    for variable in target.weights:
        name = _name(variable, target)
        if name == OF_THE_GRAPH or (name == WORD_VECTORS and not variable.trainable):
            continue
        if name not in there:
            report.left.append((name, "not in the file"))
            continue
        if other_strides and name.endswith(OF_ALL_STRIDES):
            report.left.append((name, f"strides {_strides(source)} in the file, {_strides(target)} here"))
            continue
        if name.endswith(AFTER_FLATTENED) and not flattened_taken:
            report.left.append((name, "its hidden units are not taken"))
            continue
        value, old = np.asarray(there[name]), np.array(variable)
        merged = _by_label(name, value, old, rows, source, target)
        if merged is not None:
            variable.assign(merged)
            report.by_label.append(name)
            flattened_taken |= name.endswith(FLATTENED)
        elif value.shape == old.shape:
            variable.assign(value)
            report.whole.append(name)
        else:
            report.left.append((name, f"shape {list(value.shape)} in the file, {list(old.shape)} here"))
    return report


def _by_label(name, value, old, rows, source, target):
    """`old` with the shared labels' parts of `value`, or None where the variable has no part for each label."""
    if name.endswith(FLATTENED):
        value = value.reshape(_nodes(source), -1, value.shape[-1])
        new = old.reshape(_nodes(target), -1, old.shape[-1])
        merged = _merge(value, new, rows, 0)
        return None if merged is None else merged.reshape(old.shape)
    axis = next((axis for end, axis in LABEL_AXES.items() if name.endswith(end)), None)
    return None if axis is None else _merge(value, old, rows, axis)


def _merge(value, old, rows, axis):
    value, merged = np.moveaxis(value, axis, 0), np.moveaxis(old.copy(), axis, 0)
    if value.shape[1:] != merged.shape[1:]:
        return None
    for there, here in rows:
        merged[here] = value[there]
    return np.moveaxis(merged, 0, axis)


def _name(variable, model):
    """The variable's path in its model."""
    return variable.path.removeprefix(f"{model.name}/")


def _nodes(model):
    """C + m of an `MSRN`."""
    return model.semantics.num_labels + model.semantics.num_groups


def _strides(model):
    return list(model.projection.strides) if isinstance(model, MSRN) else []
