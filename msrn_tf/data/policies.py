"""Random changes of colour and geometry: RandAugment by Keras' layers, and a policy of tensorflow-addons' operations.

Every draw is a function of a stateless seed, so that (seed, epoch, position) decide an image's pixels however many are
worked on at a time.
"""

import functools
import math

import keras
import tensorflow as tf

from msrn_tf.data.addons import import_addons_image
from msrn_tf.type_names import Tensor

OPERATIONS_PER_IMAGE = 2
ERASED_HALF_SIDE = 0.25


class StatelessSeeds(keras.random.SeedGenerator):
    """Hands Keras' random layers seeds that follow from one stateless seed, int `[2]`, instead of a variable's."""

    def __init__(self, seed: Tensor):  # no super().__init__: it would make a variable, which a pipeline cannot
        self._next_seed = seed

    def next(self, ordered: bool = True) -> Tensor:  # noqa: ARG002 - as Keras calls it
        """The next seed, uint32 `[2]`."""
        seed, self._next_seed = tf.unstack(tf.random.split(self._next_seed, 2))
        return tf.bitcast(seed, tf.uint32)[:, 0]  # the lower halves


class RandAugment:
    """Two operations drawn from eleven, then random erasing (Cubuk et al., arXiv 1909.13719; Zhong et al., 1708.04896).

    Called with an image, uint8 `[height, width, 3]` of known size, and a seed, int `[2]`. Made outside the pipeline, in
    which Keras' layers cannot make their variables.
    """

    def __init__(self):
        layers, pixels = keras.layers, {"value_range": (0, 255)}
        # About as strong as magnitude 9 of 10 in the paper.
        self.operations = [
            layers.AutoContrast(**pixels),
            layers.Equalization(**pixels),
            layers.RandomRotation(1 / 12),
            layers.RandomShear(0.3, 0.3),
            layers.RandomTranslation(0.1, 0.1),
            layers.RandomBrightness(0.4, **pixels),
            layers.RandomContrast(0.5, **pixels),
            layers.RandomColorDegeneration(0.8, **pixels),
            layers.RandomSharpness(0.8, **pixels),
            layers.RandomPosterization(4, **pixels),
            layers.Solarization(addition_factor=0.3, threshold_factor=0.5, **pixels),
        ]
        self.erasing = layers.RandomErasing(factor=(0.5, 0.5), **pixels)

    def __call__(self, image: Tensor, seed: Tensor) -> Tensor:
        """The photo, changed as `seed`, int `[2]`, decides."""
        seeds = tf.random.split(seed, OPERATIONS_PER_IMAGE + 2)
        which = tf.random.stateless_uniform([OPERATIONS_PER_IMAGE], seeds[-1], 0, len(self.operations), tf.int32)
        changed = tf.cast(image, tf.float32)
        for step in range(OPERATIONS_PER_IMAGE):
            branches = [functools.partial(_apply, layer, changed, seeds[step]) for layer in self.operations]
            changed = tf.switch_case(which[step], branches)
        return _to_uint8(_apply(self.erasing, changed, seeds[-2]))


def addons_policy(image: Tensor, seed: Tensor) -> Tensor:
    """Rotation, translation or shear, then sharpness or equalisation, then cutout, by `tensorflow_addons.image`."""
    addons = import_addons_image()
    size = image.shape[0]
    draws = tf.random.stateless_uniform([8], seed, -1.0, 1.0)
    turned = tf.switch_case(
        tf.cast(1.5 * (draws[0] + 1), tf.int32),
        [
            lambda: addons.rotate(image, draws[1] * math.pi / 6, "bilinear"),
            lambda: addons.translate(image, tf.round(draws[1:3] * 0.1 * size)),
            lambda: addons.transform(
                image, tf.concat([[1.0, 0.3 * draws[1], -0.15 * draws[1] * size, 0.0, 1.0], [0.0] * 3], 0), "bilinear"
            ),
        ],
    )
    coloured = tf.cond(draws[3] > 0, lambda: addons.sharpness(turned, 1.8), lambda: addons.equalize(turned))
    side = 2 * max(1, int(ERASED_HALF_SIDE * size / 2))
    centre = tf.cast((draws[5:7] + 1) / 2 * size, tf.int32)
    erased = addons.cutout(coloured[None], (side, side), offset=centre, constant_values=128)[0]
    return tf.ensure_shape(tf.where(draws[7] > 0, erased, coloured), image.shape)


def mixed(images: Tensor, targets: Tensor, seed: Tensor, how: str) -> tuple[Tensor, Tensor]:
    """A batch mixed with itself in reverse order, by one weight drawn from Beta(1, 1).

    `mixup` adds pixels (Zhang et al., arXiv 1710.09412), `cutmix` sets a rectangle in (Yun et al., arXiv 1905.04899).
    Targets mix by the same weight; a label that is unknown in one of the two photos is unknown in the mixture, for its
    share cannot be told.

    Args:
        images: uint8 `[batch, size, size, 3]`.
        targets: `[batch, C]` of {1, 0, −1}.
        seed: int `[2]`.
        how: `mixup` or `cutmix`.

    Returns:
        uint8 images, and float32 targets in [0, 1] or −1.
    """
    draws = tf.random.stateless_uniform([3], seed)
    others = images[::-1]
    if how == "mixup":
        weight = draws[0]
        images = _to_uint8(weight * tf.cast(images, tf.float32) + (1 - weight) * tf.cast(others, tf.float32))
    else:
        size = tf.cast(images.shape[1], tf.float32)
        centre, half = draws[1:] * size, tf.sqrt(1 - draws[0]) * size / 2
        places = tf.range(size) + 0.5
        inside = [tf.abs(places - centre[axis]) < half for axis in range(2)]
        box = inside[0][:, None] & inside[1][None, :]
        weight = 1 - tf.reduce_mean(tf.cast(box, tf.float32))
        images = tf.where(box[None, :, :, None], others, images)
    own, other = tf.cast(targets, tf.float32), tf.cast(targets[::-1], tf.float32)
    unknown = (own < 0) | (other < 0)
    return images, tf.where(unknown, -1.0, weight * own + (1 - weight) * other)


def _apply(layer, image, seed):
    batch = image[None]
    transformation = layer.get_random_transformation(batch, training=True, seed=StatelessSeeds(seed))
    changed = layer.transform_images(batch, transformation, training=True)
    return tf.ensure_shape(tf.cast(changed, tf.float32)[0], image.shape)


def _to_uint8(image):
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
