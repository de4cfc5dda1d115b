"""Progress that can be seen: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from msrn_tf.errors import printable

SECONDS_BETWEEN_LINES = 15.0


class ProgressBar:
    """Counts up to `total`; a context manager.

    Args:
        description: what is going on, in a word or two.
        total: int.
        unit: what is counted, for the plain lines.
        stream: where to write. Defaults to standard error.
        quiet: bool. Write nothing.
    """

    def __init__(
        self, description: str, total: int, unit: str = "images", stream: IO[str] | None = None, quiet: bool = False
    ):
        self.description, self.total, self.unit = printable(description), total, unit
        self.stream, self.quiet = stream or sys.stderr, quiet
        self.done = 0
        self._started = self._last_line = time.monotonic()
        self._bar = None
        if self.stream.isatty() and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                TimeRemainingColumn(),
                transient=True,
                console=Console(file=self.stream),
                # What is printed meanwhile goes above a bar on the same terminal; else it stays where it goes.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._task = self._bar.add_task(self.description, total=total, note="")

    def __enter__(self):
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exception):
        if self._bar:
            self._bar.stop()

    def update(self, done: int, note: str = "") -> None:
        """Sets how much is done, with a short note such as the loss."""
        self.done, note = done, printable(note)
        now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=done, note=note)
        elif not self.quiet and now - self._last_line >= SECONDS_BETWEEN_LINES and done < self.total:
            self._last_line = now
            remaining = (now - self._started) / max(1, done) * (self.total - done)
            line = f"{self.description}: {done}/{self.total} {self.unit} {note}".rstrip()
            print(f"{line}, {remaining:.0f} s left", file=self.stream, flush=True)
