"""Addresses in the place of paths: `ram://` is a file system of TensorFlow's that lives as long as a process."""

import errno
import hashlib
import io
import json
import os
import pathlib
import tarfile
import threading
import uuid

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow as tf
from PIL import Image
from running import assert_refused, command

from export import saved_model, tflite
from export.device_classifier import DeviceClassifier
from msrn_tf import evaluate, predict, prepare, storage, train
from msrn_tf.command_line import check_outputs
from msrn_tf.config import DataConfig, ModelConfig, OptimizationConfig, RunConfig, TrainingDataConfig
from msrn_tf.data import pipeline
from msrn_tf.data.photos import find_photos, photos_in, why_not_a_photo_file
from msrn_tf.data.pipeline import InputPlan
from msrn_tf.data.readers import open_dataset, read_split
from msrn_tf.errors import UserError, file_error
from msrn_tf.files import append_line, check_output, replacing, write_beside
from msrn_tf.flagfile import expanded
from msrn_tf.label_graph import LabelGraph
from msrn_tf.models.factory import load_model
from msrn_tf.tensor_files import TensorFile
from msrn_tf.training import run_directory
from msrn_tf.training.checkpoints import checkpoint_paths
from msrn_tf.training.train_step import TrainStep
from msrn_tf.visualization.heatmap_files import HeatmapFiles


