"""MSRN, the Multi-layered Semantic Representation Network (Qu et al., arXiv 2106.11596)."""

import keras
import numpy as np
from keras import ops

from msrn_tf.layers import DiffPool, ElementwiseHead, MLPHead, SemanticAttention
from msrn_tf.models.backbones import STRIDES, tap_shapes
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.label_encoder import LabelEncoder
from msrn_tf.models.receptive_field import position_centre
from msrn_tf.models.validation import LARGEST_DROPOUT, LARGEST_WIDTH, checked_numbers, checked_whole

MIN_POOLED_POSITIONS = 7
"""`tap_pooling="auto"` pools a map only where at least 7×7 positions remain: at 448 pixels that is every map."""


@keras.saving.register_keras_serializable("msrn_tf")
class MSRN(MultiLabelClassifier):
    """Label and group semantics attend to feature maps at strides 8, 16 and 32.

    Args:
        adjacency: `[C, C]` normalised adjacency Â, or None where the weights are loaded afterwards.
        word_vectors: `[C, V]`, or None where the weights are loaded afterwards.
        word_vector_size: int. V; taken from `word_vectors` where they are given.
        train_word_vectors: bool. Whether the word vectors are learnt with the rest. Defaults to False.
        num_groups: int. m, the number of groups of labels; 0: labels alone.
        channels: int. D, the width of semantics and projected maps. Defaults to 512.
        encoder: `"gat"` or `"gcn"`, the layers that carry word vectors over the label graph.
        head: `"mlp"` (the published one) or `"elementwise"` (small).
        head_units: int. Hidden width of the `mlp` head. Defaults to 2048.
        strides: of the backbone's maps that are attended to, some of 8, 16, 32.
        tap_pooling: `"published"` (2×2 maximum of every tap), `"none"`, or `"auto"`: only where at least 7×7
            positions remain at `image_size`.
        dropout: float. Rate of dropout in the head, in training. Defaults to 0, the published value.
        attention: layer of positions `[batch, N, D]` and semantics `[K, D]`. Defaults to `SemanticAttention()`.
        **kwargs: see `MultiLabelClassifier`, also for call arguments and result.

    Raises:
        ValueError: more groups than labels, or an unknown choice.
    """

    label_encoder_class = LabelEncoder

    def __init__(
        self,
        *args,
        num_groups,
        adjacency=None,
        word_vectors=None,
        word_vector_size=None,
        train_word_vectors=False,
        channels=512,
        encoder="gat",
        head="mlp",
        head_units=2048,
        strides=STRIDES,
        tap_pooling="auto",
        dropout=0.0,
        attention=None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.num_groups = checked_whole("num_groups", num_groups, 0, len(self.labels))
        if head not in ("mlp", "elementwise"):
            raise ValueError(f"`head` must be 'mlp' or 'elementwise'. Received: head={head}")
        if tap_pooling not in ("published", "none", "auto"):
            raise ValueError(f"`tap_pooling` must be 'published', 'none' or 'auto'. Received: {tap_pooling}")
        if word_vectors is None and word_vector_size is None:
            raise ValueError("`word_vectors` or `word_vector_size` is needed")
        size = word_vector_size if word_vectors is None else int(np.shape(word_vectors)[1])
        self.word_vector_size = checked_whole("word_vector_size", size, 1, LARGEST_WIDTH)
        self.train_word_vectors = train_word_vectors
        self.channels = checked_whole("channels", channels, 1, LARGEST_WIDTH)
        self.encoder = encoder
        self.head_name = head
        self.head_units = checked_whole("head_units", head_units, 1, LARGEST_WIDTH)
        self.strides = tuple(strides)
        if not self.strides or list(self.strides) != [stride for stride in STRIDES if stride in self.strides]:
            raise ValueError(f"`strides` must be some of {STRIDES}, in this order. Received: {strides}")
        self.tap_pooling = tap_pooling
        (self.dropout,) = checked_numbers("dropout", [dropout], 1, 0.0, LARGEST_DROPOUT)
        self.attention = attention or SemanticAttention(dtype=self.dtype_policy, name="attention")
        self._initial_adjacency = adjacency
        self._initial_word_vectors = word_vectors

    def build(self, input_shape):
        self._build_semantics()
        widths = [shape[-1] for shape in tap_shapes(self.backbone)]
        # Taps at strides 8 and 16 pass a 1×1 convolution of their own width (published name: conv_buffer).
        self.tap_convolutions = [
            self._convolution(width, width, f"tap_convolution{i + 1}")
            for i, (stride, width) in enumerate(zip(self.strides, widths, strict=True))
            if stride < STRIDES[-1]
        ]
        self.tap_pools = [
            keras.layers.MaxPooling2D(2, dtype=self.dtype_policy, name=f"tap_pool{i + 1}")
            if self._pools(stride)
            else None
            for i, stride in enumerate(self.strides)
        ]
        self.projections = [
            self._convolution(width, self.channels, f"projection{i + 1}") for i, width in enumerate(widths)
        ]
        nodes = len(self.labels) + self.num_groups
        self.attention.build((None, None, self.channels), (nodes, self.channels))
        self._build_head((None, nodes, len(self.strides) * self.channels))

    def _convolution(self, width, channels, name):
        layer = keras.layers.Conv2D(channels, 1, dtype=self.dtype_policy, name=name)
        layer.build((None, None, None, width))
        return layer

    def _build_semantics(self):
        num_labels = len(self.labels)
        shape = (num_labels, self.word_vector_size)
        self.adjacency = self.add_weight(
            name="adjacency", shape=(num_labels, num_labels), trainable=False, dtype="float32", initializer="zeros"
        )
        self.word_vectors = self.add_weight(
            name="word_vectors", shape=shape, trainable=self.train_word_vectors, dtype="float32", initializer="zeros"
        )
        if self._initial_adjacency is not None:
            self.adjacency.assign(self._initial_adjacency)
        if self._initial_word_vectors is not None:
            self.word_vectors.assign(self._initial_word_vectors)
        # The label graph is tiny and its softmax sensitive: float32 under every dtype policy.
        self.label_encoder = self.label_encoder_class(
            self.channels, self.encoder, dtype="float32", name="label_encoder"
        )
        self.label_encoder.build(shape, (num_labels, num_labels))
        if self.num_groups:
            self.diff_pool = DiffPool(self.num_groups, dtype="float32", name="diff_pool")
            self.diff_pool.build((num_labels, self.channels), (num_labels, num_labels))

    def _build_head(self, aggregated_shape):
        num_labels = len(self.labels)
        if self.head_name == "mlp":
            # Where weights are loaded afterwards, drawing 264 million random numbers (COCO) only costs memory.
            kernels = "glorot_uniform" if self._initial_word_vectors is not None else "zeros"
            self.head = MLPHead(
                num_labels, self.head_units, self.dropout, kernels, dtype=self.dtype_policy, name="head"
            )
        else:
            self.head = ElementwiseHead(num_labels, self.dropout, dtype=self.dtype_policy, name="head")
        self.head.build(aggregated_shape, (num_labels, self.num_groups))

    def _pools(self, stride):
        if self.tap_pooling == "auto":
            return self.image_size // stride // 2 >= MIN_POOLED_POSITIONS
        return self.tap_pooling == "published"

    def call(self, images, training=None):
        logits, group_loss = self.forward(images, training=training)
        self.add_loss(group_loss)
        return logits

    def forward(self, images, training=None):
        semantics, assignment, group_loss = self.semantics()
        aggregated = self.aggregate(self.feature_maps(images, training=training), semantics)
        return self.head(aggregated, assignment, training=training), group_loss

    def aggregate(self, maps, semantics):
        """What each semantics vector gathers at each scale, side by side: `[batch, C + m, scales · D]`."""
        return ops.concatenate([self.attention(_flatten_positions(m), semantics) for m in maps], axis=-1)

    def semantics(self):
        """Label and group semantics `[C + m, D]`, labels first, the assignment S `[C, m]`, and the group loss."""
        labels = self.label_semantics()
        if not self.num_groups:
            return labels, ops.zeros((len(self.labels), 0)), ops.zeros(())
        groups, assignment, group_loss = self.diff_pool(labels, self.adjacency)
        return ops.concatenate([labels, groups], axis=0), assignment, group_loss

    def label_semantics(self):
        """E `[C, D]`, from word vectors and label graph."""
        return self.label_encoder(self.word_vectors, self.adjacency)

    def feature_maps(self, images, training=None):
        """The projected maps `[batch, h, w, D]`, at the model's strides or twice that where they are pooled."""
        taps = self.taps(images, training=training)
        inner = len(self.tap_convolutions)
        taps = [conv(tap) for conv, tap in zip(self.tap_convolutions, taps[:inner], strict=True)] + taps[inner:]
        taps = [pool(tap) if pool else tap for pool, tap in zip(self.tap_pools, taps, strict=True)]
        return [projection(tap) for projection, tap in zip(self.projections, taps, strict=True)]

    def attention_maps(self, images, of="labels"):
        """What in the picture spoke for each label, at each scale: arrays `[batch, C, h, w]`, not negative.

        The attention over positions, averaged over channels in the way that the head uses them: to first order, what
        attending to a position adds to the label's logit over looking everywhere alike
        (`SemanticAttention.evidence_maps`, with the gradient of the logit by the label's own features), where it is
        positive. Values of different scales are in one unit, logits, and may be added. Cell (i, j) of a map lies over
        cell (i, j) of the picture cut into h × w: each map is moved by what the backbone's padding moves its positions
        (`receptive_field`), with bilinear interpolation.

        Args:
            images: `[batch, height, width, 3]`, pixels.
            of: `"labels"`; or `"groups"` for maps `[batch, m, h, w]` of what each group of labels looks at, with the
                gradient of its labels' logits, each by its share in the group.
        """
        semantics, assignment, _ = self.semantics()
        maps = self.feature_maps(images, training=False)
        aggregated, num_labels = self.aggregate(maps, semantics), len(self.labels)
        if of == "labels":
            semantics, gradients = semantics[:num_labels], self.head.label_gradients(aggregated, assignment)
        else:
            semantics, gradients = semantics[num_labels:], self.head.group_gradients(aggregated, assignment)
        evidence = []
        for feature_map, gradient, shift in zip(
            maps, ops.split(gradients, len(maps), axis=-1), self._map_shifts(), strict=True
        ):
            shape = ops.shape(feature_map)
            values = self.attention.evidence_maps(_flatten_positions(feature_map), semantics, gradient)
            values = ops.relu(ops.reshape(values, (shape[0], semantics.shape[0], shape[1], shape[2])))
            rows, columns = (_shift_matrix(size, shift, values.dtype) for size in shape[1:3])
            evidence.append(ops.einsum("ih,bkhw,jw->bkij", rows, values, columns))
        return evidence

    def _map_shifts(self):
        """By how many cells the positions of each projected map lie beyond the cells that tile the picture."""
        shifts = []
        for tap, pool in zip(self.backbone.outputs, self.tap_pools, strict=True):
            stride, centre = position_centre(tap)
            if pool:
                stride, centre = 2 * stride, centre + stride / 2
            shifts.append((centre + 0.5) / stride - 0.5)
        return shifts

    def backbone_variables(self):
        """The backbone and the two 1×1 tap convolutions, as published."""
        taps = [variable for layer in self.tap_convolutions for variable in layer.trainable_variables]
        return super().backbone_variables() + taps

    def get_config(self):
        return {
            **super().get_config(),
            "num_groups": self.num_groups,
            "word_vector_size": self.word_vector_size,
            "train_word_vectors": self.train_word_vectors,
            "channels": self.channels,
            "encoder": self.encoder,
            "head": self.head_name,
            "head_units": self.head_units,
            "strides": list(self.strides),
            "tap_pooling": self.tap_pooling,
            "dropout": self.dropout,
            "attention": keras.saving.serialize_keras_object(self.attention),
        }

    @classmethod
    def from_config(cls, config):
        attention = keras.saving.deserialize_keras_object(config.get("attention"))
        return super().from_config(config | {"attention": attention})


def _flatten_positions(feature_map):
    """`[batch, h, w, D]` -> `[batch, h·w, D]`."""
    shape = ops.shape(feature_map)
    return ops.reshape(feature_map, (shape[0], shape[1] * shape[2], feature_map.shape[-1]))


def _shift_matrix(size, shift, dtype):
    """`[size, size]`: linear interpolation of a row of values at positions that lie `shift` before their own."""
    own = ops.arange(size, dtype=dtype)
    wanted = ops.clip(own - shift, 0, ops.cast(size - 1, dtype))
    return ops.relu(1 - ops.abs(ops.expand_dims(wanted, 1) - ops.expand_dims(own, 0)))
