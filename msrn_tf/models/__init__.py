"""Models: MSRN and the plain baselines, on any backbone."""

from msrn_tf.models.msrn import MSRN, make_msrn
from msrn_tf.models.pooled import PooledClassifier
from msrn_tf.models.semantics import ConstantSemantics, Semantics, SemanticsEncoder

__all__ = ["MSRN", "ConstantSemantics", "PooledClassifier", "Semantics", "SemanticsEncoder", "make_msrn"]
