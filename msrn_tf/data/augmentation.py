"""Training augmentation in the tf.data pipeline: flips, the published multi-scale crops, policies."""

from collections.abc import Callable

import tensorflow as tf

from msrn_tf.data.multi_scale_crops import NUM_CROP_CANDIDATES, POSITIONS, SCALE_PAIRS, SCALES, SNAP_PIXELS
from msrn_tf.data.policies import RandAugment, addons_policy
from msrn_tf.type_names import Tensor

CROPPED = ("multi_scale_crop", "randaugment", "addons")


def crop_candidate(height: Tensor, width: Tensor, image_size: int, index: Tensor) -> Tensor:
    """Crop number `index` of the published multi-scale crop: int32 `[top, left, crop_height, crop_width]`.

    Heights and widths are the shorter side times one of five scales, at most two steps apart; each pair has 13 places.
    A size within 3 pixels of `image_size` becomes `image_size`, so that no resizing is needed, unless the image is too
    small for that (the published code then cuts beyond the image and pads with black). No size is 0.

    Args:
        height, width: int32 scalars, pixels.
        image_size: int, the pipeline's output size.
        index: int32 scalar below `NUM_CROP_CANDIDATES`; its order is sizes first, then places.
    """
    shorter = tf.cast(tf.minimum(height, width), tf.float64)
    pair = tf.gather(SCALE_PAIRS, index // len(POSITIONS))
    size = tf.maximum(tf.cast(shorter * tf.gather(tf.constant(SCALES, tf.float64), pair), tf.int32), 1)
    extent = tf.stack([height, width])
    snaps = (tf.abs(size - image_size) < SNAP_PIXELS) & (image_size <= extent)
    size = tf.where(snaps, image_size, size)
    position = tf.gather(POSITIONS, index % len(POSITIONS))
    return tf.concat([(extent - size) // 4 * position, size], axis=0)


def random_crop_box(height: Tensor, width: Tensor, image_size: int, seed: Tensor) -> Tensor:
    """A random candidate of `crop_candidate`; `seed` is int `[2]`."""
    index = tf.random.stateless_uniform([], seed, 0, NUM_CROP_CANDIDATES, tf.int32)
    return crop_candidate(height, width, image_size, index)


def make_augmentation(augment: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of a photo of its final size and a seed, int `[2]`, that changes it as `augment` says.

    All but `none` flip; `randaugment` and `addons` change colour and geometry too. (Crops come before, at decoding.)
    """
    policy: Callable[[Tensor, Tensor], Tensor] | None = None
    if augment == "randaugment":
        policy = RandAugment()
    elif augment == "addons":
        policy = addons_policy

    def change(image, seed):
        if augment == "none":
            return image
        flip_seed, policy_seed = tf.unstack(tf.random.split(seed, 2))
        image = random_flip(image, flip_seed)
        return policy(image, policy_seed) if policy else image

    return change


def random_flip(image: Tensor, seed: Tensor) -> Tensor:
    """Mirrors left and right in half of all cases; `seed` is int `[2]`."""
    return tf.image.stateless_random_flip_left_right(image, seed)
