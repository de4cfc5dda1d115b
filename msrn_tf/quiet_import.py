"""Imports TensorFlow without its native start-up messages (a missing GPU, CPU instructions): nothing to act on."""

import contextlib
import importlib
import os
import sys
import tempfile


@contextlib.contextmanager
def captured_native_stderr():
    """Holds back what native code writes to standard error; it is shown after all where the block raises."""
    try:
        stderr = sys.__stderr__.fileno()
    except (AttributeError, OSError, ValueError):  # no standard error of the operating system's: nothing to hold back
        yield
        return
    saved = os.dup(stderr)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), stderr)
        try:
            yield
        except BaseException:
            captured.seek(0)
            os.write(saved, captured.read())
            raise
        finally:
            os.dup2(saved, stderr)
            os.close(saved)


def import_tensorflow():
    """The tensorflow module. These messages come before TensorFlow reads `TF_CPP_MIN_LOG_LEVEL`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    with captured_native_stderr():
        return importlib.import_module("tensorflow")
