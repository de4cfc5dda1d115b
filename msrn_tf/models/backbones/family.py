"""What a family of backbones is: names with their sizes, a licence, and a function that builds one."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras

from msrn_tf.choices import STRIDES
from msrn_tf.models.normalization import PixelNormalization


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked of a family.

    Attributes:
        name: one of the family's.
        weights: `imagenet`, a file, or empty for random weights.
        dtype: dtype policy of the layers; None: the global one.
        strides: of the taps, some of `STRIDES`.
        image_size: int, pixels. Networks whose positions are made for one size are built for it.
    """

    name: str
    weights: str = ""
    dtype: Any = None
    strides: Sequence[int] = STRIDES
    image_size: int = 224


@dataclasses.dataclass(frozen=True)
class Family:
    """Networks of one architecture.

    Attributes:
        title: as its authors call it.
        licence: of the weights that `imagenet` stands for.
        parameters: name → parameters in millions, without a classification head.
        build: a `Request` → the network's taps and what its input is normalised by.
    """

    title: str
    licence: str
    parameters: dict[str, float]
    build: Callable[[Request], tuple[keras.Model, PixelNormalization]]

    def describe(self) -> str:
        """One line: each name with its size, and the licence."""
        names = ", ".join(f"{name} ({millions:g} M)" for name, millions in self.parameters.items())
        return f"{self.title} ({self.licence}): {names}"
