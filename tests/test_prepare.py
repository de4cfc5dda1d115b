"""`msrn_tf.prepare`: shards that do not depend on how they came about, and training on them."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from running import ROOT, SMALL, assert_refused, command

from msrn_tf.data.pipeline import InputPlan, evaluation_batches, training_batches
from msrn_tf.data.readers import open_dataset, read_split


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """120 photos in a table, with a text file called .jpg, a missing file, and one photo in two splits."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    lines = ["image,labels,split"]
    for number in range(120):
        pixels = rng.integers(0, 256, (90, 120, 3), "uint8")
        pixels[..., 0] = 255 * (number % 2)
        Image.fromarray(pixels).save(folder / f"{number:03d}.jpg", quality=95)
        split = "train" if number < 90 else "val"
        lines.append(f"{number:03d}.jpg,{'red' if number % 2 else 'blue|?red'},{split}")
    (folder / "bad.jpg").write_text("no photo")
    (folder / "twin.jpg").write_bytes((folder / "001.jpg").read_bytes())
    lines += ["bad.jpg,red,train", "gone.jpg,red,train", "twin.jpg,red,val"]
    (folder / "photos.csv").write_text("\n".join(lines))
    return folder


def arguments(photos, output, *more):
    return ["--dataset=csv", f"--data_dir={photos}", f"--output={output}", "--shard_megabytes=1", *more]


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir())}


