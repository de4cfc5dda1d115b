"""Opening a prepared data set, and the start of an epoch, by the number of photos: as columns, and as a list of rows.

    PYTHONPATH=. python benchmarks/scale.py                      # 1,000,000 photos of 80 labels, both forms
    PYTHONPATH=. python benchmarks/scale.py --open_images        # 9,000,000 photos of 600 labels, 8 known of each
    PYTHONPATH=. python benchmarks/scale.py --prepare 2000 12000 # preparing drawn photos, without Beam and with it

The index is drawn at random; shards are empty files of the right length, since no photo is read here. Each measurement
is a process of its own. `open` is until the examples are there, checked; `epoch` is from there to the rows of its
first batch; memory is the peak resident size above that after the imports. `rows` is the form of version 0.1: an
object a photo, and a table stacked anew each epoch.

With `--prepare`, drawn photos of 64 pixels in TFRecords are prepared by the command, once without Beam and once by the
direct runner with one worker process, for each of some numbers of photos. `CPU` is the processor's time of all
processes of a command, also for imports; the rate of the last line is of the photos by which the largest number is
more than the smallest, and so without them. The direct runner keeps in its own memory what other runners shuffle: the
memory of the worker and that of the process that started it are apart.
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
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OURS = os.environ | {"PYTHONPATH": ROOT}


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
    from msrn_tf.data.pipeline import epoch_order, row_places
    from msrn_tf.data.prepared import Prepared

    before, started = peak(), time.perf_counter()
    examples = Prepared(folder).read("train")
    opened = time.perf_counter()
    order, positions = epoch_order(len(examples), BATCH, seed=0, epoch=1)
    rows, _ = row_places(examples, order[positions.reshape(-1)])
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


def write_photos(folder, count):
    """A prepared folder of `count` drawn photos, none like another."""
    import io

    import tensorflow as tf
    from PIL import Image

    from msrn_tf.data.prepared import column_path, shard_path

    rng, offsets, shards = np.random.default_rng(0), [], []
    targets = (rng.random((count, 20)) < 0.1).astype(np.int8)
    for shard, numbers in enumerate(np.array_split(np.arange(count), max(1, count // 10_000))):
        offset = 0
        with tf.io.TFRecordWriter(shard_path(folder, "train", shard)) as writer:
            for _ in numbers:
                pixels = np.kron(rng.integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
                Image.fromarray(pixels).save(encoded := io.BytesIO(), "JPEG")
                value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded.getvalue()]))
                features = tf.train.Features(feature={"image/encoded": value})
                record = tf.train.Example(features=features).SerializeToString()
                writer.write(record)
                offsets.append(offset)
                shards.append(shard)
                offset += len(record) + 16
    columns = {
        "image_id": np.char.mod(b"%012d", np.arange(count)), "shard": np.array(shards, np.int32),
        "offset": np.array(offsets, np.int64), "target": targets,
    }  # fmt: skip
    for name, values in columns.items():
        np.save(column_path(folder, "train", name), values)
    labels = [f"label {c}" for c in range(targets.shape[1])]
    description = {"labels": labels, "splits": {"train": {"num_shards": shards[-1] + 1}}}
    with open(os.path.join(folder, "dataset.json"), "w") as file:
        json.dump(description, file)


BY_BEAM = [
    "--runner=DirectRunner", "--runner_option=direct_num_workers=1",
    "--runner_option=direct_running_mode=multi_processing",
]  # fmt: skip


def measure_preparation(counts):
    """Prints what the command takes, in both ways, by the number of photos."""
    print(f"{'':8} {'photos':>10} {'seconds':>9} {'CPU, s':>8} {'worker, MB':>11} {'command, MB':>12}")
    rates = {}
    for way, flags in (("local", []), ("Beam", BY_BEAM)):
        seconds = []
        for count in counts:
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run([sys.executable, __file__, "--write_photos", folder, str(count)], check=True, env=OURS)
                taken, processor, worker, command = prepared(folder, flags)
            seconds.append(processor)
            memory = f"{worker / 1e6:11,.0f}" if worker else f"{'-':>11}"
            print(f"{way:8} {count:10,} {taken:9.1f} {processor:8.1f} {memory} {command / 1e6:12,.0f}", flush=True)
        rates[way] = (counts[-1] - counts[0]) / (seconds[-1] - seconds[0]) if len(counts) > 1 else 0.0
    if len(counts) > 1:
        ratio = rates["Beam"] / rates["local"]
        print(f"photos a second of a core: local {rates['local']:.0f}, Beam {rates['Beam']:.0f}, {ratio:.2f} of local")


def prepared(folder, flags):
    """Seconds, processor's seconds, and peak memory of the worker and of the command, of preparing a folder."""
    output = os.path.join(folder, "output")
    words = ["--dataset=prepared", f"--data_dir={folder}", f"--output={output}", "--num_threads=1", *flags]
    before, started = os.times(), time.perf_counter()
    with open(os.path.join(folder, "log"), "w+") as log:
        process = subprocess.Popen([sys.executable, "-m", "msrn_tf.prepare", *words], env=OURS, stdout=log, stderr=log)
        peaks = {"worker": 0, "command": 0}
        while process.poll() is None:
            for kind, number in processes_of(process.pid):
                peaks[kind] = max(peaks[kind], peak(number))
            time.sleep(0.2)
        if process.returncode:
            log.seek(0)
            sys.exit(log.read()[-2000:])
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, processor, peaks["worker"], peaks["command"]


def processes_of(number):
    """(`worker` or `command`, process) of a command and those that it started."""
    yield "command", number
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                is_worker = file.read().split(b"\0")[2].endswith(b"sdk_worker_main")
        except (OSError, IndexError):
            continue
        if is_worker:
            yield "worker", int(name)


def peak(process="self"):
    """Peak resident size in bytes, of this process alone: `ru_maxrss` begins with that of the one that started it."""
    try:
        with open(f"/proc/{process}/status") as file:
            return next((1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM")), 0)
    except OSError:
        return 0  # it has ended


FORMS = {"columns": measure_columns, "rows": measure_rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--open_images", action="store_true", help="9,000,000 photos of 600 labels, as columns")
    parser.add_argument("--count", type=int, help="photos, in place of 1,000,000 or 9,000,000")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--prepare", nargs="+", type=int, metavar="COUNT", help="measure preparation instead")
    parser.add_argument("--write_photos", nargs=2, metavar=("FOLDER", "COUNT"), help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=2, metavar=("FORM", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        import tensorflow  # noqa: F401  (its import is no part of the measurement)

        form, folder = options.one
        print(json.dumps(FORMS[form](folder)))
        return
    if options.write_photos:
        write_photos(options.write_photos[0], int(options.write_photos[1]))
        return
    if options.prepare:
        measure_preparation(sorted(options.prepare))
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
    run = subprocess.run(command, capture_output=True, text=True, env=OURS)
    if run.returncode:
        sys.exit(run.stderr[-2000:])
    return json.loads(run.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
