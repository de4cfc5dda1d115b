"""Commands that go on while a test looks on: training runs to be killed, workers, servers."""

import os
import signal
import subprocess
import tempfile
import time

import running
from running import ROOT


class Running:
    """`python -m module`, started; as `subprocess.Popen`, with what it wrote in `stdout()` and `stderr()`.

    Its process is a fork, as `running.command`'s: it starts in less than a second.
    """

    def __init__(self, module, *arguments, environment=()):
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [os.path.join(self._folder.name, name) for name in ("stdout", "stderr")]
        for path in self._outputs:
            open(path, "w").close()
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment)
        arguments = module, [*map(str, arguments)], os.getcwd(), environment, self._outputs
        # A daemon: where a test fails, the end of the tests is its end too.
        self._process = running._forks().Process(target=running._run, args=arguments, daemon=True)
        self._process.start()

    @property
    def returncode(self):
        """The exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds=300):
        """Until it has ended; its status."""
        self._process.join(seconds)
        if self.returncode is None:
            self.kill()
            raise subprocess.TimeoutExpired(self.stderr(), seconds)
        return self.returncode

    def wait_for(self, condition, seconds=300):
        """Until `condition()` is true; raises where the process ends before that."""
        until = time.monotonic() + seconds
        while not condition():
            assert self.returncode is None, self.stderr()
            assert time.monotonic() < until, self.stderr()
            time.sleep(0.005)

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def kill(self):
        """SIGKILL, and waits for the end."""
        self.send_signal(signal.SIGKILL)
        self._process.join()

    def stdout(self):
        return self._read(0)

    def stderr(self):
        return self._read(1)

    def _read(self, stream):
        with open(self._outputs[stream], encoding="utf-8") as file:
            return file.read()
