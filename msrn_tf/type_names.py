"""Names for types that have no class of their own here."""

from collections.abc import Callable
from typing import Any

# A tensor of the backend that Keras runs on, or what it makes one of; docstrings give its shape.
Tensor = Any

# Sizes by axis: ints, or None for any.
Shape = tuple[Any, ...]

# Called with how much is done.
Progress = Callable[[int], object]
