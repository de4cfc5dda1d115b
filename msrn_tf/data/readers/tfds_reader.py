"""Any set of TensorFlow Datasets with labels, by its TFDS name."""

import numpy as np

from msrn_tf.data.examples import ABSENT, PRESENT, UNKNOWN, Example, Examples
from msrn_tf.errors import UserError
from msrn_tf.extras import needs

LABEL_FEATURES = ("objects/label", "labels", "label")
NO_CLASS = -1  # TFDS' for photos whose class is not published
STATES = dict.fromkeys(("positive", "present", "yes", "true"), PRESENT)
STATES |= dict.fromkeys(("negative", "absent", "no", "false"), ABSENT)
STATES |= dict.fromkeys(("uncertain", "unknown", "unlabeled", "unlabelled", "unmentioned", ""), UNKNOWN)
# What the places of a sequence of states are, which TFDS does not say (Irvin et al., arXiv 1901.07031, table 1).
OBSERVATIONS = {
    "chexpert": (
        "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
        "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
        "Support Devices",
    ),
}  # fmt: skip


class TFDSReader:
    """Reads a set that TFDS has prepared (`tfds build NAME`); encoded bytes as they are, held in memory.

    The labels are those of the feature `objects/label`, `labels` or `label`, the first of them that can be read:
    classes in TFDS' order (a photo of class −1 has unknown labels), numbers 0 and 1 for each label, or a state for each
    label, such as negative, positive and uncertain.

    Args:
        name: `voc/2007`, `coco/2014`, …
        data_dir: TFDS' data folder; empty: its default.
    """

    def __init__(self, name: str, data_dir: str = ""):
        with needs("data"):
            import tensorflow_datasets as tfds  # takes seconds, and only this reader needs it
        self._tfds, self.name = tfds, name
        try:
            self._builder = tfds.builder(name, data_dir=data_dir or None)
        except Exception as error:  # TFDS raises many kinds for names, versions and folders that it does not know
            raise UserError(
                f"`dataset`=tfds:{name}: TFDS does not know it ({str(error).splitlines()[0][:160]})"
            ) from error
        features = self._builder.info.features
        if "image" not in features or not isinstance(features["image"], tfds.features.Image):
            raise UserError(f"`dataset`=tfds:{name}: has no feature `image` of one photo")
        found = {path: feature for path in LABEL_FEATURES if (feature := _feature(features, path)) is not None}
        coders = {path: _coder(feature, tfds.features, self._builder.name) for path, feature in found.items()}
        path = next((path for path, coder in coders.items() if coder), None)
        if path is None:
            kinds = ", ".join(f"{path} is {type(feature).__name__}" for path, feature in found.items())
            seen = f" ({kinds})" if kinds else ""
            raise UserError(
                f"`dataset`=tfds:{name}: has none of {', '.join(LABEL_FEATURES)} with classes that have names, a 0 "
                f"or 1 for each label, or a state for each label{seen}"
            )
        self._path, self._coder = path, coders[path]
        self.labels = self._coder.labels
        self.splits = sorted(self._builder.info.splits)

    def read(self, split: str) -> Examples:
        """As `Reader.read`."""
        if self.splits and split not in self.splits:
            raise UserError(f"split {split!r}: tfds:{self.name} has {', '.join(self.splits)}")
        decoders = {"image": self._tfds.decode.SkipDecoding()}
        try:
            dataset = self._builder.as_dataset(split=split, decoders=decoders)
        except (AssertionError, ValueError, OSError) as error:
            raise UserError(
                f"`dataset`=tfds:{self.name}: is not prepared in {self._builder.data_dir}; "
                f"`tfds build {self.name}` does that"
            ) from error
        rows = (self._example(index, split, item) for index, item in enumerate(dataset.as_numpy_iterator()))
        return Examples.of(rows, len(self.labels))

    def _example(self, index, split, item):
        value = item
        for part in self._path.split("/"):
            value = value[part]
        value = np.atleast_1d(value)
        target = self._coder.target(value)
        if target is None:
            raise UserError(
                f"`dataset`=tfds:{self.name}: photo {index} of split {split} has {self._path} = "
                f"{str(value.tolist())[:60]}, which {self._coder.what}"
            )
        name = item.get("image/filename")
        name = name.decode(errors="replace") if name else f"{split}_{index:08d}"
        return Example(name, target.astype(np.int8), image_bytes=item["image"])


class _Classes:
    """One class, or any number of them."""

    what = "is not one of its classes"

    def __init__(self, labels):
        self.labels = tuple(labels)

    def target(self, values):
        target = np.full(len(self.labels), ABSENT)
        if values.size and (values == NO_CLASS).all():
            return np.full(len(self.labels), UNKNOWN)
        values = values[values != NO_CLASS]
        if ((values < 0) | (values >= len(self.labels))).any():
            return None
        target[values] = PRESENT
        return target


class _MultiHot:
    """A number a label: 1 present, 0 absent, −1 unknown."""

    what = "is not a 0 or 1 for each label"

    def __init__(self, count):
        self.labels = tuple(f"label {number}" for number in range(count))

    def target(self, values):
        is_good = values.shape == (len(self.labels),) and np.isin(values, (PRESENT, ABSENT, UNKNOWN)).all()
        return values if is_good else None


class _States:
    """A state a label, by its number."""

    what = "is not a state for each label"

    def __init__(self, labels, states):
        self.labels, self._values = tuple(labels), np.array([STATES[state] for state in states])

    def target(self, values):
        if values.shape != (len(self.labels),) or ((values < 0) | (values >= len(self._values))).any():
            return None
        return self._values[values]


def _coder(feature, kinds, name):
    """How targets are read from a feature of TFDS; None where it is nothing that can be."""
    single = feature.feature if isinstance(feature, kinds.Sequence) else feature
    shape = getattr(feature, "shape", None)
    if isinstance(single, kinds.ClassLabel):
        if not single.num_classes:
            return None
        states = [state.casefold() for state in single.names]
        if isinstance(feature, kinds.Sequence) and PRESENT in map(STATES.get, states) and set(states) <= STATES.keys():
            labels = OBSERVATIONS.get(name) or _MultiHot((shape or [0])[0] or 0).labels
            return _States(labels, states) if labels else None
        return _Classes(single.names)
    is_numbers = isinstance(single, kinds.Tensor) and np.dtype(single.np_dtype).kind in "biuf"
    if is_numbers and isinstance(shape, tuple) and len(shape) == 1 and shape[0]:
        return _MultiHot(shape[0])
    return None


def _feature(features, path):
    """The feature at `objects/label`, in a dict or in a sequence of dicts: then as a sequence."""
    first, _, rest = path.partition("/")
    if first not in features:
        return None
    feature = features[first]
    if not rest:
        return feature
    inner = getattr(feature, "feature", feature)
    if not hasattr(inner, "keys") or rest not in inner:
        return None
    return inner[rest]
