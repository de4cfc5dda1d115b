"""What a dataset reader yields, and what it knows."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

PRESENT, ABSENT, UNKNOWN = 1, 0, -1


@dataclasses.dataclass(frozen=True)
class Example:
    """One labelled image: where its encoded bytes are, and a target int8 `[C]` of 1 present, 0 absent, −1 unknown.

    The bytes are `image_bytes`, or the file `image_path`, or the feature `image/encoded` of the TFRecord that starts at
    byte `record_offset` of the file `image_path`.
    """

    image_id: str
    target: np.ndarray
    image_path: str | None = None
    image_bytes: bytes | None = None
    record_offset: int = -1


class Reader(Protocol):
    """A labelled data set on a disk.

    One that knows no labels but those that its photos show has `names_what_is_shown = True`: a label that it does not
    name is absent in all of them, not unknown. One that knows where objects are has `places(example, size)`: label →
    bool `[size, size]`.
    """

    labels: Sequence[str]
    splits: Sequence[str]

    def read(self, split: str) -> list[Example]:
        """All examples of a split. Raises `UserError` for missing or wrong files."""


def name_of(example):
    """What a person knows a photo by: its file's path, or its id where it has none or is in a file with others."""
    if example.record_offset >= 0:
        return f"{example.image_path}, photo {example.image_id}"
    return example.image_path or example.image_id


def targets_of(examples):
    """Targets of a list of examples, int8 `[images, C]`."""
    return np.stack([example.target for example in examples])
