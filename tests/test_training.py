"""Optimizer and schedules against PyTorch's definition in NumPy; one device against two; what a diverging run says."""

import json
import math
import socket
import types
import uuid
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from processes import Running
from training_worker import SIZE, examples, make_trainer, source

from msrn_tf.config import OptimizationConfig
from msrn_tf.data.batch_source import PhotoSource
from msrn_tf.data.pipeline import InputPlan, training_batches
from msrn_tf.errors import DivergenceError, UserError
from msrn_tf.layers import blockwise_dense
from msrn_tf.models.factory import load_model, save_model
from msrn_tf.training.batches import TrainingBatches, check_photos
from msrn_tf.training.checkpoints import checkpoint_paths
from msrn_tf.training.distribution import make_strategy, read_cluster
from msrn_tf.training.losses import asymmetric_loss, binary_crossentropy, focal_loss
from msrn_tf.training.moving_average import MovingAverage, decay_of_share
from msrn_tf.training.optimizers import clipped, global_norm, make_optimizer
from msrn_tf.training.schedules import learning_rate_schedule
from msrn_tf.training.trainer import Interrupted, Trainer


def start_worker(folder, *runs, cluster=None):
    """Starts a process that trains once for each dict of arguments of `training_worker.train`.

    `cluster`: its `TF_CONFIG`. One process for several runs: reading and decoding photos is traced once for all.
    """
    weights = [str(folder / f"{uuid.uuid4()}.npz") for _ in runs]
    environment = {"TF_CONFIG": json.dumps(cluster)} if cluster else {}
    return Running("training_worker", json.dumps(runs), *weights, environment=environment), weights


def results_of(started):
    process, weights = started
    assert process.wait(900) == 0, process.stderr()
    results = json.loads(process.stdout().splitlines()[-1])
    return [result | {"weights": dict(np.load(file))} for result, file in zip(results, weights, strict=True)]


def train(folder, *runs):
    return results_of(start_worker(folder, *runs))


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def worker_processes(folder, count, **changes):
    workers = [f"127.0.0.1:{port}" for port in free_ports(count)]
    clusters = [{"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}} for index in range(count)]
    return [start_worker(folder, changes, cluster=cluster) for cluster in clusters]


def value_of(variable):
    """A mirrored Keras variable's."""
    return variable.value.numpy()


def assert_same_training(one, other, weight_tolerance):
    for name in ("loss", "classification_loss", "group_loss", "gradient_norm", "val_mAP"):
        curves = [[record[name] for record in run["records"]] for run in (one, other)]
        tolerance = {"gradient_norm": 1e-3, "val_mAP": 1e-6}.get(name, 1e-4)
        np.testing.assert_allclose(*curves, rtol=tolerance, atol=1e-5, err_msg=name)
    assert one["weights"].keys() == other["weights"].keys()
    for name, weights in one["weights"].items():
        if "seed" not in name:
            np.testing.assert_allclose(weights, other["weights"][name], atol=weight_tolerance, rtol=0, err_msg=name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def one_device_and_two_replicas(folder):
    """Nine steps on each."""
    return train(folder, {}, {"replicas": 2})


@pytest.fixture(scope="module")
def one_device(one_device_and_two_replicas):
    """Nine steps on one device."""
    return one_device_and_two_replicas[0]


@pytest.mark.slow
def test_one_device_and_two_mirrored_replicas_train_alike_with_synchronized_batch_norm(one_device_and_two_replicas):
    """Its division by small variances makes float noise grow from step to step."""
    one_device, two = one_device_and_two_replicas
    assert (one_device["replicas"], two["replicas"]) == (1, 2)
    assert_same_training(one_device, two, weight_tolerance=1e-3)
    assert two["apart"] == []


REPLICAS_ALONE = {"replicas": 2, "synchronized": False, "ema_decay": 0.5, "clip_norm": 0.1, "is_kept_scored": True}
ALL_STRIDES = {"strides": (8, 16, 32)}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"epochs": 4, "dropout": 0.2, "model": "gap"}, id="12 steps"),
        pytest.param({"epochs": 17} | ALL_STRIDES, marks=pytest.mark.slow, id="51 steps"),
        pytest.param(
            {"epochs": 17, "synchronized": True} | ALL_STRIDES, marks=pytest.mark.slow, id="51 steps, synchronized"
        ),
        pytest.param({"epochs": 4, "mixed_precision": "float16"} | ALL_STRIDES, marks=pytest.mark.slow, id="float16"),
    ],
)
def test_two_replicas_hold_the_same_bits_and_what_is_kept_scores_as_it_did_in_validation(folder, changes):
    [run] = train(folder, REPLICAS_ALONE | changes)
    assert run["replicas"] == 2 and run["apart"] == []
    best = max(record["val_mAP"] for record in run["records"])
    tolerance = 1e-6 if "mixed_precision" not in changes else 1.0
    assert run["kept_mAP"] == pytest.approx(best, abs=tolerance)


