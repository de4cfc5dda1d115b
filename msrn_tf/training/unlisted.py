"""Labels that nobody listed, in the loss: those whose loss is large are suspected to be there (LL-R, LL-Ct).

Kim et al., *Large Loss Matters in Weakly Supervised Multi-Label Classification*, CVPR 2022, arXiv 2206.03740. A network
learns what is common and right before what is wrong: what is taken to be absent and has a large loss after the first
epoch is likely there. In epoch t, (t − 1) · Δ percent of a batch's unlisted labels, those of the largest loss, are left
out of the loss (LL-R, rejected) or count as present in it (LL-Ct, corrected for this step).
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from msrn_tf.data.label_policies import UNLISTED
from msrn_tf.type_names import Tensor


@dataclasses.dataclass(frozen=True)
class LargeLosses:
    """What becomes of the targets `UNLISTED` of a batch.

    Attributes:
        share: function that gives the part of them that is suspected now, a float32 scalar in [0, 1].
        correct: bool. The suspected count as present; or they are unknown.
    """

    share: Callable[[], Tensor]
    correct: bool

    def judged(self, targets: Tensor, logits: Tensor) -> Tensor:
        """The targets without `UNLISTED`: absent, or for the suspected ones present or unknown.

        The loss of an absent label grows with its logit, so that the largest losses are those of the largest logits.
        A batch is what is given here: of several replicas, or parts of a step, each has its own.

        Args:
            targets: float32 `[batch, C]`.
            logits: float32 `[batch, C]`.

        Returns:
            float32 `[batch, C]`.
        """
        unlisted = tf.equal(targets, float(UNLISTED))
        heights = tf.where(unlisted, tf.stop_gradient(logits), -float("inf"))
        count = tf.math.ceil(self.share() * tf.reduce_sum(tf.cast(unlisted, tf.float32)))
        in_order = tf.sort(tf.reshape(heights, [-1]), direction="DESCENDING")
        last = in_order[tf.maximum(tf.cast(count, tf.int32) - 1, 0)]
        suspected = unlisted & (count > 0) & (heights >= last)
        return tf.where(suspected, 1.0 if self.correct else -1.0, tf.where(unlisted, 0.0, targets))


def growing_share(iterations: tf.Variable, steps_per_epoch: int, percent_an_epoch: float) -> Callable[[], Tensor]:
    """The share of LL-R and LL-Ct, (t − 1) · Δ in epoch t, by the number of steps that were taken.

    Args:
        iterations: int, of the optimizer, so that a run which goes on has the epoch that it is in.
        steps_per_epoch: int.
        percent_an_epoch: float, Δ.
    """

    def share():
        past_epochs = tf.cast(iterations // steps_per_epoch, tf.float32)
        return tf.minimum(past_epochs * (percent_an_epoch / 100), 1.0)

    return share
