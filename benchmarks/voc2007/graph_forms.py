"""Other uses of the label graph than the product's own, and what leaves a part out, as classes derived from `MSRN`.

What a form adds on the logits or features is zero at first, and learnt where it helps. P is the matrix of conditional
probabilities, P[i,j] = P(label i is there | label j is there), counted on the training split.
"""

import keras
import numpy as np
from keras import ops

from msrn_tf.layers import GraphAttention
from msrn_tf.models.factory import create_model
from msrn_tf.models.label_encoder import LabelEncoder
from msrn_tf.models.msrn import MSRN

FLOOR = 1e-3
"""Conditional probabilities are at least this: two labels may well meet that never did in training."""


def creator(form):
    """`create_model` of `msrn_tf.models.factory`, or a stand-in whose MSRN has the form."""
    if not form:
        return create_model

    def create_with_graph(config, labels, image_size, label_graph, *others):
        model = create_model(config, labels, image_size, label_graph, *others, msrn_class=FORMS[form])
        model.use_graph(label_graph)
        return model

    return create_with_graph


def conditional_probabilities(label_graph):
    """P, float32 `[C, C]`, 1 on the diagonal."""
    joint = np.asarray(label_graph.cooccurrence, np.float64)
    conditional = np.maximum(joint / np.maximum(label_graph.counts, 1), FLOOR)
    np.fill_diagonal(conditional, 1.0)
    return conditional.astype(np.float32)


class _Form(MSRN):
    """An MSRN that may take something from the label graph, once it is built."""

    def use_graph(self, label_graph):
        pass


class _ConditionalForm(_Form):
    """With log P as a weight."""

    learns_edges = False

    def build(self, images_shape):
        super().build(images_shape)
        size = len(self.labels)
        self.conditional = self.add_weight(
            name="log_conditional", shape=(size, size), initializer="zeros", trainable=self.learns_edges
        )

    def use_graph(self, label_graph):
        self.conditional.assign(np.log(conditional_probabilities(label_graph)))


class _BiasedGraphAttention(GraphAttention):
    """Graph attention over all labels with log P added to the scores, as Graphormer's edge bias (arXiv 2106.05234)."""

    def _attention(self, h, adjacency):
        return ops.softmax(self._scores(h) + adjacency, axis=-1)


@keras.saving.register_keras_serializable("study")
class _BiasedEncoder(LabelEncoder):
    def _graph_layer(self):
        return _BiasedGraphAttention


@keras.saving.register_keras_serializable("study")
class EdgeBias(_ConditionalForm):
    """Conditional probabilities as soft attention biases, in the place of a threshold."""

    label_encoder_class = _BiasedEncoder

    def label_semantics(self):
        return self.label_encoder(self.word_vectors, self.conditional)


@keras.saving.register_keras_serializable("study")
class LearnedEdges(EdgeBias):
    """The same, its biases learnt from there on (adaptive label correlation: A-GCN, arXiv 1909.13005)."""

    learns_edges = True


@keras.saving.register_keras_serializable("study")
class CorNet(_Form):
    """A correlation network on the logits (CorNet, Xun et al., KDD 2020): z + W₂ elu(W₁ σ(z) + b₁) + b₂."""

    hidden_units = 32

    def build(self, images_shape):
        super().build(images_shape)
        size = len(self.labels)
        self.cornet_in = self.add_weight(name="cornet_in", shape=(size, self.hidden_units))
        self.cornet_in_bias = self.add_weight(name="cornet_in_bias", shape=(self.hidden_units,), initializer="zeros")
        self.cornet_out = self.add_weight(name="cornet_out", shape=(self.hidden_units, size), initializer="zeros")

    def forward(self, images, training=None):
        logits, group_loss = super().forward(images, training=training)
        hidden = ops.elu(ops.matmul(ops.sigmoid(logits), self.cornet_in) + self.cornet_in_bias)
        return logits + ops.matmul(hidden, self.cornet_out), group_loss


