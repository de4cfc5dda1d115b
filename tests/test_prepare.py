"""`msrn_tf.prepare`: shards that do not depend on how they came about, and training on them."""

import errno
import hashlib
import io
import json
import os
import pathlib
import signal
import stat
import struct
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from running import ROOT, SMALL, assert_refused, command
from serving import small_model

from export.quantization.calibration_photos import calibration_examples
from msrn_tf import storage
from msrn_tf.config import DataConfig
from msrn_tf.data.audit import audit
from msrn_tf.data.batch_source import PhotoSource
from msrn_tf.data.examples import Example, Examples
from msrn_tf.data.near_duplicates import MOST_BITS, alike_pairs, count_alike, perceptual_hash
from msrn_tf.data.pipeline import (
    InputPlan,
    evaluation_batches,
    in_memory,
    read_bytes,
    training_batches,
    why_not_decoded,
)
from msrn_tf.data.preparation import PreparationPlan, check, checked, write_split
from msrn_tf.data.readers import open_dataset, read_split
from msrn_tf.errors import UserError
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.training.batches import TrainingBatches


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
        "bad.jpg: is not one of JPEG" in said
        and "gone.jpg: cannot be read" in said
        and "1 of them across splits" in said
    )
    report = json.loads((output / "audit.json").read_text())
    assert report["splits"]["train"]["images"] == 90 and report["splits"]["train"]["rejected"] == 2
    assert report["splits"]["train"]["present"] == {"blue": 45, "red": 45}
    assert report["splits"]["train"]["unknown"] == {"blue": 0, "red": 45}
    assert [{image["image"] for image in group} for group in report["duplicates"]] == [{"001.jpg", "twin.jpg"}]
    assert report["overlaps"] == []
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
    files = open_dataset("csv", str(photos)).read("train")
    files = files.take([n for n, name in enumerate(files.ids) if name not in ("bad.jpg", "gone.jpg")])
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
    strict = arguments(photos, tmp_path / "strict", "--bad_images=fail")
    assert_refused(command("msrn_tf.prepare", *strict), "bad.jpg", "--bad_images=skip")
    assert not (tmp_path / "strict" / "dataset.json").exists()
    assert_refused(
        command("msrn_tf.prepare", *arguments(photos, tmp_path / "small", "--max_side=50")), "other data or flags"
    )
    assert_refused(command("msrn_tf.prepare", *arguments(photos, photos)), "not empty")
    assert_refused(command("msrn_tf.prepare", *arguments(photos, tmp_path / "x", "--splits=night")), "--splits=night")
    assert_refused(command("msrn_tf.train", "--dataset=prepared", f"--data_dir={tmp_path / 'strict'}", "--workdir=w"),
                   "dataset.json")  # fmt: skip


def test_what_was_begun_strictly_goes_on_skipping_but_not_the_other_way(photos, prepared, tmp_path):
    output = tmp_path / "records"
    assert_refused(command("msrn_tf.prepare", *arguments(photos, output, "--bad_images=fail")), "bad.jpg")
    kept = output / "train-00000.tfrecord"
    before = kept.stat().st_mtime_ns
    assert command("msrn_tf.prepare", *arguments(photos, output)).returncode == 0
    assert kept.stat().st_mtime_ns == before and contents(output) == contents(prepared[0])
    assert_refused(command("msrn_tf.prepare", *arguments(photos, output, "--bad_images=fail")), "other data or flags")


