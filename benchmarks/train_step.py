"""A training step of ResNet-101 MSRN at 448 pixels: seconds and memory, with the attention written out and with ours.

    python benchmarks/train_step.py
    KERAS_BACKEND=jax python benchmarks/train_step.py --batch=16      # where only JAX reaches the GPU

Forward pass, loss and backward pass (SGD's update left out: it is the same for both) for VOC (20 labels) and COCO (80).
Each measurement runs in a process of its own. Memory is the growth of its peak: of resident memory on a CPU, of device
memory on a GPU. Beside it the images a second that the input pipeline yields alone: which of the two waits.
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

SETS = {"VOC": (20, 0.2), "COCO": (80, 0.05)}
FORMS = ("naive", "ours")


def measure(form, name, options):
    """Median seconds a step and peak extra MB, in this process."""
    import keras
    import numpy as np

    from msrn_tf.config import ModelConfig
    from msrn_tf.label_graph import LabelGraph, random_word_vectors
    from msrn_tf.layers.semantic_attention import SemanticAttention
    from msrn_tf.models.factory import create_model

    if form == "naive":
        SemanticAttention.call = naive_attention
    num_labels, pool_ratio = SETS[name]
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, (100, num_labels), "int8")
    labels = [f"label {index}" for index in range(num_labels)]
    graph = LabelGraph.from_targets(labels, targets)
    graph = LabelGraph(*list(vars(graph).values())[:4], word_vectors=random_word_vectors(num_labels, 0))
    config = ModelConfig(backbone=options.backbone, pool_ratio=pool_ratio, mixed_precision=options.mixed_precision)
    model = create_model(config, labels, options.image_size, graph)
    images = rng.integers(0, 256, (options.batch, options.image_size, options.image_size, 3)).astype("uint8")
    step = make_step(model, images, targets[: options.batch].astype("float32"))
    before = peak_megabytes()
    step()
    seconds = []
    for _ in range(options.repetitions):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return {
        "seconds": statistics.median(seconds),
        "megabytes": peak_megabytes() - before,
        "backend": keras.backend.backend(),
    }


def naive_attention(self, positions, semantics):
    """Equation 5 written out: tensors `[batch, positions, K, channels]`."""
    from keras import ops

    positions, semantics = ops.cast(positions, "float32"), ops.cast(semantics, "float32")
    weights = ops.softmax(ops.expand_dims(positions, 2) * semantics, axis=1)
    return ops.cast(ops.sum(weights * ops.expand_dims(positions, 2), axis=1), self.compute_dtype)


def outputs_of(model, images):
    """Logits, and the loss of the label graph's groups."""
    semantics = model.semantics()
    return model.classify(model.feature_maps(images, training=True), semantics, training=True), semantics.loss


def make_step(model, images, targets):
    """A function that runs forward and backward pass once and waits for the end, in the backend's own way."""
    import keras
    from keras import ops

    def loss_of(logits, extra):
        logits = ops.cast(logits, "float32")
        return ops.mean(ops.binary_crossentropy(targets, logits, from_logits=True)) + extra

    if keras.backend.backend() == "jax":
        import jax

        trainable = [variable.value for variable in model.trainable_variables]
        fixed = [variable.value for variable in model.non_trainable_variables]

        @jax.jit
        def gradients(trainable, fixed, images):
            def loss(values):
                mapping = [
                    *zip(model.trainable_variables, values, strict=True),
                    *zip(model.non_trainable_variables, fixed, strict=True),
                ]
                with keras.StatelessScope(state_mapping=mapping):
                    return loss_of(*outputs_of(model, images))

            return jax.value_and_grad(loss)(trainable)

        device_images = jax.device_put(images)
        return lambda: jax.block_until_ready(gradients(trainable, fixed, device_images))

    import tensorflow as tf

    @tf.function
    def gradients(images):
        with tf.GradientTape() as tape:
            loss = loss_of(*outputs_of(model, images))
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    images = tf.constant(images)
    return lambda: tf.nest.map_structure(lambda tensor: tensor.numpy().shape, gradients(images))


