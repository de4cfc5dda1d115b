"""The trained model that comes with the project: it is there, and is what its card says."""

import csv
import io
import os

import pytest
from running import ROOT, command

from export.device_classifier import DeviceClassifier
from msrn_tf import package_files
from msrn_tf.data.readers.voc import VOC_LABELS
from msrn_tf.default_model import default_model_path
from msrn_tf.errors import UserError

MODELS = ROOT / "models"


def test_without_a_model_predict_uses_it_and_says_so_in_any_folder(tmp_path):
    run = command("msrn_tf.predict", "--csv", ROOT / "tools" / "photos", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert f"no --model: using {MODELS / 'voc2007.keras'}, which knows aeroplane, bicycle, " in run.stderr
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


def test_an_installed_package_finds_its_own_files_and_none_beside_it(tmp_path, monkeypatch):
    installed = tmp_path / "site-packages" / "msrn_tf"
    monkeypatch.setattr(package_files, "PACKAGE", str(installed))
    monkeypatch.setattr(package_files, "CHECKOUT", str(installed.parent))
    for path in (installed / "trained" / "voc2007.keras", installed.parent / "configs" / "of_another_package.cfg"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    assert default_model_path() == str(installed / "trained" / "voc2007.keras")
    assert package_files.packaged_file("configs", "of_another_package.cfg") is None
    assert package_files.packaged_file("models", "../__init__.py") is None
    (installed / "trained" / "voc2007.keras").unlink()
    with pytest.raises(UserError, match="`model` is missing"):
        default_model_path()
