"""TFLite on this machine: latency of every mode against TensorFlow float32, memory, and what integers do to attention.

    python benchmarks/ondevice.py
    python benchmarks/ondevice.py --part=errors
    python benchmarks/ondevice.py --part=recipes --model=RUN/model.keras --dataset=voc2007 --data_dir=DIR

`latency`: random weights; all forms run in turns, `--repetitions` times, TensorFlow on as many threads; memory is what
a process needs beyond the weights once. `errors`: semantic attention by itself, in float and in three integer forms.
`recipes`: mAP on real photos of the recipes that `int8` could have been.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

LABELS, GROUPS, CHANNELS = 20, 4, 512
POSITIONS = (784, 196, 49)  # of the three scales at 448 pixels


def build(config, image_size):
    """A model of a `ModelConfig`, with random weights."""
    import numpy as np

    from msrn_tf.label_graph import LabelGraph, random_word_vectors
    from msrn_tf.models.factory import create_model

    labels = [f"label {index}" for index in range(LABELS)]
    counts = LabelGraph.from_targets(labels, np.random.default_rng(0).integers(0, 2, (100, LABELS)))
    graph = LabelGraph(counts.labels, counts.counts, counts.cooccurrence, 100, random_word_vectors(LABELS, 0))
    return create_model(config, labels, image_size, graph)


def runner(content, threads, **inputs):
    """A function that runs a .tflite once."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    for details in interpreter.get_input_details():
        interpreter.set_tensor(details["index"], inputs[details["name"].split("_")[-1].split(":")[0]])
    return interpreter.invoke


def latency(options):
    """Milliseconds of each mode and of TensorFlow, and of attention alone; sizes, arenas and resident memory."""
    import numpy as np
    import tensorflow as tf

    from export.quantization.arena import arena_bytes
    from export.quantization.conversion import convert, quantize
    from export.quantization.recipes import recipe
    from msrn_tf.config import ModelConfig
    from msrn_tf.models.inference_model import inference_model

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    model = build(ModelConfig(backbone=options.backbone, head="elementwise"), options.image_size)
    rng = np.random.default_rng(0)
    photos = [smooth_photo(rng, options.image_size) for _ in range(4)]
    contents = {"none": convert(model, "none")}
    contents |= {mode: quantize(contents["none"], recipe(mode), photos) for mode in ("float16", "dynamic", "int8")}
    served = inference_model(model)
    in_tensorflow = tf.function(lambda image: tf.sigmoid(served(image, training=False)))
    image = tf.constant(photos[0])
    forms = {"TensorFlow float32": lambda: in_tensorflow(image).numpy()}
    forms |= {mode: runner(content, options.threads, image=photos[0]) for mode, content in contents.items()}
    positions = [rng.standard_normal((1, n, CHANNELS)).astype("float32") for n in POSITIONS]
    inputs = {f"p{i}": p for i, p in enumerate(positions)}
    for name, attend in attention_forms(rng).items():
        content = convert_function(of_all_scales(attend), [(1, n, CHANNELS) for n in POSITIONS])
        forms[name] = runner(content, options.threads, **inputs)
    series = in_turns(forms, options.repetitions)
    medians = {name: statistics.median(values) for name, values in series.items()}
    best = {name: min(values) for name, values in series.items()}
    print(f"{options.backbone}, {options.image_size} pixels, {LABELS} labels, {options.threads} threads")
    print("form                 median ms  of TensorFlow  best ms  of TensorFlow      MB  of none  arena MB  memory MB")
    for name in forms:
        line = f"{name:20}"
        for times in (medians, best):
            line += f" {times[name]:9.1f} {times[name] / times['TensorFlow float32']:13.3f}×"
        if name in contents:
            size = len(contents[name]) / 1e6
            with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
                file.write(contents[name])
                file.flush()
                arena, resident = arena_bytes(file.name) / 1e6, resident_megabytes(file.name, options.threads)
            line += f" {size:7.1f} {size / (len(contents['none']) / 1e6):7.3f}× {arena:8.1f} {resident - size:10.0f}"
        print(line)
    for name in ("attention unrolled", "attention by moments"):
        print(f"{name} is {medians[name] / medians['int8']:.3f} of the int8 time")


