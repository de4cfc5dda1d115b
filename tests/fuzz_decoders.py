"""Damaged photos of every format through `decode`, in processes of their own: each is decoded or refused.

    python tests/fuzz_decoders.py [--count=20000] [--formats=jpeg,webp] [--keep=FOLDER]

A process that dies or hangs is counted, its photo kept, and another goes on behind it. The damage depends on `--seed`
alone. Where the C library's checking allocator is at hand, `LD_PRELOAD=libc_malloc_debug.so.0 MALLOC_CHECK_=3` makes a
corrupted heap end a process at once.
"""

import argparse
import collections
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
MAX_PIXELS = 1_000_000
MEMORY = 12 << 30  # of address space, for TensorFlow and a photo of a million pixels
SECONDS_A_PHOTO = 20
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)


STARTS = {
    "jpeg": b"\xff\xd8",
    "png": b"\x89PNG",
    "gif": b"GIF8",
    "bmp": b"BM",
    "webp": b"RIFF",
    "tiff": b"II*",
    "avif": b"\0\0\0\x20ftypavif",
    "heic": b"\0\0\0\x1cftypheic",
}


def samples(name):
    """Sound photos of a format: those of the decoding tests."""
    from test_decoding import READABLE

    return [content for content in READABLE.values() if content.startswith(STARTS[name])]


def damaged(photos, choose):
    """One of some photos with one to eight faults: bits, bytes, numbers, parts lost, doubled or of another photo.

    Args:
        photos: list of bytes.
        choose: `random.Random`.
    """
    content = bytearray(choose.choice(photos))
    for _ in range(choose.choice((1, 1, 2, 4, 8))):
        # Half of the faults are where headers are.
        limit = len(content) if choose.random() < 0.5 else min(len(content), choose.choice((32, 64, 256, 1024)))
        place, length = choose.randrange(max(1, limit)), choose.choice((1, 2, 4, 16, 256))
        kind = choose.randrange(8)
        if kind == 0 and content:
            content[min(place, len(content) - 1)] ^= 1 << choose.randrange(8)
        elif kind == 1:
            content[place : place + 1] = bytes([choose.randrange(256)])
        elif kind == 2:
            content[place : place + length] = bytes([choose.choice(NUMBERS)]) * min(length, len(content) - place)
        elif kind == 3:
            content[place : place + 4] = choose.randrange(1 << 32).to_bytes(4, choose.choice(("big", "little")))
        elif kind == 4:
            del content[place : place + length]
        elif kind == 5:
            content[place:place] = content[place : place + length]
        elif kind == 6:
            other = choose.choice(photos)
            start = choose.randrange(len(other))
            content[place : place + length] = other[start : start + length]
        elif choose.random() < 0.2:
            del content[choose.randrange(len(content) + 1) :]
    content = bytes(content)
    return with_checksums(content) if choose.random() < 0.8 else content


def with_checksums(content):
    """A PNG whose chunks have their checksums again, or the decoder would look no further; others as they are."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        if at + 12 + size > len(content):
            break
        body = content[at + 4 : at + 8 + size]
        parts += [content[at : at + 4], body, zlib.crc32(body).to_bytes(4, "big")]
        at += 12 + size
    return b"".join([*parts, content[at:]])


def work(name, first, last, seed, path):
    """Decodes the photos of a format with these numbers, and prints a line each: its outcome."""
    import tensorflow as tf

    from msrn_tf.data.decoding import decode

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    spec = [tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)]
    decode = tf.function(decode, input_signature=spec, autograph=False)
    photos = samples(name)
    decode(photos[0], MAX_PIXELS)  # traced: what follows is decoding alone
    for number in range(first, last):
        content = damaged(photos, random.Random(f"{seed} {name} {number}"))
        pathlib.Path(path).write_bytes(content)
        signal.alarm(SECONDS_A_PHOTO)  # it kills the process
        try:
            pixels = decode(content, MAX_PIXELS).numpy()
            sound = pixels.dtype == np.uint8 and pixels.ndim == 3 and 0 < pixels[..., 0].size <= MAX_PIXELS
            outcome = "decoded" if sound else f"wrong: {pixels.dtype} {pixels.shape}"
        except tf.errors.InvalidArgumentError:
            outcome = "refused"
        except Exception as error:
            outcome = f"wrong: {type(error).__name__}"
        signal.alarm(0)
        print(outcome, flush=True)


def fuzz(name, count, seed, keep):
    """Outcomes of a format, a Counter: `decoded` and `refused`; all else is a fault. Photos with a fault are kept."""
    outcomes, number = collections.Counter(), 0
    path = keep / f"{name}.photo"
    while number < count:
        first = number
        command = [sys.executable, __file__, "--work", name, str(first), str(count), str(seed), str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        errors = []
        reader = threading.Thread(target=lambda stream=process.stderr, to=errors: to.extend(stream))
        reader.start()
        for line in process.stdout:
            outcomes[line.strip()] += 1
            if line.startswith("wrong"):
                damaged_again = damaged(samples(name), random.Random(f"{seed} {name} {number}"))
                (keep / f"{name}.{number}").write_bytes(damaged_again)
            number += 1
        status = process.wait()
        reader.join()
        if number == count and status == 0:
            break
        if not path.exists():
            raise SystemExit(f"{name}: the process did not start (status {status})\n{''.join(errors[-5:])}")
        outcomes["hung" if status == -signal.SIGALRM else f"died with status {status}"] += 1
        os.replace(path, keep / f"{name}.{number}")
        number += 1
    path.unlink(missing_ok=True)
    return outcomes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="damaged photos of each format")
    parser.add_argument("--formats", default=",".join(STARTS), help="separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "fuzzed_photos")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    faults = 0
    for name in options.formats.split(","):
        started = time.monotonic()
        outcomes = fuzz(name, options.count, options.seed, options.keep)
        print(f"{name:5} {dict(outcomes.most_common())} in {time.monotonic() - started:.0f} s", flush=True)
        faults += sum(count for outcome, count in outcomes.items() if outcome not in ("decoded", "refused"))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if sys.argv[1:2] == ["--work"]:
        name, first, last, seed, path = sys.argv[2:]
        work(name, int(first), int(last), int(seed), path)
    else:
        main()
