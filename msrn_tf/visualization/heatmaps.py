"""Attention heat-maps: the photo with a label's attention laid over it."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

COLOUR_MAP = "turbo"
OPACITY = 0.55


def combine_scales(maps: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """One map from those of several scales, in [0, 1].

    A scale's value is shared by the area of its position, so each is multiplied by its number of positions; then all
    are enlarged (bilinear) and added.

    Args:
        maps: sequence of float `[h, w]`, not negative: `MSRN.explain` of one photo and label.
        size: (width, height) of the result, pixels.
    """
    densities = [np.asarray(scale, np.float32) * np.size(scale) for scale in maps]
    combined = np.sum([enlarge(density, size) for density in densities], axis=0)
    return combined / max(float(combined.max()), 1e-12)


def enlarge(attention: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A float map `[h, w]`, bilinear, at `size` = (width, height)."""
    return np.asarray(Image.fromarray(np.asarray(attention, np.float32)).resize(size, Image.Resampling.BILINEAR))


def overlay(photo: Image.Image, attention: np.ndarray) -> Image.Image:
    """The photo with attention in colour over it: warm where the label looks, the bare photo where it does not.

    Args:
        photo: RGB `PIL.Image`.
        attention: float `[height, width]` in [0, 1], of the photo's size.
    """
    colours = matplotlib.colormaps[COLOUR_MAP](attention)[..., :3] * 255
    alpha = OPACITY * attention[..., None]
    return Image.fromarray((np.asarray(photo, np.float32) * (1 - alpha) + colours * alpha).astype(np.uint8))


def contact_sheet(model: Any, images: np.ndarray, max_labels: int = 4) -> np.ndarray:
    """A row for each image: the image, and its heat-map for each of the best labels.

    Args:
        model: `MSRN`.
        images: uint8 `[batch, size, size, 3]`.
        max_labels: int, heat-maps in a row.

    Returns:
        uint8 `[batch · size, (1 + max_labels) · size, 3]`.
    """
    logits, maps = model.classify_and_explain(images)
    scores, maps = np.asarray(model.calibrated(logits)), [np.asarray(scale) for scale in maps]
    rows = []
    for index, pixels in enumerate(np.asarray(images)):
        photo = Image.fromarray(pixels)
        best = np.argsort(-scores[index], kind="stable")[:max_labels]
        shown = [overlay(photo, combine_scales([scale[index, c] for scale in maps], photo.size)) for c in best]
        rows.append(np.concatenate([pixels, *map(np.asarray, shown)], axis=1))
    return np.concatenate(rows)
