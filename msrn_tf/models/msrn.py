"""MSRN, the Multi-layered Semantic Representation Network (Qu et al., arXiv 2106.11596)."""

from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from msrn_tf.choices import HEADS, STRIDES, TAP_POOLINGS
from msrn_tf.layers import ElementwiseHead, FeatureProjection, MLPHead, SemanticAttention
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.receptive_field import cell_shift, moved_to_cells
from msrn_tf.models.semantics import Semantics, SemanticsEncoder
from msrn_tf.models.taps import tap_shapes
from msrn_tf.type_names import Tensor

MIN_POOLED_POSITIONS = 7
"""`tap_pooling="auto"` pools a map only where at least 7×7 positions remain: at 448 pixels that is every map."""

PARTS = ("semantics", "projection", "attention", "head")


@keras.saving.register_keras_serializable("msrn_tf")
class MSRN(MultiLabelClassifier):
    """Label and group semantics attend to feature maps at strides 8, 16 and 32.

    The model is put together from its parts; `make_msrn` makes them from sizes and choices.

    Args:
        backbone: see `MultiLabelClassifier`; a map for each of the projection's strides.
        semantics: layer without input that gives `Semantics`: `SemanticsEncoder`, or `ConstantSemantics` where the
            model is not to be trained any more.
        projection: `FeatureProjection`, from the backbone's maps to the semantics' width.
        attention: layer of positions `[batch, N, D]` and semantics `[K, D]`: `SemanticAttention` (the published one)
            or `DotProductAttention`.
        head: layer of aggregated features `[batch, C + m, S · D]` and assignment `[C, m]`: `MLPHead` (the published
            one) or `ElementwiseHead` (small).
        **kwargs: see `MultiLabelClassifier`, also for call arguments and result.

    Raises:
        ValueError: parts that do not fit together.

    Examples:

    >>> images = keras.Input((None, None, 3))
    >>> maps = [keras.layers.Conv2D(8, 3, stride, "same")(images) for stride in (8, 16, 32)]
    >>> model = make_msrn(
    ...     keras.Model(images, maps), ["cat", "dog", "sofa"], image_size=64, mean=(124, 116, 104), std=(58, 57, 57),
    ...     word_vector_size=10, num_groups=1, channels=16, head="elementwise",
    ... )
    >>> model.build((None, 64, 64, 3))
    >>> _ = model.semantics.adjacency.assign(np.eye(3))
    >>> _ = model.semantics.word_vectors.assign(np.random.normal(size=(3, 10)))
    >>> logits, evidence = model.classify_and_explain(np.zeros((2, 64, 64, 3), "uint8"))
    >>> tuple(logits.shape), [tuple(scale.shape) for scale in evidence]
    ((2, 3), [(2, 3, 8, 8), (2, 3, 4, 4), (2, 3, 2, 2)])
    """

    explains = True
    reference = "Qu et al., Multi-layered Semantic Representation Network, arXiv 2106.11596"

    def __init__(
        self,
        backbone: keras.Model,
        *,
        semantics: keras.layers.Layer,
        projection: keras.layers.Layer,
        attention: keras.layers.Layer,
        head: keras.layers.Layer,
        **kwargs: Any,
    ):
        super().__init__(backbone, **kwargs)
        self.semantics = semantics
        self.projection = projection
        self.attention = attention
        self.head = head
        for part, count in (("semantics", semantics.num_labels), ("head", head.num_labels)):
            if count != len(self.labels):
                raise ValueError(f"`{part}` must be of {len(self.labels)} labels. Received: {count}")
        if projection.channels != semantics.units:
            raise ValueError(f"`projection` must have {semantics.units} channels. Received: {projection.channels}")
        if len(projection.strides) != len(backbone.outputs):
            raise ValueError(f"`backbone` must have maps at strides {projection.strides}, one each")

    @property
    def num_groups(self) -> int:
        """m."""
        return int(self.semantics.num_groups)

    def build(self, input_shape: Any) -> None:
        nodes = self.semantics.num_labels + self.semantics.num_groups
        units, num_maps = self.semantics.units, len(self.projection.strides)
        shapes = {
            self.semantics: (),
            self.projection: (tap_shapes(self.backbone),),
            self.attention: ((None, None, units), (nodes, units)),
            self.head: ((None, nodes, num_maps * units), (self.semantics.num_labels, self.semantics.num_groups)),
        }
        for part, of_inputs in shapes.items():
            if not part.built:  # parts of a trained model come with their weights
                part.build(*of_inputs)

    def classify(self, maps: Sequence[Tensor], semantics: Semantics, training: bool = False) -> Tensor:
        return self.head(self.aggregate(maps, semantics), semantics.assignment, training=training)

    def aggregate(self, maps: Sequence[Tensor], semantics: Semantics) -> Tensor:
        """What each semantics vector gathers from each feature map, side by side: `[batch, C + m, S · D]`."""
        return self._attend(self.projection(maps), semantics)

    def _attend(self, projected, semantics):
        gathered = [self.attention(_flatten_positions(m), semantics.vectors) for m in projected]
        return ops.concatenate(gathered, axis=-1)

    def explain(self, maps: Sequence[Tensor], semantics: Semantics, of: str = "labels") -> list[Tensor]:
        """What in the picture spoke for each label, at each scale: arrays `[batch, C, h, w]`, not negative.

        The attention over positions, averaged over channels in the way that the head uses them: to first order, what
        attending to a position adds to the label's logit over looking everywhere alike
        (`SemanticAttention.evidence_maps`, with the gradient of the logit by the label's own features), where it is
        positive. Values of different scales are in one unit, logits, and may be added. Cell (i, j) of a map lies over
        cell (i, j) of the picture cut into h × w: each map is moved by what the backbone's padding moves its positions
        (`receptive_field`), with bilinear interpolation.

        Args:
            maps: of `feature_maps`.
            semantics: of `semantics`.
            of: `"labels"`; or `"groups"` for maps `[batch, m, h, w]` of what each group of labels looks at, with the
                gradient of its labels' logits, each by its share in the group.
        """
        projected = self.projection(maps)
        return self._evidence(projected, self._attend(projected, semantics), semantics, of)

    def classify_and_explain(self, images: Tensor, of: str = "labels") -> tuple[Tensor, list[Tensor]]:
        """Logits and heat-maps of one pass through the backbone: `(classify(…), explain(…))`, in inference."""
        projected, semantics = self.projection(self.feature_maps(images)), self.semantics()
        aggregated = self._attend(projected, semantics)
        logits = self.head(aggregated, semantics.assignment, training=False)
        return logits, self._evidence(projected, aggregated, semantics, of)

    def _evidence(self, projected, aggregated, semantics, of):
        num_labels = len(self.labels)
        if of == "labels":
            vectors, gradients = semantics.vectors[:num_labels], self.head.label_gradients
        else:
            vectors, gradients = semantics.vectors[num_labels:], self.head.group_gradients
        by_scale = ops.split(gradients(aggregated, semantics.assignment), len(projected), axis=-1)
        evidence = []
        taps = zip(self.backbone.outputs, self.projection.pooled, strict=True)
        for feature_map, gradient, (tap, pooled) in zip(projected, by_scale, taps, strict=True):
            shape = ops.shape(feature_map)
            values = self.attention.evidence_maps(_flatten_positions(feature_map), vectors, gradient)
            values = ops.relu(ops.reshape(values, (shape[0], vectors.shape[0], shape[1], shape[2])))
            evidence.append(moved_to_cells(values, cell_shift(tap, pooled)))
        return evidence

    def backbone_variables(self) -> list[Any]:
        """The backbone and the 1×1 tap convolutions, as published."""
        taps = [v for layer in self.projection.tap_convolutions for v in layer.trainable_variables]
        return super().backbone_variables() + taps

    def get_config(self) -> dict[str, Any]:
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in PARTS}
        return super().get_config() | parts

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        if "semantics" not in config:
            raise ValueError("the file is of an older version: `msrn_tf.models.load_model` reads it")
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in PARTS}
        return super().from_config(config | parts)