def test_shrunk_photos_are_what_training_sees_of_the_whole_ones(tmp_path):
    """Pillow alone would make a white picture of 16-bit greys, and lose the turn of a photo that stands on its side."""
    grey = np.asarray(Image.linear_gradient("L").resize((90, 120)))
    Image.fromarray(grey.astype(np.uint16) * 257).save(encoded := io.BytesIO(), "PNG")
    plan = PreparationPlan(max_pixels=10**6, max_side=60)
    found = check(encoded.getvalue(), plan)
    assert (found.height, found.width) == (60, 45)
    shrunk = np.asarray(Image.open(io.BytesIO(found.content)).convert("L"), int)
    expected = np.asarray(Image.fromarray(grey).resize((45, 60), Image.Resampling.LANCZOS), int)
    assert np.abs(shrunk - expected).max() <= 3
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(grey).save(turned := io.BytesIO(), "JPEG", exif=tags)
    found = check(turned.getvalue(), plan)
    assert (found.height, found.width) == (45, 60)
    assert found.digest == hashlib.sha256(turned.getvalue()).hexdigest()


def test_splits_that_share_photos_are_no_duplicates(tmp_path):
    examples = Examples.of((Example(name, np.ones(1, np.int8), image_path=name) for name in "abc"), 1)
    rows = [[number, 0, digest, 8, 8] for number, digest in enumerate(["same", "same", "other"])]
    splits = {
        "train": examples[:2],
        "trainval": examples,
        "test": Examples.of([Example("d", np.ones(1, np.int8), "d")], 1),
    }
    notes = {"train": [{"rows": rows[:2], "rejected": []}], "trainval": [{"rows": rows, "rejected": []}],
             "test": [{"rows": [[0, 0, "other", 8, 8]], "rejected": []}]}  # fmt: skip
    report = audit(["label"], splits, notes)
    assert report["overlaps"] == [{"splits": ("train", "trainval"), "images": 2}]
    assert [{photo["image"] for photo in group} for group in report["duplicates"]] == [{"a", "b"}, {"c", "d"}]
    assert report["num_duplicates"] == report["duplicates_across_splits"] == 2


