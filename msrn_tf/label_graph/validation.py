"""Labels and numbers from an untrusted file: names of one line, each once; numbers of the shape that labels ask for,
finite, and counts where counts are meant.
"""

from typing import Any

import numpy as np

from msrn_tf.errors import UserError
from msrn_tf.text import clean_label, what_is_wrong_with


def label_names(array: np.ndarray, what: str) -> tuple[str, ...]:
    """The labels in an array of text, cleaned as those of data sets are (`msrn_tf.text.clean_label`).

    Raises:
        UserError: it is something else, names none or one twice, or one that is no name; the sentence starts with
            `what`.
    """
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise UserError(f"{what} labels are not a list of names")
    labels = tuple(clean_label(name.decode(errors="replace") if isinstance(name, bytes) else name) for name in array)
    if len(set(labels)) < len(labels) or not labels:
        raise UserError(f"{what} names no label, or one twice")
    for label in labels:
        if wrong := what_is_wrong_with(label):
            raise UserError(f"{what} the label {label[:60]!r} holds {wrong}; give each label a name of one line")
    return labels


def numbers(value: Any, shape: tuple[int | None, ...], what: str) -> np.ndarray:
    """`value` as float64 of that shape, in which None is any size.

    Raises:
        UserError: it is something else, or not finite; the sentence starts with `what`.
    """
    try:
        array = np.asarray(value)
        wrong = array.ndim != len(shape) or any(
            size not in (None, found) for size, found in zip(shape, array.shape, strict=True)
        )
        array = array if wrong else np.asarray(array, np.float64)  # a wrong one may be large
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} is not an array of numbers") from error
    if wrong:
        wanted = " × ".join("any" if size is None else str(size) for size in shape) or "one number"
        raise UserError(f"{what} has shape {list(array.shape)}; {wanted} is needed")
    if not np.isfinite(array).all():
        raise UserError(f"{what} holds NaN or infinite numbers")
    return array


def counts(value: Any, shape: tuple[int | None, ...], what: str) -> np.ndarray:
    """`value` as int64 counts; as `numbers`."""
    array = numbers(value, shape, what)
    if array.size and (array.min() < 0 or array.max() > 2**53):
        raise UserError(f"{what} holds {array.min():g} to {array.max():g}; those are not counts")
    return array.astype(np.int64)
