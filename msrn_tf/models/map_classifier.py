"""A backbone whose last feature map goes into one head: `csra` and `ml_decoder`, what others put in MSRN's place."""

from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.receptive_field import cell_shift, moved_to_cells
from msrn_tf.models.semantics import Semantics, no_semantics
from msrn_tf.models.taps import tap_shapes
from msrn_tf.type_names import Tensor


@keras.saving.register_keras_serializable("msrn_tf")
class MapClassifier(MultiLabelClassifier):
    """Logits by a head that takes the last feature map whole.

    Args:
        backbone: see `MultiLabelClassifier`.
        head: layer of a feature map `[batch, h, w, F]` that gives logits `[batch, C]`: `ResidualAttentionHead` (CSRA)
            or `QueryDecoderHead` (ML-Decoder). One with `evidence_maps` gives the model heat-maps.
        **kwargs: see `MultiLabelClassifier`, also for call arguments and result.

    Raises:
        ValueError: a head of another number of labels.

    Examples:

    >>> from msrn_tf.layers import ResidualAttentionHead
    >>> images = keras.Input((None, None, 3))
    >>> backbone = keras.Model(images, keras.layers.Conv2D(8, 3, 32, "same")(images))
    >>> model = MapClassifier(
    ...     backbone, head=ResidualAttentionHead(2), labels=["cat", "dog"], image_size=64, mean=(124, 116, 104),
    ...     std=(58, 57, 57),
    ... )
    >>> model.build((None, 64, 64, 3))
    >>> logits, evidence = model.classify_and_explain(np.zeros((3, 64, 64, 3), "uint8"))
    >>> tuple(logits.shape), [tuple(scale.shape) for scale in evidence]
    ((3, 2), [(3, 2, 2, 2)])
    """

    def __init__(self, backbone: keras.Model, *, head: keras.layers.Layer, **kwargs: Any):
        super().__init__(backbone, **kwargs)
        self.head = head
        self.reference = head.reference
        if head.num_labels != len(self.labels):
            raise ValueError(f"`head` must be of {len(self.labels)} labels. Received: {head.num_labels}")

    @property
    def explains(self) -> bool:  # type: ignore[override]
        return hasattr(self.head, "evidence_maps")

    def build(self, input_shape: Any) -> None:
        if not self.head.built:
            self.head.build((None, None, None, tap_shapes(self.backbone)[-1][-1]))

    def semantics(self) -> Semantics:
        """Nothing: there is no label graph."""
        return no_semantics()

    def classify(self, maps: Sequence[Tensor], semantics: Semantics, training: bool = False) -> Tensor:
        return self.head(maps[-1], training=training)

    def explain(self, maps: Sequence[Tensor], semantics: Semantics, of: str = "labels") -> list[Tensor]:
        """What each cell of the picture adds to each label's logit, where positive: arrays `[batch, C, h, w]`, one.

        In the units and over the cells of `MSRN.explain`.

        Raises:
            ValueError: `of` is not `"labels"`: there are no groups.
        """
        if of != "labels":
            raise ValueError(f"`of` must be 'labels'. Received: {of}")
        evidence = ops.relu(self.head.evidence_maps(maps[-1]))
        return [moved_to_cells(evidence, cell_shift(self.backbone.outputs[-1]))]

    def classify_and_explain(self, images: Tensor, of: str = "labels") -> tuple[Tensor, list[Tensor]]:
        """Logits and heat-maps of one pass through the backbone: `(classify(…), explain(…))`, in inference."""
        maps, semantics = self.feature_maps(images), self.semantics()
        return self.classify(maps, semantics), self.explain(maps, semantics, of)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"head": keras.saving.serialize_keras_object(self.head)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return super().from_config(config | {"head": keras.saving.deserialize_keras_object(config["head"])})
