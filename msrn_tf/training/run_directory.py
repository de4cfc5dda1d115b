"""A run's folder: who owns it, and whether a command may go on in it."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msrn_tf import storage
from msrn_tf.data.examples import Examples
from msrn_tf.errors import UserError
from msrn_tf.files import replacing
from msrn_tf.flagfile import changed_flags, flagfile_text
from msrn_tf.training.checkpoints import FOLDER, checkpoint_paths

FLAGS, DATA, MODEL, LOCK = "flags.cfg", os.path.join(FOLDER, "data.json"), "model.keras", ".lock"


@contextlib.contextmanager
def held(workdir: str) -> Iterator[Callable[[], None]]:
    """Holds a run's folder, which is made where it is missing: no other process trains in it meanwhile.

    The operating system lets go of it with the process, however that ends. Where nothing was written, nothing is left.

    Yields:
        A function to call before each write. At an address there are no locks: the command that starts last has the
        folder, and one that started before it ends there with a `UserError`.

    Raises:
        UserError: another process holds it, or it cannot be made.
    """
    if storage.is_address(workdir):
        with _marked(workdir) as check:
            yield check
        return
    made = [folder for folder in _with_parents(workdir) if not os.path.isdir(folder)]
    try:
        os.makedirs(workdir, exist_ok=True)
        lock = _lock(os.path.join(workdir, LOCK))
    except OSError as error:
        raise UserError(f"`workdir`={workdir}: cannot be written ({error.strerror}); choose another folder") from error
    if lock is None:
        raise UserError(f"`workdir`={workdir}: another command is training in it; wait, or choose another folder")
    with lock:
        try:
            yield lambda: None
        finally:
            with contextlib.suppress(OSError):
                os.remove(os.path.join(workdir, LOCK))
                for folder in made:  # those that hold nothing
                    os.rmdir(folder)


@contextlib.contextmanager
def _marked(workdir):
    """Leaves a mark in a folder at an address; yields the function that looks whether it is still there."""
    path = os.path.join(workdir, LOCK)
    mark = f"{socket.gethostname()}, process {os.getpid()}, {uuid.uuid4().hex}"

    def check():
        with contextlib.suppress(FileNotFoundError):
            if storage.read_whole(path).decode("utf-8", "replace") == mark:
                return
        raise UserError(
            f"`workdir`={workdir}: another command has begun to train in it, and this one stops; let one of them train"
        )

    try:
        storage.makedirs(workdir)
        with replacing(path) as file:
            file.write(mark)
    except OSError as error:
        raise UserError(f"`workdir`={workdir}: cannot be written ({error.strerror}); choose another folder") from error
    try:
        yield check
    finally:
        with contextlib.suppress(OSError, UserError):
            check()
            storage.remove(path)


def _lock(path):
    """The open file that holds the lock, or None where another process has it."""
    while True:
        file = open(path, "a", encoding="utf-8")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise
        # The process that held it may have removed the file between our opening and our locking it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        file.close()


def _with_parents(folder):
    """The folder and those that it lies in, innermost first."""
    folder = os.path.abspath(folder)
    while True:
        yield folder
        if folder == (folder := os.path.dirname(folder)):
            return


def is_started(workdir: str) -> bool:
    """Whether the folder holds a run. Raises `UserError` where it holds what may be the end of another."""
    if storage.exists(os.path.join(workdir, FLAGS)):
        return True
    if storage.exists(os.path.join(workdir, MODEL)) or checkpoint_paths(workdir):
        raise UserError(
            f"`workdir`={workdir}: holds a model, but no {FLAGS} that says which run it is of; choose another folder"
        )
    return False


def start(workdir: str, configs: Sequence[Any], train_examples: Examples, labels: Sequence[str]) -> None:
    """Makes the folder and says in it which run it is; the last file to appear is `flags.cfg`."""
    storage.makedirs(os.path.join(workdir, FOLDER))
    with replacing(os.path.join(workdir, DATA)) as file:
        json.dump(_fingerprint(train_examples, labels), file)
    with replacing(os.path.join(workdir, FLAGS)) as file:
        file.write(flagfile_text(*configs))


def check_same_flags(workdir: str, configs: Sequence[Any]) -> None:
    """Refuses to go on with other choices. Raises `UserError` that names the flags that are not as they were."""
    changed = changed_flags(os.path.join(workdir, FLAGS), *configs)
    if changed:
        differences = ", ".join(f"--{name}={now} (was {before})" for name, before, now in changed)
        raise UserError(
            f"`workdir`={workdir}: holds a run with other flags: {differences}; choose another folder, or the flags "
            f"of {os.path.join(workdir, FLAGS)}"
        )


def check_same_data(workdir: str, train_examples: Examples, labels: Sequence[str]) -> None:
    """Refuses to go on with other data. Raises `UserError` that names what is not as it was."""
    path = os.path.join(workdir, DATA)
    try:
        with storage.open_file(path, encoding="utf-8") as file:
            before = dict(json.load(file))
    except (ValueError, TypeError, OSError) as error:
        raise UserError(
            f"{path}: records which data the run was trained on, and cannot be read ({error}); give another `workdir`"
        ) from error
    now = _fingerprint(train_examples, labels)
    for name in now:
        if before.get(name) != now[name]:
            raise UserError(
                f"`workdir`={workdir}: was trained on data with other {name.replace('_', ' ')}; choose another "
                "folder, or the data as they were"
            )


def _fingerprint(examples, labels):
    """What of the training split decides a run's order and targets, in a form that is compared part by part."""
    return {"labels": list(labels)} | dict(
        zip(("number_of_images", "image_names", "targets"), examples.fingerprint(), strict=True)
    )
