"""Stopping when asked: SIGTERM (a machine that is taken away) and SIGINT (Ctrl-C)."""

import os
import signal
import sys


class StopSignals:
    """A context manager in which the two signals only set `received` and say so; a second SIGINT interrupts at once."""

    def __init__(self):
        self.received = None

    def __enter__(self):
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number, _frame):
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        # Not by print: the signal may have come while something was printed.
        os.write(sys.stderr.fileno(), f"{self.received}: ends as soon as a checkpoint is written\n".encode())
