"""No command computes on CPUs in silence where there is a GPU, nor complains where there is none."""

import os
import subprocess
import sys

import pytest
import tensorflow as tf
from running import ROOT, SMALL

from msrn_tf import gpus
from msrn_tf.training.distribution import make_strategy

# TensorFlow 2.21's own words: a machine with a driver and without CUDA's libraries.
WITHOUT_LIBRARIES = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795749313.859710   27898 cpu_feature_guard.cc:227] This binary is optimized to use available instructions.
To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the appropriate flags.
W0000 00:00:1795749320.161826   27898 dso_loader.cc:60] Could not load dynamic library 'libcudnn.so.9'; dlerror: none
W0000 00:00:1795749320.161827   27898 gpu_device.cc:2431] Cannot dlopen some GPU libraries. Please make sure that \
the missing libraries mentioned above are installed properly.
Skipping registering GPU devices...
"""
OLDER = "2025-01-02 03:04:05.678901: W tensorflow/core/gpu_device.cc:2431] Cannot dlopen some GPU libraries.\n"


@pytest.fixture
def machine_with_gpu(monkeypatch):
    """What finds a GPU's driver, and no GPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(gpus, "words_of_tensorflow", lambda: WITHOUT_LIBRARIES)


def test_the_driver_tells_of_gpus_by_its_files_or_by_nvidia_smi(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert not gpus.has_nvidia_gpu(tmp_path)
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    for answer, has_one in (("GPU 0: NVIDIA T4 (UUID: GPU-1)", True), ("No devices were found", False)):
        tool.write_text(f"#!/bin/sh\necho '{answer}'\n")
        tool.chmod(0o755)
        assert gpus.has_nvidia_gpu(tmp_path) == has_one
    driver = tmp_path / "proc" / "driver" / "nvidia"
    driver.mkdir(parents=True)
    assert not gpus.has_nvidia_gpu(tmp_path)  # a driver that no GPU belongs to
    (driver / "gpus" / "0000:01:00.0").mkdir(parents=True)
    assert gpus.has_nvidia_gpu(tmp_path)


def test_the_reason_is_what_tensorflow_says_of_gpus():
    reason = gpus.reason_in(WITHOUT_LIBRARIES)
    assert reason.startswith("Could not load dynamic library 'libcudnn.so.9'; dlerror: none; Cannot dlopen some GPU")
    assert "cpu_feature_guard" not in reason and "binary" not in reason and "\n" not in reason
    assert gpus.reason_in(OLDER) == "Cannot dlopen some GPU libraries"
    assert gpus.reason_in("") == "nothing"


def test_a_gpu_that_tensorflow_does_not_find_is_said_with_its_reason_and_what_to_install(
    machine_with_gpu, monkeypatch, capsys
):
    assert gpus.find_gpus() == []
    said = capsys.readouterr().err
    assert (
        said.startswith("warning: this machine has an NVIDIA GPU and TensorFlow finds none") and said.count("\n") == 1
    )
    assert "Cannot dlopen some GPU libraries" in said and f"tensorflow[and-cuda]=={tf.__version__}" in said
    make_strategy("one")
    assert "finds none" in capsys.readouterr().err
    assert gpus.why_no_gpu(["a GPU"]) is None
    gpus.find_gpus(meant=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    gpus.find_gpus()
    assert capsys.readouterr().err == ""


def run_from_the_start(*arguments, path):
    environment = os.environ | {"PATH": f"{path}:{os.environ['PATH']}"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_a_command_without_a_gpu_says_nothing_of_it(tmp_path):
    """From the start of its process: what TensorFlow writes by itself is held back, in training that computes too."""
    train = ["msrn_tf.train", "--dataset=demo", "--val_split=", "--model=gap", *SMALL, "--batch_size=240",
             f"--workdir={tmp_path}/run", "--notensorboard"]  # fmt: skip
    run = run_from_the_start(*train, path=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "E0000" not in run.stderr and "CUDA" not in run.stderr


def test_a_command_says_at_its_start_that_tensorflow_does_not_find_the_gpu_and_why(tmp_path):
    """Here the reason is TensorFlow's own: that no driver is there."""
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: NVIDIA T4'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    run = run_from_the_start("msrn_tf.predict", "--model=nowhere.keras", "photo.png", path=tmp_path)
    assert run.returncode == 2 and "E0000" not in run.stderr
    first, *others = run.stderr.splitlines()
    assert first.startswith("warning: this machine has an NVIDIA GPU and TensorFlow finds none")
    assert "cuda" in first.partition("TensorFlow says: ")[2].partition("; install")[0].lower()
    assert len(others) == 1 and others[0].startswith("error: ")