@pytest.mark.slow
def test_statistics_of_two_replicas_are_the_mean_of_what_each_saw(folder):
    """After one step from mean 0 and variance 1: of the first layer, which sees the photos alone."""
    changes = {"epochs": 1, "batch_size": 24, "model": "gap", "synchronized": False}
    one, two = (run["weights"] for run in train(folder, changes, changes | {"replicas": 2}))
    [name] = [name for name in one if name.startswith("conv1_bn") and name.endswith("moving_mean")]
    # Halves of equal size: the mean of their means is the mean of all.
    np.testing.assert_allclose(one[name], two[name], rtol=1e-4, atol=1e-6)
    assert np.abs(one[name]).max() > 1e-3
    # And the mean of their variances is below the variance of all, by that of their means.
    name = name.replace("moving_mean", "moving_variance")
    assert (two[name] <= one[name] + 1e-6).all() and (two[name] < one[name] - 1e-6).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [pytest.param({"model": "gap"}, id="gap"), pytest.param(ALL_STRIDES, id="msrn")],
)
def test_one_device_two_replicas_and_two_workers_have_the_same_weights_after_twenty_steps(folder, model):
    """Batch norms kept as they are: nothing but the order of sums differs."""
    changes = {"epochs": 7, "ema_decay": 0.9, "accumulation_steps": 2, "freeze_batch_norm": True} | model  # 21 steps
    alone, mirrored = train(folder, changes, changes | {"replicas": 2})
    [chief], [other] = map(results_of, worker_processes(folder, 2, **changes))
    assert [run["replicas"] for run in (alone, mirrored, chief, other)] == [1, 2, 2, 2]
    for name, weights in chief["weights"].items():
        np.testing.assert_array_equal(weights, other["weights"][name], err_msg=name)
    assert alone["records"][-1]["step"] == 21
    assert alone["records"][-1]["loss"] < alone["records"][0]["loss"]
    assert_same_training(alone, mirrored, weight_tolerance=1e-5)
    assert_same_training(alone, chief, weight_tolerance=1e-5)


def test_a_loss_that_is_no_number_ends_the_run_with_its_step(tmp_path):
    trainer = make_trainer(str(tmp_path), model="gap", learning_rate=1e30)
    with pytest.raises(DivergenceError, match=r"the loss became \S+ at step \d+; lower `learning_rate`"):
        trainer.fit(source(), source(10))


@pytest.mark.slow
def test_a_run_stopped_while_it_validates_goes_on_with_that_validation(one_device, tmp_path, monkeypatch):
    stop = types.SimpleNamespace(received=None)
    trainer = make_trainer(str(tmp_path), stop=stop)

    def stopped(validation, progress, bad):
        stop.received = "SIGTERM"
        progress(1)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.evaluator, "scores", stopped)
        with pytest.raises(Interrupted, match="stopped in epoch 1 while validating"):
            trainer.fit(source(), source(10))
    assert len(checkpoint_paths(str(tmp_path))) == 1 and trainer.run_log.records() == []
    stop.received = None
    trainer.checkpoints.batch.assign(0)  # what a new process would not know
    path, _ = trainer.checkpoints.restore()
    assert path and int(trainer.checkpoints.batch) == 3
    trainer.fit(source(), source(10))
    assert [record["epoch"] for record in trainer.run_log.records()] == [1, 2, 3]
    for record, undisturbed in zip(trainer.run_log.records(), one_device["records"], strict=True):
        assert record["loss"] == pytest.approx(undisturbed["loss"], rel=1e-4)


