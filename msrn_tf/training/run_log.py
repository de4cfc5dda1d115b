"""What a run leaves behind for people and programs: `metrics.jsonl` and TensorBoard summaries."""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins.pr_curve import summary as pr_curve

from msrn_tf import storage
from msrn_tf.errors import printable
from msrn_tf.files import append_line, replacing

PR_THRESHOLDS = 101


class RunLog:
    """Appends a line an epoch to `metrics.jsonl` and writes the same numbers as TensorBoard scalars.

    Args:
        workdir: the run's folder.
        tensorboard: bool. Whether to write TensorBoard summaries.
        pictures: function without arguments → dict of name → uint8 `[height, width, 3]`, called after each
            validation; None: no pictures.
    """

    def __init__(
        self, workdir: str, tensorboard: bool = True, pictures: Callable[[], dict[str, np.ndarray]] | None = None
    ):
        self.path = os.path.join(workdir, "metrics.jsonl")
        self._writer = tf.summary.create_file_writer(os.path.join(workdir, "tensorboard")) if tensorboard else None
        self._pictures = pictures

    def write(self, record: dict[str, Any]) -> None:
        """Writes one record, a dict of numbers and of dicts of numbers, with at least `epoch` and `step`."""
        append_line(self.path, json.dumps(record))
        if self._writer is None:
            return
        with self._writer.as_default(step=record["step"]):
            for name, value in record.items():
                members = {f"{name}/{key}": member for key, member in value.items()} if isinstance(value, dict) else {}
                for tag, number in (members or {name: value}).items():
                    if isinstance(number, float):
                        tf.summary.scalar(printable(tag), number)
        self._writer.flush()

    def write_predictions(self, step: int, labels: Sequence[str], scores: np.ndarray, targets: np.ndarray) -> None:
        """Precision-recall curves of each label and of all together, and pictures, for TensorBoard.

        Args:
            step: int.
            labels: C names.
            scores: float `[images, C]` in [0, 1].
            targets: `[images, C]` of {1, 0, −1}; unknown ones (−1) are left out.
        """
        if self._writer is None:
            return
        with self._writer.as_default(step=step):
            columns: list[tuple[str, Any]] = [
                ("all", slice(None)),
                *((label, index) for index, label in enumerate(labels)),
            ]
            for name, index in columns:
                score, target = scores[:, index].ravel(), targets[:, index].ravel()
                curve = pr_curve.pb(
                    printable(f"precision_recall/{name}"), target[target >= 0] == 1, score[target >= 0], PR_THRESHOLDS
                )
                tf.summary.experimental.write_raw_pb(curve.SerializeToString(), step=step)
            pictures = self._pictures() if self._pictures else {}
            for name, picture in pictures.items():
                tf.summary.image(name, picture[None])
        self._writer.flush()

    def records(self) -> list[dict[str, Any]]:
        """All records so far."""
        if not storage.exists(self.path):
            return []
        with storage.open_file(self.path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def best(self) -> dict[str, Any] | None:
        """The record of the epoch whose model was kept, or None."""
        return next((record for record in reversed(self.records()) if record["best"]), None)

    def keep_before(self, epoch: int) -> None:
        """Forgets what a killed run wrote of `epoch` and later ones; they come again. A half-written line goes too."""
        if not storage.exists(self.path):
            return
        with storage.open_file(self.path, encoding="utf-8") as file:
            lines = [line for line in file if line.endswith("}\n") and json.loads(line)["epoch"] < epoch]
        with replacing(self.path) as file:
            file.writelines(lines)
