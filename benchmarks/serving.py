"""The embedded server against the same model in a plain loop, the folded export against a plain one, and runtimes.

    python benchmarks/serving.py [--backbone=mobilenet_v2 --image_size=224] [--seconds=10]

Exports a model with random weights twice: as the trained model is (`keras.export`), and as `export.saved_model` does.
First both run in turns, one photo's pixels at a time. Then runtimes in turns, on batches of pixels and all cores: the
SavedModel, LiteRT with one interpreter a core (as `export.serve --prefer_tflite_model` has them), and OpenVINO, all in
float32. Then clients of `export.serve`, each a thread of another process, send one JPEG a request for some seconds;
throughput is set against a loop over the same functions with the same batches, by TensorFlow or by LiteRT. Last, four
times as many clients as the queue takes: what is refused, and how fast.
"""

import argparse
import collections
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))


def build(options, folder):
    """Writes the two exports under a folder: `plain`, and `msrn/1`."""
    import keras
    import numpy as np
    import tensorflow as tf

    from export.saved_model import write_saved_model
    from export.serving.tflite_functions import TFLITE_NAME
    from export.tflite import tflite_bytes
    from msrn_tf.config import ModelConfig
    from msrn_tf.label_graph import LabelGraph, random_word_vectors
    from msrn_tf.models.factory import create_model
    from msrn_tf.models.inference_model import inference_model

    labels = [f"label {index}" for index in range(20)]
    targets = np.random.default_rng(0).integers(0, 2, (100, 20))
    counts = LabelGraph.from_targets(labels, targets)
    graph = LabelGraph(counts.labels, counts.counts, counts.cooccurrence, 100, random_word_vectors(20, 0))
    model = create_model(ModelConfig(backbone=options.backbone, head="elementwise"), labels, options.image_size, graph)
    plain = keras.export.ExportArchive()
    plain.track(model)
    spec = tf.TensorSpec((None, options.image_size, options.image_size, 3), tf.uint8, "image")
    plain.add_endpoint("serving_pixels", lambda image: model(image, training=False), input_signature=[spec])
    plain.write_out(os.path.join(folder, "plain"), verbose=False)
    version = os.path.join(folder, "msrn", "1")
    write_saved_model(inference_model(model), version, "msrn")
    with open(os.path.join(version, TFLITE_NAME), "wb") as file:
        file.write(tflite_bytes(model, "none"))


def compare_exports(options, folder):
    """Median milliseconds of one photo's pixels: plain export, folded export."""
    import numpy as np
    import tensorflow as tf

    loaded = [tf.saved_model.load(os.path.join(folder, *path)) for path in (["plain"], ["msrn", "1"])]
    functions = [model.signatures["serving_pixels"] for model in loaded]
    shape = (1, options.image_size, options.image_size, 3)
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, shape, "uint8"))
    times = [[], []]
    for _ in range(options.repetitions + 1):
        for function, series in zip(functions, times, strict=True):
            started = time.perf_counter()
            function(image=pixels)
            series.append(time.perf_counter() - started)
    plain, folded = (1000 * statistics.median(series[1:]) for series in times)
    print(
        f"one photo's pixels: plain export {plain:.1f} ms, folded {folded:.1f} ms: {plain / folded:.2f} times as fast"
    )


def compare_runtimes(folder, image_size, batch, rounds, seconds):
    """Photos a second of pixels by TensorFlow, LiteRT and OpenVINO, in turns: a list a runtime."""
    import numpy as np
    import openvino
    import tensorflow as tf

    from export.serving.tflite_functions import TFLITE_NAME, ClassifierPool

    version = os.path.join(folder, "msrn", "1")
    signature = tf.saved_model.load(version).signatures["serving_pixels"]
    tflite = os.path.join(version, TFLITE_NAME)
    pool = ClassifierPool(tflite, os.cpu_count())
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(tflite), "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    requests = openvino.AsyncInferQueue(compiled)
    pixels = np.random.default_rng(0).integers(0, 256, (batch, image_size, image_size, 3), "uint8")

    def by_openvino():
        for one in pixels:
            requests.start_async({0: one[None]})
        requests.wait_all()

    runtimes = {
        "TensorFlow": lambda: signature(image=tf.constant(pixels)),
        "LiteRT": lambda: pool.ranked(pixels, np.ones(batch, bool)),
        "OpenVINO": by_openvino,
    }
    rates = {name: [] for name in runtimes}
    for turn in range(rounds + 1):
        for name, function in runtimes.items():
            rate = _photos_a_second(function, batch, seconds)
            if turn:  # the first is to warm up
                rates[name].append(rate)
    return rates


def plain_loop(folder, batch, seconds, is_litert):
    """Photos a second of `serving_default` in a loop, by the SavedModel or by LiteRT."""
    import numpy as np
    import tensorflow as tf

    from export.serving.tflite_functions import tflite_functions

    version = os.path.join(folder, "msrn", "1")
    photos = np.array([photo()] * batch, object)
    if is_litert:
        function = tflite_functions(version)["serving_default"]
        return _photos_a_second(lambda: function({"image_bytes": photos}), batch, seconds)
    signature = tf.saved_model.load(version).signatures["serving_default"]
    return _photos_a_second(lambda: signature(image_bytes=tf.constant(photos)), batch, seconds)


def _photos_a_second(function, batch, seconds):
    function()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        function()
        count += batch
    return count / (time.perf_counter() - started)