@pytest.fixture
def ram():
    """A folder at an address that no other test has."""
    address = f"ram://{uuid.uuid4().hex}"
    storage.makedirs(address)
    return address


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """48 photos in a table: red ones, and blue ones with a white corner."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    lines = ["image,labels,split"]
    for number in range(48):
        pixels = rng.integers(0, 90, (5, 6, 3), "uint8").repeat(8, axis=0).repeat(8, axis=1)
        pixels[..., 2 * (number % 2)] += 120
        pixels[: 8 * (number % 2), :8] = 255
        (folder / "below").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "below" / f"{number:02d}.jpg", quality=95)
        split = "train" if number < 32 else "val"
        lines.append(f"below/{number:02d}.jpg,{'blue|white' if number % 2 else 'red'},{split}")
    (folder / "photos.csv").write_text("\n".join(lines))
    return folder


def copied(folder, address):
    """A folder of the disk at an address."""
    for inner, _, names in os.walk(folder):
        where = os.path.normpath(os.path.relpath(inner, folder))
        target = address if where == "." else os.path.join(address, where)
        storage.makedirs(target)
        for name in names:
            tf.io.write_file(os.path.join(target, name), pathlib.Path(inner, name).read_bytes())
    return address


def at(address):
    """Relative name → bytes of every file at an address, or in a folder."""
    found = ((inner, name) for inner, _, names in storage.walk(address) for name in names)
    paths = [os.path.join(inner, name) for inner, name in found]
    return {os.path.relpath(path, address): storage.read_whole(path) for path in paths}


# The mechanism


def test_an_address_is_a_scheme_and_a_name_and_nothing_else_is():
    assert all(
        map(
            storage.is_address,
            ("gs://bucket/x", "ram://x", b"s3://b/x", pathlib.PurePosixPath("x") / "y" and "a+b.c-d://x"),
        )
    )
    for path in ("x", "/x", "./gs://x", "C:\\x", "gs:/x", "//x", "1a://x", "", pathlib.Path("gs:/x")):
        assert not storage.is_address(path)


def test_the_same_questions_have_the_same_answers_at_an_address_and_on_a_disk(ram, tmp_path):
    for root in (ram, str(tmp_path)):
        storage.makedirs(os.path.join(root, "a", "b"))
        for name in ("a/one.json", "a/two.txt", "a/b/three.json"):
            with replacing(os.path.join(root, name), "wb") as file:
                file.write(b"0123456789")
        a, gone = os.path.join(root, "a"), os.path.join(root, "gone")
        one = os.path.join(a, "one.json")
        assert [storage.exists(p) for p in (root, a, one, gone)] == [True, True, True, False]
        assert [storage.lexists(p) for p in (a, one, gone)] == [True, True, False]
        assert [storage.isfile(p) for p in (a, one, gone)] == [False, True, False]
        assert [storage.isdir(p) for p in (a, one, gone)] == [True, False, False]
        assert storage.getsize(one) == 10 and storage.status(one).size == 10
        assert storage.status(one).mtime_ns > 1e18 or root == ram  # which keeps no times
        assert sorted(storage.listdir(a)) == ["b", "one.json", "two.txt"]
        assert sorted((e.name, e.is_folder, e.is_file) for e in storage.entries(a)) == [
            ("b", True, False), ("one.json", False, True), ("two.txt", False, True)]  # fmt: skip
        assert storage.matching(a, "*.json") == [one] and storage.matching(gone, "*") == []
        assert storage.matches_of(os.path.join(root, "a", "*.json")) == [one]
        assert [(os.path.relpath(inner, root), sorted(f), sorted(n)) for inner, f, n in storage.walk(root)] == [
            (".", ["a"], []), ("a", ["b"], ["one.json", "two.txt"]), ("a/b", [], ["three.json"])]  # fmt: skip
        assert storage.missing([one, gone, a]) == [gone, a]
        storage.remove(one)
        assert not storage.exists(one)
        for raises in (storage.status, storage.remove, storage.read_whole, storage.getsize):
            with pytest.raises(FileNotFoundError) as error:
                raises(one)
            assert error.value.errno == errno.ENOENT
        with pytest.raises(FileNotFoundError):
            storage.open_file(one, "rb")
        storage.rmtree(a)
        assert storage.listdir(root) == []
        storage.rmtree(a)


def test_a_file_at_an_address_is_read_as_a_file_of_pythons(ram, rng):
    content, path = rng.bytes(3_000_001), os.path.join(ram, "x.bin")
    with replacing(path, "wb") as file:
        file.write(content)
    with storage.open_file(path, "rb") as file:
        assert file.read(10) == content[:10] and file.tell() == 10
        assert file.seek(-5, io.SEEK_END) == len(content) - 5 and file.read() == content[-5:] and file.read() == b""
        assert file.seek(2_000_000) == 2_000_000 and file.read(7) == content[2_000_000:2_000_007]
        assert file.seek(3) == 3 and file.peek(4)[:4] == content[3:7]
        file.seek(0)
        assert hashlib.file_digest(file, "md5").digest() == hashlib.md5(content).digest()
    assert storage.read_whole(path) == content
    with storage.local_copy(path) as copy:
        assert pathlib.Path(copy).read_bytes() == content and os.path.basename(copy) == "x.bin"
    assert not os.path.exists(copy)
    text = os.path.join(ram, "x.txt")
    write_beside(text, "één\nzwei\n")
    with storage.open_file(text, encoding="utf-8") as file:
        assert list(file) == ["één\n", "zwei\n"]
    with pytest.raises(ValueError):
        storage.open_file(text, "w")


def test_a_file_whose_writing_fails_leaves_what_was_there(ram, tmp_path):
    for root in (ram, str(tmp_path)):
        path = os.path.join(root, "x.txt")
        write_beside(path, "before")
        with pytest.raises(KeyError), replacing(path) as file:
            file.write("after")
            raise KeyError
        append_line(path, "more")
        append_line(os.path.join(root, "new"), "one")
        assert storage.read_whole(path) == b"beforemore\n" and storage.read_whole(os.path.join(root, "new")) == b"one\n"
        assert sorted(storage.listdir(root)) == ["new", "x.txt"]


def test_outputs_are_tried_and_nothing_is_left_of_the_try(ram):
    check_output("output", os.path.join(ram, "x.json"))
    check_output("workdir", os.path.join(ram, "deeper", "still"), folder=True)
    assert [name for _, _, names in storage.walk(ram) for name in names] == []
    write_beside(os.path.join(ram, "file"), "x")
    with pytest.raises(UserError, match=r"^`output`=ram://.*: is a folder; give a file"):
        check_output("output", ram)
    with pytest.raises(UserError, match=r"^`workdir`=ram://.*/file: its folder does not exist"):
        check_output("workdir", os.path.join(ram, "file"), folder=True)


@pytest.mark.parametrize("address", ["foo://x/y", "https://example.org/model.keras"])
def test_a_scheme_that_tensorflow_does_not_know_is_one_sentence(address):
    with pytest.raises(UserError, match=rf"^{address}: TensorFlow reads no \w+:// here, only .*ram://"):
        storage.exists(address)


def test_flags_with_an_address_that_nothing_reads_are_refused_by_their_names(tmp_path):
    for module, flag in (
        ("msrn_tf.train", "workdir"), ("msrn_tf.evaluate", "model"), ("msrn_tf.prepare", "data_dir"),
        ("export.tflite", "output"), ("msrn_tf.train", "flagfile"),
    ):  # fmt: skip
        assert_refused(command(module, f"--{flag}=foo://x/y", cwd=tmp_path), f"--{flag}=foo://x/y", "no foo://")
    assert_refused(command("msrn_tf.predict", "foo://x/*.jpg", cwd=tmp_path), "foo://x/*.jpg", "no foo://")
    without = command("export.ondevice", "--model=gs://b/x.tflite", "x.jpg", cwd=tmp_path, absent=("tensorflow",))
    assert_refused(without, "--model=gs://b/x.tflite: TensorFlow, which reads addresses, is not installed")
    assert os.listdir(tmp_path) == []


def test_what_needs_a_disk_says_so(ram):
    from export.web_page.folder import write_folder
    from msrn_tf.training.feature_cache import FeatureCache

    with pytest.raises(UserError, match=f"^`cache_features`={ram}: .*a folder of this machine"):
        FeatureCache(ram, None)
    with pytest.raises(UserError, match=f"^`output`={ram}: .*give a folder"):
        write_folder(ram, {})


def test_an_error_of_a_store_within_tensorflow_is_one_sentence():
    refused = (
        "Error executing an HTTP request: HTTP response code 403 with body '{}'\n\t when reading gs://b/x.tfrecord"
    )
    for kind in (tf.errors.PermissionDeniedError, tf.errors.UnavailableError, tf.errors.AbortedError):
        sentence = file_error(kind(None, None, refused))
        assert sentence.startswith(
            "gs://b/x.tfrecord: cannot be read or written (Error executing an HTTP request: HTTP"
        )
    assert file_error(tf.errors.UnavailableError(None, None, "lost grpc://10.0.0.1:5000")) is None


# Data


def test_photos_at_an_address_are_found_as_on_a_disk(photos, ram):
    copied(photos, ram)
    assert photos_in(ram) == ([f"{ram}/below/{n:02d}.jpg" for n in range(48)], {f"{ram}/photos.csv": ".csv"})
    assert find_photos([f"{ram}/below"]) == photos_in(ram)[0]
    for pattern in (f"{ram}/below/0*.jpg", f"{ram}/**/0*.jpg", f"{ram}/b*/0?.jpg"):
        assert find_photos([pattern]) == [f"{ram}/below/{n:02d}.jpg" for n in range(10)]
    assert why_not_a_photo_file(f"{ram}/below/00.jpg") is None
    assert why_not_a_photo_file(f"{ram}/gone.jpg") == "no such file"
    assert "folder" in why_not_a_photo_file(f"{ram}/below")
    for wrong in (f"{ram}/gone/*.jpg", f"{ram}/gone.jpg"):
        with pytest.raises(UserError, match=r"no such file or folder, and no file matches"):
            find_photos([wrong])


def test_so_many_photos_are_being_read_at_a_time_as_are_asked_for_on_any_number_of_cores(photos, monkeypatch):
    examples = read_split(open_dataset("csv", str(photos)), "train")
    together, read = threading.Barrier(16, timeout=120), pipeline._read_file

    def waiting(row):
        arrived = tf.numpy_function(lambda: np.int64(together.wait()), [], tf.int64, stateful=True)
        with tf.control_dependencies([arrived]):
            return read({"path": tf.identity(row["path"])})

    monkeypatch.setattr(pipeline, "_read_file", waiting)
    plan = InputPlan(32, reads_in_flight=16)
    batches = list(pipeline.training_batches(examples, plan, batch_size=8, seed=0, epoch=1))
    assert len(batches) == 4 and not together.broken


@pytest.mark.slow
def test_the_order_and_the_pixels_of_an_epoch_do_not_depend_on_the_reads_in_flight_or_the_place(photos, ram, tmp_path):
    for source, output in ((str(photos), str(tmp_path / "prepared")), (copied(photos, f"{ram}/p"), f"{ram}/prepared")):
        run(prepare.main, DataConfig(data_dir=source, dataset="csv"), prepare.PreparationConfig(output=output))
    found = []
    for dataset, place, in_flight in (
        ("csv", str(photos), 1), ("csv", str(photos), 64), ("csv", f"{ram}/p", 7),
        ("prepared", str(tmp_path / "prepared"), 5), ("prepared", f"{ram}/prepared", 32),
    ):  # fmt: skip
        examples = read_split(open_dataset(dataset, place), "train")
        plan = InputPlan(32, "multi_scale_crop", reads_in_flight=in_flight)
        batches = pipeline.training_batches(examples, plan, batch_size=8, seed=3, epoch=2, first_batch=1)
        found.append([(images.numpy(), targets.numpy()) for images, targets in batches])
    for other in found[1:]:
        assert len(other) == 3
        for (images, targets), (same_images, same_targets) in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(images, same_images)
            np.testing.assert_array_equal(targets, same_targets)


@pytest.mark.parametrize("form", ["auto", "csv", "voc", "yolo", "folder", "coco_json", "webdataset", "table"])
def test_readers_read_at_an_address_what_they_read_on_a_disk(form, photos, ram, tmp_path):
    folder = photos if form in ("auto", "csv") else form_on_disk(form, photos, tmp_path)
    readers = [open_dataset(form, path) for path in (str(folder), copied(folder, ram))]
    assert readers[0].labels == readers[1].labels and list(readers[0].splits) == list(readers[1].splits)
    for split in readers[0].splits:
        here, there = (read_split(reader, split) for reader in readers)
        assert here.fingerprint() == there.fingerprint()
        assert [path.replace(str(folder), ram) for path in here.files()] == there.files()


def form_on_disk(form, photos, folder):
    """The first photos in another form, of labels a and b in turns."""
    paths = sorted(path for path in (photos / "below").iterdir())[:8]
    if form in FORMS_WITH_PHOTOS_IN_FILES:
        FORMS_WITH_PHOTOS_IN_FILES[form](folder, paths)
        return folder
    for number, path in enumerate(paths):
        place = folder / ("ab"[number % 2] if form == "folder" else "images") / path.name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(path.read_bytes())
        if form == "voc":
            box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
            item = f"<object><name>{'ab'[number % 2]}</name>{box}</object>"
            content = f"<annotation><filename>{path.name}</filename>{item}</annotation>"
            place.with_suffix(".xml").write_text(content)
        if form == "yolo":
            (folder / "labels").mkdir(exist_ok=True)
            (folder / "labels" / f"{path.stem}.txt").write_text(f"{number % 2} 0.5 0.5 0.1 0.1\n")
            (folder / "data.yaml").write_text("names: [a, b]\n")
    if form == "coco_json":
        content = {
            "images": [{"id": n, "file_name": path.name} for n, path in enumerate(paths)],
            "annotations": [{"id": n, "image_id": n, "category_id": n % 2} for n in range(8)],
            "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}],
        }
        (folder / "train.json").write_text(json.dumps(content))
    return folder


def write_parquet(folder, paths):
    rows = {"image": [{"bytes": p.read_bytes(), "path": p.name} for p in paths], "labels": [["a"], ["b"]] * 4}
    pyarrow.parquet.write_table(pyarrow.table(rows), folder / "train-00000-of-00001.parquet")


def write_tar(folder, paths):
    with tarfile.open(folder / "train.tar", "w") as archive:
        for number, path in enumerate(paths):
            for name, content in ((path.name, path.read_bytes()), (f"{path.stem}.txt", b"ab"[number % 2 :][:1])):
                item = tarfile.TarInfo(name)
                item.size = len(content)
                archive.addfile(item, io.BytesIO(content))


FORMS_WITH_PHOTOS_IN_FILES = {"table": write_parquet, "webdataset": write_tar}


def test_a_label_graph_and_a_flagfile_are_read_at_an_address(ram, rng):
    graph = LabelGraph.from_targets("ab", rng.integers(0, 2, (9, 2)))
    graph.save(os.path.join(ram, "label_graph.npz"))
    assert (LabelGraph.load(os.path.join(ram, "label_graph.npz")).cooccurrence == graph.cooccurrence).all()
    with pytest.raises(UserError, match="no such file"):
        LabelGraph.load(os.path.join(ram, "gone.npz"))
    write_beside(os.path.join(ram, "outer.cfg"), "--a=1\n--flagfile=inner.cfg\n")
    write_beside(os.path.join(ram, "inner.cfg"), "--b=2\n")
    assert expanded([f"--flagfile={ram}/outer.cfg", "--c=3"]) == ["--a=1", "--b=2", "--c=3"]
    with pytest.raises(UserError, match=rf"^--flagfile={ram}/gone.cfg: cannot be read"):
        expanded([f"--flagfile={ram}/gone.cfg"])


# The whole way

SMALL_MODEL = ModelConfig(model="gap", backbone="resnet_tiny", dropout=0.2)
SMALL_RUN = OptimizationConfig(epochs=1, batch_size=8, decay_epochs=(1,), ema_decay=0.9)


def run(main, *values):
    """A command as the command line calls it, within this process."""
    check_outputs(*values)
    main(*values)


def train_in(workdir, data_dir, **changes):
    data = TrainingDataConfig(dataset="prepared", data_dir=data_dir, image_size=32, augment="flip")
    options = RunConfig(workdir=workdir, deterministic=True, checkpoint_steps=2, **changes)
    run(train.main, data, SMALL_MODEL, SMALL_RUN, options)


def killed_after(steps, monkeypatch):
    """Lets the process end in the middle of an epoch, as far as a run can see it."""
    step, taken = TrainStep.__call__, []

    def counted(self, *batch):
        taken.append(1)
        if len(taken) > steps:
            raise SystemExit("killed")
        return step(self, *batch)

    monkeypatch.setattr(TrainStep, "__call__", counted)


def weights_of(path):
    model = load_model(path)
    return {weight.path: weight.numpy() for weight in model.weights}


@pytest.mark.slow
def test_the_whole_way_at_an_address_is_that_on_a_disk(photos, ram, tmp_path, monkeypatch, capsys):
    data = copied(photos, f"{ram}/photos")
    for source, output in ((str(photos), str(tmp_path / "prepared")), (data, f"{ram}/prepared")):
        run(prepare.main, DataConfig(data_dir=source, dataset="csv"), prepare.PreparationConfig(output=output))
    here, there = at(str(tmp_path / "prepared")), at(f"{ram}/prepared")
    state = {"prepare.json", "audit.html"}  # times of the files; names of folders
    assert here.keys() == there.keys()
    assert [name for name in here if name not in state and here[name] != there[name] and "npz" not in name] == []
    run(prepare.main, DataConfig(data_dir=data, dataset="csv"), prepare.PreparationConfig(output=f"{ram}/prepared"))
    assert "is complete; nothing to do" in capsys.readouterr().out

    train_in(str(tmp_path / "run"), str(tmp_path / "prepared"), tensorboard=False)
    with monkeypatch.context() as patch:
        killed_after(3, patch)
        with pytest.raises(SystemExit, match="killed"):
            train_in(f"{ram}/run", f"{ram}/prepared")
    assert checkpoint_paths(f"{ram}/run") and not storage.exists(f"{ram}/run/.lock")
    train_in(f"{ram}/run", f"{ram}/prepared")
    assert f"continues  in epoch 1 after step 2, from {ram}/run/checkpoints/ckpt-" in capsys.readouterr().out
    local, remote = weights_of(str(tmp_path / "run" / "model.keras")), weights_of(f"{ram}/run/model.keras")
    assert local.keys() == remote.keys() and len(local) > 20
    for name, value in local.items():
        np.testing.assert_array_equal(value, remote[name], err_msg=name)
    lines = [json.loads(line) for line in storage.read_whole(f"{ram}/run/metrics.jsonl").splitlines()]
    assert [line["epoch"] for line in lines] == [1]
    assert set(storage.listdir(f"{ram}/run")) == {
        "checkpoints", "flags.cfg", "label_graph.npz", "metrics.jsonl", "model.keras", "tensorboard"}  # fmt: skip
    assert len(checkpoint_paths(f"{ram}/run")) == 2

    model, prepared = f"{ram}/run/model.keras", DataConfig(dataset="prepared", data_dir=f"{ram}/prepared")
    run(
        evaluate.main, prepared,
        evaluate.EvaluationConfig(
            model=model, split="val", output=f"{ram}/metrics.json", report=f"{ram}/report.html",
            bootstrap=10, strategy="one",
        ),
    )  # fmt: skip
    assert json.loads(storage.read_whole(f"{ram}/metrics.json"))["num_images"] == 16
    assert b"</html>" in storage.read_whole(f"{ram}/report.html")

    run(
        tflite.main, prepared,
        tflite.TFLiteConfig(
            model=model, output=f"{ram}/model.tflite", calibration=f"{ram}/prepared", calibration_images=4
        ),
    )  # fmt: skip
    classifier = DeviceClassifier("model.tflite", content=storage.read_whole(f"{ram}/model.tflite"))
    assert tuple(classifier.labels) == load_model(model).labels
    run(
        saved_model.main,
        saved_model.SavedModelConfig(model=model, output=f"{ram}/serving", tflite=f"{ram}/model.tflite", photos=data),
    )
    assert saved_model.find_versions(f"{ram}/serving") == [1]
    assert b'base_path: "' + ram.encode() in storage.read_whole(f"{ram}/serving/config/models.config")
    photo = f"{data}/below/01.jpg"
    scores = tf.saved_model.load(f"{ram}/serving/1").signatures["serving_default"](
        image_bytes=tf.constant([storage.read_whole(photo)])
    )
    served = dict(zip(scores["labels"][0].numpy().tolist(), scores["scores"][0].numpy().tolist(), strict=True))
    capsys.readouterr()
    predicting = predict.PredictionConfig(model=model, json=True, sheet=f"{ram}/sheet.png")
    check_outputs(predicting)
    predict.main([f"{data}/below/0*.jpg"], predicting)
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["photo"] for line in printed] == [f"{data}/below/{n:02d}.jpg" for n in range(10)]
    for label, score in zip(printed[1]["labels"], printed[1]["scores"], strict=True):
        assert abs(served[label.encode()] - score) < 1e-3
    assert Image.open(io.BytesIO(storage.read_whole(f"{ram}/sheet.png"))).width > 200


def test_weights_of_a_backbone_are_read_at_an_address(ram, rng):
    kept = {"layer.weight": rng.standard_normal((3, 4)).astype(np.float32)}
    with replacing(os.path.join(ram, "weights.npz"), "wb") as file:
        np.savez(file, **kept)
    tensors = TensorFile(os.path.join(ram, "weights.npz"), "backbone_weights")
    np.testing.assert_array_equal(tensors.read("layer.weight"), kept["layer.weight"])
    with pytest.raises(UserError, match=f"^`backbone_weights`={ram}/gone.npz: no such file"):
        TensorFile(os.path.join(ram, "gone.npz"), "backbone_weights")


def test_heat_maps_are_written_to_an_address(ram):
    picture = Image.new("RGB", (32, 24), "red")
    (written,) = HeatmapFiles(f"{ram}/maps").save("gs://bucket/photo.jpg", {"a/b": picture})
    assert written == f"{ram}/maps/photo_a-b.jpg"
    assert Image.open(io.BytesIO(storage.read_whole(written))).size == (32, 24)


def test_an_interrupted_preparation_goes_on_at_an_address(photos, ram, monkeypatch):
    from msrn_tf.data import preparation

    data = DataConfig(data_dir=copied(photos, f"{ram}/photos"), dataset="csv")
    config = prepare.PreparationConfig(output=f"{ram}/prepared", num_threads=1)
    plan = preparation.PreparationPlan
    monkeypatch.setattr(preparation, "PreparationPlan", lambda **named: plan(**named | {"shard_bytes": 6000}))
    record, written = preparation._record, []

    def breaking(*arguments):
        written.append(1)
        if len(written) == 20:
            raise SystemExit
        return record(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "_record", breaking)
        with pytest.raises(SystemExit):
            run(prepare.main, data, config)
    before = {name: storage.status(f"{ram}/prepared/{name}").mtime_ns for name in shards(ram)}
    assert 2 <= len(before) <= 6
    run(prepare.main, data, config)
    finished = {name: storage.status(f"{ram}/prepared/{name}").mtime_ns for name in before if name in shards(ram)}
    noted = sorted(before)[:-1]  # the one in hand may have been open
    assert {name: finished[name] for name in noted} == {name: before[name] for name in noted}
    train_split = read_split(open_dataset("prepared", f"{ram}/prepared"), "train")
    assert len(train_split) == 32


def shards(ram):
    return [name for name in storage.listdir(f"{ram}/prepared") if name.endswith(".tfrecord")]


def test_of_two_commands_in_one_folder_at_an_address_the_earlier_stops_before_it_writes(ram):
    with run_directory.held(ram) as first:
        first()
        with run_directory.held(ram) as second:
            second()
            with pytest.raises(UserError, match=f"^`workdir`={ram}: another command has begun to train in it"):
                first()
        assert storage.listdir(ram) == []
        with pytest.raises(UserError, match="another command"):
            first()
