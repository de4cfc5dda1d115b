"""Average-pooled features of photos from a frozen backbone: what plain heads are trained on in memory."""

import keras
import numpy as np

from msrn_tf.data.batch_source import BatchSource
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.pooled import PooledClassifier
from msrn_tf.type_names import Progress


def feature_extractor(model: MultiLabelClassifier) -> PooledClassifier:
    """A model's backbone with its normalisation, whose "logits" are the averages of the last feature map."""
    backbone = model.backbone
    if len(backbone.outputs) > 1:
        backbone = keras.Model(backbone.inputs, backbone.outputs[-1:])
    backbone.trainable = False
    extractor = PooledClassifier(
        backbone, model.labels, model.image_size, model.mean, model.std, head=keras.layers.Identity(name="head")
    )
    extractor.build((None, None, None, 3))
    return extractor


def pooled_features(
    extractor: PooledClassifier, source: BatchSource, batch_size: int, bad: dict[int, str], progress: Progress
) -> np.ndarray:
    """Features float32 `[N, F]` of a source's photos.

    Args:
        extractor: of `feature_extractor`.
        source: `BatchSource`.
        batch_size: int.
        bad: as in `Evaluator.logits`: takes the photos that cannot be decoded.
        progress: called with the number of photos done.
    """
    return Evaluator(extractor, batch_size).logits(source, progress, bad)
