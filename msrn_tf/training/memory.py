"""What the largest kernels of a model will need, known from choices alone: before memory is asked for, not after."""

import math
import pathlib
from typing import Any

from msrn_tf.errors import UserError
from msrn_tf.label_graph import LabelGraph
from msrn_tf.terminal import say

OPTIMIZER_SLOTS = {"sgd": 1, "adamw": 2, "lion": 1}
FLOAT_BYTES = 4
SAID_FROM = 2**30
"""Bytes of the largest kernels, with gradients and optimizer, from which their memory is said beforehand."""


def large_kernels(config: Any, num_labels: int, word_vector_size: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights that grow with the number of labels: name → shape; the others are the backbone's.

    Args:
        config: `msrn_tf.config.ModelConfig`.
        num_labels: int, C.
        word_vector_size: int, V.
    """
    if config.model != "msrn":
        return {}
    groups = max(1, int(config.pool_ratio * num_labels)) if config.pool_ratio else 0
    features = len(config.strides) * config.channels
    shapes: dict[str, tuple[int, ...]] = {
        "semantics/adjacency": (num_labels, num_labels),
        "semantics/word_vectors": (num_labels, word_vector_size),
    }
    if config.head == "mlp":
        shapes["head/hidden/kernel"] = ((num_labels + groups) * features, config.head_units)
        shapes["head/logits/kernel"] = (config.head_units, num_labels)
    else:
        shapes["head/kernel"] = (num_labels, features * (2 if groups else 1))
    return shapes


def check_memory(
    config: Any, optimization: Any, strategy: Any, label_graph: LabelGraph, available: int | None = None
) -> list[str]:
    """Says what the largest kernels need, where that is much, before they are made.

    Args:
        config, optimization: of `msrn_tf.config`.
        strategy: `tf.distribute.Strategy`.
        label_graph: `LabelGraph` with word vectors.
        available: bytes; what the machine has free where not given.

    Returns:
        Warnings: that a GPU's memory may not be enough.

    Raises:
        UserError: on CPUs, more than is free.
    """
    assert label_graph.word_vectors is not None
    num_labels, size = label_graph.word_vectors.shape
    needed, largest = _needed(config, optimization, num_labels, size)
    if needed < SAID_FROM:
        return []
    shape = large_kernels(config, num_labels, size)[largest]
    say(f"memory     {needed / 1e9:,.1f} GB a replica for the largest kernels with gradients and optimizer, before the "
        f"backbone's; {largest} is {shape[0]:,} × {shape[1]:,}")  # fmt: skip
    on_gpu = "GPU" in strategy.extended.worker_devices[0]
    copies = 1 if on_gpu else len(strategy.extended.worker_devices)
    available = available_memory() if available is None else available
    if available is None or copies * needed <= available:
        return []
    sentence = (
        f"{largest} and the other large kernels of {num_labels:,} labels need {copies * needed / 1e9:,.1f} GB, and "
        f"{available / 1e9:,.1f} GB are free; {_what_helps(config, optimization, num_labels, size)}"
    )
    if on_gpu:  # whose own memory is not known before TensorFlow takes it
        return [sentence]
    raise UserError(f"`head`={config.head}: {sentence}")


def _needed(config, optimization, num_labels, word_vector_size):
    """Bytes of the large kernels with gradients, slots and moving averages; and the name of the largest."""
    numbers = {name: math.prod(shape) for name, shape in large_kernels(config, num_labels, word_vector_size).items()}
    if not numbers:
        return 0, ""
    fixed = {"semantics/adjacency"} | ({"semantics/word_vectors"} if config.word_vectors != "learned" else set())
    total = sum(
        number
        * (1 + optimization.keeps_average + (0 if name in fixed else 1 + OPTIMIZER_SLOTS[optimization.optimizer]))
        for name, number in numbers.items()
    )
    return FLOAT_BYTES * total, max(numbers, key=numbers.__getitem__)


def _what_helps(config, optimization, num_labels, word_vector_size):
    if config.head == "mlp":
        small = type(config)(**vars(config) | {"head": "elementwise"})
        needed, _ = _needed(small, optimization, num_labels, word_vector_size)
        return f"use `head`=elementwise ({needed / 1e9:,.2f} GB), or smaller `head_units` or `channels`"
    return "use smaller `channels` or fewer labels"


def available_memory(root: str = "/") -> int | None:
    """Bytes that this process may still take: of the machine, or of its control group; None where that is not told."""
    machine = pathlib.Path(root)
    found = []
    for line in _text(machine / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            found.append(1024 * int(line.split()[1]))
    for names in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        limit, used = (_text(machine / "sys/fs/cgroup" / name).strip() for name in names)
        if limit.isdigit() and used.isdigit():
            found.append(max(0, int(limit) - int(used)))
    return min(found, default=None)


def _text(path):
    try:
        return path.read_text()
    except OSError:
        return ""
