"""Optimizer and schedules against PyTorch's definition in NumPy; one device against two; what a diverging run says."""

import json
import math
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from msrn_tf.training.losses import binary_crossentropy
from msrn_tf.training.optimizers import GroupSGD, all_reduce_and_clip
from msrn_tf.training.schedules import learning_rate_schedule

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run_worker(*arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests" / "training_worker.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_one_device_and_two_mirrored_replicas_give_the_same_loss_curve():
    runs = [run_worker(replicas) for replicas in (1, 2)]
    one, two = (json.loads(run.stdout.splitlines()[-1]) for run in runs)
    assert (one["replicas"], two["replicas"]) == (1, 2)
    for name in ("loss", "classification_loss", "group_loss", "gradient_norm", "val_mAP"):
        curves = [[record[name] for record in run["records"]] for run in (one, two)]
        tolerance = {"gradient_norm": 1e-3, "val_mAP": 1e-6}.get(name, 1e-4)
        np.testing.assert_allclose(*curves, rtol=tolerance, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(one["norms"], two["norms"], rtol=1e-3, atol=1e-5)
    assert one["records"][-1]["loss"] < one["records"][0]["loss"]


def test_a_loss_that_is_no_number_ends_the_run_with_its_step():
    run = run_worker(1, 1e30)
    assert "DivergenceError" in run.stderr and "at step" in run.stderr


# The optimizer


def numpy_sgd(weight, gradients, rates, momentum, weight_decay, factor):
    """torch.optim.SGD's definition."""
    velocity, trace = np.zeros_like(weight), []
    for gradient, rate in zip(gradients, rates, strict=True):
        velocity = momentum * velocity + gradient + weight_decay * weight
        weight = weight - rate * factor * velocity
        trace.append(weight)
    return trace


@pytest.mark.parametrize("slow", [False, True])
def test_sgd_follows_pytorchs_definition_through_a_change_of_rate(rng, slow):
    start = rng.normal(size=(3, 2)).astype("float32")
    gradients = rng.normal(size=(10, 3, 2)).astype("float32")
    schedule = learning_rate_schedule("step", learning_rate=0.1, steps_per_epoch=5, epochs=2, decay_epochs=[1])
    variable = keras.Variable(start, name="weight")
    optimizer = GroupSGD(schedule, 0.9, 0.01, slow_variables=[variable] if slow else [], slow_factor=0.1)
    optimizer.build([variable])
    # Keras' schedule changes after its boundary: steps 0 to 5 have the first rate.
    rates = [float(schedule(step)) for step in range(10)]
    expected = numpy_sgd(start, gradients, rates, 0.9, 0.01, 0.1 if slow else 1.0)
    for gradient, value in zip(gradients, expected, strict=True):
        optimizer.apply([tf.constant(gradient)], [variable])
        np.testing.assert_allclose(variable.numpy(), value, rtol=2e-5, atol=1e-6)


def test_the_global_gradient_is_clipped_after_it_exists():
    gradients = [tf.constant([3.0, 0.0]), tf.constant([[4.0]])]
    clipped, norm = tf.distribute.get_strategy().run(lambda: all_reduce_and_clip(gradients, 1.0))
    assert float(norm) == pytest.approx(5.0)
    np.testing.assert_allclose(clipped[0], [0.6, 0.0], atol=1e-6)
    np.testing.assert_allclose(clipped[1], [[0.8]], atol=1e-6)
    unclipped, _ = tf.distribute.get_strategy().run(lambda: all_reduce_and_clip(gradients, 0.0))
    np.testing.assert_allclose(unclipped[1], [[4.0]])


# Schedules and loss


def test_step_schedule_falls_to_a_tenth():
    schedule = learning_rate_schedule("step", learning_rate=1.0, steps_per_epoch=10, epochs=9, decay_epochs=[3, 6])
    assert [round(float(schedule(step)), 4) for step in (0, 29, 31, 59, 61, 89)] == [1, 1, 0.1, 0.1, 0.01, 0.01]


def test_cosine_schedule_with_warm_up():
    schedule = learning_rate_schedule("cosine", learning_rate=2.0, steps_per_epoch=10, epochs=11, warmup_epochs=1)
    assert float(schedule(0)) == pytest.approx(0.2) and float(schedule(9)) == pytest.approx(2.0)
    assert float(schedule(60)) == pytest.approx(2.0 * 0.5 * (1 + math.cos(math.pi / 2)), abs=1e-6)
    assert float(schedule(110)) == pytest.approx(0.0, abs=1e-6)


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