@pytest.mark.slow
def test_a_run_whose_memory_runs_out_leaves_its_last_checkpoint_whole_and_goes_on_from_it_in_parts(tmp_path):
    trainer = make_trainer(str(tmp_path), model="gap", freeze_backbone=True, checkpoint_steps=1)
    step, calls = trainer.train_step, []

    class RunsOut:
        moving_average = None

        def __call__(self, *batch):
            calls.append(batch)
            return step(*batch) if len(calls) < 3 else tf.zeros([1 << 20, 1 << 20, 1 << 3])

    trainer.train_step = RunsOut()
    with pytest.raises(tf.errors.ResourceExhaustedError):
        trainer.fit(source(), None)

    again = make_trainer(str(tmp_path), model="gap", freeze_backbone=True, accumulation_steps=2)
    again.checkpoints.restore()
    assert (int(again.checkpoints.epoch), int(again.checkpoints.batch)) == (1, 2)
    for variable, kept in zip(again.model.variables, trainer.model.variables, strict=True):
        np.testing.assert_array_equal(value_of(variable), value_of(kept))
    again.fit(source(), None)
    assert [record["epoch"] for record in again.run_log.records()] == [1, 2, 3]


def test_a_run_that_is_asked_to_stop_before_it_starts_trains_nothing(tmp_path):
    trainer = make_trainer(str(tmp_path), model="gap", stop=types.SimpleNamespace(received="SIGTERM"))
    with pytest.raises(Interrupted, match="before the first step"):
        trainer.fit(source(), source(10))
    assert checkpoint_paths(str(tmp_path)) == [] and value_of(trainer.optimizer.iterations) == 0


