"""What a trained demo model knows: calibration helps on photos not seen, and heat-maps lie on things."""

import json

import numpy as np
import pytest
from running import ROOT, command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    trained = command("msrn_tf.train", f"--flagfile={ROOT}/configs/demo.cfg", f"--workdir={folder}/run", cwd=ROOT)
    assert trained.returncode == 0, trained.stderr
    return folder


def measured(run, model, *flags):
    output = run / "metrics.json"
    done = command("msrn_tf.evaluate", f"--model={model}", f"--output={output}", *flags)
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text())


def calibrated(run, *flags):
    model = run / "calibrated.keras"
    done = command("msrn_tf.calibrate", f"--model={run}/run/model.keras", f"--output={model}", *flags)
    assert done.returncode == 0, done.stderr
    return measured(run, model)


def test_calibration_helps_on_photos_not_seen_and_reaches_a_wanted_precision(run):
    before = measured(run, run / "run" / "model.keras")
    best = calibrated(run)
    assert best["CF1"] > before["CF1"] - 0.5  # 0.5 is near the best for most of the demo's labels
    assert best["expected_calibration_error"] < before["expected_calibration_error"]
    assert best["mAP"] == pytest.approx(before["mAP"], abs=1e-6)  # the order of a label's scores stays
    precise = calibrated(run, "--target_precision=0.9")
    assert precise["OP"] >= 90 and precise["CP"] >= 90
    complete = calibrated(run, "--target_recall=0.95")
    assert complete["OR"] >= 95 and complete["OR"] > best["OR"]


def test_several_devices_give_the_figures_of_one(run):
    one = measured(run, run / "run" / "model.keras", "--strategy=one")
    two = measured(run, run / "run" / "model.keras", "--num_cpu_replicas=2")
    assert two["mAP"] == pytest.approx(one["mAP"], abs=1e-3) and two["num_images"] == one["num_images"]


def test_heatmaps_beat_orders_that_know_nothing_and_point_at_things(run):
    output = run / "maps.json"
    done = command("msrn_tf.check_heatmaps", f"--model={run}/run/model.keras", "--photos=120", f"--output={output}")
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    for control in ("shuffled", "random pixels"):
        assert found["areas"]["deletion"]["heat-map"] < found["areas"]["deletion"][control] - 0.2
        assert found["areas"]["insertion"]["heat-map"] > found["areas"]["insertion"][control] + 0.05
        assert found["deletion_wins"][control] > 0.8 and found["insertion_wins"][control] > 0.7
    things = [pair for label, pair in found["pointing"].items() if label not in ("sky", "grass", "water")]
    hits, count = np.sum(things, axis=0)
    assert hits / count >= 0.8
