"""How TensorFlow is imported: without its native start-up messages (a missing GPU, CPU instructions), which are nothing
to act on, and with what it reads of its environment in that moment alone."""

import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator

READ_AHEAD_BYTES = 1 << 18


@contextlib.contextmanager
def captured_native_stderr() -> Iterator[None]:
    """Holds back what native code writes to standard error; it is shown after all where the block raises."""
    try:
        stderr = sys.__stderr__.fileno()  # type: ignore[union-attr]
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


class _QuietFinder:
    """Finds TensorFlow, once, with a loader that holds back its messages. They come before it reads any setting."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):  # noqa: ARG003 - as importlib calls it
        if name != "tensorflow":
            return None
        sys.meta_path.remove(cls)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def quietly(module):
                with captured_native_stderr():
                    execute(module)

            spec.loader.exec_module = quietly  # type: ignore[method-assign]
        return spec


def quiet_tensorflow() -> None:
    """Lets whoever imports TensorFlow first do so without its messages; imports nothing."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Each file that its client of Google Cloud Storage opens reads so much ahead, 64 MB by default: for one photo that
    # lies in a shard, too. What is larger is read as it is asked for.
    os.environ.setdefault("GCS_READAHEAD_BUFFER_SIZE_BYTES", str(READ_AHEAD_BYTES))
    if "tensorflow" not in sys.modules and _QuietFinder not in sys.meta_path:
        sys.meta_path.insert(0, _QuietFinder)
