"""Classification losses on logits; an unknown target (below 0) adds nothing. Targets between 0 and 1 are mixtures.

All are computed in float32 from log-probabilities, so that logits of any size give finite values and gradients. Any of
them may weigh present labels, and may suspect labels that were not listed (`training.unlisted`).
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from msrn_tf.training.unlisted import LargeLosses
from msrn_tf.type_names import Tensor


def make_loss(
    config: Any, positive_weights: Any = None, large_losses: LargeLosses | None = None
) -> Callable[[Tensor, Tensor], Tensor]:
    """The chosen loss, a function of (targets, logits).

    Args:
        config: `msrn_tf.config.OptimizationConfig`.
        positive_weights: float32 `[C]`, what the loss of a present label is multiplied by; None: 1.
        large_losses: what becomes of labels that were not listed and have a large loss; None: they are unknown.
    """
    beside = {"positive_weights": positive_weights, "large_losses": large_losses}
    if config.loss == "asl":
        return functools.partial(
            asymmetric_loss,
            gamma_positive=config.asl_gamma_positive,
            gamma_negative=config.asl_gamma_negative,
            margin=config.asl_margin,
            **beside,
        )
    if config.loss == "focal":
        return functools.partial(focal_loss, gamma=config.focal_gamma, **beside)
    return functools.partial(binary_crossentropy, **beside)


@keras.saving.register_keras_serializable("msrn_tf")
def binary_crossentropy(targets: Tensor, logits: Tensor, **beside: Any) -> Tensor:
    """Binary cross-entropy, mean over all known targets of the batch's images and labels, as published.

    ::

        loss = mean over images of (Σ_c known · bce(logit, target)) / C

    Args:
        targets: `[batch, C]`: 1 present, 0 absent, below 0 unknown.
        logits: float `[batch, C]`.
        **beside: `positive_weights`, `large_losses` of `make_loss`.

    Returns:
        float32 `[batch]`: each image's loss.
    """
    return _mean_over_labels(targets, logits, lambda _p, _q, log_p, log_q: (-log_p, -log_q), **beside)


@keras.saving.register_keras_serializable("msrn_tf")
def focal_loss(targets: Tensor, logits: Tensor, gamma: float = 2.0, **beside: Any) -> Tensor:
    """Focal loss (Lin et al., arXiv 1708.02002, without its α): cross-entropy times (1 − truth's probability)^γ."""

    def terms(p, q, log_p, log_q):
        return -_power(q, gamma) * log_p, -_power(p, gamma) * log_q

    return _mean_over_labels(targets, logits, terms, **beside)


@keras.saving.register_keras_serializable("msrn_tf")
def asymmetric_loss(
    targets: Tensor,
    logits: Tensor,
    gamma_positive: float = 0.0,
    gamma_negative: float = 4.0,
    margin: float = 0.05,
    **beside: Any,
) -> Tensor:
    """Asymmetric loss (Ridnik et al., arXiv 2009.14119, equations 4 to 7), the focusing weights without a gradient.

    ::

        present: (1 − p)^γ₊ · −log p        absent: p_m^γ₋ · −log(1 − p_m),  p_m = max(p − margin, 0)

    As in the authors' code, the weights (1 − p)^γ₊ and p_m^γ₋ are constants for the gradient.
    """

    def terms(p, q, log_p, log_q):
        shifted = tf.maximum(p - margin, 0.0)
        # log(1 − p_m) is exact from q = 1 − p: 1 − max(p − m, 0) = min(q + m, 1), which is at least m.
        log_shifted = tf.math.log(tf.minimum(q + margin, 1.0)) if margin else log_q
        return (
            -tf.stop_gradient(_power(q, gamma_positive)) * log_p,
            -tf.stop_gradient(_power(shifted, gamma_negative)) * log_shifted,
        )

    return _mean_over_labels(targets, logits, terms, **beside)


def _mean_over_labels(targets, logits, terms, positive_weights=None, large_losses=None):
    """Σ_c known · (target · weight · present term + (1 − target) · absent term) / C, float32 `[batch]`."""
    logits = tf.cast(logits, tf.float32)
    targets = tf.cast(targets, tf.float32)
    if large_losses is not None:
        targets = large_losses.judged(targets, logits)
    known = tf.cast(targets >= 0, tf.float32)
    target = tf.maximum(targets, 0.0)
    if_present, if_absent = terms(
        tf.sigmoid(logits), tf.sigmoid(-logits), tf.math.log_sigmoid(logits), tf.math.log_sigmoid(-logits)
    )
    if positive_weights is not None:
        if_present *= positive_weights
    return tf.reduce_mean(known * (target * if_present + (1.0 - target) * if_absent), axis=-1)


def _power(base, exponent):
    """base^exponent for base ≥ 0; a finite gradient at 0, and exactly 1 for exponent 0."""
    return tf.pow(tf.maximum(base, 1e-12), exponent) if exponent else tf.ones_like(base)