def smooth_photo(rng, size):
    """uint8 `[1, size, size, 3]` with neighbours alike, as photos have them."""
    import numpy as np
    from PIL import Image

    small = Image.fromarray(rng.integers(0, 256, (14, 14, 3), "uint8"))
    return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))[None]


def in_turns(forms, repetitions):
    """Milliseconds of each function, run one after the other, again and again; the first round does not count."""
    series = {name: [] for name in forms}
    for _ in range(repetitions + 1):
        for name, function in forms.items():
            started = time.perf_counter()
            function()
            series[name].append(1000 * (time.perf_counter() - started))
    return {name: values[1:] for name, values in series.items()}


def resident_megabytes(path, threads):
    """Anonymous memory of a fresh process that a .tflite adds, weights that XNNPACK packs anew included."""
    code = (
        "import sys, numpy as np\nfrom ai_edge_litert.interpreter import Interpreter\n"
        "anonymous = lambda: next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('RssAnon'))\n"
        "before = anonymous()\ni = Interpreter(model_path=sys.argv[1], num_threads=int(sys.argv[2]))\n"
        "i.allocate_tensors()\ni.invoke()\ni.invoke()\nprint((anonymous() - before) / 1e3)"
    )
    run = subprocess.run([sys.executable, "-c", code, path, str(threads)], capture_output=True, text=True, check=True)
    return float(run.stdout)


def attention_forms(rng):
    """Both forms that a device model may have, of one photo's positions; small exponents take one segment."""
    import tensorflow as tf

    from msrn_tf.layers import SemanticAttention

    semantics = (0.1 * rng.standard_normal((LABELS + GROUPS, CHANNELS))).astype("float32")
    by_moments = SemanticAttention("moments", segments=1)
    return {
        "attention unrolled": unrolled(semantics),
        "attention by moments": lambda p: by_moments(p, tf.constant(semantics)),
    }


def of_all_scales(attend):
    """Attention of all scales, as the device model has it."""
    import tensorflow as tf

    return lambda *positions: tf.concat([attend(p) for p in positions], axis=-1)


def convert_function(function, shapes, photos=None):
    """The .tflite of a function of float tensors `p0`, `p1`, …; with calibration inputs, in integers."""
    import tensorflow as tf

    specs = [tf.TensorSpec(shape, tf.float32, f"p{index}") for index, shape in enumerate(shapes)]
    traced = tf.function(function, input_signature=specs).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], tf.Module())
    if photos is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([photo] for photo in photos)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter.convert()


def errors(options):
    """Relative error of what attention gathers, by where integers are used."""
    import numpy as np

    rng = np.random.default_rng(0)
    channels, labels = 32, 8
    names = ("float", "int8 positions, float", "int8 exp, sum, div", "int8 softmax, sum")
    print("positions  tilt  " + "  ".join(f"{name:>21}" for name in names))
    for count in POSITIONS:
        samples = [rng.standard_normal((1, count, channels)).astype("float32") for _ in range(20)]
        step = max(sample.max() - sample.min() for sample in samples) / 255
        for tilt in (0.3, 3.0):
            semantics = (tilt * rng.standard_normal((labels, channels))).astype("float32")
            exact = closed_form(samples[0][0], semantics)
            found = [
                run_once(unrolled(semantics), samples),
                closed_form(np.round(samples[0][0] / step) * step, semantics),
                run_once(unrolled(semantics, in_integers=True), samples, in_integers=True),
                run_once(with_softmax(semantics), samples, in_integers=True),
            ]
            relative = [np.linalg.norm(value - exact) / np.linalg.norm(exact) for value in found]
            print(f"{count:9}  {tilt:4.1f}  " + "  ".join(f"{value:21.1e}" for value in relative), flush=True)


def run_once(function, samples, in_integers=False):
    """What a function of one tensor gives for the first sample, once it is a .tflite."""
    from ai_edge_litert.interpreter import Interpreter

    content = convert_function(function, [samples[0].shape], samples if in_integers else None)
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], samples[0])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]


