"""Models from choices, and models from files."""

import errno
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import keras

from msrn_tf import storage
from msrn_tf.choices import STRIDES
from msrn_tf.errors import UserError, first_line
from msrn_tf.label_graph import LabelGraph
from msrn_tf.layers import CosineAttention, QueryDecoderHead, ResidualAttentionHead
from msrn_tf.layers.residual_attention import TEMPERATURES
from msrn_tf.models.backbones import build_backbone, freeze
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.map_classifier import MapClassifier
from msrn_tf.models.msrn import make_msrn
from msrn_tf.models.pooled import PooledClassifier
from msrn_tf.models.reading import read_keras_file

ARCHIVE = "model.zip"
ROOM_BESIDE_WEIGHTS = 2**20  # bytes: the configuration and metadata


def create_model(
    config: Any,
    labels: Sequence[str],
    image_size: int,
    label_graph: LabelGraph | None = None,
    synchronized_batch_norm: bool = False,
) -> MultiLabelClassifier:
    """A new model, built, with random weights but for the backbone's where a file is given.

    Args:
        config: `msrn_tf.config.ModelConfig`.
        labels: C names.
        image_size: int, pixels.
        label_graph: `LabelGraph` with word vectors; needed for `config.model == "msrn"`.
        synchronized_batch_norm: bool. Batch-norm statistics over all replicas.
    """
    policy = "float32" if config.mixed_precision == "none" else f"mixed_{config.mixed_precision}"
    strides = config.strides if config.model == "msrn" else STRIDES[-1:]
    backbone, normalization = build_backbone(config.backbone, config.backbone_weights, policy, strides, image_size)
    if synchronized_batch_norm:
        _synchronize_batch_norms(backbone)
    freeze(
        backbone, everything=config.freeze_backbone, batch_norm=config.freeze_batch_norm, stride=config.frozen_stride
    )
    common = {
        "backbone": backbone,
        "labels": labels,
        "image_size": image_size,
        "mean": normalization.mean,
        "std": normalization.std,
        "dtype": policy,
        "name": config.model,
    }
    if config.model == "msrn":
        assert label_graph is not None and label_graph.word_vectors is not None
        model: MultiLabelClassifier = _new_msrn(config, common, label_graph.word_vectors.shape[1], policy)
    elif config.model in POOLINGS:
        model = PooledClassifier(**common, dropout=config.dropout, pooling=POOLINGS[config.model])
    else:
        model = MapClassifier(**common, head=MAP_HEADS[config.model](config, len(labels), policy))
    model.build((None, None, None, 3))
    if config.model == "msrn" and label_graph is not None:
        model.semantics.adjacency.assign(label_graph.adjacency(config.graph_threshold))
        model.semantics.word_vectors.assign(label_graph.word_vectors)
    if config.recompute_backbone:
        model.recompute_backbone()
    return model


def _new_msrn(config, common, word_vector_size, policy):
    attention = None
    if config.attention == "cosine":
        heads = _heads_of_channels(config, 1)
        attention = CosineAttention(heads, dtype=policy, name="attention")
    return make_msrn(
        **common,
        word_vector_size=word_vector_size,
        train_word_vectors=config.word_vectors == "learned",
        num_groups=max(1, int(config.pool_ratio * len(common["labels"]))) if config.pool_ratio else 0,
        strides=config.strides,
        channels=config.channels,
        encoder=config.encoder,
        head=config.head,
        head_units=config.head_units,
        tap_pooling=config.tap_pooling,
        dropout=config.dropout,
        attention=attention,
    )


def _residual_attention(config, num_labels, policy):
    heads = config.attention_heads or 1
    if heads not in TEMPERATURES:
        raise UserError(
            f"`attention_heads`={heads}: csra has temperatures for {sorted(TEMPERATURES)}; take one of these"
        )
    return ResidualAttentionHead(
        num_labels,
        heads,
        config.residual_weight,
        config.dropout,
        dtype=policy,
        name="head",
    )


