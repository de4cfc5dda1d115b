"""Semantic attention at COCO size: ours against the equation written out, in time and in memory, in one run.

    python benchmarks/semantic_attention.py

84 semantics (80 labels, 4 groups), 512 channels and the three maps of a 448-pixel image: 28² + 14² + 7² positions.
Each measurement runs in a process of its own; memory is the growth of its peak resident size over the inputs. Time is
the median of several repetitions, the two forms taking turns.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time

POSITIONS, NODES, CHANNELS = (28 * 28, 14 * 14, 7 * 7), 84, 512
FORMS, PASSES = ("naive", "ours"), ("forward", "forward+backward")


def measure(form, direction, batch, repetitions):
    """Median milliseconds and peak extra MB of one form, in this process."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import numpy as np
    import tensorflow as tf

    from msrn_tf.layers import SemanticAttention

    layer = SemanticAttention()

    def naive(positions, semantics):
        weights = tf.nn.softmax(positions[:, :, None, :] * semantics[None, None], axis=1)
        return tf.reduce_sum(weights * positions[:, :, None, :], axis=1)

    attend = layer if form == "ours" else naive

    @tf.function
    def forward(maps, semantics):
        return tf.concat([attend(positions, semantics) for positions in maps], axis=-1)

    @tf.function
    def forward_backward(maps, semantics):
        with tf.GradientTape() as tape:
            tape.watch([maps, semantics])
            value = tf.reduce_sum(tf.tanh(forward(maps, semantics)))
        return tape.gradient(value, [maps, semantics])

    rng = np.random.default_rng(0)
    maps = [tf.constant(rng.normal(size=(batch, n, CHANNELS)), tf.float32) for n in POSITIONS]
    semantics = tf.constant(rng.normal(size=(NODES, CHANNELS)), tf.float32)
    function = forward if direction == "forward" else forward_backward
    function.get_concrete_function(maps, semantics)
    before = peak_kilobytes()
    seconds = []
    for _ in range(repetitions + 1):
        started = time.perf_counter()
        tf.nest.map_structure(lambda tensor: tensor.numpy(), function(maps, semantics))
        seconds.append(time.perf_counter() - started)
    return {"ms": 1e3 * statistics.median(seconds[1:]), "mb": (peak_kilobytes() - before) / 1024}


def peak_kilobytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_new_process(*arguments):
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return json.loads(output.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2, help="processes of each form, taking turns")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        form, direction, batch, repetitions = options.measure
        print(json.dumps(measure(form, direction, int(batch), int(repetitions))))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {NODES} semantics, "
          f"{sum(POSITIONS)} positions, {CHANNELS} channels")  # fmt: skip
    print(
        f"{'pass':17} {'batch':>5} {'naive ms':>9} {'ours ms':>9} {'faster':>7} "
        f"{'naive MB':>9} {'ours MB':>8} {'memory':>7}"
    )
    for direction in PASSES:
        for batch in options.batches:
            runs = {form: [] for form in FORMS}
            for _ in range(options.rounds):
                for form in FORMS:
                    runs[form].append(in_new_process(form, direction, batch, options.repetitions))
            ms = {form: statistics.median(run["ms"] for run in runs[form]) for form in FORMS}
            mb = {form: max(run["mb"] for run in runs[form]) for form in FORMS}
            print(f"{direction:17} {batch:5} {ms['naive']:9.0f} {ms['ours']:9.0f} {ms['naive'] / ms['ours']:6.1f}× "
                  f"{mb['naive']:9.0f} {mb['ours']:8.0f} {mb['ours'] / mb['naive']:7.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