def scenery(seed):
    """A picture with large forms, another one for each seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(blocks).resize((160, 120), Image.Resampling.BICUBIC)


def in_jpeg(picture, **options):
    picture.save(stream := io.BytesIO(), "JPEG", **options)
    return stream.getvalue()


def test_a_photo_in_another_size_and_quality_looks_alike_and_others_do_not():
    pictures = [scenery(seed) for seed in range(200)]
    again = [Image.open(io.BytesIO(in_jpeg(picture.resize((80, 60)), quality=60))) for picture in pictures[:50]]
    hashes = [perceptual_hash(np.asarray(picture)) for picture in (*pictures, *again)]
    assert [(one, other) for one, other, _ in alike_pairs(hashes)] == [(n, 200 + n) for n in range(50)]
    blank = [perceptual_hash(np.full((50, 50, 3), grey, np.uint8)) for grey in (0, 0, 255)]
    assert blank == ["", "", ""] and list(alike_pairs(blank)) == []


def test_alike_pairs_are_those_of_comparing_each_with_each():
    random = np.random.default_rng(0)
    values = random.integers(0, 1 << 62, 300).tolist()
    values += [value ^ sum(1 << int(bit) for bit in random.choice(64, n % 8, False)) for n, value in enumerate(values)]
    near = {(a, b) for a in range(600) for b in range(a + 1, 600) if (values[a] ^ values[b]).bit_count() <= MOST_BITS}
    hashes = [f"{value:016x}" for value in values]
    pairs = [(a, b) for a, b, _ in alike_pairs(hashes)]
    assert pairs == sorted(near) and len(near) >= 180
    kinds = [n % 3 for n in range(600)]
    of_own, of_others = count_alike(hashes, kinds)
    for n in range(600):
        others = [kinds[sum(pair) - n] for pair in near if n in pair]
        assert (of_own[n], of_others[n]) == (others.count(kinds[n]), len(others) - others.count(kinds[n]))


def test_photos_of_a_still_camera_take_no_memory_by_their_pairs():
    names = [f"{n:04}" for n in range(1500)]
    rows = [[n, 0, name, 8, 8, "0123456789abcdef"] for n, name in enumerate(names)]
    examples = Examples.of((Example(name, np.ones(1, np.int8)) for name in names), 1)
    notes = {"train": [{"rows": rows[:-1], "rejected": []}], "val": [{"rows": rows[-1:], "rejected": []}]}
    tracemalloc.start()
    try:
        report = audit(["cat"], {"train": examples, "val": examples}, notes)
        assert tracemalloc.get_traced_memory()[1] < 20e6  # a list of the pairs has 250e6
    finally:
        tracemalloc.stop()
    assert report["num_near_duplicates"] == 1500 * 1499 // 2 and report["near_duplicates_across_splits"] == 1499
    pairs = [[photo["image"] for photo in pair] for pair in report["near_duplicates"]]
    assert pairs == [[name, names[-1]] for name in names[:100]]
    assert report["training_photos_like_others"] == names[:-1]


def test_the_audit_finds_what_is_strange_and_says_what_mends_it():
    labels = ["Cat", "animal", "cat", "rare", "car"]
    rows = [[1, 1, 0, 0, 0]] * 40 + [[0, 0, 0, 0, 1]] * 40 + [[0, 0, 1, 1, 0]]
    training = Examples.of((Example(f"t{n}", np.array(row, np.int8)) for n, row in enumerate(rows)), 5)
    testing = Examples.of((Example(f"v{n}", np.array(rows[n], np.int8)) for n in range(2)), 5)
    looks = [f"{n * 0x9E3779B97F4A7C15 % (1 << 64):016x}" for n in range(1, len(rows) + 1)]
    twin = f"{int(looks[3], 16) ^ 0b101:016x}"
    notes = {
        "train": [{"rows": [[n, 0, f"d{n}", 60, 80, looks[n]] for n in range(len(rows))], "rejected": []}],
        "test": [{"rows": [[0, 0, "e0", 60, 500, twin], [1, 0, "e1", 500, 500, ""]], "rejected": []}],
    }
    report = audit(labels, {"train": training, "test": testing}, notes, "train", 224)
    assert report["near_duplicates"] == [[{"splits": ["train"], "image": "t3"}, {"splits": ["test"], "image": "v0"}]]
    assert report["training_photos_like_others"] == ["t3"]
    assert report["labels"] == {
        "alike": [["Cat", "cat"]],
        "never_together": [["Cat", "car"], ["animal", "car"]],
        "always_together": [["Cat", "animal"], ["animal", "Cat"]],
        "fewer_than_10_photos": ["cat", "rare"],
        "most_for_one_of_the_rarest": 40.0,
    }
    assert report["splits"]["train"]["smaller_than_image_size"] == 81
    findings = {item["finding"]: item["mend"] for item in report["findings"]}
    assert "--leave_out=near_duplicates.txt" in findings["1 pairs of photos look alike and are in different splits"]
    assert "--min_photos=10" in findings["fewer than 10 photos of train show cat, rare"]
    assert "--image_size=32" in findings["photos are smaller than --image_size=224: 81 in train, 1 in test"]
    assert any("Cat with animal" in finding for finding in findings) and any("'Cat' and 'cat'" in f for f in findings)


def test_photos_that_look_like_those_of_another_split_are_left_out_when_they_are_asked_to_be(tmp_path):
    lines = ["image,labels,split"]
    for seed in range(12):
        (tmp_path / f"{seed}.jpg").write_bytes(in_jpeg(scenery(seed)))
        lines.append(f"{seed}.jpg,{'cat' if seed % 2 else 'dog'},train")
    (tmp_path / "again.jpg").write_bytes(in_jpeg(scenery(3).resize((100, 75)), quality=50))
    (tmp_path / "list.csv").write_text("\n".join([*lines, "again.jpg,cat,val"]))
    flags = [f"--data_dir={tmp_path}", "--dataset=auto", "--image_size=32"]
    run = command("msrn_tf.prepare", *flags, f"--output={tmp_path / 'one'}")
    assert run.returncode == 0, run.stderr
    assert "1 pairs of photos look alike, 1 of them across splits" in run.stdout
    listed = tmp_path / "one" / "near_duplicates.txt"
    assert listed.read_text() == "3.jpg\n"
    run = command("msrn_tf.prepare", *flags, f"--output={tmp_path / 'two'}", f"--leave_out={listed}")
    assert run.returncode == 0 and "left out   1 photos" in run.stdout, run.stderr
    assert "3.jpg" not in open_dataset("prepared", str(tmp_path / "two")).read("train").ids
    (tmp_path / "none.txt").write_text("x.jpg\n")
    run = command("msrn_tf.prepare", *flags, f"--output={tmp_path / 'three'}", f"--leave_out={tmp_path / 'none.txt'}")
    assert_refused(run, "--leave_out=", "names no photo of the split, such as x.jpg")


def test_a_file_whose_name_is_no_text_is_prepared_and_trained_on(tmp_path):
    folder = os.fsencode(tmp_path / "photos" / "cat")
    os.makedirs(folder)
    for number in range(20):
        path = os.path.join(folder, b"caf\xe9%d.jpg" % number)
        Image.new("RGB", (40, 40), (10 * number, 0, 0)).save(os.fsdecode(path), "JPEG")
    with open(os.path.join(folder, b"\xff\x1b[31m.jpg"), "w") as file:
        file.write("no photo")
    output = tmp_path / "records"
    flags = ["--dataset=folder", f"--data_dir={tmp_path / 'photos'}", f"--output={output}", "--splits=train"]
    run = command("msrn_tf.prepare", *flags)
    assert run.returncode == 0, run.stderr
    assert "\x1b" not in run.stdout
    examples = open_dataset("folder", str(tmp_path / "photos")).read("train")
    images, _ = next(iter(evaluation_batches(examples[:4], image_size=8, batch_size=4)))
    assert images.shape == (4, 8, 8, 3)
    assert len(read_split(open_dataset("prepared", str(output)), "train")) >= 10


def test_what_cannot_be_written_and_photos_that_are_all_missing_are_one_sentence(photos, tmp_path):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        assert_refused(
            command("msrn_tf.prepare", *arguments(photos, output)), f"--output={output}: ", "is not a folder"
        )
    (tmp_path / "list.csv").write_text("image,labels,split\na.jpg,cat,train\nb.jpg,,val\n")
    flags = arguments(tmp_path, tmp_path / "records")
    assert_refused(command("msrn_tf.prepare", *flags), "split 'train'", "none of its 1 photos", "a.jpg: cannot be read")
    assert_refused(command("msrn_tf.prepare", *flags, "--drop_unlabelled"), "split 'val'", "no image is left")
    for name in "ab":  # complete, the same command goes on
        Image.new("RGB", (9, 9)).save(tmp_path / f"{name}.jpg")
    assert command("msrn_tf.prepare", *flags).returncode == 0


@pytest.mark.slow
def test_a_run_trains_on_records_and_another_skips_and_counts_bad_photos(photos, prepared, tmp_path):
    flags = [*SMALL, "--model=gap", "--notensorboard"]
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
    assert "bad.jpg: is not one of JPEG" in run.stdout
    records = [json.loads(line) for line in (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()]
    assert [line.count(" 1 photos skipped") for line in run.stdout.splitlines() if " val mAP " in line] == [1, 1]
    assert [record["bad_images"] for record in records] == [1, 1] and records[0]["step"] == 9
    strict = [*from_files, "--bad_images=fail", f"--workdir={tmp_path / 'c'}"]
    assert_refused(command("msrn_tf.train", f"--data_dir={folder}", *strict), "bad.jpg")
    evaluation = ["--dataset=csv", f"--data_dir={folder}", "--split=train", f"--model={tmp_path / 'b' / 'model.keras'}"]
    assert_refused(command("msrn_tf.evaluate", *evaluation), "bad.jpg")


def test_prepare_again_is_refused_when_a_photo_or_a_label_was_edited_since(tmp_path):
    for number in range(4):
        Image.new("RGB", (9, 9), (60 * number, 0, 0)).save(tmp_path / f"{number}.bmp")
    os.mkfifo(tmp_path / "pipe.jpg")
    table = tmp_path / "list.csv"
    table.write_text("image,labels,split\n0.bmp,cat,train\n1.bmp,,train\n2.bmp,cat,val\n3.bmp,,val\npipe.jpg,cat,val\n")
    flags = arguments(tmp_path, tmp_path / "records")
    run = command("msrn_tf.prepare", *flags)
    assert run.returncode == 0, run.stderr
    assert "pipe.jpg: cannot be read (a named pipe, not a regular file)" in run.stdout
    before = contents(tmp_path / "records")
    assert "nothing to do" in command("msrn_tf.prepare", *flags).stdout
    Image.new("RGB", (9, 9), (1, 2, 3)).save(tmp_path / "2.bmp")  # as large as before
    assert_refused(command("msrn_tf.prepare", *flags), "photos were edited", f"{tmp_path}/2.bmp", "delete it")
    table.write_text(table.read_text().replace("cat", "kitten"))
    assert_refused(command("msrn_tf.prepare", *flags), "other data or flags")
    assert contents(tmp_path / "records") == before


def test_an_interrupted_preparation_goes_on_before_the_photo_that_was_edited(tmp_path):
    examples = []
    for number in range(6):
        path = tmp_path / f"{number}.bmp"
        Image.new("RGB", (9, 9), (40 * number, 0, 0)).save(path)
        examples.append(Example(path.name, np.ones(1, np.int8), image_path=str(path)))
    examples = Examples.of(examples, 1)
    output = tmp_path / "records"
    output.mkdir()
    plan = PreparationPlan(max_pixels=100, shard_bytes=2 * os.path.getsize(path))  # two photos a shard
    write_split(str(output), "train", examples, plan, lambda done: None)
    shards = sorted(output.glob("*.tfrecord"))
    before = [shard.stat().st_mtime_ns for shard in shards]
    Image.new("RGB", (9, 9), (1, 2, 3)).save(tmp_path / "2.bmp")
    notes = write_split(str(output), "train", examples, plan, lambda done: None)
    after = [shard.stat().st_mtime_ns for shard in shards]
    assert len(shards) == len(notes) == 3
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]
    (record, _) = tf.data.TFRecordDataset(str(shards[1])).as_numpy_iterator()
    features = tf.train.Example.FromString(record).features.feature
    assert features["image/encoded"].bytes_list.value[0] == (tmp_path / "2.bmp").read_bytes()


@pytest.mark.parametrize("photo", ["a.jpg", "gs://b/a.jpg"])
@pytest.mark.parametrize("number", ["ENOENT", "EISDIR", "EACCES", "EIO", "ESTALE", "EMFILE"])
@pytest.mark.parametrize("asked", ["status", "read_whole"])
def test_a_photo_is_left_out_for_what_is_its_own_and_not_for_what_a_disk_or_a_store_fails_at(
    monkeypatch, photo, number, asked
):
    def fail(path):
        raise OSError(getattr(errno, number), "a reason", path)

    monkeypatch.setattr(storage, "status", lambda path: storage.Status(1, 0, stat.S_IFREG))
    monkeypatch.setattr(storage, asked, fail)
    example = Example("a", np.ones(1, np.int8), image_path=photo)
    if number in ("ENOENT", "EISDIR") or (number == "EACCES" and photo == "a.jpg"):  # a store denies all, or none
        assert checked(example, PreparationPlan(100)).reason.startswith("cannot be read (")
        return
    with pytest.raises(UserError, match=rf"^{photo}: cannot be read now \(a reason\); .* the same command again"):
        checked(example, PreparationPlan(100))


def test_a_preparation_that_a_disk_stopped_goes_on_when_the_disk_does(tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.bmp" for number in range(4)]
    for number, path in enumerate(paths):
        Image.new("RGB", (9, 9), (40 * number, 0, 0)).save(path)
    examples = Examples.of((Example(path.name, np.ones(1, np.int8), image_path=str(path)) for path in paths), 1)
    plan = PreparationPlan(max_pixels=100, shard_bytes=1)  # a photo a shard
    (output := tmp_path / "records").mkdir()
    read = storage.read_whole

    def read_but_the_third(path):
        if path == str(paths[2]):
            raise OSError(errno.EIO, "Input/output error", path)
        return read(path)

    with monkeypatch.context() as patched, pytest.raises(UserError, match=r"2\.bmp: cannot be read now"):
        patched.setattr(storage, "read_whole", read_but_the_third)
        write_split(str(output), "train", examples, plan, lambda done: None)
    kept = [path.stat().st_mtime_ns for path in sorted(output.glob("*.tfrecord"))]
    notes = write_split(str(output), "train", examples, plan, lambda done: None)
    shards = sorted(output.glob("*.tfrecord"))
    assert [row[0] for note in notes for row in note["rows"]] == [0, 1, 2, 3] and len(kept) == 2
    assert [shard.stat().st_mtime_ns for shard in shards[:2]] == kept


def test_a_decoder_that_finds_no_memory_is_no_fault_of_the_photo(monkeypatch):
    def decode(content, max_pixels):
        raise tf.errors.ResourceExhaustedError(None, None, "no memory")

    monkeypatch.setattr("msrn_tf.data.preparation.decoded", decode)
    with pytest.raises(UserError, match=r"^a: cannot be read now \(no memory"):
        checked(Example("a", np.ones(1, np.int8), image_bytes=b"x"), PreparationPlan(100))


def with_array(name, change):
    def apply(folder):
        path = folder / f"val.{name}.npy"
        np.save(path, change(np.load(path)))

    return apply


def with_value(place, value):
    def change(values):
        values = values.copy()
        values[place] = value
        return values

    return change


def with_description(change):
    def apply(folder):
        path = folder / "dataset.json"
        path.write_text(change(path.read_text()))

    return apply


FAULTS = {
    "a shard of a thousand million": (with_array("shard", with_value(0, 10**9)), "it has shards 0 to 1000000000"),
    "shard -1": (with_array("shard", with_value(0, -1)), "it has shards -1 to"),
    "shards that are not whole numbers": (with_array("shard", lambda values: values + 0.5), "its shard is float64"),
    "offsets of a table": (with_array("offset", lambda values: values[None]), r"offset is int64 of shape \(1, 31\)"),
    "an offset below zero": (with_array("offset", with_value(3, -5)), "a record beyond the"),
    "an offset beyond the end": (with_array("offset", with_value(3, 1 << 40)), "a record beyond the"),
    "target 7": (with_array("target", with_value((2, 0), 7)), "targets other than 1, 0 and -1"),
    "targets that are not whole numbers": (with_array("target", lambda values: values * 1.0), "its target is float64"),
    "a column too few": (with_array("target", lambda values: values[:, 1:]), r"of shape \(31, 1\)"),
    "names that are numbers": (with_array("image_id", lambda values: np.arange(31)), "not a column of names"),
    "names in a table": (with_array("image_id", lambda values: values[None]), "not a column of names"),
    "deep json": (with_description(lambda text: "[" * 100_000), r"dataset\.json: cannot be used"),
    "a list": (with_description(lambda text: "[]"), r"dataset\.json: cannot be used"),
    "a label for all": (
        with_description(lambda text: json.dumps(json.loads(text) | {"labels": "red"})), "not a list of names"
    ),
    "a label twice": (
        with_description(lambda text: json.dumps(json.loads(text) | {"labels": ["red", "red"]})), "a label twice"
    ),
    "a split elsewhere": (with_description(lambda text: text.replace('"val"', '"../val"')), "no file names"),
    "a thousand million shards": (
        with_description(lambda text: text.replace('"num_shards": 1', '"num_shards": 1000000000')), "number of shards"
    ),
    "a shard that is gone": (lambda folder: (folder / "val-00000.tfrecord").unlink(), "val-00000.tfrecord, which"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_an_index_says_is_checked_before_it_is_used(name, prepared, tmp_path):
    apply, sentence = FAULTS[name]
    for path in prepared[0].iterdir():
        if path.name == "dataset.json" or path.name.startswith("val"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert len(open_dataset("prepared", str(tmp_path)).read("val")) == 31
    apply(tmp_path)
    with pytest.raises(UserError, match=sentence):
        open_dataset("prepared", str(tmp_path)).read("val")


def with_length(content, offset, length):
    """The record at a byte of a file says that it is so long, with the checksum that belongs to that."""
    head = struct.pack("<Q", length)
    checksum = crc32c(head)
    masked = ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return content[:offset] + head + struct.pack("<I", masked) + content[offset + 12 :]


def crc32c(data):
    """Castagnoli's, bit by bit."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize("length", [1 << 40, 1 << 62, (1 << 64) - 1, 10**6])
