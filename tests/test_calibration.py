"""Calibration: what a model keeps of it, how it is fitted, and what the command stores."""

import json
import zipfile

import numpy as np
import pytest
from serving import LABELS, small_model

from msrn_tf.models.calibration import Calibration
from msrn_tf.models.factory import load_model, save_model


@pytest.fixture(scope="module")
def model():
    return small_model(32)


def test_a_model_is_not_calibrated_until_it_is(model, rng):
    images = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    assert model.calibration.is_identity
    logits = np.asarray(model(images), np.float64)
    np.testing.assert_allclose(model.probabilities(images), 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_calibration_is_applied_to_probabilities_and_saved_with_the_model(rng, tmp_path):
    model = small_model(32)
    images = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    logits = np.asarray(model(images), np.float64)
    slopes, intercepts = rng.uniform(0.2, 2, len(LABELS)), rng.normal(size=len(LABELS))
    model.calibration, model.thresholds = Calibration(slopes, intercepts), (0.1, 0.2, 0.3, 0.4, 0.5)
    expected = 1 / (1 + np.exp(-(logits * slopes + intercepts)))
    np.testing.assert_allclose(model.probabilities(images), expected, atol=1e-6)
    np.testing.assert_allclose(model(images), logits, atol=1e-6)  # logits stay as they are
    save_model(model, str(tmp_path / "model.keras"))
    loaded = load_model(str(tmp_path / "model.keras"))
    assert loaded.calibration == model.calibration and loaded.thresholds == model.thresholds
    np.testing.assert_allclose(loaded.probabilities(images), expected, atol=1e-6)


def test_a_file_from_before_calibration_still_loads(model, tmp_path):
    save_model(model, str(tmp_path / "new.keras"))
    with zipfile.ZipFile(tmp_path / "new.keras") as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                config = json.loads(content)
                del config["config"]["calibration"]
                content = json.dumps(config)
            old.writestr(name, content)
    assert load_model(str(tmp_path / "old.keras")).calibration.is_identity


@pytest.mark.parametrize(("slopes", "intercepts"), [((1, 0), (0, 0)), ((1, -1), (0, 0)), ((1,), (0, 0))])
def test_calibration_that_would_turn_an_order_round_is_refused(slopes, intercepts):
    with pytest.raises(ValueError, match="slopes"):
        Calibration(slopes, intercepts)