@keras.saving.register_keras_serializable("study")
class LogitGraph(_ConditionalForm):
    """The graph on the logits: z + σ(z) · A, A learnt from a tenth of the pointwise mutual information on."""

    learns_edges = True
    share = 0.1

    def use_graph(self, label_graph):
        prior = np.asarray(label_graph.counts) / max(label_graph.num_images, 1)
        mutual = np.log(conditional_probabilities(label_graph) / prior[:, None]).T
        np.fill_diagonal(mutual, 0.0)
        self.conditional.assign(self.share * mutual)

    def forward(self, images, training=None):
        logits, group_loss = super().forward(images, training=training)
        return logits + ops.matmul(ops.sigmoid(logits), self.conditional), group_loss


@keras.saving.register_keras_serializable("study")
class FeatureGraph(_ConditionalForm):
    """The graph on each image's own label features, as SSGRL (Chen et al., arXiv 1908.07325) sends them round:

    x + P̄ (x W₁) W₂, where x are the aggregated features of the labels and the rows of P̄ sum to 1, itself left out.
    """

    rank = 64

    def build(self, images_shape):
        super().build(images_shape)
        width = self.channels * len(self.strides)
        self.message_in = self.add_weight(name="message_in", shape=(width, self.rank))
        self.message_out = self.add_weight(name="message_out", shape=(self.rank, width), initializer="zeros")

    def aggregate(self, maps, semantics):
        aggregated = super().aggregate(maps, semantics)
        count = len(self.labels)
        neighbours = ops.exp(self.conditional) * (1 - ops.eye(count))
        neighbours = neighbours / ops.sum(neighbours, axis=-1, keepdims=True)
        messages = ops.matmul(ops.matmul(ops.tanh(aggregated[:, :count]), self.message_in), self.message_out)
        labels = aggregated[:, :count] + ops.matmul(neighbours, messages)
        return ops.concatenate([labels, aggregated[:, count:]], axis=1)


@keras.saving.register_keras_serializable("study")
class CooccurrenceGroups(_Form):
    """Groups by co-occurrence, fixed: spectral clustering of the joint counts in the place of DiffPool's assignment."""

    def build(self, images_shape):
        super().build(images_shape)
        self.diff_pool.assignment.trainable = False
        self.groups_of = self.add_weight(
            name="groups_of", shape=(len(self.labels), self.num_groups), initializer="zeros", trainable=False
        )

    def use_graph(self, label_graph):
        from sklearn.cluster import SpectralClustering

        conditional = conditional_probabilities(label_graph)
        affinity = np.sqrt(conditional * conditional.T)
        found = SpectralClustering(self.num_groups, affinity="precomputed", random_state=0).fit_predict(affinity)
        self.groups_of.assign(np.eye(self.num_groups, dtype=np.float32)[found])

    def semantics(self):
        labels = self.label_semantics()
        sizes = ops.maximum(ops.sum(self.groups_of, axis=0), 1.0)
        embedded = self.diff_pool.embedding(ops.relu(labels), self.adjacency)
        groups = ops.matmul(ops.transpose(self.groups_of / sizes), embedded)
        return ops.concatenate([labels, groups], axis=0), self.groups_of, ops.zeros(())


@keras.saving.register_keras_serializable("study")
class Average(_Form):
    """The average over positions in the place of attention: what is left is the head, and groups by the graph."""

    def aggregate(self, maps, semantics):
        return super().aggregate(maps, 0.0 * semantics)


@keras.saving.register_keras_serializable("study")
class RandomWords(_Form):
    """Random word vectors, as long as the label graph's, in their place: not learnt."""

    def use_graph(self, label_graph):
        vectors = np.random.default_rng(len(self.labels)).normal(size=label_graph.word_vectors.shape)
        self.word_vectors.assign(np.std(label_graph.word_vectors) * vectors)


FORMS = {
    "average": Average,
    "random_words": RandomWords,
    "edge_bias": EdgeBias,
    "learned_edges": LearnedEdges,
    "cornet": CorNet,
    "logit_graph": LogitGraph,
    "feature_graph": FeatureGraph,
    "cooccurrence_groups": CooccurrenceGroups,
}
