"""The GPUs that TensorFlow finds, and a sentence where the machine has one that it does not find.

Its own words about that are warnings among many others that nobody can act on, and are hidden
(`msrn_tf.quiet_import`); a run that takes a week in place of an hour must not start without them.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from msrn_tf.quiet_import import captured_native_stderr
from msrn_tf.terminal import say

ASK_TENSORFLOW = "import tensorflow as tf; tf.config.list_physical_devices('GPU')"
LOG_LINE = re.compile(r"^(?:[IWEF]\d{4} \S+ +\d+ |\S+ \S+ [IWEF] )\S+?\] (.*)$")
ABOUT_GPUS = re.compile(r"cuda|cudnn|dlopen|dynamic library|GPU", re.IGNORECASE)


def find_gpus(meant: bool = True) -> list[Any]:
    """TensorFlow's GPUs, a list; a warning on standard error where it does not find the machine's.

    It looks for them the first time that it is asked. Where there are none it calls that an error, which is held back.

    Args:
        meant: bool. Whether GPUs would be used; without, nothing is said.
    """
    import tensorflow as tf

    with captured_native_stderr():
        gpus = tf.config.list_physical_devices("GPU")
    if meant and (sentence := why_no_gpu(gpus)):
        say(f"warning: {sentence}", error=True)
    return gpus


def why_no_gpu(gpus: Sequence[Any]) -> str | None:
    """A sentence where this machine has an NVIDIA GPU and TensorFlow found none; None otherwise.

    Args:
        gpus: those that it found.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")  # by the person who computes on CPUs
    if gpus or hidden or not has_nvidia_gpu():
        return None
    import tensorflow as tf

    return (
        "this machine has an NVIDIA GPU and TensorFlow finds none: everything is computed on CPUs, many times more "
        f"slowly; TensorFlow says: {reason_in(words_of_tensorflow())}; install what it needs with pip install "
        f"'tensorflow[and-cuda]=={tf.__version__}', or set CUDA_VISIBLE_DEVICES=-1 where CPUs are meant"
    )


def has_nvidia_gpu(root: str = "/") -> bool:
    """Whether NVIDIA's driver knows of a GPU: by its files, or by `nvidia-smi` (WSL has no files)."""
    driver = pathlib.Path(root, "proc/driver/nvidia")
    if driver.is_dir():
        return any(driver.glob("gpus/*"))
    if not shutil.which("nvidia-smi"):
        return False
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.stdout.startswith("GPU ")


def words_of_tensorflow() -> str:
    """What TensorFlow writes of its search for GPUs when it is let: a process of its own, since a log's level stays."""
    try:
        asked = subprocess.run(
            [sys.executable, "-c", ASK_TENSORFLOW],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"},
            capture_output=True, text=True, errors="replace", timeout=120, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return asked.stderr


def reason_in(text: str) -> str:
    """Of a log, what it says of GPUs, in one line."""
    lines = [match[1].strip() for line in text.splitlines() if (match := LOG_LINE.match(line))]
    found = list(dict.fromkeys(line for line in lines if ABOUT_GPUS.search(line)))
    # Libraries are named first, and what follows from that last.
    return "; ".join(line.rstrip(".;") for line in found)[:600] or "nothing"
