"""A run's folder (DESIGN §4): who owns it, and whether a command may go on in it."""

import json
import os
import zlib

from msrn_tf.data.example import targets_of
from msrn_tf.errors import UserError
from msrn_tf.files import replacing
from msrn_tf.flagfile import changed_flags, flagfile_text
from msrn_tf.training.checkpoints import FOLDER, checkpoint_paths

FLAGS, DATA, MODEL = "flags.cfg", os.path.join(FOLDER, "data.json"), "model.keras"


def is_started(workdir):
    """Whether the folder holds a run. Raises `UserError` where it holds what may be the end of another."""
    if os.path.exists(os.path.join(workdir, FLAGS)):
        return True
    if os.path.exists(os.path.join(workdir, MODEL)) or checkpoint_paths(workdir):
        raise UserError(
            f"--workdir={workdir}: holds a model, and no {FLAGS} that says of which run; give another folder"
        )
    return False


def start(workdir, configs, train_examples, labels):
    """Makes the folder and says in it which run it is; the last file to appear is `flags.cfg`."""
    os.makedirs(os.path.join(workdir, FOLDER), exist_ok=True)
    with open(os.path.join(workdir, DATA), "w", encoding="utf-8") as file:
        json.dump(_fingerprint(train_examples, labels), file)
    with replacing(os.path.join(workdir, FLAGS)) as file:
        file.write(flagfile_text(*configs))


def check_same_flags(workdir, configs):
    """Refuses to go on with other choices. Raises `UserError` that names the flags that are not as they were."""
    changed = changed_flags(os.path.join(workdir, FLAGS), *configs)
    if changed:
        differences = ", ".join(f"--{name}={now} (was {before})" for name, before, now in changed)
        raise UserError(
            f"--workdir={workdir}: holds a run with other flags: {differences}; give another folder, or the flags of "
            f"{os.path.join(workdir, FLAGS)}"
        )


def check_same_data(workdir, train_examples, labels):
    """Refuses to go on with other data. Raises `UserError` that names what is not as it was."""
    with open(os.path.join(workdir, DATA), encoding="utf-8") as file:
        before = json.load(file)
    now = _fingerprint(train_examples, labels)
    for name in before:
        if before[name] != now[name]:
            raise UserError(
                f"--workdir={workdir}: was trained on data with other {name.replace('_', ' ')}; give another folder, "
                "or the data as they were"
            )


def _fingerprint(examples, labels):
    """What of the training split decides a run's order and targets, in a form that is compared part by part."""
    names = "\n".join(example.image_id for example in examples)
    return {
        "labels": list(labels),
        "number_of_images": len(examples),
        "image_names": zlib.crc32(os.fsencode(names)),
        "targets": zlib.crc32(targets_of(examples).tobytes()),
    }
