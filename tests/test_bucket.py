"""Google Cloud Storage by TensorFlow's own client, against an emulator on this machine (`bucket`)."""

import io
import json
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from running import ROOT, SMALL, assert_refused, command

pytest.importorskip("gcp_storage_emulator", reason="the emulator of requirements-dev.txt is not installed")
pytest.importorskip("trustme", reason="what makes the emulator's certificate is not installed")

from bucket import Bucket

from export.quantization.arena import arena_bytes

KEYS = ("GOOGLE_AUTH_TOKEN_FOR_TESTING", "GOOGLE_APPLICATION_CREDENTIALS")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    with Bucket("photos", tmp_path_factory.mktemp("bucket")) as running:
        rng = np.random.default_rng(0)
        lines = ["image,labels,split"]
        for number in range(40):
            pixels = rng.integers(0, 90, (5, 6, 3), "uint8").repeat(8, axis=0).repeat(8, axis=1)
            pixels[..., 2 * (number % 2)] += 120
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "JPEG")
            running.put(f"raw/below/{number:02d}.jpg", stream.getvalue())
            split = "train" if number < 32 else "val"
            lines.append(f"below/{number:02d}.jpg,{'blue' if number % 2 else 'red'},{split}")
        running.put("raw/photos.csv", "\n".join(lines).encode())
        yield running


@pytest.fixture
def reached(bucket, monkeypatch, tmp_path):
    """The bucket, for commands that this test starts."""
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))  # holds no credentials
    bucket.status = None
    return bucket


def test_a_bucket_that_is_not_there_is_one_sentence(reached):
    for module, flag in (("msrn_tf.prepare", "data_dir"), ("msrn_tf.train", "workdir"), ("msrn_tf.evaluate", "model")):
        run = command(module, f"--{flag}=gs://nowhere/x", "--dataset=csv")
        assert_refused(run, f"--{flag}=gs://nowhere: there is no such bucket; check its name")
    assert_refused(command("msrn_tf.predict", "gs://nowhere/*.jpg"), "gs://nowhere: there is no such bucket")


def test_the_memory_of_a_tflite_at_an_address_is_that_of_the_file(tmp_path):
    twice = tf.function(lambda x: 2.0 * x, input_signature=[tf.TensorSpec((1000,), tf.float32)])
    content = tf.lite.TFLiteConverter.from_concrete_functions([twice.get_concrete_function()], tf.Module()).convert()
    (tmp_path / "twice.tflite").write_bytes(content)
    with tf.io.gfile.GFile("ram://models/twice.tflite", "wb") as file:
        file.write(content)
    assert arena_bytes("ram://models/twice.tflite") == arena_bytes(str(tmp_path / "twice.tflite")) >= 8000


def test_without_credentials_a_command_ends_at_once_with_what_to_do(reached, monkeypatch):
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")  # nobody answers there
    reached.status = 401
    started = time.monotonic()
    refused = command("msrn_tf.prepare", "--data_dir=gs://photos/raw", "--dataset=csv", "--output=gs://photos/out")
    assert_refused(refused, "gs://photos/out", "no credentials were found", "gcloud auth application-default login")
    assert time.monotonic() - started < 120, "asked for credentials again and again"


def test_a_key_that_is_none_and_a_store_that_is_out_of_reach_are_one_sentence(reached, monkeypatch, tmp_path):
    (tmp_path / "key.json").write_text("{}")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    run = command("msrn_tf.evaluate", "--model=gs://photos/model.keras")
    assert_refused(run, f"GOOGLE_APPLICATION_CREDENTIALS={tmp_path}/key.json: has neither a private key nor a refresh")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    run = command("msrn_tf.evaluate", "--model=gs://photos/model.keras")
    assert_refused(run, "--model=gs://photos: Google Cloud Storage cannot be reached", "https_proxy")


def test_a_pattern_without_files_and_a_model_that_is_not_there_are_one_sentence(reached):
    assert_refused(command("msrn_tf.predict", "gs://photos/raw/*.png"), "gs://photos/raw/*.png: no such file or folder")
    run = command("msrn_tf.evaluate", "--model=gs://photos/gone.keras", "--data_dir=gs://photos/raw", "--split=val")
    assert_refused(run, "gs://photos/gone.keras", "no such file")
    run = command("msrn_tf.prepare", "--data_dir=gs://photos/gone", "--dataset=csv", "--output=gs://photos/o")
    assert_refused(run, "--data_dir=gs://photos/gone: no such folder")


@pytest.mark.slow
def test_the_way_from_photos_in_a_bucket_to_a_measured_model_in_it(reached):
    data = ("--dataset=csv", "--data_dir=gs://photos/raw")
    prepared = ("--dataset=prepared", "--data_dir=gs://photos/prepared")
    run = command("msrn_tf.prepare", *data, "--output=gs://photos/prepared")
    assert run.returncode == 0, run.stderr
    assert {name for name in reached.names("prepared/")} >= {"prepared/dataset.json", "prepared/train-00000.tfrecord"}
    assert not [name for name in reached.names("") if ".tmp" in name]
    training = ("msrn_tf.train", *prepared, "--workdir=gs://photos/run", *SMALL, "--checkpoint_steps=1", "--epochs=2")
    before = len(reached.requests)
    # What TensorFlow reads of its environment when it is imported is set by `msrn_tf`, if that comes first.
    started = [sys.executable, "-m", *training]
    run = subprocess.run(started, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    photo_reads = [size for method, path, size in list(reached.requests)[before:] if path.endswith(".tfrecord")]
    assert len(photo_reads) >= 64 and max(photo_reads) <= 1 << 18, "reads far more than a photo for each"
    run = command(*training)
    assert run.returncode == 0 and "continues" in run.stdout, run.stderr
    run = command(
        "msrn_tf.evaluate", *prepared, "--model=gs://photos/run/model.keras", "--split=val", "--bootstrap=0",
        "--output=gs://photos/metrics.json", "--strategy=one",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert json.loads(reached.get("metrics.json"))["num_images"] == 8
    assert "run/.lock" not in reached.names("run/") and "run/flags.cfg" in reached.names("run/")
