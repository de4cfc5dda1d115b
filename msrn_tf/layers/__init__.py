"""Keras layers of MSRN: `keras.ops` only, so they run on every Keras backend."""

from msrn_tf.layers.cosine_attention import CosineAttention
from msrn_tf.layers.diff_pool import DiffPool
from msrn_tf.layers.feature_projection import FeatureProjection
from msrn_tf.layers.graph_attention import GraphAttention
from msrn_tf.layers.graph_convolution import GraphConvolution
from msrn_tf.layers.heads import ElementwiseHead, MLPHead
from msrn_tf.layers.inner_outputs import InnerOutputs
from msrn_tf.layers.query_decoder import QueryDecoderHead
from msrn_tf.layers.residual_attention import ResidualAttentionHead
from msrn_tf.layers.semantic_attention import SemanticAttention
from msrn_tf.layers.token_map import TokenMap

__all__ = [
    "CosineAttention",
    "DiffPool",
    "ElementwiseHead",
    "FeatureProjection",
    "GraphAttention",
    "GraphConvolution",
    "InnerOutputs",
    "MLPHead",
    "QueryDecoderHead",
    "ResidualAttentionHead",
    "SemanticAttention",
    "TokenMap",
]
