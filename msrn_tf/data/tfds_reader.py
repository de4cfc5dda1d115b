"""Any set of TensorFlow Datasets with multi-label annotations, by its TFDS name."""

import numpy as np

from msrn_tf.data.example import PRESENT, Example
from msrn_tf.errors import UserError

LABEL_FEATURES = ("objects/label", "labels", "label")


class TFDSReader:
    """Reads a set that TFDS has prepared (`tfds build NAME`); encoded bytes as they are, held in memory.

    The labels are those of the feature `objects/label`, `labels` or `label`, the first of them that is there, in TFDS'
    order.

    Args:
        name: `voc/2007`, `coco/2014`, …
        data_dir: TFDS' data folder; empty: its default.
    """

    def __init__(self, name, data_dir=""):
        import tensorflow_datasets as tfds  # takes seconds, and only this reader needs it

        self._tfds, self.name = tfds, name
        try:
            self._builder = tfds.builder(name, data_dir=data_dir or None)
        except Exception as error:  # TFDS raises many kinds for names, versions and folders that it does not know
            raise UserError(
                f"--dataset=tfds:{name}: TFDS does not know it ({str(error).splitlines()[0][:160]})"
            ) from error
        features = self._builder.info.features
        self._path = next((path for path in LABEL_FEATURES if _feature(features, path) is not None), None)
        if self._path is None or "image" not in features:
            raise UserError(f"--dataset=tfds:{name}: has no image, or none of {', '.join(LABEL_FEATURES)}")
        self.labels = tuple(_class_label(_feature(features, self._path)).names)
        self.splits = sorted(self._builder.info.splits)

    def read(self, split):
        if self.splits and split not in self.splits:
            raise UserError(f"split {split!r}: tfds:{self.name} has {', '.join(self.splits)}")
        decoders = {"image": self._tfds.decode.SkipDecoding()}
        try:
            dataset = self._builder.as_dataset(split=split, decoders=decoders)
        except (AssertionError, ValueError, OSError) as error:
            raise UserError(
                f"--dataset=tfds:{self.name}: is not prepared in {self._builder.data_dir}; "
                f"`tfds build {self.name}` does that"
            ) from error
        return [self._example(index, split, item) for index, item in enumerate(dataset.as_numpy_iterator())]

    def _example(self, index, split, item):
        target = np.zeros(len(self.labels), np.int8)
        values = item
        for part in self._path.split("/"):
            values = values[part]
        target[np.atleast_1d(values)] = PRESENT
        name = item.get("image/filename")
        return Example(name.decode() if name else f"{split}_{index:08d}", target, image_bytes=item["image"])


def _feature(features, path):
    for part in path.split("/"):
        if features is None or part not in features:
            return None
        features = features[part]
        features = getattr(features, "feature", features)
    return features


def _class_label(feature):
    return getattr(feature, "feature", feature)
