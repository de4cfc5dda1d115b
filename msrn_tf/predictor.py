"""A model that is asked about photos, a batch at a time: its scores, its heat-maps, and both as predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.inference_model import inference_model
from msrn_tf.predictions import Prediction


class Predictor:
    """A model without what only training needs, traced once for batches of any size: that takes TensorFlow seconds.

    Args:
        model: `MultiLabelClassifier`; it stays as it is.
        heatmaps_by: one of `visualization.heatmap_files.KINDS`: heat-maps come from the same pass; None: there are
            none.
    """

    def __init__(self, model: MultiLabelClassifier, heatmaps_by: str | None = None):
        self.model, self.heatmaps_by = model, heatmaps_by
        self._ready = inference_model(model)
        images = tf.TensorSpec([None, model.image_size, model.image_size, 3], tf.uint8)
        # A function of its own for each: TensorFlow takes several models of one method for one that is traced anew.
        self._forward = tf.function(
            lambda batch: self._scores_and_maps(batch), input_signature=[images], autograph=False
        )

    def of_batch(self, images: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Scores and heat-maps.

        Args:
            images: uint8 `[photos, size, size, 3]`.

        Returns:
            `(scores, maps)`: float32 `[photos, C]`, and an array `[photos, labels or groups, h, w]` for each scale.
        """
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), self._forward(images))

    def prediction(self, photo: str, scores: np.ndarray) -> Prediction:
        """Scores `[C]` of a photo, best first."""
        labels, thresholds = self.model.labels, self.model.thresholds
        order = np.argsort(-scores, kind="stable")
        return Prediction.of(photo, [(labels[c], scores[c], scores[c] >= thresholds[c]) for c in order])

    def of_photos(self, photos: Sequence[tuple[str, np.ndarray]]) -> list[Prediction]:
        """A `Prediction` for each photo whose pixels are at hand: (path, uint8 `[size, size, 3]`)."""
        scores, _ = self.of_batch(np.stack([pixels for _, pixels in photos]))
        return [self.prediction(path, row) for (path, _), row in zip(photos, scores, strict=True)]

    def _scores_and_maps(self, images: Any) -> tuple[Any, list[Any]]:
        if self.heatmaps_by is None:
            return self._ready.calibrated(self._ready(images, training=False)), []
        of = "groups" if self.heatmaps_by == "group" else "labels"
        logits, maps = self._ready.classify_and_explain(images, of=of)
        return self._ready.calibrated(logits), list(maps)
