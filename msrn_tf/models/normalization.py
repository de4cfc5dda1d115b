"""How pixels are normalised before a backbone: it belongs to the backbone's weights."""

import dataclasses
from collections.abc import Sequence
from typing import Self


@dataclasses.dataclass(frozen=True)
class PixelNormalization:
    """x = (pixel − mean) / std, for RGB pixels 0–255; what the backbone's weights were trained with."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of_unit_range(cls, mean: Sequence[float], std: Sequence[float]) -> Self:
        """From mean and std of pixels in [0, 1], as PyTorch's libraries give them."""
        return cls(tuple(255.0 * value for value in mean), tuple(255.0 * value for value in std))


IMAGENET = PixelNormalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
PLUS_MINUS_ONE = PixelNormalization(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
UNCHANGED = PixelNormalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
