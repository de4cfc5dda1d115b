"""A trained model made ready to be run and never trained again: what predicts, and what exports start from.

Batch norms are folded into their convolutions, and label and group semantics, which do not depend on the photo, are
constants: an exported model has no layers over the label graph. The result equals the trained model within 1e-5.
"""

from typing import Any

from msrn_tf.models import MSRN, ConstantSemantics
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.folding import fold_batch_norms


def inference_model(model: MultiLabelClassifier, attention: Any = None) -> MultiLabelClassifier:
    """The trained model without what only training needs.

    Args:
        model: built. It stays as it is; its projection and head are shared, not copied.
        attention: layer that an `MSRN` attends with; None: its own.

    Returns:
        A built model of the same class.
    """
    parts = {"backbone": fold_batch_norms(model.backbone), "head": model.head}
    if isinstance(model, MSRN):
        parts["semantics"] = ConstantSemantics.of(model.semantics)
        parts["projection"] = model.projection
        parts["attention"] = attention or model.attention
    twin = model.with_parts(**parts)
    twin.build((None, None, None, 3))
    return twin
