"""Running a command in a process of its own, as a person does."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMALL = [
    "--backbone=resnet_tiny", "--channels=8", "--head=elementwise", "--image_size=32", "--batch_size=16", "--epochs=1",
    "--decay_epochs=1", "--augment=flip",
]  # fmt: skip


def command(module, *arguments, cwd=None):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, cwd=cwd)


def assert_refused(run, *words):
    """Status 2, one sentence that holds the words, no traceback."""
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert run.returncode == 2, run.stderr
    assert len(errors) == 1 and "Traceback" not in run.stderr
    for word in words:
        assert str(word) in errors[0]
