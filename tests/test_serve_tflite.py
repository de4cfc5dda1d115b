"""Scores by LiteRT in the embedded server: those of the .tflite, in the SavedModel's outputs, whatever is asked."""

import re
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf
from serving import LABELS, SIZE, exported_once, pixels_of, running_server, small_model, write_lengths

from export import saved_model
from export.client import Client, ask
from export.example_photos import read_photos
from export.saved_model import tflite_of
from export.serving.tflite_functions import TFLITE_NAME, ClassifierPool, tflite_functions
from export.serving.warm_up import example_of
from export.tflite import tflite_bytes
from msrn_tf.errors import UserError
from msrn_tf.models.calibration import Calibration
from msrn_tf.models.factory import save_model
from msrn_tf.visualization.heatmap_files import HeatmapFiles


def jpeg(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE // 8, SIZE // 8, 3), np.uint8)
    return tf.io.encode_jpeg(tf.cast(tf.image.resize(pixels, (50, 70)), tf.uint8)).numpy()


PHOTOS = [jpeg(0), b"no photo", jpeg(1), jpeg(2)]


@pytest.fixture(scope="module")
def other():
    """The exported model with another calibration: its scores are told from the SavedModel's."""
    model = small_model()
    model.calibration = Calibration(np.ones(len(LABELS)), np.linspace(2, -2, len(LABELS)))
    model.thresholds = tuple(np.linspace(0.2, 0.8, len(LABELS)))
    return model


@pytest.fixture(scope="module")
def tflite(other, tmp_path_factory):
    path = tmp_path_factory.mktemp("tflite") / "other.tflite"
    path.write_bytes(tflite_bytes(other, "none"))
    return path


@pytest.fixture(scope="module")
def base(tflite, tmp_path_factory):
    """Two versions: the exported model with the other one's .tflite, and a small one without any."""
    base = tmp_path_factory.mktemp("models") / "msrn"
    shutil.copytree(exported_once()[1], base / "1")
    write_lengths(str(base), 2)
    shutil.copyfile(tflite, base / "1" / TFLITE_NAME)
    return base


@pytest.fixture(scope="module")
def functions(base):
    return tflite_functions(str(base / "1"))


@pytest.fixture(scope="module")
def savedmodel():
    return tf.saved_model.load(exported_once()[1]).signatures["serving_default"]


def assert_of(model, outputs, row, pixels):
    """Whether one row of outputs is the model's answer to pixels."""
    expected = dict(zip(model.labels, model.probabilities(pixels[None])[0], strict=True))
    labels = [label.decode() for label in outputs["labels"][row]]
    np.testing.assert_allclose(outputs["scores"][row], [expected[label] for label in labels], atol=1e-5)
    assert sorted(labels) == sorted(model.labels) and (np.diff(outputs["scores"][row]) <= 0).all()
    thresholds = dict(zip(model.labels, model.thresholds, strict=True))
    np.testing.assert_allclose(outputs["thresholds"][row], [thresholds[label] for label in labels], rtol=1e-6)
    assert outputs["is_present"][row].tolist() == [expected[label] >= thresholds[label] for label in labels]


def test_photos_and_bad_ones_get_the_answers_of_the_tflite(functions, other):
    outputs = functions["serving_default"]({"image_bytes": np.array(PHOTOS, object)})
    assert outputs["valid"].tolist() == [True, False, True, True]
    assert not outputs["scores"][1].any() and not outputs["is_present"][1].any()
    for row in (0, 2, 3):
        assert_of(other, outputs, row, pixels_of(PHOTOS[row]))


def test_pixels_and_examples_get_the_same(functions):
    photos = functions["serving_default"]({"image_bytes": np.array(PHOTOS, object)})
    images = np.stack([pixels_of(PHOTOS[row]) for row in (0, 2, 3)])
    pixels = functions["serving_pixels"]({"image": images})
    examples = [example_of(photo).SerializeToString() for photo in PHOTOS]
    classified = functions["classify"]({"inputs": np.array(examples, object)})
    np.testing.assert_allclose(pixels["scores"], photos["scores"][[0, 2, 3]], atol=1e-6)
    np.testing.assert_allclose(classified["scores"], photos["scores"], atol=1e-6)
    assert (classified["classes"] == photos["labels"]).all()


@pytest.mark.parametrize("photos", [[], [b""], [b"no photo"] * 3])
def test_batches_without_a_photo_have_the_outputs_of_the_savedmodel(functions, savedmodel, photos):
    inputs = np.array(photos, object)
    expected = savedmodel(image_bytes=tf.constant(inputs, tf.string, (len(photos),)))
    found = functions["serving_default"]({"image_bytes": inputs})
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.shape == expected[name].shape and tf.as_dtype(value.dtype) == expected[name].dtype


def test_photos_that_come_at_once_get_their_own_answers(tflite, other):
    pool = ClassifierPool(str(tflite), 3)
    images = np.random.default_rng(0).integers(0, 256, (17, SIZE, SIZE, 3), np.uint8)
    ranked = pool.ranked(images, np.arange(17) % 5 != 0)
    for row in range(17):
        if row % 5:
            assert_of(other, ranked, row, images[row])
        else:
            assert not ranked["scores"][row].any()


@pytest.mark.slow
def test_a_server_that_prefers_it_takes_it_where_there_is_one_and_for_what_it_can(base, other, tmp_path):
    path, maps = str(tmp_path / "a.jpg"), HeatmapFiles(str(tmp_path / "maps"))
    (tmp_path / "a.jpg").write_bytes(PHOTOS[0])
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "msrn" base_path: "{base}" model_platform: "tensorflow" '
        "model_version_policy { all {} } } }"
    )
    with running_server("", model_config_file=str(config), prefer_tflite_model=True) as (_, address):
        with Client(address, "msrn", version=1) as client:
            (scored,), bad = ask(client, [path])
            (explained,), _ = ask(client, [path], maps)
        with Client(address, "msrn", version=2) as client:
            (without,), _ = ask(client, [path])
    of_tflite, of_savedmodel = (
        sorted(model.probabilities(pixels_of(PHOTOS[0])[None])[0], reverse=True)
        for model in (other, exported_once()[0])
    )
    np.testing.assert_allclose(scored.scores, of_tflite, atol=1e-5)
    np.testing.assert_allclose(explained.scores, of_savedmodel, atol=1e-5)
    assert bad == [] and explained.heatmaps and set(without.labels) == {"größe", "cat"}


