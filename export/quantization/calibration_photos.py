"""Photos on which the ranges of activations are measured before they become integers."""

import os
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from msrn_tf import storage
from msrn_tf.data.examples import UNKNOWN, Example, Examples, name_of
from msrn_tf.data.label_choice import for_labels, shown
from msrn_tf.data.photos import find_photos
from msrn_tf.data.pipeline import UNREADABLE, evaluation_batches, why_not_decoded
from msrn_tf.data.prepared import DATASET_FILE, Prepared
from msrn_tf.data.readers import read_split
from msrn_tf.data.records import check_records
from msrn_tf.errors import UserError

SHUFFLED_RECORDS = 4096
SMALLEST_CORRELATION = 0.5
"""Of neighbouring pixels: photos have 0.9 and more, noise has 0, and about 0.3 when it was made smaller."""


def calibration_examples(source: str, data: Any, split: str, labels: Sequence[str], count: int, seed: int) -> Examples:
    """`count` examples drawn by a seed.

    Args:
        source: folder of photos, folder of `msrn_tf.prepare`, or `.tfrecord` file; empty: the data set's split.
        data: `DataConfig`, where `source` is empty.
        split: of the data set, or of the prepared folder.
        labels: C names, in the model's order.
        count: int.
        seed: int.

    Raises:
        UserError: nothing is there, or the data set has other labels.
    """
    if source.endswith(".tfrecord"):
        return _from_records(source, len(labels), count, seed)
    if source and not storage.isdir(source):
        raise UserError(f"`calibration`={source}: no such folder or .tfrecord file")
    if source and storage.isfile(os.path.join(source, DATASET_FILE)):
        reader = Prepared(source)
        examples = _of_the_same_labels(read_split(reader, split), reader, labels)
    elif source:
        rows = (_unlabelled(len(labels), image_path=path) for path in find_photos([source]))
        examples = Examples.of(rows, len(labels))
    else:
        examples = _of_data_set(data, split, labels)
    chosen = random.Random(seed).sample(range(len(examples)), min(count, len(examples)))
    return examples.take(np.array(chosen, int))


def calibration_photos(examples: Examples, image_size: int, max_pixels: int) -> list[np.ndarray]:
    """The photos as evaluation sees them: list of uint8 `[1, size, size, 3]`.

    Raises:
        UserError: one cannot be decoded, or most are noise or of one colour.
    """
    batches = evaluation_batches(examples, image_size=image_size, batch_size=1, max_pixels=max_pixels)
    try:
        photos = [images.numpy() for images, _ in batches]
    except UNREADABLE:
        reasons = ((example, why_not_decoded(example, max_pixels)) for example in examples)
        example, reason = next((example, reason) for example, reason in reasons if reason)
        raise UserError(
            f"{name_of(example)}: is not a photo that can be decoded ({reason}); take it out of the calibration"
        ) from None
    if np.median([neighbour_correlation(photo[0]) for photo in photos]) < SMALLEST_CORRELATION:
        raise UserError(
            "`calibration`: most of its images are noise or of one colour; ranges measured on them would be wrong; "
            "give photos like those that the device will see"
        )
    return photos


def neighbour_correlation(pixels: np.ndarray) -> float:
    """Correlation of brightness between pixels side by side, in [−1, 1]; 0 for a picture of one colour."""
    grey = np.asarray(pixels, np.float64).mean(axis=-1)
    left, right = grey[:, :-1] - grey.mean(), grey[:, 1:] - grey.mean()
    return float((left * right).mean() / max((grey - grey.mean()).var(), 1e-12))


def _of_data_set(data, split, labels):
    reader = data.open(split)
    examples = read_split(reader, split, data.drop_unlabelled)
    try:
        return _of_the_same_labels(examples, reader, labels)
    except UserError as error:
        raise UserError(f"{error}; name the model's data set with `dataset`, or photos with `calibration`") from error


def _of_the_same_labels(examples, reader, labels):
    """Photos of another data set than the model's, such as the default one, would be no calibration."""
    if set(reader.labels) != set(labels):
        raise UserError(
            f"`model`: its labels are not those of the data set; the model has {shown(labels)}, the data "
            f"{shown(reader.labels)}"
        )
    return for_labels(examples, reader, labels)


def _from_records(path, num_labels, count, seed):
    if not storage.isfile(path):
        raise UserError(f"`calibration`={path}: no such file")
    feature = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
    records = tf.data.TFRecordDataset(path).shuffle(SHUFFLED_RECORDS, seed=seed).take(count)
    try:
        check_records(path)
        encoded = [tf.io.parse_single_example(record, feature)["image/encoded"].numpy() for record in records]
    except (tf.errors.OpError, ValueError) as error:
        raise UserError(f"`calibration`={path}: holds no tf.Example with image/encoded, or is cut short") from error
    if not encoded:
        raise UserError(f"`calibration`={path}: holds no record")
    rows = (_unlabelled(num_labels, image_id=f"{path}, photo {i}", image_bytes=e) for i, e in enumerate(encoded))
    return Examples.of(rows, num_labels)


def _unlabelled(num_labels, image_id="", **where):
    return Example(image_id, np.full(num_labels, UNKNOWN, np.int8), **where)
