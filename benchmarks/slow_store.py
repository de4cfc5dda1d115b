"""How many reads in flight a slow store needs: photos a second from TFRecords whose every read takes a while.

    PYTHONPATH=. python benchmarks/slow_store.py [--milliseconds=0,30] [--in_flight=1,8,32,64,128]

The store is this machine's disk behind a small library that is loaded before all others: each `open` and each read of
a file in the prepared folder sleeps first, as a request to a bucket or a network file system does. (It is compiled
with `cc`.) The photos are small, so that decoding, which needs cores, is not what is measured. Each measurement is a
process of its own; the order of the photos is checked to be the same in all.
"""

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

PHOTOS, SIDE, BATCH = 4096, 32, 32
SLEEPS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#include <stdatomic.h>
static char slow[65536];
static void wait_for_store(void) { usleep(1000 * atoi(getenv("SLOW_MILLISECONDS"))); }
static int opened(const char *path, int file) {
  const char *folder = getenv("SLOW_FOLDER");
  if (file >= 0 && file < 65536) slow[file] = folder && strstr(path, folder) && strstr(path, ".tfrecord");
  if (file >= 0 && file < 65536 && slow[file]) wait_for_store();
  return file;
}
#define OPEN(NAME) int NAME(const char *path, int flags, ...) { \
  va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
  int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #NAME); return opened(path, real(path, flags, mode)); }
OPEN(open)
OPEN(open64)
#define READ(NAME, OFFSET) ssize_t NAME(int file, void *to, size_t count, OFFSET start) { \
  ssize_t (*real)(int, void *, size_t, OFFSET) = dlsym(RTLD_NEXT, #NAME); \
  if (file >= 0 && file < 65536 && slow[file]) wait_for_store(); return real(file, to, count, start); }
READ(pread, off_t)
READ(pread64, off64_t)
ssize_t read(int file, void *to, size_t count) {
  ssize_t (*real)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
  if (file >= 0 && file < 65536 && slow[file]) wait_for_store();
  return real(file, to, count);
}
"""


def prepare(folder):
    """A prepared folder of small photos in 16 shards."""
    from msrn_tf.data import preparation
    from msrn_tf.data.examples import Example, Examples

    rng = np.random.default_rng(0)
    rows = []
    for number in range(PHOTOS):
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), "uint8")).save(stream, "JPEG")
        rows.append(Example(f"{number:05d}", np.array([number % 2], np.int8), image_bytes=stream.getvalue()))
    examples = Examples.of(rows, 1)
    plan = preparation.PreparationPlan(max_pixels=1 << 20, shard_bytes=sum(len(r.image_bytes) for r in rows) // 16)
    preparation.start(folder, plan, "drawn", ("odd",), {"train": examples})
    notes = {"train": preparation.write_split(folder, "train", examples, plan, lambda _: None)}
    preparation.finish(folder, ("odd",), {"train": examples}, notes)
    preparation.remove_notes(folder)


def measure(folder, in_flight, seconds):
    """`(photos a second, checksum of the first targets)` of this process."""
    from msrn_tf.data.pipeline import InputPlan, training_batches
    from msrn_tf.data.prepared import Prepared

    examples = Prepared(folder).read("train")
    options = {"reads_in_flight": in_flight} if in_flight else {}
    plan = InputPlan(SIDE, "flip", **options)
    batches = iter(training_batches(examples, plan, batch_size=BATCH, seed=0, epoch=1))
    order = [int(target) for _, targets in (next(batches), next(batches)) for target in targets.numpy().ravel()]
    started, count = time.perf_counter(), 0
    for images, _ in batches:
        count += len(images)
        if time.perf_counter() - started > seconds:
            break
    return count / (time.perf_counter() - started), "".join(map(str, order))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--milliseconds", default="0,30")
    parser.add_argument("--in_flight", default="1,8,32,64,128")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--measure")
    options = parser.parse_args()
    if options.measure:
        folder, in_flight = options.measure.split("=")
        print(json.dumps(measure(folder, int(in_flight), options.seconds)))
        return
    print(f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores")
    with tempfile.TemporaryDirectory() as folder:
        library, data = os.path.join(folder, "slow.so"), os.path.join(folder, "data")
        compiler = ["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", library, "-ldl"]
        subprocess.run(compiler, input=SLEEPS, text=True, check=True)
        prepare(data)
        orders = set()
        for milliseconds in map(int, options.milliseconds.split(",")):
            for in_flight in map(int, options.in_flight.split(",")):
                more = {"LD_PRELOAD": library, "SLOW_FOLDER": data, "SLOW_MILLISECONDS": str(milliseconds)}
                command = [sys.executable, __file__, f"--measure={data}={in_flight}", f"--seconds={options.seconds}"]
                done = subprocess.run(command, env=os.environ | more, capture_output=True, text=True, check=True)
                rate, order = json.loads(done.stdout.splitlines()[-1])
                orders.add(order)
                print(f"{milliseconds:3d} ms a read, {in_flight:4d} in flight: {rate:7.0f} photos a second", flush=True)
        print("the order of the photos is the same in all" if len(orders) == 1 else "THE ORDERS DIFFER")


if __name__ == "__main__":
    main()
