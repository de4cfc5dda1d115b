"""What is known of memory before it is asked for, and what is said where it runs out."""

import dataclasses
import math
import types

import numpy as np
import pytest
import tensorflow as tf
from running import assert_refused, command

from msrn_tf import command_line
from msrn_tf.command_line import memory_error
from msrn_tf.config import ModelConfig, OptimizationConfig, RunConfig
from msrn_tf.errors import UserError, file_error, is_out_of_memory
from msrn_tf.label_graph import LabelGraph
from msrn_tf.models.factory import create_model
from msrn_tf.training.memory import available_memory, check_memory, large_kernels

ON_CPU = types.SimpleNamespace(extended=types.SimpleNamespace(worker_devices=["/device:CPU:0"]))
ON_GPUS = types.SimpleNamespace(extended=types.SimpleNamespace(worker_devices=["/device:GPU:0", "/device:GPU:1"]))


def graph_of(num_labels, size=300):
    return types.SimpleNamespace(word_vectors=np.broadcast_to(np.float32(0), (num_labels, size)))


@pytest.mark.parametrize("head", ["mlp", "elementwise"])
@pytest.mark.parametrize("pool_ratio", [0.0, 0.4])
def test_the_large_kernels_are_those_that_keras_makes(head, pool_ratio):
    config = ModelConfig(
        backbone="resnet_tiny", channels=4, head=head, head_units=3, pool_ratio=pool_ratio, strides=(16, 32)
    )
    labels = [f"label {n}" for n in range(7)]
    graph = LabelGraph.from_targets(labels, np.ones((2, 7), np.int8))
    graph = dataclasses.replace(graph, word_vectors=np.ones((7, 5), np.float32))
    model = create_model(config, labels, 64, graph)
    made = {variable.path.removeprefix("msrn/"): tuple(variable.shape) for variable in model.weights}
    for name, shape in large_kernels(config, 7, 5).items():
        assert made[name] == shape, name


def test_the_published_head_of_many_labels_is_refused_before_it_is_made_and_the_small_one_is_named(capsys):
    config, optimization = ModelConfig(), OptimizationConfig()
    # 1,200 labels and 240 groups, 3 strides of 512 channels, 2048 units: 18.1 GB, thrice with gradient and momentum.
    kernel = 1440 * 1536 * 2048
    with pytest.raises(UserError, match=r"`head`=mlp: .*1,200 labels.*`head`=elementwise") as refused:
        check_memory(config, optimization, ON_CPU, graph_of(1200), available=20e9)
    assert f"need {3 * 4 * kernel / 1e9:.0f}" in str(refused.value)
    assert "head/hidden/kernel is 2,211,840 × 2,048" in capsys.readouterr().out
    assert check_memory(config, optimization, ON_CPU, graph_of(1200), available=80e9) == []
    assert len(check_memory(config, optimization, ON_GPUS, graph_of(1200), available=20e9)) == 1
    capsys.readouterr()
    small = dataclasses.replace(config, head="elementwise")
    assert check_memory(small, optimization, ON_CPU, graph_of(1200), available=1e9) == []
    assert check_memory(config, optimization, ON_CPU, graph_of(20), available=20e9) == []
    assert capsys.readouterr().out == ""


def test_training_with_a_head_that_fits_in_no_memory_is_refused_and_leaves_nothing(tmp_path):
    flags = [
        "--dataset=demo",
        "--train_split=val",
        "--val_split=",
        "--backbone=resnet_tiny",
        "--image_size=32",
        f"--head_units={2**31 - 1}",
        "--workdir=run",
    ]
    assert_refused(command("msrn_tf.train", *flags, cwd=tmp_path), "--head=mlp", "--head=elementwise", "GB are free")
    assert list(tmp_path.iterdir()) == []


def test_free_memory_is_the_machines_or_what_the_control_group_leaves(tmp_path):
    assert available_memory(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    2000 kB\n")
    assert available_memory(tmp_path) == 2000 * 1024
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("5\n")
    assert available_memory(tmp_path) == 2000 * 1024
    (group / "memory.max").write_text("1005\n")
    assert available_memory(tmp_path) == 1000
    assert available_memory() > 0 and math.isfinite(available_memory())


@pytest.fixture(scope="module")
def error_of_tensorflow():
    """Made once: TensorFlow waits ten seconds for memory to come free."""
    with pytest.raises(tf.errors.ResourceExhaustedError) as error:
        tf.zeros([1 << 20, 1 << 20, 1 << 3])
    return error.value


def test_memory_that_runs_out_is_one_sentence_with_the_flags_that_help(error_of_tensorflow):
    training = (ModelConfig(), OptimizationConfig(batch_size=16), RunConfig(workdir="run"))
    with pytest.raises(MemoryError) as error_of_numpy:
        np.empty(1 << 50)
    for error in (error_of_tensorflow, error_of_numpy.value):
        assert is_out_of_memory(error) and file_error(error) is None
        sentence = memory_error(error, training)
        for words in ("--batch_size than 16", "--accumulation_steps", "--recompute_backbone", "--head=elementwise"):
            assert words in sentence
        assert "the last checkpoint is intact, and the same command continues" in sentence and "\n" not in sentence
        spent = dataclasses.replace(training[0], head="elementwise", recompute_backbone=True)
        assert "--head" not in memory_error(error, (spent, *training[1:]))
    assert not is_out_of_memory(ValueError("OOM"))
    for words in ("Out of memory while trying to allocate 8 bytes.", "CUDA_ERROR_OUT_OF_MEMORY: out of memory"):
        assert is_out_of_memory(tf.errors.InternalError(None, None, f"Graph execution error: {words}"))
    assert not is_out_of_memory(tf.errors.InternalError(None, None, "something else"))
    full = tf.errors.ResourceExhaustedError(None, None, "/disk/ckpt-1; No space left on device")
    assert not is_out_of_memory(full) and "/disk/ckpt-1: cannot be read or written (No space" in file_error(full)


def test_a_command_whose_memory_runs_out_ends_with_a_sentence(capsys, monkeypatch, error_of_tensorflow):
    @dataclasses.dataclass(frozen=True)
    class Choices:
        images_a_time: int = command_line.option(4, "images at a time")

    def main(choices):
        raise error_of_tensorflow

    monkeypatch.setattr("sys.argv", ["runs_out"])
    with pytest.raises(SystemExit) as end:
        command_line.run(main, usage="runs out", extra_flags=Choices)
    errors = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and sum("error: memory ran out" in line for line in errors) == 1
    assert not any("Traceback" in line for line in errors)
