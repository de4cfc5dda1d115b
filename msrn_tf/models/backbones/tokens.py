"""Feature maps of a plain vision transformer, whose tokens all lie at one stride.

The simple feature pyramid of Li et al. (arXiv 2203.16527): the last block's tokens as a map, enlarged, as they are and
reduced. Where the paper enlarges by learnt deconvolutions, this is done by bilinear interpolation: a frozen backbone
has nothing to learn then, and the 1×1 convolutions of MSRN's projection come after it.
"""

import math
from collections.abc import Sequence

import keras

from msrn_tf.errors import UserError
from msrn_tf.layers import TokenMap


def pyramid_of_tokens(
    images: keras.KerasTensor,
    tokens: keras.KerasTensor,
    *,
    patch_size: int,
    prefix_tokens: int,
    strides: Sequence[int],
) -> keras.Model:
    """A model from images to a map a stride.

    A patch that is no power of two gives strides near the wanted ones: 7, 14 and 28 for patches of 14 pixels. A rest of
    the picture on its right and lower side that fills no patch is not looked at, as in the models' own code.

    Args:
        images: the network's input, `[batch, size, size, 3]`.
        tokens: its last tokens.
        patch_size: int, pixels.
        prefix_tokens: int. Class and register tokens before those of the patches.
        strides: some of 8, 16, 32.
    """
    cells = images.shape[1] // patch_size
    finest = TokenMap(cells, cells, prefix_tokens, patch_size, name="token_map")(tokens)
    return keras.Model(images, [_rescaled(finest, patch_size, stride) for stride in strides], name="backbone")


def _rescaled(feature_map, patch_size, stride):
    factor = round(math.log2(patch_size / stride))
    if factor > 0:
        layer = keras.layers.UpSampling2D(2**factor, interpolation="bilinear", name=f"enlarged_stride{stride}")
    elif factor < 0:
        layer = keras.layers.MaxPooling2D(2**-factor, name=f"reduced_stride{stride}")
    else:
        layer = keras.layers.Identity(name=f"stride{stride}")
    return layer(feature_map)


def check_size(name: str, image_size: int, patch_size: int, smallest: int = 0) -> None:
    """Refuses sizes of photos that a network's own code does not take. Raises `UserError`.

    Args:
        name: of the backbone.
        image_size: int, pixels.
        patch_size: int: sizes must be multiples of it.
        smallest: int, pixels.
    """
    below = image_size // patch_size * patch_size
    near = [size for size in (below, below + patch_size) if size >= max(smallest, patch_size)] or [smallest]
    if image_size % patch_size or image_size < smallest:
        raise UserError(
            f"`image_size`={image_size}: {name} takes multiples of {patch_size} pixels"
            f"{f' from {smallest}' if smallest else ''}; use {' or '.join(map(str, near))}"
        )


def check_trained_size(name: str, image_size: int, trained: Sequence[int]) -> None:
    """Refuses sizes that there are no published weights for, whose positions are learnt. Raises `UserError`."""
    if image_size not in trained:
        sizes = " or ".join(map(str, trained))
        raise UserError(
            f"`image_size`={image_size}: the weights of {name} have learnt positions for {sizes} pixels; use one of "
            "these, or a backbone whose positions are interpolated (dinov2, dinov3)"
        )
