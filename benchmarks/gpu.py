"""On a GPU: every form of semantic attention, and the training step of ResNet-101 MSRN beside the same in PyTorch.

    python benchmarks/gpu.py            # needs JAX with a GPU, Keras, KerasHub; PyTorch if it is there
    python benchmarks/gpu.py --tiny     # seconds, on any machine: whether the script runs

TensorFlow is not needed: Keras runs on JAX here. XLA:GPU is the same compiler under TensorFlow, where attention is
compiled by it too; TensorFlow itself is not measured by this script.

Each part is a process of its own. Time is the median of repetitions, with the fastest and the slowest; memory is what
XLA's buffer assignment, or PyTorch's allocator, says is needed at the peak beyond inputs and weights. A training step
is forward pass, loss and backward pass; the optimizer's update is left out on both sides.
"""

import argparse
import concurrent.futures
import dataclasses
import os
import statistics
import subprocess
import sys
import time

PARTS = ("attention", "steps", "pytorch")
SETS = {"VOC": (20, 4), "COCO": (80, 4)}
FORMS = ("naive", "cache blocks", "direct", "moments")
"""Equation 5 written out; blocks for a CPU's cache, one after the other; whole tensors; moments of the positions."""
STEP_FORMS = ("average", "moments", "direct", "naive")
"""`average`: the mean of the positions in the place of attention, so what a step costs without it."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is measured."""

    image_size: int
    channels: int
    batches: tuple[int, ...]
    step_batch: int
    blocks: tuple[int, ...]
    filters: tuple[int, ...]
    repetitions: int

    def positions(self):
        """Of the three maps, each pooled 2×2."""
        return [(self.image_size // stride // 2) ** 2 for stride in (8, 16, 32)]


FULL = Sizes(448, 512, (16, 1, 32), 16, (3, 4, 23, 3), (64, 128, 256, 512), 20)
TINY = Sizes(64, 8, (2,), 2, (1, 1, 1, 1), (64, 8, 16, 16), 2)


# Attention alone


def attention_part(sizes):
    """A row for each data set, batch, direction and form."""
    import jax
    import numpy as np

    show(f"{device_name()}; attention alone, float32, maps of {sizes.image_size} pixels, {sizes.channels} channels")
    show(f"{'labels':6} {'batch':>5} {'pass':17}" + "".join(f"{form:>34}" for form in FORMS))
    rng = np.random.default_rng(0)
    for batch in sizes.batches:
        shapes = [(batch, count, sizes.channels) for count in sizes.positions()]
        maps = [jax.device_put(rng.normal(size=shape).astype("float32")) for shape in shapes]
        inputs = {}
        for name, (labels, groups) in SETS.items():
            # As in trained models: half the range of a channel's positions times |e| is about 0.5, and 2 at most.
            semantics = rng.uniform(-0.5, 0.5, (labels + groups, sizes.channels)).astype("float32")
            inputs[name] = maps, jax.device_put(semantics)
        jobs = {
            (name, backward, form): (attention_pass(form, backward), inputs[name])
            for name in SETS
            for backward in (False, True)
            for form in FORMS
        }
        programs = compile_all(jobs)
        for name in SETS:
            for backward in (False, True):
                keys = [(name, backward, form) for form in FORMS]
                columns = [measured(programs[key], jobs[key][1], sizes.repetitions) for key in keys]
                direction = "forward+backward" if backward else "forward"
                show(f"{name:6} {batch:5} {direction:17}" + "".join(columns))


def attention_pass(form, backward):
    """A function of maps and semantics: the forward pass, or its gradients too."""
    import jax
    from keras import ops

    layer = attention_layer(form, "float32")

    def forward(maps, semantics):
        return ops.concatenate([layer(positions, semantics) for positions in maps], axis=-1)

    if not backward:
        return forward
    return jax.grad(lambda maps, semantics: ops.sum(ops.tanh(forward(maps, semantics))), argnums=(0, 1))


def attention_layer(form, dtype):
    """The layer of a form."""
    from keras import ops

    from msrn_tf.layers import SemanticAttention

    class Naive(SemanticAttention):
        """Equation 5 written out: tensors `[batch, positions, K, channels]`."""

        def call(self, positions, semantics):
            positions, semantics = (ops.cast(array, "float32") for array in (positions, semantics))
            weights = ops.softmax(ops.expand_dims(positions, 2) * semantics, axis=1)
            return ops.cast(ops.sum(weights * ops.expand_dims(positions, 2), axis=1), self.compute_dtype)

    class Average(SemanticAttention):
        """No attention: what a step costs without it."""

        def call(self, positions, semantics):
            mean = ops.mean(ops.cast(positions, "float32"), axis=1, keepdims=True)
            return ops.cast(mean + 0 * ops.cast(semantics, "float32"), self.compute_dtype)

    class CacheBlocks(SemanticAttention):
        """The direct form as on a CPU."""

        def __init__(self, **kwargs):
            super().__init__("direct", **kwargs)
            self._compiles = False

    if form in ("auto", "direct", "moments"):
        return SemanticAttention(form, dtype=dtype, name="attention")
    return {"naive": Naive, "average": Average, "cache blocks": CacheBlocks}[form](dtype=dtype, name="attention")


# The training step


def steps_part(sizes, sets=tuple(SETS), forms=STEP_FORMS):
    """A row for each precision and data set: the step with each form, without attention, and what fits."""
    import numpy as np

    show(
        f"\n{device_name()}; training step of ResNet-{3 * sum(sizes.blocks) + 2} MSRN, {sizes.image_size} pixels, "
        "mlp head"
    )
    rng = np.random.default_rng(0)
    show(f"{'precision':9} {'labels':6} {'batch':>5}  {'form':13}{'step':>34} {'images/s':>9} {'attention':>10}")
    for precision, name in (("bfloat16", "VOC"), ("bfloat16", "COCO"), ("float32", "VOC")):
        if name not in sets:
            continue
        model = build_msrn(precision, name, sizes, rng)
        # A few programs at a time, so that there are figures also where the time ends before the list does.
        jobs = {form: training_step(model, form, sizes, sizes.step_batch, rng) for form in forms}
        programs, without = compile_all(jobs), None
        for form in forms:
            text, milliseconds = measured(programs[form], jobs[form][1], sizes.repetitions, with_median=True)
            without = milliseconds if form == "average" else without
            share = (
                f"{1 - without / milliseconds:10.1%}" if milliseconds and without and form != "average" else " " * 10
            )
            rate = f"{1e3 * sizes.step_batch / milliseconds:9.0f}" if milliseconds else " " * 9
            label = "none" if form == "average" else form
            show(f"{precision:9} {name:6} {sizes.step_batch:5}  {label:13}{text} {rate} {share}")
        if (precision, name) == ("bfloat16", "COCO"):
            largest_batches(programs, model, sizes, rng)


def largest_batches(programs, model, sizes, rng):
    """The largest batch whose step fits: from what one image needs, then tried."""
    import jax

    stats = jax.local_devices()[0].memory_stats() or {}
    limit = stats.get("bytes_limit")
    if not limit:
        show("largest batch that fits: not on this device (it does not say how much memory it has)")
        return
    for form in ("naive", "moments"):
        if form not in programs or isinstance(programs[form], Exception):
            continue
        an_image = peak_bytes(programs[form]) / sizes.step_batch
        batch = int(0.9 * limit / an_image) // 16 * 16
        job = training_step(model, form, sizes, batch, rng)
        program = compile_all({form: job})[form]
        text = measured(program, job[1], 3)
        show(f"largest batch that fits, {form}: {batch} of {an_image / 2**20:.0f} MiB an image:{text}")


def training_step(model, form, sizes, batch, rng):
    """(function, its arguments): the gradients of the loss in all trainable weights."""
    import jax
    import keras
    from keras import ops

    attention = attention_layer(form, model.dtype_policy)
    targets = rng.integers(0, 2, (batch, len(model.labels))).astype("float32")
    images = rng.integers(0, 256, (batch, sizes.image_size, sizes.image_size, 3)).astype("uint8")

    def gradients(trainable, fixed, images, targets):
        def loss(values):
            mapping = [*zip(model.trainable_variables, values, strict=True)]
            mapping += [*zip(model.non_trainable_variables, fixed, strict=True)]
            with keras.StatelessScope(state_mapping=mapping):
                model.attention.use(attention)
                semantics = model.semantics()
                logits = model.classify(model.feature_maps(images, training=True), semantics, training=True)
                return ops.mean(ops.binary_crossentropy(targets, logits, from_logits=True)) + semantics.loss

        return jax.value_and_grad(loss)(trainable)

    variables = [[v.value for v in part] for part in (model.trainable_variables, model.non_trainable_variables)]
    return gradients, (*variables, jax.device_put(images), jax.device_put(targets))


def build_msrn(precision, name, sizes, rng):
    """A model whose attention can be exchanged: `model.attention.use(layer)`, before it is traced."""
    import keras
    import numpy as np
    from keras_hub.models import ResNetBackbone

    from msrn_tf.models.msrn import make_msrn
    from msrn_tf.models.normalization import IMAGENET
    from msrn_tf.models.taps import pyramid_taps

    class Exchangeable(keras.layers.Layer):
        def use(self, layer):
            self._layer = (layer.call,)  # a function: a layer would be tracked as a part

        def build(self, positions_shape, semantics_shape):
            pass

        def call(self, positions, semantics):
            return self._layer[0](positions, semantics)

    labels, groups = SETS[name]
    policy = "float32" if precision == "float32" else f"mixed_{precision}"
    backbone = ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=list(sizes.filters),
        stackwise_num_blocks=list(sizes.blocks),
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        use_pre_activation=False,
        image_shape=(None, None, 3),
        dtype=policy,
    )
    model = make_msrn(
        pyramid_taps(backbone),
        labels=[f"label {index}" for index in range(labels)],
        image_size=sizes.image_size,
        mean=IMAGENET.mean,
        std=IMAGENET.std,
        num_groups=groups,
        word_vector_size=300,
        channels=sizes.channels,
        tap_pooling="published",
        attention=Exchangeable(dtype=policy, name="attention"),
        dtype=policy,
    )
    model.build((None, sizes.image_size, sizes.image_size, 3))
    model.semantics.adjacency.assign(np.eye(labels))
    model.semantics.word_vectors.assign(rng.normal(size=(labels, 300)))
    # Random weights make exponents ten times those of trained models, and moments cost as many segments.
    for projection in model.projection.projections:
        projection.kernel.assign(0.01 * projection.kernel)
    return model


# What both parts share


def compile_all(jobs):
    """The compiled program of each job `(function, arguments)`, or the exception that its compiler raised."""
    import jax

    def compiled(program):
        try:
            return program.compile()
        except Exception as error:  # out of memory, mostly: shown in the table
            return error

    # Tracing is Python's, one after the other; the compiler runs side by side.
    programs = [jax.jit(function).lower(*arguments) for function, arguments in jobs.values()]
    with concurrent.futures.ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2)) as pool:
        return dict(zip(jobs, pool.map(compiled, programs), strict=True))


