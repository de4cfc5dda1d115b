"""`model.keras` for Beam's `RunInference`: paths of photos in, rows out.

Beam's own handlers for TensorFlow load a model with Keras alone, and not the labels, thresholds and calibration that
this one knows; and a photo that cannot be decoded would end their batch.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from apache_beam.ml.inference.base import ModelHandler

from msrn_tf import storage
from msrn_tf.data.photo_batches import evaluation_photo
from msrn_tf.models.factory import load_model
from msrn_tf.predictions import Prediction, Refusal
from msrn_tf.predictor import Predictor


class ClassifierHandler(ModelHandler[bytes, Prediction | Refusal, Predictor]):
    """Reads, decodes and classifies photos, in batches of a size that Beam chooses.

    Args:
        model_path: of `model.keras`.
        batch_size: int. Photos in a batch, at most.
    """

    def __init__(self, model_path: str, batch_size: int):
        super().__init__(min_batch_size=1, max_batch_size=batch_size)
        self._model_path = model_path

    def load_model(self) -> Predictor:
        """Once in each process."""
        return Predictor(load_model(self._model_path))

    def run_inference(
        self, batch: Sequence[bytes], model: Predictor, inference_args: dict[str, Any] | None = None
    ) -> Iterator[Prediction | Refusal]:
        """A row for each photo, in their order."""
        del inference_args
        size = model.model.image_size
        read = list(storage.in_flight(lambda path: evaluation_photo(os.fsdecode(path), size), batch, remote=True))
        images = [pixels for pixels, reason in read if not reason]
        scores = iter(model.of_batch(np.stack(images))[0] if images else ())
        for path, (_, reason) in zip(map(os.fsdecode, batch), read, strict=True):
            yield Refusal(path, reason) if reason else model.prediction(path, next(scores))

    def get_num_bytes(self, batch: Sequence[bytes]) -> int:
        """Of the paths: photos are read by the model's worker itself."""
        return sum(map(len, batch))

    def get_metrics_namespace(self) -> str:
        """Where Beam counts batches, photos and latencies."""
        return "predict"