def _query_decoder(config, num_labels, policy):
    return QueryDecoderHead(
        num_labels,
        config.channels,
        _heads_of_channels(config, 8),
        config.head_units,
        config.dropout,
        dtype=policy,
        name="head",
    )


def _heads_of_channels(config, default):
    """Heads that divide the channels among them."""
    heads = config.attention_heads or default
    if config.channels % heads:
        raise UserError(
            f"`attention_heads`={heads}: does not divide `channels`={config.channels}; choose a number that does"
        )
    return heads


POOLINGS = {"gap": "avg", "gmp": "max"}
MAP_HEADS: dict[str, Callable[..., keras.layers.Layer]] = {"csra": _residual_attention, "ml_decoder": _query_decoder}


def load_model(path: str) -> MultiLabelClassifier:
    """A trained model (`model.keras`), restored whole.

    Raises:
        UserError: the file is missing, is no Keras model, holds another kind of model or arguments that no model can
            have, or would unpack to far more than it is.
    """
    if not storage.isfile(path):
        raise UserError(f"{path}: no such file; give a model.keras that msrn_tf.train wrote")
    try:
        with storage.local_copy(path) as copy:
            model = read_keras_file(copy)
    except Exception as error:  # a cut ZIP, unknown layers, wrong shapes …: Keras raises many kinds
        raise UserError(f"{path}: cannot be read as a model of msrn_tf ({_reason(error)})") from error
    if not isinstance(model, MultiLabelClassifier):
        raise UserError(f"{path}: is a {type(model).__name__}, not a model of msrn_tf")
    return model


def _reason(error):
    """The first line of what went wrong: what an argument is refused for, where Keras has wrapped that up."""
    cause = error
    while cause is not None and "Received" not in str(cause).partition("\n")[0]:
        cause = cause.__cause__ or cause.__context__
    return first_line(cause or error)


def save_model(model: MultiLabelClassifier, path: str) -> None:
    """Writes `model.keras` to a folder first and then gives it its name, so that a reader never sees half a model.

    What was trained in mixed precision is saved to compute in float32: exports and devices start from it.

    Raises:
        UserError: there is no room, or it cannot be written; what had the name before is untouched.
    """
    if model.compute_dtype != "float32":
        model = in_dtype(model, "float32")
    where, name = storage.beside(path), os.path.basename(path)
    try:
        # HDF5 may end the process where a disk fills up under it: the room for weights and archive is known before.
        needed = 2 * sum(4 * math.prod(weight.shape) for weight in model.weights) + ROOM_BESIDE_WEIGHTS
        free = shutil.disk_usage(where).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"{needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} are free")
        # Keras would hold the whole archive in memory; the same files, written to a folder first, go in one by one.
        with tempfile.TemporaryDirectory(dir=where, prefix=f".{name}.", ignore_cleanup_errors=True) as folder:
            model.save(folder, zipped=False)
            temporary = os.path.join(folder, ARCHIVE)
            with zipfile.ZipFile(temporary, "w") as archive:
                for member in sorted(os.listdir(folder)):
                    if member != ARCHIVE:
                        archive.write(os.path.join(folder, member), member)
            storage.put(temporary, path)
    except (OSError, RuntimeError) as error:  # h5py raises both
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(
            f"{path}: the model cannot be written ({reason}); the earlier file of this name is intact: free some "
            "space, or choose another place"
        ) from error


def in_dtype(model: MultiLabelClassifier, policy: str) -> MultiLabelClassifier:
    """The same model with the same weights, its layers under another dtype policy (`float32`, `mixed_bfloat16` …)."""
    twin = type(model).from_config(_with_policy(model.get_config(), policy))
    twin.build((None, None, None, 3))
    twin.set_weights(model.get_weights())
    return twin


def _with_policy(config, policy):
    """A configuration with `policy` wherever a layer has a dtype policy for all of its work."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return config | {"config": {"name": policy}}
        return {key: _with_policy(value, policy) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [_with_policy(value, policy) for value in config]
    return config


def _synchronize_batch_norms(backbone):
    """Those within layers of layers too: their statistics are over the images of all replicas."""
    for layer in backbone._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
