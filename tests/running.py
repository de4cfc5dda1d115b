"""Running a command in a process of its own, as a person does."""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMALL = [  # of one stride: most of such a run's time TensorFlow spends on making the graph of its step
    "--backbone=resnet_tiny", "--strides=8", "--channels=8", "--head=elementwise", "--image_size=32",
    "--batch_size=16", "--epochs=1", "--decay_epochs=1", "--augment=flip",
]  # fmt: skip
PRELOADED = ("tensorflow", "keras_hub.models", "msrn_tf.training.setup")


def command(module, *arguments, cwd=None, absent=()):
    """Runs `python -m module` to its end; the `CompletedProcess`. `absent`: modules that it finds not installed.

    Its process is a fork of one that has imported `PRELOADED` and run nothing: importing TensorFlow takes longer than
    most of what is tested. (What a server or an interrupted run is started with are processes from the very start.)
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = [os.path.join(folder, name) for name in ("stdout", "stderr")]
        where = os.path.abspath(cwd or os.curdir)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = _forks().Process(
            target=_run, args=(module, [*map(str, arguments)], where, environment, outputs, absent)
        )
        process.start()
        process.join()
        stdout, stderr = (pathlib.Path(path).read_text() for path in outputs)
    return subprocess.CompletedProcess([module, *arguments], process.exitcode, stdout, stderr)


def _forks():
    os.environ["PYTHONPATH"] = str(ROOT)  # where the process to fork from finds what it imports
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def _run(module, arguments, where, environment, outputs, absent=()):
    for path, stream in zip(outputs, (1, 2), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    if missing := [name for name in PRELOADED if name not in sys.modules]:
        sys.exit(f"not imported beforehand: {', '.join(missing)}")
    hide(absent)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(where)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def hide(modules):
    """Lets this process find these modules, and what is in them, as little as where they are not installed."""
    for loaded in [name for name in sys.modules if name.split(".")[0] in modules]:
        del sys.modules[loaded]
    sys.meta_path[:] = [_Hiding(finder, modules) for finder in sys.meta_path]


class _Hiding:
    def __init__(self, finder, modules):
        self._finder, self._modules = finder, modules

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in self._modules else self._finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self._finder, name)


def in_fork(function, *arguments):
    """Calls a function in a process of its own, as `command` does; its exit status, 0 where it returns."""
    process = _forks().Process(target=function, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def assert_refused(run, *words):
    """Status 2, one sentence that holds the words, no traceback."""
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert run.returncode == 2, run.stderr
    assert len(errors) == 1 and "Traceback" not in run.stderr
    for word in words:
        assert str(word) in errors[0]
