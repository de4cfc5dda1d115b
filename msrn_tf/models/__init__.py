"""Models: MSRN and the plain baselines, on any backbone."""

from msrn_tf.models.msrn import MSRN
from msrn_tf.models.pooled import PooledClassifier

__all__ = ["MSRN", "PooledClassifier"]
