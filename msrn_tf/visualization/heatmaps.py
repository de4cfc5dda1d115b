"""Attention heat-maps: the photo with a label's attention laid over it."""

import matplotlib
import numpy as np
from PIL import Image

COLOUR_MAP = "turbo"
OPACITY = 0.55


def combine_scales(maps, size):
    """One map from those of several scales, in [0, 1].

    Each scale is divided by its largest value, enlarged (bilinear) and averaged.

    Args:
        maps: sequence of float `[h, w]`, attention at each scale.
        size: (width, height) of the result, pixels.
    """
    enlarged = []
    for attention in maps:
        attention = np.asarray(attention, np.float32) - np.min(attention)
        attention = attention / max(float(attention.max()), 1e-12)
        enlarged.append(np.asarray(Image.fromarray(attention).resize(size, Image.Resampling.BILINEAR)))
    combined = np.mean(enlarged, axis=0)
    return combined / max(float(combined.max()), 1e-12)


def overlay(photo, attention):
    """The photo with attention in colour over it: warm where the label looks, the bare photo where it does not.

    Args:
        photo: RGB `PIL.Image`.
        attention: float `[height, width]` in [0, 1], of the photo's size.
    """
    colours = matplotlib.colormaps[COLOUR_MAP](attention)[..., :3] * 255
    alpha = OPACITY * attention[..., None]
    return Image.fromarray((np.asarray(photo, np.float32) * (1 - alpha) + colours * alpha).astype(np.uint8))