def make_msrn(
    backbone: keras.Model,
    labels: Sequence[str],
    image_size: int,
    *,
    word_vector_size: int,
    num_groups: int,
    channels: int = 512,
    encoder: str = "gat",
    head: str = "mlp",
    head_units: int = 2048,
    strides: Sequence[int] = STRIDES,
    tap_pooling: str = "auto",
    dropout: float = 0.0,
    train_word_vectors: bool = False,
    attention: keras.layers.Layer | None = None,
    dtype: Any = None,
    **kwargs: Any,
) -> MSRN:
    """An `MSRN` from sizes and choices, not built yet.

    Args:
        backbone: see `MultiLabelClassifier`, with maps at `strides`.
        labels: C names.
        image_size: int, pixels.
        word_vector_size, num_groups, train_word_vectors: see `SemanticsEncoder`.
        channels: int. D, the width of semantics and projected maps.
        encoder: `"gat"` or `"gcn"`, the layers that carry word vectors over the label graph.
        head: `"mlp"` or `"elementwise"`.
        head_units: int. Hidden width of the `mlp` head.
        strides: some of 8, 16, 32, in this order.
        tap_pooling: `"published"` (2×2 maximum of every map), `"none"`, or `"auto"`: only where at least 7×7 positions
            remain at `image_size`.
        dropout: float. Rate of dropout in the head, in training. 0 is the published value.
        attention: layer; None: `SemanticAttention()`.
        dtype: dtype policy.
        **kwargs: see `MultiLabelClassifier`.

    Raises:
        ValueError: an unknown choice, or a size that no model can have.
    """
    if head not in HEADS:
        raise ValueError(f"`head` must be one of {HEADS}. Received: head={head}")
    if tap_pooling not in TAP_POOLINGS:
        raise ValueError(f"`tap_pooling` must be one of {TAP_POOLINGS}. Received: tap_pooling={tap_pooling}")
    if not strides or list(strides) != [stride for stride in STRIDES if stride in strides]:
        raise ValueError(f"`strides` must be some of {STRIDES}, in this order. Received: {strides}")
    pooled = [
        tap_pooling == "published" or (tap_pooling == "auto" and image_size // stride // 2 >= MIN_POOLED_POSITIONS)
        for stride in strides
    ]
    return MSRN(
        backbone,
        semantics=SemanticsEncoder(
            len(labels), word_vector_size, channels, num_groups, encoder, train_word_vectors, name="semantics"
        ),
        projection=FeatureProjection(channels, strides, pooled, dtype=dtype, name="projection"),
        attention=attention or SemanticAttention(dtype=dtype, name="attention"),
        head=MLPHead(len(labels), head_units, dropout, dtype=dtype, name="head")
        if head == "mlp"
        else ElementwiseHead(len(labels), dropout, dtype=dtype, name="head"),
        labels=labels,
        image_size=image_size,
        dtype=dtype,
        **kwargs,
    )


def _flatten_positions(feature_map):
    """`[batch, h, w, D]` -> `[batch, h·w, D]`."""
    shape = ops.shape(feature_map)
    return ops.reshape(feature_map, (shape[0], shape[1] * shape[2], feature_map.shape[-1]))
