"""How long the end of an epoch's iterator takes: that of `tf.distribute`, and that of `msrn_tf.data.pipeline`.

    PYTHONPATH=. python benchmarks/epoch_end.py

Batches are read for some seconds, slowly, as training does, and dropped. Neither a photo nor a model: what is measured
is the wait alone, which one epoch has and the next has not: the longest of the rounds counts.
"""

import argparse
import time

import tensorflow as tf

from msrn_tf.data.pipeline import distributed, prefetched

BATCH = 8


def batches(ours):
    numbers = tf.data.Dataset.range(1 << 20).map(tf.math.square, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH)
    return prefetched(numbers) if ours else numbers.prefetch(2)


def seconds_beyond(ours, reading):
    """Seconds that an epoch of `reading` seconds takes beyond them."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    started = time.perf_counter()

    def epoch():
        iterate = distributed if ours else tf.distribute.Strategy.distribute_datasets_from_function
        for _ in iterate(strategy, lambda context_or_shard: batches(ours)):
            time.sleep(0.01)
            if time.perf_counter() - started > reading:
                return

    epoch()
    return time.perf_counter() - started - reading


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reading", type=float, nargs="+", default=[6, 12, 24], help="seconds an epoch takes")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print("epoch of   as tf.distribute does   as here   (seconds that its end takes, the longest)")
    for reading in arguments.reading:
        tuned, ours = (max(seconds_beyond(side, reading) for _ in range(arguments.rounds)) for side in (False, True))
        print(f"{reading:6.0f} s   {tuned:21.2f}   {ours:7.2f}", flush=True)


if __name__ == "__main__":
    main()