def measured(program, arguments, repetitions, with_median=False):
    """`median (fastest–slowest) ms  MiB`, or why there is none."""
    import jax

    text, median = "", None
    try:
        if isinstance(program, Exception):
            raise program
        jax.block_until_ready(program(*arguments))
        times = []
        for _ in range(repetitions):
            started = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            times.append(1e3 * (time.perf_counter() - started))
        median = statistics.median(times)
        text = f"{median:.2f} ({min(times):.2f}–{max(times):.2f}) ms {peak_bytes(program) / 2**20:6.0f} MiB"
    except Exception as error:
        text = f"{type(error).__name__}: {str(error).splitlines()[0]}"[:32]
    return (f"{text:>34}", median) if with_median else f"{text:>34}"


def peak_bytes(program):
    analysis = program.memory_analysis()
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes


def device_name():
    import jax

    return jax.local_devices()[0].device_kind


def show(line):
    print(line, flush=True)


# The same network in PyTorch


def pytorch_part(sizes):
    """The step in PyTorch, written from the same equations: compiled, channels last, bfloat16 by autocast."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    show(f"\n{name}; the same network in PyTorch {torch.__version__}, torch.compile, channels last, bfloat16 autocast")
    for data_set, (labels, groups) in SETS.items():
        for batch in dict.fromkeys((sizes.step_batch, sizes.batches[-1])):
            show(f"{data_set:6} {batch:5}  {pytorch_step(labels, groups, batch, sizes, device)}")


def pytorch_step(labels, groups, batch, sizes, device):
    import torch

    torch.set_float32_matmul_precision("high")
    network = pytorch_msrn(labels, groups, sizes).to(device, memory_format=torch.channels_last)
    images = torch.rand(batch, 3, sizes.image_size, sizes.image_size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = torch.randint(0, 2, (batch, labels), device=device).float()
    compiled = torch.compile(network) if device == "cuda" else network

    def step():
        with torch.autocast(device, torch.bfloat16):
            logits = compiled(images)
        torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), targets).backward()
        network.zero_grad(set_to_none=True)

    def synchronize():
        if device == "cuda":
            torch.cuda.synchronize()

    try:
        for _ in range(3):
            step()
        synchronize()
        if device == "cuda":
            held = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        times = []
        for _ in range(sizes.repetitions):
            started = time.perf_counter()
            step()
            synchronize()
            times.append(1e3 * (time.perf_counter() - started))
    except torch.OutOfMemoryError:
        return "out of memory"
    peak = (torch.cuda.max_memory_allocated() - held) / 2**20 if device == "cuda" else float("nan")
    median = statistics.median(times)
    spread = f"({min(times):.2f}–{max(times):.2f})"
    return f"{median:.2f} {spread} ms {peak:6.0f} MiB {1e3 * batch / median:9.0f} images/s"


def pytorch_msrn(labels, groups, sizes):
    """ResNet, projections, attention, `mlp` head; the semantics are parameters here, which costs PyTorch less."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs, width, stride):
            super().__init__()

            def convolution(i, o, size, stride=1):
                return [nn.Conv2d(i, o, size, stride, size // 2, bias=False), nn.BatchNorm2d(o)]

            parts = [*convolution(inputs, width, 1), nn.ReLU(), *convolution(width, width, 3, stride), nn.ReLU()]
            self.body = nn.Sequential(*parts, *convolution(width, 4 * width, 1))
            changes = stride != 1 or inputs != 4 * width
            self.shortcut = nn.Sequential(*convolution(inputs, 4 * width, 1, stride)) if changes else nn.Identity()

        def forward(self, x):
            return torch.relu(self.body(x) + self.shortcut(x))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(
                nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
            )
            self.stages, inputs = nn.ModuleList(), 64
            for stage, (count, width) in enumerate(zip(sizes.blocks, sizes.filters, strict=True)):
                layers = [Block(inputs, width, 2 if stage else 1)]
                layers += [Block(4 * width, width, 1) for _ in range(count - 1)]
                self.stages.append(nn.Sequential(*layers))
                inputs = 4 * width
            widths = [4 * width for width in sizes.filters[1:]]
            self.buffers_ = nn.ModuleList([nn.Conv2d(widths[0], widths[0], 1), nn.Conv2d(widths[1], widths[1], 1)])
            self.projections = nn.ModuleList([nn.Conv2d(width, sizes.channels, 1) for width in widths])
            self.semantics = nn.Parameter(0.1 * torch.randn(labels + groups, sizes.channels))
            features = (labels + groups) * 3 * sizes.channels
            self.head = nn.Sequential(nn.Linear(features, 2048), nn.LeakyReLU(0.01), nn.Linear(2048, labels))

        def forward(self, x):
            x, maps = self.stages[0](self.stem(x)), []
            for stage in self.stages[1:]:
                x = stage(x)
                maps.append(x)
            gathered = []
            for i, tap in enumerate(maps):
                tap = self.buffers_[i](tap) if i < 2 else tap
                p = self.projections[i](nn.functional.max_pool2d(tap, 2)).flatten(2).transpose(1, 2).float()
                weights = torch.softmax(p.unsqueeze(2) * self.semantics.float(), dim=1)
                gathered.append((weights * p.unsqueeze(2)).sum(1))
            return self.head(torch.tanh(torch.cat(gathered, dim=-1)).flatten(1))

    return Network()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small sizes: whether the script runs")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--sets", nargs="+", default=tuple(SETS), choices=SETS, help="of the training steps")
    parser.add_argument("--forms", nargs="+", default=STEP_FORMS, choices=STEP_FORMS, help="of the training steps")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = TINY if options.tiny else FULL
    if options.part == "steps":
        return steps_part(sizes, options.sets, options.forms)
    if options.part:
        return {"attention": attention_part, "pytorch": pytorch_part}[options.part](sizes)
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": paths, "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}
    started, failed = time.perf_counter(), []
    for part in options.parts:
        command = [sys.executable, os.path.abspath(__file__), "--part", part, *(["--tiny"] if options.tiny else [])]
        command += ["--sets", *options.sets, "--forms", *options.forms]
        if subprocess.run(command, env=environment).returncode:
            failed.append(part)
        show(f"({part}: {time.perf_counter() - started:.0f} s since the start)")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