def test_a_tflite_of_another_model_or_a_damaged_one_is_not_served(tflite, tmp_path):
    folder = tmp_path / "1"
    shutil.copytree(exported_once()[1], folder)
    content = tflite.read_bytes()
    (folder / TFLITE_NAME).write_bytes(content[:-40])
    with pytest.raises(ValueError, match="cut short or damaged"):
        tflite_functions(str(folder))
    (folder / TFLITE_NAME).write_bytes(content)
    card = folder / "assets" / "model_card.json"
    card.write_text(card.read_text().replace('"image_size": 64', '"image_size": 96'))
    with pytest.raises(ValueError, match="has other labels or another image size than the SavedModel beside it"):
        tflite_functions(str(folder))


def test_the_export_takes_a_tflite_of_its_model_alone(tflite, other, tmp_path):
    assert tflite_of(other, str(tflite)).labels == list(other.labels)
    for labels, size, words in (
        (("other", *LABELS[1:]), SIZE, r"--tflite=.*its label 0 is 'sky' and the model's 'other'"),
        (LABELS, 2 * SIZE, r"--tflite=.*takes 64 pixels and the model 128"),
    ):
        with pytest.raises(UserError, match=words):
            tflite_of(types.SimpleNamespace(labels=labels, image_size=size), str(tflite))
    with pytest.raises(UserError, match="no such file"):
        tflite_of(other, str(tmp_path / "none.tflite"))


def test_the_command_puts_it_beside_the_savedmodel_and_says_how_far_it_is_off(
    tflite, other, tmp_path, capsys, monkeypatch
):
    exported, folder = exported_once()
    save_model(exported, str(tmp_path / "model.keras"))
    monkeypatch.setattr(  # as it was written before
        saved_model, "write_saved_model", lambda _model, to, *_: shutil.copytree(folder, to, dirs_exist_ok=True)
    )
    config = saved_model.SavedModelConfig(str(tmp_path / "model.keras"), str(tmp_path / "served"), tflite=str(tflite))
    saved_model.main(config)
    assert (tmp_path / "served" / "1" / TFLITE_NAME).read_bytes() == tflite.read_bytes()
    ((_, pixels),) = read_photos("", SIZE)
    expected = np.abs(other.probabilities(pixels[None]) - exported.probabilities(pixels[None])).max()
    said = re.search(r"other.tflite by at most (\S+);", capsys.readouterr().out)[1]
    assert float(said) == pytest.approx(expected, rel=0.05)