@pytest.mark.slow
def test_a_float16_run_overflows_recovers_and_keeps_its_scale_in_the_checkpoint(tmp_path):
    trainer = make_trainer(str(tmp_path), model="gap", mixed_precision="float16", epochs=8)
    before = [value_of(variable) for variable in trainer.model.trainable_variables]
    trainer.optimizer.dynamic_scale.assign(2.0**30)
    scalars = trainer.train_step(*next(trainer_batches(trainer)))
    assert not np.isfinite(float(scalars["gradient_norm"])) and np.isfinite(float(scalars["loss"]))
    assert value_of(trainer.optimizer.dynamic_scale) == 2.0**29 and value_of(trainer.optimizer.iterations) == 0
    for variable, value in zip(trainer.model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(value_of(variable), value)

    trainer.fit(source(), source(10))
    steps, scale = value_of(trainer.optimizer.iterations), value_of(trainer.optimizer.dynamic_scale)
    assert 0 < steps < 24 and scale == 2.0 ** (29 - (24 - steps))  # each of the others halved the scale
    records = trainer.run_log.records()
    assert all(np.isfinite(record["gradient_norm"]) for record in records)
    assert records[-1]["loss"] < records[0]["loss"]
    trainer.optimizer.dynamic_scale.assign(1.0)
    trainer.checkpoints.restore()
    assert (value_of(trainer.optimizer.iterations), value_of(trainer.optimizer.dynamic_scale)) == (steps, scale)


def test_the_gradient_norm_is_divided_by_the_scale_that_was_in_force(tmp_path):
    """At a step that doubles the scale, and at one that does not."""
    norms = []
    for grows in (False, True):
        trainer = make_trainer(str(tmp_path), model="gap", mixed_precision="float16", freeze_backbone=True)
        trainer.optimizer.step_counter.assign(trainer.optimizer.dynamic_growth_steps - 1 if grows else 0)
        before = value_of(trainer.optimizer.dynamic_scale)
        norms.append(float(trainer.train_step(*next(trainer_batches(trainer)))["gradient_norm"]))
        assert value_of(trainer.optimizer.dynamic_scale) == (2 * before if grows else before)
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
    trainer = make_trainer(str(tmp_path), model="gap", freeze_backbone=True)  # float32, which has no scale
    exact = float(trainer.train_step(*next(trainer_batches(trainer)))["gradient_norm"])
    assert norms[1] == pytest.approx(exact, rel=0.05)


def test_a_replicated_model_whose_head_is_saved_in_blocks_is_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(blockwise_dense, "BLOCK_NUMBERS", 1000)
    trainer = make_trainer(str(tmp_path), head="mlp")
    assert len(trainer.model.head.hidden._blocks()) > 1
    save_model(trainer.model, str(tmp_path / "model.keras"))
    read = load_model(str(tmp_path / "model.keras"))
    for variable, weight in zip(read.weights, trainer.model.weights, strict=True):
        np.testing.assert_array_equal(value_of(variable), value_of(weight), err_msg=weight.path)


def trainer_batches(trainer):
    return TrainingBatches(source(), trainer.strategy, trainer.batch_size, trainer.run.seed).in_epoch(1)


def test_xla_trains_as_without_it(tmp_path):
    steps = []
    for compiled in (False, True):
        trainer = make_trainer(str(tmp_path), model="gap", freeze_backbone=True, jit_compile=compiled)
        scalars = trainer.train_step(*next(trainer_batches(trainer)))
        steps.append((scalars, [value_of(variable) for variable in trainer.model.trainable_variables]))
    for name, value in steps[0][0].items():
        assert float(value) == pytest.approx(float(steps[1][0][name]), rel=1e-4)
    for one, other in zip(steps[0][1], steps[1][1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [
        {"accumulation_steps": 1},
        # Batch norms of the two images of a part would make 0.5 % of the gradient's norm from a weight's last bit.
        {"accumulation_steps": 2, "freeze_batch_norm": True},
    ],
    ids=str,
)
def test_xla_on_two_replicas_trains_as_without_it_and_they_hold_the_same_bits(folder, parts):
    changes = {"replicas": 2, "synchronized": False, "epochs": 1, "ema_decay": 0.5} | parts
    plain, compiled = train(folder, changes | ALL_STRIDES, changes | ALL_STRIDES | {"jit_compile": True})
    assert compiled["replicas"] == 2 and compiled["apart"] == []
    assert_same_training(plain, compiled, weight_tolerance=1e-4)


@pytest.mark.slow
def test_xla_on_two_replicas_gives_the_weights_of_one_device_without_it(folder):
    changes = {"model": "gap", "freeze_backbone": True, "epochs": 1}
    one, two = train(folder, changes, changes | {"replicas": 2, "jit_compile": True})
    assert (one["replicas"], two["replicas"]) == (1, 2) and two["apart"] == []
    assert_same_training(one, two, weight_tolerance=1e-5)


def with_broken(sound, bad):
    return sound.with_contents([b"nothing" if n in bad else row.image_bytes for n, row in enumerate(sound)])


@pytest.mark.parametrize("bad", [[4, 5, 6], pytest.param([23, 0], marks=pytest.mark.slow)], ids=str)
def test_for_photos_that_cannot_be_decoded_the_next_sound_ones_stand_in(bad):
    sound = examples()
    broken = PhotoSource(with_broken(sound, bad), InputPlan(32))
    expected = sound.take([next(n % 24 for n in range(i, i + 24) if n % 24 not in bad) for i in range(24)])
    strategy = make_strategy("one")
    batches = TrainingBatches(broken, strategy, 8, seed=3)
    found = list(batches.in_epoch(2))
    assert batches.bad == set(bad) and len(found) == 3
    for batch, (images, targets) in zip(
        found, training_batches(expected, InputPlan(32), batch_size=8, seed=3, epoch=2), strict=True
    ):
        np.testing.assert_array_equal(batch[0], images)
        np.testing.assert_array_equal(batch[1], targets)
    # From the middle of the epoch on, knowing nothing of the first batch, as a run that goes on does.
    later = list(TrainingBatches(broken, strategy, 8, seed=3).in_epoch(2, first=1))
    for one, other in zip(found[1:], later, strict=True):
        np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.slow
def test_bad_validation_photos_are_skipped_and_counted_and_a_validation_without_a_score_keeps_a_model(tmp_path, capsys):
    trainer = make_trainer(str(tmp_path), epochs=2)
    validation = PhotoSource(with_broken(examples()[:10], [3]), InputPlan(SIZE))
    trainer.fit(source(), validation)
    records = trainer.run_log.records()
    assert [record["val_bad_images"] for record in records] == [1, 1]
    said = capsys.readouterr().out
    assert said.count("skipped    ") == 1 and said.count("1 of validation skipped") == 2
    with pytest.raises(UserError, match=validation.examples[3].image_id):
        check_photos(validation.examples, 10**6)
    check_photos(examples(), 10**6)

    (tmp_path / "none").mkdir()
    trainer = make_trainer(str(tmp_path / "none"), epochs=1)
    nothing = PhotoSource(examples()[:4].with_targets(np.zeros((4, 12), np.int8)), InputPlan(SIZE))
    best = trainer.fit(source(), nothing)
    assert best["val_mAP"] is None and (tmp_path / "none" / "model.keras").exists()


# The cluster


def test_a_slurm_step_describes_the_workers(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match="neither TF_CONFIG nor a Slurm step"):
        read_cluster()
    variables = {"NODELIST": "node[1-2]", "NUM_TASKS": "2", "TASKS_PER_NODE": "1(x2)", "NUM_NODES": "2"}
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_STEP_{name}", value)
    for name, value in {"PROCID": "1", "NTASKS": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    resolver = read_cluster()
    workers = resolver.cluster_spec().as_dict()["worker"]
    assert [worker.split(":")[0] for worker in workers] == ["node1", "node2"]
    assert (resolver.task_type, resolver.task_id) == ("worker", 1)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "cannot be read"),
        ({"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}, "names task 'ps'"),
        (
            {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}},
            "names task 'worker' 1 of 1 workers",
        ),
    ],
)
def test_a_wrong_cluster_is_one_sentence(monkeypatch, config, words):
    monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(UserError, match=f"TF_CONFIG: {words}"):
        read_cluster()


# The optimizer


def numpy_sgd(weight, gradients, rates, decay):
    """torch.optim.SGD's definition, momentum 0.9."""
    velocity = np.zeros_like(weight)
    for gradient, rate in zip(gradients, rates, strict=True):
        velocity = 0.9 * velocity + gradient + decay * weight
        weight = weight - rate * velocity
        yield weight


def numpy_adamw(weight, gradients, rates, decay):
    """Algorithm 2 of arXiv 1711.05101, with Keras' place of epsilon (1e-7, beside the uncorrected root)."""
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        weight = weight - rate * decay * weight
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        step_size = rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        weight = weight - step_size * first / (np.sqrt(second) + 1e-7)
        yield weight


def numpy_lion(weight, gradients, rates, decay):
    """Algorithm 2 of arXiv 2302.06675, β = 0.9, 0.99."""
    momentum = np.zeros_like(weight)
    for gradient, rate in zip(gradients, rates, strict=True):
        weight = weight - rate * (np.sign(0.9 * momentum + 0.1 * gradient) + decay * weight)
        momentum = 0.99 * momentum + 0.01 * gradient
        yield weight


@pytest.mark.parametrize("name, definition", [("sgd", numpy_sgd), ("adamw", numpy_adamw), ("lion", numpy_lion)])
def test_optimizers_follow_their_papers_in_every_group_through_a_change_of_rate(rng, name, definition):
    """Groups: at the full rate and at a tenth; matrices decay and vectors do not."""
    values = [rng.normal(size=shape).astype("float32") for shape in ((3, 2), (3, 2), (4,), (4,))]
    gradients = [[rng.normal(size=value.shape).astype("float32") for value in values] for _ in range(10)]
    schedule = learning_rate_schedule("step", learning_rate=0.1, steps_per_epoch=5, epochs=2, decay_epochs=[1])
    # Keras' schedule changes after its boundary: steps 0 to 5 have the first rate.
    rates = np.array([float(schedule(step)) for step in range(10)])
    assert len(set(rates)) == 2
    variables = [keras.Variable(value, name=f"weight_{index}") for index, value in enumerate(values)]
    config = OptimizationConfig(optimizer=name, weight_decay=0.03, backbone_factor=0.1, clip_norm=0.0)
    optimizer = make_optimizer(config, schedule, slow_variables=[variables[1], variables[3]])
    optimizer.build(variables)
    traces = [
        list(definition(value, [step[index] for step in gradients], rates * factor, decay))
        for index, (value, factor, decay) in enumerate(zip(values, (1, 0.1, 1, 0.1), (0.03, 0.03, 0, 0), strict=True))
    ]
    for step, step_gradients in enumerate(gradients):
        optimizer.apply([tf.constant(gradient) for gradient in step_gradients], variables)
        for variable, trace in zip(variables, traces, strict=True):
            np.testing.assert_allclose(variable.numpy(), trace[step], rtol=5e-5, atol=2e-6)


def test_the_global_gradient_is_clipped():
    gradients = [tf.constant([3.0, 0.0]), tf.constant([[4.0]])]
    assert float(global_norm(gradients)) == 5.0
    for limit, factor in ((1.0, 0.2), (5.0, 1.0), (7.0, 1.0)):
        for gradient, short in zip(gradients, clipped(gradients, tf.constant(5.0), limit), strict=True):
            np.testing.assert_allclose(short, factor * gradient, rtol=1e-6)
    # Scaled by 8 for float16: they are shortened as much.
    np.testing.assert_allclose(clipped([8 * gradients[0]], tf.constant(5.0), 1.0)[0], [8 * 0.6, 0.0], rtol=1e-6)
    assert np.isnan(clipped(gradients, tf.constant(np.inf), 1.0)[0]).all()
    np.testing.assert_array_equal(clipped([tf.zeros(2)], tf.constant(0.0), 1.0)[0], [0.0, 0.0])


def test_vectors_decay_where_asked():
    variables = [keras.Variable([1.0, 1.0], name="one"), keras.Variable([[1.0]], name="two")]
    config = OptimizationConfig(momentum=0.0, weight_decay=0.5, decay_vectors=True)
    optimizer = make_optimizer(config, 1.0, [])
    optimizer.build(variables)
    optimizer.apply([tf.zeros(2), tf.zeros((1, 1))], variables)
    np.testing.assert_allclose(variables[0].numpy(), [0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(variables[1].numpy(), [[0.5]], atol=1e-6)


def test_a_float16_overflow_halves_the_scale_and_changes_nothing_else():
    variable = keras.Variable([1.0], name="weight")
    optimizer = make_optimizer(OptimizationConfig(), 0.1, [], loss_scaling=True)
    optimizer.build([variable])
    scale = float(optimizer.dynamic_scale)
    optimizer.apply([tf.constant([np.inf])], [variable])
    assert float(optimizer.dynamic_scale) == scale / 2 and variable.numpy() == [1.0] and int(optimizer.iterations) == 0
    optimizer.apply([tf.constant([1.0]) * scale / 2], [variable])
    assert int(optimizer.iterations) == 1
    np.testing.assert_allclose(variable.numpy(), [1 - 0.1 * (1 + 0.0)], atol=1e-4)


def test_the_moving_average_follows_its_definition_and_gives_the_weights_back(rng):
    variable = keras.Variable([0.0, 2.0], name="weight")
    average = MovingAverage([variable], decay=0.5)
    expected = np.array([0.0, 2.0])
    for step in range(12):
        value = rng.normal(size=2).astype("float32")
        variable.assign(value)
        average.update(tf.constant(step))
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    with average.applied():
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(variable.numpy(), value)


def test_a_moving_average_of_a_share_of_the_run_is_in_force_for_most_of_it():
    # VOC 2007's 5,011 photos for 40 epochs at 32: 6,240 steps; a twentieth is 312.
    assert decay_of_share(0.05, 6240) == pytest.approx(1 - 1 / 312)
    for steps in (400, 6240, 100_000):
        decay = decay_of_share(0.05, steps)
        taken_over = next(step for step in range(steps) if (1 + step) / (10 + step) >= decay)
        assert taken_over <= 0.45 * steps
    assert decay_of_share(0.05, 6) == 0.0  # too few to look back on: the weights themselves


def test_a_run_takes_its_moving_average_from_its_steps(tmp_path):
    trainer = make_trainer(str(tmp_path), model="gap", freeze_backbone=True, ema_share=0.1, epochs=10)
    assert trainer.train_step.moving_average.decay == pytest.approx(1 - 1 / 3)  # a tenth of 30 steps


# Schedules and loss


def test_step_schedule_falls_to_a_tenth():
    schedule = learning_rate_schedule("step", learning_rate=1.0, steps_per_epoch=10, epochs=9, decay_epochs=[3, 6])
    assert [round(float(schedule(step)), 4) for step in (0, 29, 31, 59, 61, 89)] == [1, 1, 0.1, 0.1, 0.01, 0.01]


def test_cosine_schedule_with_warm_up():
    schedule = learning_rate_schedule("cosine", learning_rate=2.0, steps_per_epoch=10, epochs=11, warmup_epochs=1)
    assert float(schedule(0)) == pytest.approx(0.2) and float(schedule(9)) == pytest.approx(2.0)
    assert float(schedule(60)) == pytest.approx(2.0 * 0.5 * (1 + math.cos(math.pi / 2)), abs=1e-6)
    assert float(schedule(110)) == pytest.approx(0.0, abs=1e-6)


def test_one_cycle_schedule_rises_for_a_fifth_and_falls_to_nothing():
    schedule = learning_rate_schedule("one_cycle", learning_rate=2.0, steps_per_epoch=10, epochs=10)
    assert float(schedule(0)) == pytest.approx(2.0 / 25)
    assert float(schedule(10)) == pytest.approx((2.0 + 2.0 / 25) / 2, rel=1e-5)
    assert float(schedule(20)) == pytest.approx(2.0)
    assert float(schedule(60)) == pytest.approx(1.0, rel=1e-4)
    assert float(schedule(100)) == pytest.approx(2.0 / 25e4, rel=1e-2)


def test_loss_is_the_mean_over_labels_and_unknown_targets_add_nothing(rng):
    logits = rng.normal(size=(4, 3)) * 5
    targets = np.array([[1, 0, 1], [0, -1, 1], [-1, -1, -1], [0, 0, 0]])
    probability = 1 / (1 + np.exp(-logits))
    losses = -np.where(targets == 1, np.log(probability), np.log(1 - probability)) * (targets >= 0)
    np.testing.assert_allclose(binary_crossentropy(targets, logits), losses.sum(axis=1) / 3, rtol=1e-5, atol=1e-7)
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_sum(binary_crossentropy(targets, logits))
    assert (tape.gradient(loss, logits).numpy()[targets < 0] == 0).all()


# Probability, presence, and the loss by hand from equations 4 to 7 of arXiv 2009.14119, for γ₊ = 1, γ₋ = 4, m = 0.05.
ASL_TABLE = [
    (0.9, True, 0.1 * 0.1053605157),  # (1 − 0.9)¹ · −ln 0.9
    (0.5, True, 0.5 * 0.6931471806),
    (0.5, False, 0.45**4 * 0.5978370008),  # p_m = 0.45: 0.45⁴ · −ln 0.55
    (0.04, False, 0.0),  # below the margin
    (0.95, False, 0.9**4 * 2.3025850930),  # p_m = 0.9: 0.9⁴ · −ln 0.1
]


@pytest.mark.parametrize("probability, present, expected", ASL_TABLE)
def test_asymmetric_loss_equals_the_papers_formula(probability, present, expected):
    logit = math.log(probability / (1 - probability))
    loss = asymmetric_loss([[int(present)]], [[logit]], gamma_positive=1, gamma_negative=4, margin=0.05)
    assert float(loss[0]) == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_focal_loss_equals_its_formula():
    logit = math.log(0.2 / 0.8)
    losses = focal_loss([[1, 0, -1]], [[logit] * 3], gamma=2.0)
    assert float(losses[0]) == pytest.approx((0.8**2 * -math.log(0.2) + 0.2**2 * -math.log(0.8)) / 3, rel=1e-5)


def test_a_mixed_target_weighs_both_terms():
    loss = binary_crossentropy([[0.3]], [[1.5]])
    p = 1 / (1 + math.exp(-1.5))
    assert float(loss[0]) == pytest.approx(-0.3 * math.log(p) - 0.7 * math.log(1 - p), rel=1e-5)


@pytest.mark.parametrize("loss", [binary_crossentropy, asymmetric_loss, focal_loss])
def test_losses_are_finite_with_finite_gradients_for_extreme_half_precision_logits(loss):
    logits = tf.constant([[-60000.0, 60000.0, 0.0, -60000.0, 60000.0]], tf.float16)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = tf.reduce_sum(loss([[1, 0, -1, 0, 1]], logits))
    gradient = tape.gradient(value, logits).numpy()
    assert np.isfinite(value) and np.isfinite(gradient).all() and gradient[0, 2] == 0


def test_a_store_that_fails_one_process_is_not_told_as_a_lost_worker(monkeypatch):
    monkeypatch.setattr(Trainer, "_fit", mock.Mock(side_effect=tf.errors.AbortedError(None, None, "503")))
    trainer = Trainer.__new__(Trainer)
    trainer.strategy, trainer._end_profile = make_strategy("one"), lambda: None
    with pytest.raises(tf.errors.AbortedError, match="503"):
        trainer.fit(None, None)