@pytest.fixture(scope="module")
def prepared(photos, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "records"
    run = command("msrn_tf.prepare", *arguments(photos, output, "--num_threads=1"))
    assert run.returncode == 0, run.stderr
    return output, run.stdout


def test_the_audit_names_what_is_wrong(photos, prepared):
    output, said = prepared
    assert (
        "bad.jpg: is none of JPEG" in said and "gone.jpg: cannot be read" in said and "1 of them across splits" in said
    )
    report = json.loads((output / "audit.json").read_text())
    assert report["splits"]["train"]["images"] == 90 and report["splits"]["train"]["rejected"] == 2
    assert report["splits"]["train"]["present"] == {"blue": 45, "red": 45}
    assert report["splits"]["train"]["unknown"] == {"blue": 0, "red": 45}
    assert [{image["image"] for image in group} for group in report["duplicates"]] == [{"001.jpg", "twin.jpg"}]
    page = (output / "audit.html").read_text()
    assert "bad.jpg" in page and page.count("<img") == 2
    assert "http" not in page and "<script" not in page


def test_records_hold_the_original_bytes_and_are_plain_tfrecords(photos, prepared):
    output, _ = prepared
    shards = sorted(str(path) for path in output.glob("train-*.tfrecord"))
    assert len(shards) > 1
    names = []
    for record in tf.data.TFRecordDataset(shards):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        name = features["image/id"].bytes_list.value[0].decode()
        assert features["image/encoded"].bytes_list.value[0] == (photos / name).read_bytes()
        assert features["image/height"].int64_list.value[0] == 90 and features["image/width"].int64_list.value[0] == 120
        names.append(name)
    assert names == [f"{number:03d}.jpg" for number in range(90)]


def test_batches_from_records_equal_those_from_files(photos, prepared):
    output, _ = prepared
    records = read_split(open_dataset("prepared", str(output)), "train")
    files = [e for e in open_dataset("csv", str(photos)).read("train") if e.image_id not in ("bad.jpg", "gone.jpg")]
    plan = InputPlan(32, "multi_scale_crop")
    for one, other in zip(
        training_batches(records, plan, batch_size=16, seed=1, epoch=2, first_batch=1),
        training_batches(files, plan, batch_size=16, seed=1, epoch=2, first_batch=1),
        strict=True,
    ):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    assert len(list(evaluation_batches(records, image_size=32, batch_size=16))) == 6


def test_neither_threads_nor_an_interruption_change_a_byte(photos, prepared, tmp_path):
    expected = contents(prepared[0])
    assert command("msrn_tf.prepare", *arguments(photos, tmp_path / "threads", "--num_threads=5")).returncode == 0
    assert contents(tmp_path / "threads") == expected

    output = tmp_path / "killed"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "msrn_tf.prepare", *arguments(photos, output)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not list(output.glob("*.tfrecord.json")):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = output / "train-00000.tfrecord"
    before = first.stat().st_mtime_ns
    again = command("msrn_tf.prepare", *arguments(photos, output))
    assert again.returncode == 0, again.stderr
    assert first.stat().st_mtime_ns == before  # kept, not written again
    assert {name: data for name, data in contents(output).items() if not name.endswith(".tmp")} == expected
    assert "nothing to do" in command("msrn_tf.prepare", *arguments(photos, output)).stdout


def test_photos_are_shrunk_and_bad_ones_may_end_the_command(photos, tmp_path):
    run = command("msrn_tf.prepare", *arguments(photos, tmp_path / "small", "--max_side=60"))
    assert run.returncode == 0, run.stderr
    records = read_split(open_dataset("prepared", str(tmp_path / "small")), "val")
    assert json.loads((tmp_path / "small" / "audit.json").read_text())["splits"]["val"]["longest_side"] == 60
    assert len(records) == 31
    assert_refused(command("msrn_tf.prepare", *arguments(photos, tmp_path / "strict", "--bad_images=fail")), "bad.jpg")
    assert not (tmp_path / "strict" / "dataset.json").exists()
    assert_refused(
        command("msrn_tf.prepare", *arguments(photos, tmp_path / "small", "--max_side=50")), "other data or flags"
    )
    assert_refused(command("msrn_tf.prepare", *arguments(photos, photos)), "not empty")
    assert_refused(command("msrn_tf.prepare", *arguments(photos, tmp_path / "x", "--splits=night")), "--splits=night")
    assert_refused(command("msrn_tf.train", "--dataset=prepared", f"--data_dir={tmp_path / 'strict'}", "--workdir=w"),
                   "dataset.json")  # fmt: skip


def test_a_run_trains_on_records_and_another_skips_and_counts_bad_photos(photos, prepared, tmp_path):
    flags = [*SMALL, "--notensorboard"]
    run = command("msrn_tf.train", "--dataset=prepared", f"--data_dir={prepared[0]}", f"--workdir={tmp_path / 'a'}",
                  *flags, "--mix=mixup", "--cache_images")  # fmt: skip
    assert run.returncode == 0, run.stderr
    # The missing file is refused; the one that is no photo is skipped in training.
    from_files = ["--dataset=csv", f"--workdir={tmp_path / 'b'}", *flags, "--batch_size=10", "--epochs=2"]
    assert_refused(command("msrn_tf.train", f"--data_dir={photos}", *from_files), "gone.jpg")
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in photos.glob("*.jpg"):
        (folder / path.name).symlink_to(path)
    text = (photos / "photos.csv").read_text().replace("gone.jpg,red,train\n", "")
    (folder / "photos.csv").write_text(text.replace("089.jpg,red,train\n", ""))  # 90 with the bad one: all are seen
    run = command("msrn_tf.train", f"--data_dir={folder}", *from_files)
    assert run.returncode == 0, run.stderr
    assert sum(line.startswith("skipped ") for line in run.stdout.splitlines()) == 1
    assert "bad.jpg: is none of JPEG" in run.stdout
    records = [json.loads(line) for line in (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()]
    assert [record["bad_images"] for record in records] == [1, 1] and records[0]["step"] == 9
    strict = [*from_files, "--bad_images=fail", f"--workdir={tmp_path / 'c'}"]
    assert_refused(command("msrn_tf.train", f"--data_dir={folder}", *strict), "bad.jpg")
    evaluation = ["--dataset=csv", f"--data_dir={folder}", "--split=train", f"--model={tmp_path / 'b' / 'model.keras'}"]
    assert_refused(command("msrn_tf.evaluate", *evaluation), "bad.jpg")
