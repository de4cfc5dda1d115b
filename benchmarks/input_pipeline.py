"""The input pipeline against the bare decoder: images a second from TFRecords to augmented batches of 448×448.

    python benchmarks/input_pipeline.py --photos=FOLDER

Prepares the JPEGs of a folder as TFRecords, then measures, each in a process of its own held to `--cores` cores,
taking turns: our pipeline (read a record, decode a multi-scale crop, resize, flip, batch); TensorFlow's decode
operation and its resize in a tight loop over bytes in memory, and the decode alone; Pillow's decode; and a loader
that decodes, crops, resizes and flips with Pillow in one process a core. Medians of the rounds.

Each rate is told twice: by the clock, and by the seconds that a core was at work for it, which on a core that nothing
else uses are the same. The ratios are of the second, for they hold on a machine that others use too.
"""

import argparse
import concurrent.futures
import io
import json
import multiprocessing
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time

SIDES = ("ours", "decode + resize", "decode", "Pillow decode", "Pillow loader")
SIZE, BATCH = 448, 32


def measure(side, folder, options):
    """Images a second and a core's second of one side, in this process."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    if side.startswith("Pillow"):
        contents = [content for _, content in zip(range(options.images), photos(folder), strict=False)]
        if side == "Pillow decode":
            return rate((decode_with_pillow(content) for content in contents), 1)
        with concurrent.futures.ProcessPoolExecutor(options.cores, multiprocessing.get_context("fork")) as pool:
            return rate(pool.map(load_with_pillow, contents, range(len(contents)), chunksize=BATCH), 1, skipped=BATCH)
    import tensorflow as tf

    from msrn_tf.data.pipeline import InputPlan, training_batches
    from msrn_tf.data.prepared import Prepared

    if side == "ours":
        examples = Prepared(folder).read("train")
        batches = training_batches(examples, InputPlan(SIZE, "multi_scale_crop"), batch_size=BATCH, seed=0, epoch=1)
        return rate((images.shape[0] for images, _ in batches), BATCH)

    def decode(content):
        return tf.io.decode_jpeg(content, channels=3)

    def decode_and_resize(content):
        return tf.cast(tf.image.resize(decode(content), (SIZE, SIZE)), tf.uint8)

    function = decode if side == "decode" else decode_and_resize
    contents = [content for _, content in zip(range(options.images), photos(folder), strict=False)]
    dataset = tf.data.Dataset.from_tensor_slices(contents).map(function, num_parallel_calls=tf.data.AUTOTUNE)
    if side == "decode":
        return rate((1 for _ in dataset), 1)
    return rate((images.shape[0] for images in dataset.batch(BATCH, drop_remainder=True).prefetch(2)), BATCH)


def photos(folder):
    """The encoded photos of the prepared folder, in memory: reading them is not what the other sides are asked."""
    from msrn_tf.data.pipeline import read_bytes
    from msrn_tf.data.prepared import Prepared

    yield from read_bytes(Prepared(folder).read("train"))


def rate(results, images, skipped=1):
    """Images a second and a core's second over an iterator whose items stand for `images` each.

    The first `skipped` items warm up.
    """
    for number, _ in enumerate(results):
        if number == skipped:
            started, at_work = time.perf_counter(), core_seconds()
    count = (number - skipped) * images
    return count / (time.perf_counter() - started), count / (core_seconds() - at_work)


def core_seconds():
    """Seconds that cores were at work for this process and its children."""
    children = [pid for path in pathlib.Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
    ticks = 0
    for pid in ("self", *children):
        ticks += sum(map(int, pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def decode_with_pillow(content):
    from PIL import Image

    Image.open(io.BytesIO(content)).convert("RGB").load()


def load_with_pillow(content, seed):
    import numpy as np
    from PIL import Image, ImageOps

    draw = random.Random(seed)
    image = Image.open(io.BytesIO(content)).convert("RGB")
    side = [int(min(image.size) * draw.choice((1.0, 0.9, 0.8, 0.7, 0.6))) for _ in range(2)]
    left, top = (draw.randint(0, whole - part) for whole, part in zip(image.size, side, strict=True))
    image = image.crop((left, top, left + side[0], top + side[1])).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(ImageOps.mirror(image) if draw.random() < 0.5 else image)


def prepare(options, folder):
    """Records of the photos, repeated up to `--images`."""
    paths = sorted(os.path.join(options.photos, n) for n in os.listdir(options.photos) if n.lower().endswith(".jpg"))
    if not paths:
        sys.exit(f"--photos={options.photos}: holds no .jpg files")
    source = os.path.join(folder, "photos")
    os.makedirs(source)
    with open(os.path.join(source, "list.csv"), "w", encoding="utf-8") as file:
        file.write("image,labels,split\n")
        for number in range(options.images):
            name = f"{number:06d}.jpg"
            os.symlink(os.path.abspath(paths[number % len(paths)]), os.path.join(source, name))
            file.write(f"{name},photo,train\n")
    output = os.path.join(folder, "records")
    command = [sys.executable, "-m", "msrn_tf.prepare", "--dataset=csv", f"--data_dir={source}", f"--output={output}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return output


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, help="folder of JPEGs")
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path.insert(0, root)
    os.environ["PYTHONPATH"] = root
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if options.only:
        return print(json.dumps(measure(*options.only, options)))
    rates = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        records = prepare(options, folder)
        for _ in range(options.rounds):
            for side in SIDES:
                command = [sys.executable, __file__, *sys.argv[1:], "--only", side, records]
                run = subprocess.run(command, capture_output=True, text=True, check=True)
                rates[side].append(json.loads(run.stdout.splitlines()[-1]))
    clock, work = ({side: statistics.median(values[n] for values in rates[side]) for side in SIDES} for n in range(2))
    print(
        f"{platform.machine()}, {options.cores} core(s), {options.images} photos of {options.photos}, to {SIZE} pixels"
    )
    for side in SIDES:
        rate_of_side, ratio = (
            f"{clock[side]:5.0f} images/s {work[side]:5.0f} a core's second",
            work["ours"] / work[side],
        )
        print(f"{side:16} {rate_of_side}   ours is {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
