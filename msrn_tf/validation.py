"""What a model's arguments must be, whoever gives them: a caller, or a file that somebody sent."""

import math
import numbers
from typing import Any

LARGEST_DROPOUT = 0.999
LARGEST_WIDTH = 2**20
SMALLEST_STD = 1e-6


def checked_labels(labels: Any) -> tuple[str, ...]:
    """A tuple of distinct names. Raises `ValueError` for anything else."""
    names = () if isinstance(labels, str) else tuple(labels)
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"`labels` must be names, one or more. Received: {_shortened(labels)}")
    if twice := sorted({name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()):
        raise ValueError(f"`labels` must differ from each other. Received twice: {_shortened(twice)}")
    return tuple(map(str, names))


def checked_numbers(
    name: str, values: Any, count: int, low: float = -math.inf, high: float = math.inf
) -> tuple[float, ...]:
    """A tuple of `count` finite floats in [low, high]. Raises `ValueError` for anything else."""
    given = tuple(values)
    if len(given) != count:
        raise ValueError(f"`{name}` must have {count} entries. Received: {len(given)}")
    if not all(_is_number(value) and low <= value <= high and math.isfinite(value) for value in given):
        between = "finite numbers" if (low, high) == (-math.inf, math.inf) else f"numbers from {low:g} to {high:g}"
        raise ValueError(f"`{name}` must be {between}. Received: {_shortened(given)}")
    return tuple(map(float, given))


def checked_whole(name: str, value: Any, low: float, high: float) -> int:
    """An int in [low, high]. Raises `ValueError` for anything else."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or not low <= int(value) <= high:
        raise ValueError(f"`{name}` must be a whole number from {low} to {high}. Received: {_shortened(value)}")
    return int(value)


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _shortened(value):
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:99]}…"
