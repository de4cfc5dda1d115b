"""Models from choices, and models from files."""

import os

import keras

from msrn_tf.errors import UserError
from msrn_tf.models.backbones import build_backbone, freeze
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.msrn import MSRN
from msrn_tf.models.pooled import PooledClassifier


def create_model(config, labels, image_size, label_graph=None, synchronized_batch_norm=False):
    """A new model, built, with random weights but for the backbone's where a file is given.

    Args:
        config: `msrn_tf.config.ModelConfig`.
        labels: C names.
        image_size: int, pixels.
        label_graph: `LabelGraph` with word vectors; needed for `config.model == "msrn"`.
        synchronized_batch_norm: bool. Batch-norm statistics over all replicas.
    """
    taps, normalization = build_backbone(config.backbone, config.backbone_weights)
    if synchronized_batch_norm:
        taps = _with_synchronized_batch_norm(taps)
    freeze(taps, everything=config.freeze_backbone, batch_norm=config.freeze_batch_norm, stride=config.frozen_stride)
    common = {
        "backbone": taps,
        "labels": labels,
        "image_size": image_size,
        "mean": normalization.mean,
        "std": normalization.std,
        "dropout": config.dropout,
    }
    if config.model == "msrn":
        model = MSRN(
            **common,
            adjacency=label_graph.adjacency(config.graph_threshold),
            word_vectors=label_graph.word_vectors,
            train_word_vectors=config.word_vectors == "learned",
            num_groups=max(1, int(config.pool_ratio * len(labels))),
            channels=config.channels,
            encoder=config.encoder,
            head=config.head,
            head_units=config.head_units,
            tap_pooling=config.tap_pooling,
            name="msrn",
        )
    else:
        model = PooledClassifier(**common, pooling={"gap": "avg", "gmp": "max"}[config.model], name=config.model)
    model.build((None, None, None, 3))
    if config.recompute_backbone:
        model.recompute_backbone()
    return model


def load_model(path):
    """A trained model (`model.keras`), restored whole.

    Raises:
        UserError: the file is missing, is no Keras model, or holds another kind of model.
    """
    if not os.path.isfile(path):
        raise UserError(f"--model={path}: no such file; give a model.keras that msrn_tf.train wrote")
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # a cut ZIP, a stranger's layers, wrong shapes …: Keras raises many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"--model={path}: cannot be read as a model of msrn_tf ({reason[:200]})") from error
    if not isinstance(model, MultiLabelClassifier):
        raise UserError(f"--model={path}: is a {type(model).__name__}, not a model of msrn_tf")
    return model


def save_model(model, path):
    """Writes `model.keras` beside `path` and renames it, so that a reader never sees half a model."""
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.tmp.keras")
    model.save(temporary)
    os.replace(temporary, path)


def _with_synchronized_batch_norm(taps):
    def clone(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["synchronized"] = True
        return type(layer).from_config(config)

    copy = keras.models.clone_model(taps, clone_function=clone)
    copy.set_weights(taps.get_weights())
    return copy