def photo():
    """A JPEG of 500×375 pixels."""
    import io

    import numpy as np
    from PIL import Image

    small = np.random.default_rng(0).integers(0, 256, (12, 16, 3), "uint8")
    stream = io.BytesIO()
    Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def load(address, clients, seconds):
    """Latencies by status code of `clients` threads that each send one photo after the other."""
    import grpc
    import numpy as np
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    from export.serving.warm_up import predict_request

    request = predict_request("msrn", "serving_default", {"image_bytes": np.array([photo()], object)})
    latencies, lock = collections.defaultdict(list), threading.Lock()
    until = time.perf_counter() + seconds

    def one():
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            while time.perf_counter() < until:
                started, code = time.perf_counter(), "OK"
                try:
                    predict(request, timeout=300)
                except grpc.RpcError as error:
                    code = error.code().name
                    time.sleep(0.1)  # as a client that backs off
                with lock:
                    latencies[code].append(time.perf_counter() - started - (0.1 if code != "OK" else 0))

    threads = [threading.Thread(target=one) for _ in range(clients)]
    started, at_work = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    # What the clients take from the processors that the server shares with them.
    share = (time.process_time() - at_work) / seconds / os.cpu_count()
    return {"seconds": seconds, "latencies": latencies, "share": share}


def ask(*arguments):
    """Runs a part of this script in a process of its own; what it prints last, as JSON."""
    run = subprocess.run([sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def served(folder, *flags):
    """A server process and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "export.serve", f"--model_base_path={folder}/msrn", "--port=0", "--rest_port=0", *flags],
        cwd=os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."), stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    return process, "localhost:" + process.stdout.readline().rpartition(":")[2].strip()


def percentiles(latencies):
    """p50, p95, p99 in milliseconds."""
    ordered = sorted(latencies)
    return [1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))] for part in (0.5, 0.95, 0.99)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet101")
    parser.add_argument("--image_size", type=int, default=448)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--runtimes", nargs="+", default=["TensorFlow", "LiteRT"])
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        kind, *values = options.part
        if kind == "load":
            print(json.dumps(load(values[0], int(values[1]), float(values[2]))))
        elif kind == "loop":
            print(json.dumps(plain_loop(values[0], int(values[1]), float(values[2]), values[3] == "LiteRT")))
        elif kind == "runtimes":
            print(json.dumps(compare_runtimes(values[0], options.image_size, 8, options.repetitions, 2.0)))
        else:
            build(options, values[0])
            compare_exports(options, values[0])
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(options, folder)


def measure(options, folder):
    """All of it."""
    print(f"{platform.machine()}, {os.cpu_count()} cores; {options.backbone}, {options.image_size} pixels")
    size = ["--backbone", options.backbone, "--image_size", options.image_size, "--repetitions", options.repetitions]
    command = [sys.executable, __file__, *map(str, size), "--part", "build", folder]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(run.stdout.splitlines()[-1])
    rates = ask("--image_size", options.image_size, "--repetitions", options.repetitions, "--part", "runtimes", folder)
    best = statistics.median(rates["LiteRT"])
    print("pixels, batches of 8  photos/s (range)  of LiteRT")
    for name, series in rates.items():
        rate = statistics.median(series)
        print(f"{name:20}  {rate:8.1f} ({min(series):.1f}–{max(series):.1f})  {rate / best:8.2f}×")
    latencies = "p50 ms   p95 ms   p99 ms"
    print(f"scores by   batching  clients  photos/s  loop, same batch     of it   {latencies}  errors  clients' CPU")
    for runtime, batching in itertools.product(options.runtimes, ("on", "off")):
        largest = 16 if batching == "on" else 1
        for clients in options.clients:
            flags = [f"--max_batch_size={largest}", "--max_queued_requests=256"]
            process, address = served(folder, *flags, f"--prefer_tflite_model={runtime == 'LiteRT'}")
            result = ask("--part", "load", address, clients, options.seconds)
            process.terminate()
            process.wait()
            batch = max(1, min(clients // 2, largest))  # two batches run at the same time
            loop = ask("--part", "loop", folder, batch, options.seconds, runtime)
            good = result["latencies"].get("OK", [])
            errors = sum(len(series) for code, series in result["latencies"].items() if code != "OK")
            rate = len(good) / result["seconds"]
            p50, p95, p99 = percentiles(good)
            latencies = f"{p50:8.0f} {p95:8.0f} {p99:8.0f}"
            print(f"{runtime:10}  {batching:8}  {clients:7}  {rate:8.1f}  {loop:16.1f}  {rate / loop:7.2f}× "
                  f"{latencies}  {errors:6}  {100 * result['share']:.0f} %", flush=True)  # fmt: skip
    process, address = served(folder, "--max_batch_size=4", "--max_queued_requests=8")
    overload = ask("--part", "load", address, 4 * (8 + 2 * 4), options.seconds)["latencies"]
    after = ask("--part", "load", address, 1, 2)["latencies"]
    process.terminate()
    process.wait()
    refused = overload.get("RESOURCE_EXHAUSTED", [])
    print(f"overload, 64 clients on room for 16: {len(overload['OK'])} answered, {len(refused)} refused, of them half "
          f"within {percentiles(refused)[0]:.0f} ms and 99 % within {percentiles(refused)[2]:.0f} ms; other codes: "
          f"{sorted(set(overload) - {'OK', 'RESOURCE_EXHAUSTED'})}; afterwards {sorted(after)}")  # fmt: skip


if __name__ == "__main__":
    main()