def peak_megabytes():
    """Of the first GPU's memory under JAX, else of this process' resident memory."""
    if os.environ.get("KERAS_BACKEND") == "jax":
        import jax

        statistics_ = jax.local_devices()[0].memory_stats()
        if statistics_:
            return statistics_["peak_bytes_in_use"] / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_pipeline(options):
    """Images a second from JPEG bytes to augmented batches, on all cores."""
    import io

    import numpy as np
    from PIL import Image

    from msrn_tf.data.examples import Example, Examples
    from msrn_tf.data.pipeline import InputPlan, training_batches

    rng = np.random.default_rng(0)
    photos = []
    for _ in range(64):  # 500 × 375, as VOC's: a coarse pattern enlarged compresses about as well as a photo
        coarse = Image.fromarray(rng.integers(0, 256, (94, 125, 3), "uint8"))
        file = io.BytesIO()
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        photos.append(file.getvalue())
    rows = (Example(str(n), np.ones(20, "int8"), image_bytes=photos[n % 64]) for n in range(options.batch * 150))
    examples = Examples.of(rows, 20)
    started = count = 0
    for batch, _ in training_batches(
        examples, InputPlan(options.image_size, "multi_scale_crop"), batch_size=options.batch, seed=0, epoch=1
    ):
        if not started:  # the first batch pays for building the pipeline
            started = time.perf_counter()
            continue
        count += len(batch)
    return {"images_per_second": count / (time.perf_counter() - started)}


def in_a_process(*arguments):
    """What this script prints when it measures one thing alone; None where that failed, with the last line of why."""
    run = subprocess.run([sys.executable, __file__, *sys.argv[1:], *arguments], capture_output=True, text=True)
    if run.returncode:
        reason = [line for line in run.stderr.splitlines() if line.strip()] or [f"status {run.returncode}"]
        print(f"  {' '.join(arguments)}: failed ({reason[-1][:140]})")
        return None
    return json.loads(run.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--image_size", type=int, default=448)
    parser.add_argument("--backbone", default="resnet101")
    parser.add_argument("--mixed_precision", default="none")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--pipeline", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if options.only:
        return print(json.dumps(measure(*options.only, options)))
    if options.pipeline:
        return print(json.dumps(measure_pipeline(options)))
    print(f"{platform.machine()}, {os.cpu_count()} cores; {options.backbone}, {options.image_size} pixels, batch "
          f"{options.batch}, {options.mixed_precision} mixed precision")  # fmt: skip
    print(f"{'labels':8} {'naive s':>8} {'ours s':>8} {'faster':>7} {'naive MB':>9} {'ours MB':>8}  images/s (ours)")
    rates = []
    for name in SETS:
        naive, ours = (in_a_process("--only", form, name) for form in FORMS)
        if ours:
            rates.append(options.batch / ours["seconds"])
            columns = [f"{naive['seconds']:8.2f}" if naive else f"{'-':>8}", f"{ours['seconds']:8.2f}"]
            columns += [f"{naive['seconds'] / ours['seconds']:6.2f}×" if naive else f"{'-':>7}"]
            columns += [f"{naive['megabytes']:9.0f}" if naive else f"{'-':>9}", f"{ours['megabytes']:8.0f}"]
            print(f"{name:8} {' '.join(columns)}  {rates[-1]:.2f}  ({ours['backend']})")
    pipeline = in_a_process("--pipeline")
    if pipeline and rates:
        rate = pipeline["images_per_second"]
        waits = "the device never waits" if rate > max(rates) else "THE DEVICE WAITS"
        print(f"input pipeline alone: {rate:.0f} images/s (decode, crop, resize, flip), {rate / max(rates):.1f} times "
              f"the fastest step's: {waits}")  # fmt: skip


if __name__ == "__main__":
    main()
