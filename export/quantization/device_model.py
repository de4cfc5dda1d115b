"""An inference model laid out for TFLite: one photo of fixed size, nothing but built-in operations, little memory.

Semantic attention (`msrn_tf.layers.semantic_attention` has the equation) goes by moments, in a number of segments that
is fixed here: twice what the calibration photos need. A photo beyond that is not refused: the error grows slowly with
its exponents (`docs/attention.md`), and `export.compare` would show it. Without calibration photos, in integers, and
where so many segments would cost more, `UnrolledAttention` takes its place.

Positions stay `[N, D]` with channels innermost, as convolutions leave them, so that every step is elementwise or a sum
over positions: what XNNPACK computes with vector instructions, without a transposition.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.signatures import combined_maps
from msrn_tf.layers import SemanticAttention, moment_attention
from msrn_tf.layers.semantic_attention import largest_range
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.inference_model import inference_model
from msrn_tf.models.msrn import MSRN
from msrn_tf.type_names import Shape, Tensor

ROOM = 2.0
"""Exponents that an exported model has room for, of the largest that the calibration photos have."""

POSITION_COST = 5.0
"""As `semantic_attention.POSITION_COST`, on a device, where nothing is masked in a single segment: measured by
`benchmarks/ondevice.py`."""

BLOCK_ELEMENTS = 1 << 19
"""Weights computed at a time, in numbers: 2 MiB of float32."""

SMALLEST_SUM = 1 / 128
"""Of the largest sum there can be: two steps of its int8 form. A sum that rounds to 0 would end the run in DIV."""


class UnrolledAttention(keras.layers.Layer):
    """`SemanticAttention` without control flow, for semantics that are constants: a block of labels after the other.

    Per label and channel, with m the largest of p·e over positions (it lies where p is largest or smallest)::

        w = exp(p·e − m)        r = Σₙ w·p / Σₙ w

    Args:
        in_integers: bool. Keeps Σₙ w from rounding to 0 in int8.
    """

    def __init__(self, in_integers: bool = False, **kwargs: Any):
        super().__init__(**kwargs | {"dtype": "float32"})
        self.in_integers = in_integers

    def build(self, positions_shape: Shape, semantics_shape: Shape) -> None:
        pass

    def call(self, positions: Tensor, semantics: Tensor) -> Tensor:
        """`[batch, K, D]` of positions `[batch, N, D]` and the semantics `[K, D]`."""
        is_single = positions.shape[0] == 1
        # A single photo is broadcast over labels as it is: three axes, which devices compute fastest.
        p = positions if is_single else tf.expand_dims(positions, 1)
        extremes = _extremes(p)
        parts = [self._aggregate(p, block, extremes) for block in _blocks(semantics, positions)]
        aggregated = tf.concat(parts, axis=-2)
        return tf.expand_dims(aggregated, 0) if is_single else aggregated

    def evidence_maps(self, positions: Tensor, semantics: Tensor, gradients: Tensor) -> Tensor:
        """`SemanticAttention.evidence_maps` of a single photo: `[1, K, N]`.

        The weights are computed anew around the mean: TFLite would keep those of every label from the first pass to
        the second if they were the same.
        """
        deviation = positions - tf.reduce_mean(positions, axis=1, keepdims=True)
        extremes = _extremes(deviation)
        maps, start = [], 0
        for block in _blocks(semantics, positions):
            gradient = tf.transpose(gradients[:, start : start + block.shape[0]], (1, 0, 2))
            weights = _weights(deviation, block, extremes)
            scaled = gradient / tf.reduce_sum(weights, axis=1, keepdims=True)
            maps.append(tf.reduce_sum(weights * deviation * scaled, axis=-1))
            start += block.shape[0]
        return tf.expand_dims(tf.concat(maps, axis=0), 0)

    def _aggregate(self, positions, block, extremes):
        weights = _weights(positions, block, extremes)
        sums = tf.reduce_sum(weights, axis=-2)
        if self.in_integers:
            sums = tf.maximum(sums, SMALLEST_SUM * positions.shape[-2])
        return tf.reduce_sum(weights * positions, axis=-2) / sums

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "in_integers": self.in_integers}


def _blocks(semantics, positions):
    """The semantics in blocks `[labels, 1, D]`; where they are constants, the converter makes constants of them."""
    size = max(1, BLOCK_ELEMENTS // (positions.shape[1] * positions.shape[2]))
    return [semantics[start : start + size, None] for start in range(0, semantics.shape[0], size)]


def _extremes(positions):
    return tf.reduce_max(positions, axis=-2, keepdims=True), tf.reduce_min(positions, axis=-2, keepdims=True)


def _weights(positions, block, extremes):
    """exp(p·e − max), not yet divided by its sum: `[labels, N, D]`, or `[batch, labels, N, D]`."""
    largest = tf.maximum(extremes[0] * block, extremes[1] * block)
    return tf.exp(positions * block - largest)


def device_attention(
    model: MultiLabelClassifier, in_integers: bool, photos: Sequence[np.ndarray]
) -> keras.layers.Layer | None:
    """What stands in for `SemanticAttention` on a device; None for a model without it, which keeps what it has.

    It goes by moments where photos tell how many segments are needed.
    """
    if not isinstance(model, MSRN) or not isinstance(model.attention, SemanticAttention):
        return None
    semantics = np.asarray(model.semantics().vectors)
    if len(photos) and not in_integers:
        segments = max(1, math.ceil(ROOM * largest_exponent(model, semantics, photos)))
        # The largest map is where the cost lies.
        finest = model.image_size // model.projection.strides[0] // (2 if model.projection.pooled[0] else 1)
        if segments <= largest_range(finest**2, len(semantics), POSITION_COST):
            return SemanticAttention("moments", segments=segments, dtype="float32", name="attention")
    return UnrolledAttention(in_integers, name="attention")


def largest_exponent(model: MSRN, semantics: Tensor, photos: Sequence[np.ndarray]) -> float:
    """Half the range of a channel's positions times the largest |e|, the largest of all photos, scales and channels."""

    @tf.function(autograph=False)
    def of_photo(photo):
        maps = model.projection(model.feature_maps(photo))
        flat = [tf.reshape(tf.cast(m, tf.float32), (1, -1, m.shape[-1])) for m in maps]
        return tf.reduce_max([moment_attention.exponent_range(positions, semantics) for positions in flat])

    return max(float(of_photo(photo)) for photo in photos)


class DeviceModel(tf.Module):
    """What is converted: uint8 pixels of one photo to calibrated scores, and with attention to heat-maps.

    Args:
        model: trained.
        with_attention: bool. A second output: one map a label in [0, 1], `[1, C, h, w]`.
        in_integers: bool. Whether attention is going to be computed in int8.
        photos: list of uint8 `[1, size, size, 3]`, like those that the device will see; may be empty.
    """

    def __init__(
        self,
        model: MultiLabelClassifier,
        with_attention: bool = False,
        in_integers: bool = False,
        photos: Sequence[np.ndarray] = (),
    ):
        super().__init__()
        self.model = inference_model(model, device_attention(model, in_integers, photos))
        size = model.image_size
        self.spec = tf.TensorSpec((1, size, size, 3), tf.uint8, "image")
        self.function = tf.function(self._explain if with_attention else self._classify, input_signature=[self.spec])

    def _classify(self, image):
        return {"scores": self.model.calibrated(self.model(image, training=False))}

    def _explain(self, image):
        logits, evidence = self.model.classify_and_explain(image)
        return {"scores": self.model.calibrated(logits), "attention": combined_maps(evidence)}
