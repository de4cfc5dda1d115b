"""A trained model made ready to be run and never trained again: what both exports, for servers and devices, start from.

Label and group semantics and the assignment of labels to groups do not depend on the photo: the layers over the label
graph run once, here, and leave constants. Batch norms are folded into their convolutions; dropout does nothing in
inference, and the group loss is not computed. The result equals the trained model within 1e-5.
"""

from keras import ops

from export.folding import fold_batch_norms
from msrn_tf.models.msrn import MSRN

SHARED_LAYERS = {
    "msrn": ("tap_convolutions", "tap_pools", "projections", "head"),
    "pooled": ("drop", "head"),
}


def inference_model(model, attention=None):
    """The trained model without what only training needs.

    Args:
        model: `MSRN` or `PooledClassifier`, built. It stays as it is; the weights of its head and projections are
            shared, not copied.
        attention: what an `MSRN` attends with; None: its own layer.

    Returns:
        A model of the same kind with the same methods, not to be trained or saved.
    """
    is_msrn = isinstance(model, MSRN)
    config = model.get_config() | {"backbone": fold_batch_norms(model.backbone)}
    if is_msrn:
        config["attention"] = attention or model.attention
    twin = (InferenceMSRN if is_msrn else type(model))(**config)
    for name in SHARED_LAYERS["msrn" if is_msrn else "pooled"]:
        setattr(twin, name, getattr(model, name))
    if is_msrn:
        twin.fix_semantics(model)
    twin.built = True
    return twin


class InferenceMSRN(MSRN):
    """An `MSRN` whose label and group semantics are constants."""

    def fix_semantics(self, model):
        """Takes the semantics of a trained `MSRN`."""
        semantics, assignment, _ = model.semantics()
        self._constants = ops.convert_to_numpy(semantics), ops.convert_to_numpy(assignment)

    def semantics(self):
        semantics, assignment = self._constants
        return ops.convert_to_tensor(semantics), ops.convert_to_tensor(assignment), ops.zeros(())
