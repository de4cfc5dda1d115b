"""Classification losses on logits; an unknown target (−1) adds nothing."""

import tensorflow as tf


def binary_crossentropy(targets, logits):
    """Binary cross-entropy, mean over all known targets of the batch's images and labels, as published.

    ::

        loss = mean over images of (Σ_c known · bce(logit, target)) / C

    Args:
        targets: `[batch, C]` of 1 present, 0 absent, −1 unknown.
        logits: float `[batch, C]`.

    Returns:
        float32 `[batch]`: each image's loss.
    """
    logits = tf.cast(logits, tf.float32)
    known = tf.cast(targets >= 0, tf.float32)
    present = tf.cast(targets > 0, tf.float32)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=present, logits=logits)
    return tf.reduce_mean(known * losses, axis=-1)
