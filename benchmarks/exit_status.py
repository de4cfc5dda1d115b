"""Statuses of short commands that succeed, each run many times in a process of its own.

    PYTHONPATH=. python benchmarks/exit_status.py --times=200

A process may die after its work is done: while its interpreter ends, TensorFlow's threads may still run. On a small set
of drawn photos the script trains a model, then counts how `msrn_tf.evaluate` and `msrn_tf.train --init_from` end, one
after the other. Its own status is 1 where any of them failed.
"""

import argparse
import collections
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from msrn_tf.data.demo import DEMO_LABELS, draw_example

SMALL = [  # what lives on while a process ends reads data; the model is the one that is made soonest
    "--model=gap", "--backbone=resnet_tiny", "--image_size=32", "--epochs=1", "--decay_epochs=1", "--batch_size=4",
    "--augment=none", "--notensorboard",
]  # fmt: skip
PHOTOS = {"train": 16, "val": 4, "test": 4}


def write_photos(folder):
    """Photos and their table, of the labels that every split shows."""
    examples = {split: [draw_example(split, number) for number in range(count)] for split, count in PHOTOS.items()}
    everywhere = np.all(
        [np.any([example.target == 1 for example in some], axis=0) for some in examples.values()], axis=0
    )
    rows = ["image,labels,split"]
    for split, some in examples.items():
        for example in some:
            (folder / f"{example.image_id}.jpg").write_bytes(example.image_bytes)
            labels = [DEMO_LABELS[c] for c in np.flatnonzero((example.target == 1) & everywhere)]
            rows.append(f"{example.image_id}.jpg,{'|'.join(labels)},{split}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def run(module, *flags):
    """`(status, what it wrote)`."""
    command = [sys.executable, "-m", module, *map(str, flags)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_photos(folder)
        data = ["--dataset=csv", f"--data_dir={folder}"]
        model = folder / "first" / "model.keras"
        status, output = run("msrn_tf.train", *data, *SMALL, f"--workdir={model.parent}")
        if status:
            sys.exit(f"the first model cannot be trained:\n{output}")
        statuses = {"evaluate": collections.Counter(), "train --init_from": collections.Counter()}
        started = time.monotonic()
        for number in range(1, times + 1):
            evaluation = ("msrn_tf.evaluate", *data, f"--model={model}", "--bootstrap=10")
            training = ("msrn_tf.train", *data, *SMALL, f"--init_from={model}", f"--workdir={folder / str(number)}")
            for name, command in zip(statuses, (evaluation, training), strict=True):
                status, output = run(*command)
                statuses[name][status] += 1
                if status:
                    print(f"{name}: status {status}\n{output[-2000:]}", flush=True)
            counts = "; ".join(f"{name}: {dict(counter)}" for name, counter in statuses.items())
            print(f"{number} of {times} times, {time.monotonic() - started:.0f} s; {counts}", flush=True)
    sys.exit(any(set(counter) - {0} for counter in statuses.values()))


if __name__ == "__main__":
    main()