def unrolled(semantics, in_integers=False):
    """Attention as the device model has it."""
    import tensorflow as tf

    from export.quantization.device_model import UnrolledAttention

    return lambda p: UnrolledAttention(semantics, in_integers)(p, tf.constant(semantics))


def with_softmax(semantics):
    """Attention as the equation is written."""
    import tensorflow as tf

    def attend(positions):
        p = tf.expand_dims(tf.transpose(positions, (0, 2, 1)), 1)
        return tf.reduce_sum(tf.nn.softmax(p * semantics[None, :, :, None]) * p, axis=-1)

    return attend


def closed_form(positions, semantics):
    """The equation in float64: positions `[N, D]`, semantics `[K, D]` → `[K, D]`."""
    import numpy as np

    weights = np.exp(positions[None].astype("float64") * semantics[:, None])
    return (weights * positions[None]).sum(axis=1) / weights.sum(axis=1)


def recipes(options):
    """mAP and size of the recipes that `int8` could have been."""
    from litert_quantizer import qtyping, recipe_manager
    from litert_quantizer.utils import qsv_utils

    from export.compare import device_scores
    from export.device_classifier import DeviceClassifier
    from export.quantization.calibration_photos import calibration_examples, calibration_photos
    from export.quantization.conversion import convert, quantize
    from export.quantization.metadata import with_metadata
    from export.quantization.recipes import recipe
    from msrn_tf.config import DataConfig
    from msrn_tf.data.readers import open_dataset, read_split
    from msrn_tf.evaluation.metrics import evaluate_scores
    from msrn_tf.models.factory import load_model

    model = load_model(options.model)
    data = DataConfig(dataset=options.dataset, data_dir=options.data_dir)
    chosen = calibration_examples("", data, options.calibration_split, model.labels, 200, 0)
    photos = calibration_photos(chosen, model.image_size, data.max_pixels)
    reader = open_dataset(data.dataset, data.data_dir)
    examples = read_split(reader, "test", labels=model.labels)[: options.images]
    content = convert(model, "none")

    def with_float_projections():
        manager = recipe_manager.RecipeManager()
        manager.load_quantization_recipe(recipe("int8"))
        manager.add_dynamic_config("projection", qtyping.TFLOperationName.CONV_2D, 8)
        return manager.get_quantization_recipe()

    average, widest = qsv_utils.moving_average_update, qsv_utils.min_max_update
    forms = {
        "none": lambda: content,
        "dynamic": lambda: quantize(content, recipe("dynamic")),
        "int8, widest range": lambda: quantize(content, recipe("int8"), photos, widest),
        "int8, mean of ranges": lambda: quantize(content, recipe("int8"), photos, average),
        "… and float projections": lambda: quantize(content, with_float_projections(), photos, average),
        "int8_full": lambda: convert(model, "int8_full", photos),
    }
    print(f"{options.model}: {len(examples)} images of {options.dataset}, ranges measured on {len(photos)}")
    print("recipe                       MB     mAP   mean difference of a score")
    reference = None
    for name, make in forms.items():
        made = with_metadata(make(), model, name)
        scores = device_scores(DeviceClassifier(name, content=made), examples, data.max_pixels, name)
        reference = scores if reference is None else reference
        precision = evaluate_scores(scores, examples.targets, model.labels)["mAP"]
        print(f"{name:24} {len(made) / 1e6:6.2f}  {precision:6.2f}   {abs(scores - reference).mean():.1e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("latency", "errors", "recipes"), default="latency")
    parser.add_argument("--backbone", default="resnet101")
    parser.add_argument("--image_size", type=int, default=448)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--model", help="for recipes")
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--calibration_split", default="val")
    parser.add_argument("--images", type=int, help="of the test split, for recipes; all where not given")
    options = parser.parse_args()
    import export  # noqa: F401  starts TensorFlow without its messages

    print(f"{platform.machine()}, {os.cpu_count()} cores")
    {"latency": latency, "errors": errors, "recipes": recipes}[options.part](options)


if __name__ == "__main__":
    main()