def test_a_record_that_says_it_is_longer_than_its_file_is_a_bad_photo_and_takes_no_memory(prepared, tmp_path, length):
    """TensorFlow's own reader ends the process at the first of these lengths."""
    assert crc32c(b"123456789") == 0xE3069283  # the published check value
    for path in prepared[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    examples = read_split(open_dataset("prepared", str(tmp_path)), "val")
    shard, offset = pathlib.Path(examples[5].image_path), examples[5].record_offset
    shard.write_bytes(with_length(shard.read_bytes(), offset, length))
    assert why_not_decoded(examples[5]) == "is a damaged record" and why_not_decoded(examples[4]) is None
    batches = TrainingBatches(PhotoSource(examples, InputPlan(8)), tf.distribute.get_strategy(), 31, seed=0)
    assert len(list(batches.in_epoch(1))) == 1 and batches.bad == {5}
    assert [n for n, content in enumerate(read_bytes(examples)) if not content] == [5]
    with pytest.raises(UserError, match=r"holds no tf\.Example with image"):
        calibration_examples(str(shard), DataConfig(), "val", ["a"], 40, 0)


def test_a_shard_that_cannot_be_opened_is_not_called_damaged(prepared, tmp_path):
    for path in prepared[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    examples = read_split(open_dataset("prepared", str(tmp_path)), "val")
    shard = pathlib.Path(examples[5].image_path)
    shard.unlink()
    shard.symlink_to(shard)
    reason = why_not_decoded(examples[5])
    assert shard.name in reason and "Too many levels of symbolic links" in reason


def test_a_record_with_one_flipped_bit_is_counted_and_named_like_a_bad_photo(prepared, tmp_path):
    for path in prepared[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    examples = read_split(open_dataset("prepared", str(tmp_path)), "val")
    shard = pathlib.Path(examples[5].image_path)
    content = bytearray(shard.read_bytes())
    content[examples[5].record_offset + 500] ^= 1
    shard.write_bytes(content)

    reasons = [why_not_decoded(example) for example in examples]
    assert [n for n, reason in enumerate(reasons) if reason] == [5] and reasons[5] == "is a damaged record"
    source = PhotoSource(examples, InputPlan(8))
    batches = TrainingBatches(source, tf.distribute.get_strategy(), 31, seed=0)
    assert [images.shape for images, _ in batches.in_epoch(1)] == [(31, 8, 8, 3)] and batches.bad == {5}
    evaluator = Evaluator(small_model(32, model="gap"), 31)
    with pytest.raises(
        UserError,
        match=f"{shard.name}, photo {examples[5].image_id}: is not a photo that can be decoded .is a damaged record",
    ):
        evaluator.logits(source)
    kept = list(in_memory(examples))
    assert [n for n, example in enumerate(kept) if not example.image_bytes] == [5]
    assert why_not_decoded(kept[5]) == "is a damaged record"
