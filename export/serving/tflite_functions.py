"""A version's signatures computed by LiteRT, whose kernels are faster on CPUs than TensorFlow's.

Photos are decoded as the SavedModel decodes them; `model.tflite` beside it gives the scores, which are ranked as there.
Heat-maps and features stay TensorFlow's.
"""

import concurrent.futures
import json
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from export.device_classifier import DeviceClassifier
from export.signatures import photo_decoder, ranked_labels

TFLITE_NAME = "model.tflite"
CARD_NAME = os.path.join("assets", "model_card.json")
LARGEST_CARD = 2**26
Arrays = dict[str, np.ndarray]


def tflite_functions(folder: str) -> dict[str, Callable[[Arrays], Arrays]]:
    """Functions by signature, from inputs by name to outputs by name; empty where the version has no `model.tflite`.

    Raises:
        ValueError: the file is damaged, or not of this SavedModel.
    """
    path = os.path.join(folder, TFLITE_NAME)
    if not os.path.exists(path):
        return {}
    with open(os.path.join(folder, CARD_NAME), encoding="utf-8") as file:
        card = json.loads(file.read(LARGEST_CARD))
    classifiers = ClassifierPool(path, os.cpu_count() or 1)
    if classifiers.labels != card["labels"] or classifiers.image_size != card["image_size"]:
        raise ValueError(f"{path}: has other labels or another image size than the SavedModel beside it")

    photos = tf.TensorSpec((None,), tf.string)
    decoder = tf.function(photo_decoder(card["image_size"], card["largest_photo_pixels"]), autograph=False)
    decode, decode_examples = (decoder.get_concrete_function(photos, are_examples) for are_examples in (False, True))

    def serving_default(inputs: Arrays) -> Arrays:
        images, valid = (value.numpy() for value in decode(tf.constant(inputs["image_bytes"])))
        return classifiers.ranked(images, valid)

    def serving_pixels(inputs: Arrays) -> Arrays:
        return classifiers.ranked(inputs["image"], np.ones(len(inputs["image"]), bool))

    def classify(inputs: Arrays) -> Arrays:
        images, valid = (value.numpy() for value in decode_examples(tf.constant(inputs["inputs"])))
        ranked = classifiers.ranked(images, valid)
        return {"classes": ranked["labels"], "scores": ranked["scores"]}

    return {"serving_default": serving_default, "serving_pixels": serving_pixels, "classify": classify}


class ClassifierPool:
    """Interpreters of one .tflite: one that takes every core, and one for each core.

    A photo that is alone gets all cores; the photos of a batch, or of batches that run at the same time, a core each,
    which answers more of them a second.

    Args:
        path: of the .tflite.
        cores: int.
    """

    def __init__(self, path: str, cores: int):
        with open(path, "rb") as file:
            content = file.read()
        self._wide = DeviceClassifier(path, cores, content)
        self.labels, self.image_size = self._wide.labels, self._wide.image_size
        self._rank = tf.function(
            lambda scores, valid: ranked_labels(self.labels, self._wide.thresholds.tolist(), scores, valid)[0],
            autograph=False,
        ).get_concrete_function(tf.TensorSpec((None, len(self.labels)), tf.float32), tf.TensorSpec((None,), tf.bool))
        self._wide_is_busy = threading.Lock()
        self._narrow: queue.SimpleQueue[DeviceClassifier] = queue.SimpleQueue()
        for _ in range(cores):
            self._narrow.put(DeviceClassifier(path, 1, content))
        self._threads = concurrent.futures.ThreadPoolExecutor(cores, "litert")

    def ranked(self, images: np.ndarray, valid: np.ndarray) -> dict[str, Any]:
        """The outputs of `serving_default`, best label first.

        Args:
            images: uint8 `[batch, size, size, 3]`.
            valid: bool `[batch]`; scores of the others are 0.
        """
        scores = np.zeros((len(images), len(self.labels)), np.float32)
        wanted = np.flatnonzero(valid)
        if len(wanted):
            scores[wanted] = self._scores(images[wanted])
        answer = self._rank(tf.constant(scores), tf.constant(valid))
        return {name: value.numpy() for name, value in answer.items()}

    def _scores(self, images):
        if len(images) == 1 and self._wide_is_busy.acquire(blocking=False):
            try:
                return self._wide.scores(images[0])
            finally:
                self._wide_is_busy.release()
        return list(self._threads.map(self._on_one_core, images))

    def _on_one_core(self, image):
        classifier = self._narrow.get()
        try:
            return classifier.scores(image)
        finally:
            self._narrow.put(classifier)
