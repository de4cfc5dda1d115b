"""The trained model that comes with the project: it is there, and is what its card says."""

import csv
import importlib.metadata
import io
import os
import pathlib

import pytest
from running import ROOT, command

from export.device_classifier import DeviceClassifier
from msrn_tf import default_model
from msrn_tf.data.readers.voc import VOC_LABELS
from msrn_tf.errors import UserError

MODELS = ROOT / "models"


def test_without_a_model_predict_uses_it_and_says_so_in_any_folder(tmp_path):
    run = command("msrn_tf.predict", "--csv", ROOT / "tools" / "photos", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert f"no --model: {MODELS / 'voc2007.keras'} looks for aeroplane, bicycle, " in run.stderr
    rows = {os.path.basename(row["photo"]): row for row in csv.DictReader(io.StringIO(run.stdout))}
    assert "cat" in rows["cat.jpg"]["present"].split("|")
    assert "person" in rows["astronaut.jpg"]["present"].split("|")


def test_it_is_small_and_the_device_has_its_labels_and_thresholds():
    assert os.path.getsize(MODELS / "voc2007.keras") < 25e6
    path = MODELS / "voc2007.tflite"
    assert os.path.getsize(path) <= 8e6
    classifier = DeviceClassifier(str(path))
    assert tuple(classifier.labels) == tuple(VOC_LABELS)
    assert len({*classifier.thresholds}) > 1  # calibrated, not 0.5 each


def test_an_installed_package_finds_it_by_what_pip_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(default_model, "CHECKOUT", str(tmp_path / "elsewhere"))
    file = tmp_path / "share" / "msrn-tf" / "models" / "voc2007.keras"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    record = importlib.metadata.PackagePath("lib/../share/msrn-tf/models/voc2007.keras")
    record.dist = importlib.metadata.PathDistribution(pathlib.Path(tmp_path / "msrn_tf.dist-info"))
    monkeypatch.setattr(importlib.metadata, "files", lambda name: [record])
    assert default_model.default_model_path() == str(file)
    file.unlink()
    with pytest.raises(UserError, match="`model` is missing"):
        default_model.default_model_path()
