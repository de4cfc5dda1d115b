"""Benchmark scripts run: whether they do, at small sizes, not how fast."""

import os
import subprocess
import sys

import pytest
from running import ROOT


def output_of(script, *arguments):
    """What a script prints, in a process of its own."""
    run = subprocess.run(
        [sys.executable, f"benchmarks/{script}", *arguments],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


@pytest.mark.slow
def test_the_start_of_an_epoch_is_measured_in_both_forms():
    rows = output_of("scale.py", "--count=2000", "--repetitions=1").splitlines()[2:]
    assert [row.split()[0] for row in rows] == ["columns", "rows"]


@pytest.mark.slow
def test_every_form_of_attention_and_of_a_training_step_is_measured_on_whatever_device_jax_has():
    printed = output_of("gpu.py", "--tiny", "--parts", "attention", "steps")
    rows = [line.split() for line in printed.splitlines()]
    forms = {row[3] for row in rows if row[:2] == ["bfloat16", "COCO"]}
    assert forms == {"none", "moments", "direct", "naive"}
    assert sum(row[:1] in (["VOC"], ["COCO"]) for row in rows) == 4
    assert "Error" not in printed


@pytest.mark.slow
def test_every_model_of_the_table_is_measured():
    printed = output_of("zoo.py", "--image_size=64", "--repetitions=1").splitlines()
    made = [line.removeprefix("making ") for line in printed if line.startswith("making ")]
    assert [line.split("  ")[-1] for line in printed[-len(made) :]] == made
