"""Models: MSRN, the plain baselines and other methods' heads, on any backbone."""

from msrn_tf.models.map_classifier import MapClassifier
from msrn_tf.models.msrn import MSRN, make_msrn
from msrn_tf.models.pooled import PooledClassifier
from msrn_tf.models.semantics import ConstantSemantics, Semantics, SemanticsEncoder

__all__ = [
    "MSRN",
    "ConstantSemantics",
    "MapClassifier",
    "PooledClassifier",
    "Semantics",
    "SemanticsEncoder",
    "make_msrn",
]
