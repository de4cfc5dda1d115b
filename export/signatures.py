"""What a served model answers: from encoded photos, pixels or `tf.Example`s to labels, attention maps and features.

Every output has the batch as its first axis. Each photo of a batch is decoded apart, so that bytes which are no photo
are answered with `valid` false and leave their neighbours, perhaps of another client's request, alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from msrn_tf.choices import MAX_PIXELS
from msrn_tf.data.decoding import evaluation_pixels
from msrn_tf.models import MSRN
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.type_names import Tensor

EXAMPLE_FEATURE = "image/encoded"
CLASSIFY_METHOD = "tensorflow/serving/classify"


def signatures(model: MultiLabelClassifier, max_pixels: int = MAX_PIXELS) -> dict[str, tuple[Callable[..., Any], Any]]:
    """The signatures of a model: name → (function, input specification).

    Args:
        model: of `inference_model`.
        max_pixels: int. Larger photos are not valid, which is found before they are decoded.
    """
    size = model.image_size
    photos = tf.TensorSpec((None,), tf.string, "image_bytes")
    pixels = tf.TensorSpec((None, size, size, 3), tf.uint8, "image")
    # Functions of their own: traced and written once, and not for every signature again.
    decode_photos = photo_decoder(size, max_pixels)
    decode = _once(decode_photos, photos)
    forward = _once(_for_any_batch(lambda images: model(images, training=False)), pixels)

    def ranked(logits, valid):
        return ranked_labels(model.labels, model.thresholds, model.calibrated(logits), valid)

    def serving_default(image_bytes):
        images, valid = decode(image_bytes)
        return ranked(forward(images), valid)[0]

    def serving_pixels(image):
        valid = tf.ones(tf.shape(image)[:1], tf.bool)
        return ranked(forward(image), valid)[0]

    def classify(inputs):
        images, valid = decode_photos(inputs, are_examples=True)
        answer, _ = ranked(forward(images), valid)
        return {"classes": answer["labels"], "scores": answer["scores"]}

    def explain(image_bytes):
        images, valid = decode(image_bytes)
        logits, evidence = _for_any_batch(model.classify_and_explain)(images)
        answer, order = ranked(logits, valid)
        maps = combined_maps(evidence)
        maps *= tf.cast(valid, tf.float32)[:, None, None, None]
        return answer | {"attention": tf.gather(maps, order, batch_dims=1)}

    def embed(image_bytes):
        images, valid = decode(image_bytes)
        aggregate = _for_any_batch(lambda images: model.aggregate(model.feature_maps(images), model.semantics()))
        features = aggregate(images)[:, : len(model.labels)]
        features = tf.cast(features, tf.float32) * tf.cast(valid, tf.float32)[:, None, None]
        names = tf.tile([model.labels], (tf.shape(image_bytes)[0], 1))
        return {"features": features, "labels": names, "valid": valid}

    found = {
        "serving_default": (serving_default, photos),
        "serving_pixels": (serving_pixels, pixels),
        "classify": (classify, tf.TensorSpec((None,), tf.string, "inputs")),
    }
    if model.explains:
        found["explain"] = (explain, photos)
    if isinstance(model, MSRN):
        found["embed"] = (embed, photos)
    return found


def _for_any_batch(function):
    """`function` of images, also for none: TensorFlow's fused convolutions refuse an empty batch."""

    def call(images):
        count = tf.shape(images)[0]
        stand_in = tf.cast(count == 0, tf.int32)  # a black image
        padded = tf.ensure_shape(tf.pad(images, [[0, stand_in], [0, 0], [0, 0], [0, 0]]), images.shape)
        return tf.nest.map_structure(lambda value: value[:count], function(padded))

    return call


def _once(function, spec):
    return tf.function(function, input_signature=[spec], autograph=False)


def photo_decoder(image_size: int, max_pixels: int = MAX_PIXELS) -> Callable[..., tuple[Tensor, Tensor]]:
    """A function that decodes photos side by side, as evaluation sees them.

    However often it is called, what decodes one photo is traced and written once.

    Args:
        image_size: int.
        max_pixels: int. Larger photos are not valid, which is found before they are decoded.

    Returns:
        `decode(encoded, are_examples=False)`. `encoded`: string `[batch]`: photos (JPEG, PNG, GIF, BMP), or with
        `are_examples` serialised `tf.Example`s that hold one each. It returns `(images, valid)`: uint8
        `[batch, image_size, image_size, 3]`, black where not valid, and bool `[batch]`.
    """
    pixels_of = _once(
        lambda photo: evaluation_pixels(photo, image_size, max_pixels, as_served=True), tf.TensorSpec((), tf.string)
    )

    def decode(encoded: Tensor, are_examples: bool = False) -> tuple[Tensor, Tensor]:
        count = tf.shape(encoded)[0]

        @tf.autograph.experimental.do_not_convert
        def decode_one(index, item):
            if are_examples:
                feature = tf.io.FixedLenFeature((), tf.string)
                item = tf.io.parse_single_example(item, {EXAMPLE_FEATURE: feature})[EXAMPLE_FEATURE]
            return index, pixels_of(item)

        blank = tf.data.Dataset.from_tensors((count, tf.zeros((image_size, image_size, 3), tf.uint8)))
        decoded = (
            tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
            .map(decode_one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)
            .ignore_errors()
            .concatenate(blank)
            .batch(tf.cast(count, tf.int64) + 1)
        )
        indices, images = decoded.get_single_element()
        last = tf.size(indices) - 1  # the black one
        place = tf.tensor_scatter_nd_update(tf.fill([count + 1], last), indices[:, None], tf.range(last + 1))[:count]
        return tf.gather(images, place), place < last

    return decode


def ranked_labels(
    labels: Sequence[str], thresholds: Sequence[float], scores: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """The labels of each photo, best first, and their order `[batch, C]`; scores are 0 where not valid."""
    scores, order = tf.math.top_k(scores * tf.cast(valid, tf.float32)[:, None], k=len(labels))
    thresholds = tf.gather(tf.constant(thresholds, tf.float32), order)
    ranked = {
        "scores": scores,
        "labels": tf.gather(tf.constant(labels), order),
        "thresholds": thresholds,
        "is_present": (scores >= thresholds) & valid[:, None],
        "valid": valid,
    }
    return ranked, order


def combined_maps(maps: Sequence[Tensor]) -> Tensor:
    """One attention map a label from those of three scales, in [0, 1]: `[batch, C, h, w]` of the finest scale.

    As `msrn_tf.visualization.heatmaps.combine_scales`: densities, enlarged and added.
    """
    height, width = maps[0].shape[2:]
    total = 0.0
    for scale in maps:
        density = tf.transpose(scale, (0, 2, 3, 1)) * (scale.shape[2] * scale.shape[3])
        total += tf.image.resize(density, (height, width), "bilinear")
    largest = tf.reduce_max(total, axis=(1, 2), keepdims=True)
    return tf.transpose(total / tf.maximum(largest, 1e-12), (0, 3, 1, 2))
