"""What a run leaves behind for people and programs: `metrics.jsonl` and TensorBoard summaries."""

import json
import os

import tensorflow as tf


class RunLog:
    """Appends a line an epoch to `metrics.jsonl` and writes the same numbers as TensorBoard scalars."""

    def __init__(self, workdir, tensorboard=True):
        self.path = os.path.join(workdir, "metrics.jsonl")
        self._writer = tf.summary.create_file_writer(os.path.join(workdir, "tensorboard")) if tensorboard else None

    def write(self, record):
        """Writes one record, a flat dict with at least `epoch` and `step`."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self._writer is None:
            return
        with self._writer.as_default(step=record["step"]):
            for name, value in record.items():
                if isinstance(value, float):
                    tf.summary.scalar(name, value)
        self._writer.flush()

    def records(self):
        """All records so far."""
        if not os.path.exists(self.path):
            return []
        with open(self.path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def best(self):
        """The record of the epoch whose model was kept, or None."""
        return next((record for record in reversed(self.records()) if record["best"]), None)

    def keep_before(self, epoch):
        """Forgets what a killed run wrote of `epoch` and later ones; they come again. A half-written line goes too."""
        if not os.path.exists(self.path):
            return
        with open(self.path, encoding="utf-8") as file:
            lines = [line for line in file if line.endswith("}\n") and json.loads(line)["epoch"] < epoch]
        with open(f"{self.path}.tmp", "w", encoding="utf-8") as file:
            file.writelines(lines)
        os.replace(f"{self.path}.tmp", self.path)
