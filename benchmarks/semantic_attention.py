"""Semantic attention on a CPU: every form against the equation written out, in time, memory and error, in one run.

    python benchmarks/semantic_attention.py                     # COCO size: 84 semantics, 512 channels, 448 pixels
    python benchmarks/semantic_attention.py --nodes 630 --batches 1
    python benchmarks/semantic_attention.py --part=growth       # from 84 to 1,260 semantics
    python benchmarks/semantic_attention.py --part=crossover    # a segment's cost, in exponentials of the direct form

Semantics are scaled so that half the range of a channel's positions times |e| is `--range` at most: 0.5 as in the
fine-tuned model of docs/results.md. Each measurement runs in a process of its own, the forms taking turns. Time is
the median of the processes' medians, with the smallest and the largest; memory is the growth of the peak resident
size over the inputs; error is the largest against float64, in parts of the positions' range. `busy` is the load of
other programs: wall seconds a CPU second of a loop that does nothing but count; 1.0 on a quiet machine.
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

POSITIONS, CHANNELS = (28 * 28, 14 * 14, 7 * 7), 512
FORMS = ("naive", "direct", "moments", "auto")
PASSES = ("forward", "forward+backward")


def measure(options):
    """Milliseconds, peak extra MB and error of one form, in this process."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import numpy as np
    import tensorflow as tf

    from msrn_tf.layers import SemanticAttention

    def naive(positions, semantics):
        weights = tf.nn.softmax(positions[:, :, None, :] * semantics[None, None], axis=1)
        return tf.reduce_sum(weights * positions[:, :, None, :], axis=1)

    attend = naive if options.form == "naive" else SemanticAttention(options.form)

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
    positions = [n for n in POSITIONS if options.positions in (None, n)]
    maps = [tf.constant(rng.normal(size=(options.batch, n, CHANNELS)), tf.float32) for n in positions]
    widest = max(np.ptp(m.numpy(), axis=1).max() / 2 for m in maps)
    semantics = tf.constant(rng.uniform(-1, 1, (options.nodes, CHANNELS)) * options.range / widest, tf.float32)
    function = forward if options.direction == "forward" else forward_backward
    function.get_concrete_function(maps, semantics)
    before = peak_kilobytes()
    seconds = []
    for _ in range(options.repetitions + 1):
        started = time.perf_counter()
        tf.nest.map_structure(lambda tensor: tensor.numpy(), function(maps, semantics))
        seconds.append(time.perf_counter() - started)
    megabytes = (peak_kilobytes() - before) / 1024
    smallest, few = maps[-1][:1, :, :32], semantics[:, :32]
    exact = naive(tf.cast(smallest, tf.float64), tf.cast(few, tf.float64)).numpy()
    error = np.abs(attend(smallest, few).numpy() - exact) / np.ptp(smallest.numpy(), axis=1)[:, None]
    return {"ms": 1e3 * statistics.median(seconds[1:]), "mb": megabytes, "error": float(error.max())}


def peak_kilobytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def busy():
    """Wall seconds a CPU second of counting on as many processes as there are cores."""
    code = "import time\nw, c = time.perf_counter(), time.process_time()\nfor _ in range(10**7): pass\n"
    code += "print((time.perf_counter() - w) / (time.process_time() - c))"
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(os.cpu_count() or 1)]
    return statistics.mean(float(run.communicate()[0]) for run in runs)


class Measurements:
    """Of several forms, in turns."""

    def __init__(self, options, forms, **case):
        self._runs = {form: [] for form in forms}
        for _ in range(options.rounds):
            for form in forms:
                self._runs[form].append(in_new_process(options, form=form, **case))

    def milliseconds(self, form):
        return statistics.median(run["ms"] for run in self._runs[form])

    def megabytes(self, form):
        return max(run["mb"] for run in self._runs[form])

    def column(self, form):
        """`median (smallest–largest)`."""
        times = [run["ms"] for run in self._runs[form]]
        return f"{statistics.median(times):.1f} ({min(times):.1f}–{max(times):.1f})"

    def error(self, form):
        return max(run["error"] for run in self._runs[form])


MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_TOP_PAD_": "268435456"}
"""As tools/environment.sh sets it: freed memory stays in the process."""


def in_new_process(options, **case):
    arguments = {"nodes": options.nodes, "range": options.range, "repetitions": options.repetitions} | case
    flags = [f"--{name}={value}" for name, value in arguments.items() if value is not None]
    command = [sys.executable, __file__, "--part=measure", *flags]
    environment = os.environ | MALLOC | {"PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return json.loads(output.splitlines()[-1])


def forms(options):
    """Every form beside the equation written out."""
    print(f"{'pass':17} {'batch':>5} {'form':8} {'ms':>24} {'faster':>7} {'MB':>6} {'memory':>7} {'error':>8}")
    for direction in PASSES:
        for batch in options.batches:
            measured = Measurements(options, FORMS, direction=direction, batch=batch)
            for form in FORMS:
                faster = measured.milliseconds("naive") / measured.milliseconds(form)
                memory = measured.megabytes(form) / measured.megabytes("naive")
                columns = f"{measured.megabytes(form):6.0f} {memory:7.3f} {measured.error(form):8.0e}"
                print(
                    f"{direction:17} {batch:5} {form:8} {measured.column(form):>24} {faster:6.1f}× {columns}",
                    flush=True,
                )


def growth(options):
    """Time by the number of semantics."""
    print(f"{'pass':17} {'semantics':>9} {'direct ms':>24} {'auto ms':>24} {'of 84':>6}")
    for direction in PASSES:
        first = None
        for nodes in (84, 315, 630, 1260):
            measured = Measurements(options, ("direct", "auto"), direction=direction, batch=1, nodes=nodes)
            first = first or measured.milliseconds("auto")
            print(f"{direction:17} {nodes:9} {measured.column('direct'):>24} {measured.column('auto'):>24} "
                  f"{measured.milliseconds('auto') / first:5.2f}×", flush=True)  # fmt: skip


def crossover(options):
    """Fits `milliseconds = a·segments·N + b·segments·K` to the moments and `c·N·K` to the direct form."""
    import numpy as np

    print(f"{'pass':17} {'N':>5} {'K':>5} {'segments':>8} {'direct ms':>10} {'moments ms':>10}")
    for direction in PASSES:
        rows, times, exponentials, direct = [], [], [], []
        for count in (784, 196):
            for nodes in (24, 84, 315):
                for segments in (1, 4):
                    case = {"positions": count, "nodes": nodes, "range": 0.99 * segments, "batch": 4}
                    measured = Measurements(options, ("direct", "moments"), direction=direction, **case)
                    rows.append((segments * count, segments * nodes))
                    times.append(measured.milliseconds("moments"))
                    exponentials.append(count * nodes)
                    direct.append(measured.milliseconds("direct"))
                    line = f"{count:5} {nodes:5} {segments:8} {direct[-1]:10.1f} {times[-1]:10.1f}"
                    print(f"{direction:17} {line}", flush=True)
        a, b = np.linalg.lstsq(np.array(rows, float), np.array(times), rcond=None)[0]
        c = np.array(direct).sum() / np.array(exponentials, float).sum()
        print(f"{direction}: a segment costs {a / c:.1f} exponentials a position and {b / c:.1f} a semantics vector")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("forms", "growth", "crossover", "measure"), default="forms")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--nodes", type=int, default=84, help="semantics: labels and groups")
    parser.add_argument("--range", type=float, default=0.5, help="largest exponent")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each form, taking turns")
    for name, kind in (("form", str), ("direction", str), ("batch", int), ("positions", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "measure":
        print(json.dumps(measure(options)))
        return
    before = busy()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {options.nodes} semantics, "
          f"{sum(POSITIONS)} positions, {CHANNELS} channels, exponents up to {options.range:g}")  # fmt: skip
    {"forms": forms, "growth": growth, "crossover": crossover}[options.part](options)
    after, load = busy(), os.getloadavg()[0]
    verdict = "quiet" if max(before, after) < 1.1 else "BUSY: these figures are not to be quoted"
    print(f"busy before {before:.2f}, after {after:.2f}, load {load:.1f}: {verdict}")


if __name__ == "__main__":
    main()
