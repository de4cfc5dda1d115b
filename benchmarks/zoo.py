"""Size and speed of the models of README's table: parameters, MB of the int8 .tflite, milliseconds a photo.

    PYTHONPATH=. python benchmarks/zoo.py

The weights are random: neither figure depends on them. All models run in turns: in LiteRT on one thread and on two, and
in OpenVINO on one where it is installed.
"""

import argparse
import os
import platform
import statistics
import tempfile

import numpy as np
from ondevice import LABELS, build, in_turns, runner, smooth_photo

try:
    import openvino
except ImportError:
    openvino = None

from export.tflite import tflite_bytes
from msrn_tf.config import ModelConfig

MOBILENET = {"backbone": "mobilenet_v2"}
LITE0 = {"backbone": "efficientnet_lite0"}
LITE2 = {"backbone": "efficientnet_lite2"}
MSRN = {"head": "elementwise", "strides": (32,), "tap_pooling": "none", "channels": 512}
MODELS = {
    "mobilenet_v2, msrn": MOBILENET | MSRN,
    "mobilenet_v2, gap": MOBILENET | {"model": "gap"},
    "mobilenet_v2, gmp": MOBILENET | {"model": "gmp"},
    "efficientnet_lite0, msrn": LITE0 | MSRN,
    "efficientnet_lite0, msrn, cosine": LITE0 | MSRN | {"attention": "cosine"},
    "efficientnet_lite0, gap": LITE0 | {"model": "gap"},
    "efficientnet_lite0, csra": LITE0 | {"model": "csra"},
    "efficientnet_lite0, ml_decoder": LITE0 | {"model": "ml_decoder", "channels": 768},
    "efficientnet_lite2, msrn": LITE2 | MSRN,
    "efficientnet_lite2, msrn, cosine": LITE2 | MSRN | {"attention": "cosine"},
    "efficientnet_lite2, gap": LITE2 | {"model": "gap"},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image_size", type=int, default=288)
    parser.add_argument("--repetitions", type=int, default=15)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    photos = [smooth_photo(rng, options.image_size) for _ in range(4)]
    forms, sizes, parameters = {}, {}, {}
    for name, choices in MODELS.items():
        print(f"making {name}", flush=True)
        model = build(ModelConfig(**choices), options.image_size)
        content = tflite_bytes(model, "int8", photos)
        parameters[name], sizes[name] = model.count_params(), len(content) / 1e6
        for threads in (1, 2):
            forms[name, threads] = runner(content, threads, image=photos[0])
        if openvino:
            forms[name, "OpenVINO"] = openvino_runner(content, photos[0])
    print(f"running each {options.repetitions} times", flush=True)
    series = in_turns(forms, options.repetitions)
    print(f"{platform.machine()}, {os.cpu_count()} cores; {LABELS} labels")
    print("parameters  int8 MB     ms, one thread    ms, two threads  ms, OpenVINO, one  model")
    for name in MODELS:
        times = "  ".join(f"{with_range(series.get((name, kind))):>17}" for kind in (1, 2, "OpenVINO"))
        print(f"{parameters[name]:10,}  {sizes[name]:7.2f}  {times}  {name}")


def openvino_runner(content, image):
    """A function that runs a .tflite once in OpenVINO, on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.tflite")
        with open(path, "wb") as file:
            file.write(content)
        options = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
        request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()
    return lambda: request.infer({0: image})


def with_range(values):
    if values is None:
        return "not installed"
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


if __name__ == "__main__":
    main()
