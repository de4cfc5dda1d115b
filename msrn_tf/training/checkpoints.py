"""Checkpoints to resume from: everything that a run's future depends on.

Order and augmentation of the images are functions of (seed, epoch, position), so the position is all there is to keep
of the input. TensorFlow writes a checkpoint beside its final name and renames it; a run killed at any moment leaves
the one before it whole.
"""

import os
import re
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from msrn_tf import storage
from msrn_tf.errors import UserError
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.training.moving_average import MovingAverage

FOLDER = "checkpoints"
READ_BYTES = 1 << 22
SUMMED = ("loss", "classification_loss", "group_loss", "gradient_norm")


class RunCheckpoints:
    """The last `keep` checkpoints of a run, in `WORKDIR/checkpoints`.

    Args:
        workdir: the run's folder.
        model, optimizer, moving_average: what trains; the last may be None.
        keep: int.
        worker: index of this worker; only worker 0 writes into the folder, the others beside it, for the time of a
            write (all workers must take part: some variables are summed up to be saved).
        check_held: called before each write; raises `UserError` where the folder is another's by now (see
            `run_directory.held`).
    """

    def __init__(
        self,
        workdir: str,
        model: MultiLabelClassifier,
        optimizer: Any,
        moving_average: MovingAverage | None = None,
        *,
        keep: int = 3,
        worker: int = 0,
        check_held: Callable[[], None] = lambda: None,
    ):
        self.workdir, self.folder = workdir, os.path.join(workdir, FOLDER)
        self.check_held = check_held
        self.epoch = tf.Variable(1, dtype=tf.int64)
        self.batch = tf.Variable(0, dtype=tf.int64)
        self.best_map = tf.Variable(-1.0, dtype=tf.float64)
        self.sums = {name: tf.Variable(0.0, dtype=tf.float64) for name in SUMMED}
        self._checkpoint = tf.train.Checkpoint(
            model=[variable.value for variable in model.variables],
            optimizer=[variable.value for variable in optimizer.variables],
            moving_average=list(moving_average.averages) if moving_average else [],
            epoch=self.epoch,
            batch=self.batch,
            best_map=self.best_map,
            sums=self.sums,
        )
        self._own_folder = self.folder if worker == 0 else os.path.join(workdir, f".checkpoints-worker-{worker}")
        self._is_chief, self._keep = worker == 0, keep
        if self._is_chief:
            for leftover in _unfinished(self.folder):
                storage.rmtree(leftover)
        self._manager = tf.train.CheckpointManager(self._checkpoint, self._own_folder, max_to_keep=keep)

    def save(self) -> None:
        """Writes one more checkpoint and forgets the oldest.

        Raises:
            UserError: it cannot be written; what lay there before is untouched.
        """
        self.check_held()
        try:
            self._manager.save()
            if self._is_chief:  # one that a killed process wrote is unknown to the manager
                for path in checkpoint_paths(self.workdir)[self._keep :]:
                    for file in _files_of(path):
                        storage.remove(file)
        except (tf.errors.OpError, OSError) as error:
            for leftover in _unfinished(self._own_folder):
                storage.rmtree(leftover)
            raise UserError(
                f"{self.folder}: a checkpoint cannot be written ({reason_of(error)}); the previous one is intact: "
                "free some space, and the same command continues from there"
            ) from error
        finally:
            if not self._is_chief:
                storage.rmtree(self._own_folder)

    def restore(self) -> tuple[str | None, list[str]]:
        """Restores the newest checkpoint that is whole.

        Returns:
            `(path, warnings)`: the path, or None where there is no checkpoint; a sentence for each damaged one.

        Raises:
            UserError: there are checkpoints and none is whole; one cannot be read, or is of another model.
        """
        warnings = []
        for path in checkpoint_paths(self.workdir):
            try:
                self._checkpoint.restore(path).assert_consumed()
                return path, warnings
            except AssertionError as error:
                raise UserError(
                    f"{path}: holds other variables than this run's model ({reason_of(error)}); it was written by "
                    "another version of this program: continue with that version, or give another `workdir`"
                ) from error
            except (tf.errors.OpError, ValueError, TypeError, OSError, LookupError, RuntimeError) as error:
                # What a cut file gives is of many kinds, IndexError among them.
                check_readable(path)
                warnings.append(f"{path}: damaged ({reason_of(error)}); going back to the one before it")
        if warnings:
            raise UserError(f"{self.folder}: no checkpoint can be read; delete {self.workdir} to start again")
        return None, []


def check_readable(path: str) -> None:
    """Tells a checkpoint that a file system does not give from a torn one, whose bytes can be read.

    TensorFlow calls both a loss of data. A file that is missing belongs to a torn checkpoint.

    Raises:
        UserError: some of its files cannot be read.
    """
    for name in _files_of(path):
        try:
            with storage.open_file(name, "rb") as file:
                while file.read(READ_BYTES):
                    pass
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(
                f"{name}: cannot be read ({error.strerror}): it may be undamaged; when the file system answers "
                "again, the same command continues from there"
            ) from error


def checkpoint_paths(workdir: str) -> list[str]:
    """A run's checkpoints, newest first."""
    numbered = [
        (int(match[1]), path.removesuffix(".index"))
        for path in storage.matching(os.path.join(workdir, FOLDER), "ckpt-*.index")
        if (match := re.search(r"ckpt-(\d+)\.index$", path))
    ]
    return [path for _, path in sorted(numbered, reverse=True)]


def _files_of(path):
    """The files of a checkpoint: `ckpt-7.index` and its data."""
    return storage.matching(os.path.dirname(path), f"{os.path.basename(path)}.*")


def _unfinished(folder):
    return storage.matching(folder, "*_temp")


def reason_of(error: BaseException) -> str:
    """The first line of an error, short."""
    text = getattr(error, "message", None) or str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:160]
