"""Opening a prepared data set, and the start of an epoch, by the number of photos: as columns, and as a list of rows.

    PYTHONPATH=. python benchmarks/scale.py                      # 1,000,000 photos of 80 labels, both forms
    PYTHONPATH=. python benchmarks/scale.py --open_images        # 9,000,000 photos of 600 labels, 8 known of each

The index is drawn at random; shards are empty files of the right length, since no photo is read here. Each measurement
is a process of its own. `open` is until the examples are there, checked; `epoch` is from there to the rows of its
first batch; memory is the peak resident size above that after the imports. `rows` is the form of version 0.1: an
object a photo, and a table stacked anew each epoch.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

NUM_SHARDS, BATCH = 100, 32
SHARD_BYTES = 1 << 40  # of an empty file: sparse


def write_index(folder, count, num_labels, known):
    """A prepared folder of `count` photos; `known`: labels known of each, 0 for all."""
    from msrn_tf.data.prepared import COMPRESSED_TARGETS, column_path, shard_path

    rng = np.random.default_rng(0)
    columns = {
        "image_id": np.char.mod(b"%012d", np.arange(count)),
        "shard": np.sort(rng.integers(0, NUM_SHARDS, count, dtype=np.int32)),
        "offset": np.arange(count, dtype=np.int64) * 100_000,
    }
    if known:
        indices = np.sort(rng.integers(0, num_labels // known, (count, known), dtype=np.int16), axis=1)
        indices += np.arange(known, dtype=np.int16) * (num_labels // known)  # no label twice
        values = rng.integers(0, 2, count * known, dtype=np.int8)  # absent or present
        starts = np.arange(count + 1, dtype=np.int64 if count * known >= 2**31 else np.int32) * known
        columns |= dict(zip(COMPRESSED_TARGETS, (values, indices.reshape(-1), starts, np.int8(-1)), strict=True))
    else:
        columns["target"] = (rng.random((count, num_labels)) < 0.04).astype(np.int8)
    for name, values in columns.items():
        np.save(column_path(folder, "train", name), values)
    for number in range(NUM_SHARDS):
        with open(shard_path(folder, "train", number), "wb") as file:
            file.truncate(SHARD_BYTES)
    description = {
        "labels": [f"label {c}" for c in range(num_labels)], "splits": {"train": {"num_shards": NUM_SHARDS}}
    }  # fmt: skip
    with open(os.path.join(folder, "dataset.json"), "w") as file:
        json.dump(description, file)


def measure_columns(folder):
    """Today's form."""
    from msrn_tf.data.pipeline import _rows, epoch_order
    from msrn_tf.data.prepared import Prepared

    before, started = peak(), time.perf_counter()
    examples = Prepared(folder).read("train")
    opened = time.perf_counter()
    order, positions = epoch_order(len(examples), BATCH, seed=0, epoch=1)
    rows, _ = _rows(examples, order[positions.reshape(-1)])
    next(iter(rows.batch(BATCH)))
    return opened - started, time.perf_counter() - opened, peak() - before


def measure_rows(folder):
    """The form of version 0.1, written out."""
    import tensorflow as tf

    from msrn_tf.data.examples import Example
    from msrn_tf.data.pipeline import epoch_order
    from msrn_tf.data.prepared import column_path, shard_path

    before, started = peak(), time.perf_counter()
    columns = {name: np.load(column_path(folder, "train", name)) for name in ("image_id", "target", "shard", "offset")}
    paths = [shard_path(folder, "train", number) for number in range(NUM_SHARDS)]
    ids = [name.decode() for name in columns["image_id"].tolist()]
    rows = zip(ids, columns["target"], columns["shard"].tolist(), columns["offset"].tolist(), strict=True)
    examples = [Example(name, target, paths[shard], record_offset=offset) for name, target, shard, offset in rows]
    opened = time.perf_counter()
    order, positions = epoch_order(len(examples), BATCH, seed=0, epoch=1)
    chosen = [examples[index] for index in order[positions.reshape(-1)]]
    table = {
        "target": np.stack([example.target for example in chosen]),
        "path": tf.constant([os.fsencode(example.image_path) for example in chosen], tf.string),
        "offset": np.array([example.record_offset for example in chosen], np.int64),
    }
    next(iter(tf.data.Dataset.from_tensor_slices(table).batch(BATCH)))
    return opened - started, time.perf_counter() - opened, peak() - before


def peak():
    """Peak resident size in bytes, of this process alone: `ru_maxrss` begins with that of the one that started it."""
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))


FORMS = {"columns": measure_columns, "rows": measure_rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--open_images", action="store_true", help="9,000,000 photos of 600 labels, as columns")
    parser.add_argument("--count", type=int, help="photos, in place of 1,000,000 or 9,000,000")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("FORM", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        import tensorflow  # noqa: F401  (its import is no part of the measurement)

        form, folder = options.one
        print(json.dumps(FORMS[form](folder)))
        return
    num_labels, known, forms = (600, 8, ["columns"]) if options.open_images else (80, 0, ["columns", "rows"])
    count = options.count or (9_000_000 if options.open_images else 1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        write_index(folder, count, num_labels, known)
        print(f"{count:,} photos of {num_labels} labels; load before {os.getloadavg()[0]:.1f}")
        print(f"{'form':8} {'open, s':>22} {'epoch, s':>22} {'memory, MB':>12}")
        for form in forms:
            found = np.array([in_a_process(form, folder) for _ in range(options.repetitions)])
            spread = [f"{np.median(column):.2f} ({column.min():.2f}–{column.max():.2f})" for column in found.T[:2]]
            print(f"{form:8} {spread[0]:>22} {spread[1]:>22} {np.median(found[:, 2]) / 1e6:12,.0f}", flush=True)


def in_a_process(form, folder):
    command = [sys.executable, os.path.abspath(__file__), "--one", form, folder]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": root})
    if run.returncode:
        sys.exit(run.stderr[-2000:])
    return json.loads(run.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
