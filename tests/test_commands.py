"""The commands as a person meets them: what they write, and one sentence with status 2 for bad input."""

import dataclasses
import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image
from running import ROOT, SMALL, assert_refused, command

from msrn_tf.config import ModelConfig, OptimizationConfig, RunConfig, TrainingDataConfig, check_training
from msrn_tf.data import demo
from msrn_tf.data.examples import Example, Examples
from msrn_tf.errors import UserError
from msrn_tf.models.factory import create_model, load_model
from msrn_tf.training.distribution import check_batch_size
from msrn_tf.training.graph_setup import in_order, prepare_label_graph
from msrn_tf.training.setup import check_positives, check_validation


@pytest.fixture(scope="module")
def trained(small_voc, tmp_path_factory):
    """A run on real photos with maps of all strides, and the folder it wrote."""
    workdir = tmp_path_factory.mktemp("run") / "voc"
    flags = [*SMALL, "--strides=8,16,32"]
    run = command("msrn_tf.train", "--dataset=voc2007", f"--data_dir={small_voc}", f"--workdir={workdir}", *flags)
    assert run.returncode == 0, run.stderr
    return workdir, run.stdout


def test_training_writes_the_run_directory_and_says_what_it_does(trained):
    workdir, output = trained
    assert {"flags.cfg", "label_graph.npz", "metrics.jsonl", "model.keras", "tensorboard"} <= set(os.listdir(workdir))
    for words in ("20 labels", "labels without a neighbour", "160 images to train on", "epoch 1/1", "validation mAP"):
        assert words in output
    record = json.loads((workdir / "metrics.jsonl").read_text())
    assert record["step"] == 10 and record["best"] is True and np.isfinite(record["loss"])
    assert any(name.startswith("events") for name in os.listdir(workdir / "tensorboard"))
    assert "--backbone=resnet_tiny" in (workdir / "flags.cfg").read_text()
    assert load_model(str(workdir / "model.keras")).labels[0] == "aeroplane"


def test_evaluation_writes_the_metrics_file(trained, small_voc, tmp_path):
    model = trained[0] / "model.keras"
    output = tmp_path / "metrics.json"
    run = command(
        "msrn_tf.evaluate", f"--model={model}", "--dataset=voc2007", f"--data_dir={small_voc}", f"--output={output}"
    )
    assert run.returncode == 0, run.stderr
    metrics = json.loads(output.read_text())
    assert metrics["num_images"] == 40 and len(metrics["AP"]) == 20
    wanted = "mAP mAP_11point CP CR CF1 OP OR OF1 CP_top3 CR_top3 CF1_top3 OP_top3 OR_top3 OF1_top3 coverage_error"
    assert set(wanted.split()) <= set(metrics)
    assert {"label_ranking_average_precision", "label_ranking_loss", "hamming_loss"} <= set(metrics)
    assert "aeroplane" in run.stdout and "mAP" in run.stdout


def test_prediction_names_labels_writes_heatmaps_and_names_bad_photos(trained, shared, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    source = shared / "voc2007" / "VOCdevkit" / "VOC2007" / "JPEGImages" / "000012.jpg"
    (photos / "good.jpg").write_bytes(source.read_bytes())
    (photos / "text.jpg").write_text("no photo")
    Image.open(source).convert("L").save(photos / "grey.png")
    heatmaps = tmp_path / "heat"
    model = trained[0] / "model.keras"
    run = command("msrn_tf.predict", f"--model={model}", "--json", "--top_k=3", f"--heatmaps={heatmaps}", photos)
    assert run.returncode == 1 and "Traceback" not in run.stderr  # the others are done
    assert ["text.jpg" in line for line in run.stderr.splitlines() if line.startswith("error: ")] == [True]
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    refused = rows.pop()
    assert os.path.basename(refused["photo"]) == "text.jpg" and refused["reason"]
    assert [os.path.basename(row["photo"]) for row in rows] == ["good.jpg", "grey.png"]
    for row in rows:
        assert len(row["labels"]) == 3 and row["scores"] == sorted(row["scores"], reverse=True)
        for path in row["heatmaps"]:
            with Image.open(path) as picture, Image.open(source) as photo:
                assert picture.size == photo.size


def test_prediction_prints_a_table(trained, shared):
    source = shared / "voc2007" / "VOCdevkit" / "VOC2007" / "JPEGImages" / "000012.jpg"
    run = command("msrn_tf.predict", f"--model={trained[0] / 'model.keras'}", source)
    assert run.returncode == 0 and "000012.jpg" in run.stdout


# Bad input at the command line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workdir=x", "--dataset=voc2007", "--data_dir=missing"], ["--data_dir=missing"]),
        (["--workdir=x", "stray"], ["stray"]),
        (["--workdir=x", "--batch_size=many"], ["batch_size"]),
        (["--workdir=x", "--pool_ratio=1.5"], ["pool_ratio"]),
        (["--workdir=x", "--bacth_size=4"], ["bacth_size"]),
        (["--flagfile=missing.cfg"], ["missing.cfg"]),
        (["--workdir=x", "--batch_size=15", "--num_cpu_replicas=2"], ["--batch_size=15", "2 replicas"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_bad_flags_are_refused_and_nothing_is_written(tmp_path, arguments, words):
    assert_refused(command("msrn_tf.train", *arguments, cwd=tmp_path), *words)
    assert os.listdir(tmp_path) == []


def test_a_flagfile_line_without_dashes_is_refused(tmp_path):
    (tmp_path / "bad.cfg").write_text("--dataset=demo\nbatch_size=4\n")
    assert_refused(command("msrn_tf.train", "--flagfile=bad.cfg", "--workdir=x", cwd=tmp_path), "batch_size=4")


def test_help_is_grouped_and_short():
    run = command("msrn_tf.train", "--help")
    assert run.returncode == 0
    for title in ("Data:", "Model:", "Optimisation:", "Run:", "--flagfile"):
        assert title in run.stdout
    assert "alsologtostderr" not in run.stdout


@pytest.mark.parametrize("module", ["msrn_tf.evaluate", "msrn_tf.predict"])
def test_a_file_that_is_no_model_is_refused(module, tmp_path):
    (tmp_path / "model.keras").write_text("no model")
    (tmp_path / "photo.jpg").write_bytes(demo.draw_example("test", 0).image_bytes)
    arguments = ["photo.jpg"] if module.endswith("predict") else ["--dataset=demo"]
    assert_refused(command(module, "--model=model.keras", *arguments, cwd=tmp_path), "--model=model.keras")


# Bad input in the library


def configs(optimization=None, run=None, data=None):
    return (
        TrainingDataConfig(**(data or {})),
        ModelConfig(),
        OptimizationConfig(**(optimization or {})),
        RunConfig(**({"workdir": "x"} | (run or {}))),
    )


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"run": {"workdir": ""}}, "--workdir"),
        ({"run": {"workdir": "run[1]"}}, "--workdir=run"),
        ({"optimization": {"decay_epochs": [5, 3]}}, "--decay_epochs"),
        ({"optimization": {"warmup_epochs": 40.0}}, "--warmup_epochs"),
        ({"data": {"val_split": "train"}}, "--val_split"),
    ],
)
def test_choices_that_cannot_work_are_named(change, flag):
    check_training(*configs())
    with pytest.raises(UserError, match=flag):
        check_training(*configs(**change))


def test_a_batch_that_replicas_and_their_steps_cannot_share_is_refused():
    strategy = types.SimpleNamespace(num_replicas_in_sync=2)
    check_batch_size(12, strategy, accumulation_steps=3)
    with pytest.raises(UserError, match=r"`batch_size`=9: is not divisible by 2 replicas; use a multiple of 2"):
        check_batch_size(9, strategy)
    with pytest.raises(UserError, match=r"`batch_size`=8: .* 2 replicas × 3 accumulation steps; use a multiple of 6"):
        check_batch_size(8, strategy, accumulation_steps=3)


@pytest.mark.parametrize("stride", [3, -8, 1, 64])
def test_a_stride_that_no_layer_has_is_refused(stride):
    data, model, optimization, run = configs()
    with pytest.raises(UserError, match=f"--frozen_stride={stride}: must be one of 0, 2, 4, 8, 16, 32"):
        check_training(data, dataclasses.replace(model, frozen_stride=stride), optimization, run)


def examples_of(targets):
    rows = (Example(str(number), np.array(target, np.int8)) for number, target in enumerate(targets))
    return Examples.of(rows, len(targets[0]))


def test_a_label_without_a_positive_is_named():
    with pytest.raises(UserError, match="dog"):
        check_positives(["cat", "dog"], examples_of([[1, 0], [1, -1]]), "train")


def test_a_validation_split_that_shows_no_label_is_refused_and_labels_that_it_lacks_are_said():
    assert check_validation(["cat", "dog"], examples_of([[1, 0], [0, 1]]), "val") == []
    assert check_validation(["cat", "dog"], examples_of([[1, 0], [0, -1]]), "val") == [
        "`val_split`=val: no image shows dog"
    ]
    with pytest.raises(UserError, match="`val_split`=val: no image shows any label"):
        check_validation(["cat", "dog"], examples_of([[0, 0], [0, -1]]), "val")


def test_a_label_graph_is_put_in_the_data_sets_order_or_refused(rng):
    examples = examples_of([[1, 1, 0], [1, 0, 1]])
    graph, warnings = prepare_label_graph(ModelConfig(), ["a", "b", "c"], examples, 0)
    assert graph.counts.tolist() == [2, 1, 1] and graph.word_vectors.shape == (3, 300)
    assert in_order(graph, ["c", "a", "b"], "g").counts.tolist() == [1, 2, 1]
    assert in_order(graph, ["c", "a", "b"], "g").cooccurrence[1].tolist() == [1, 0, 1]
    with pytest.raises(UserError, match="zebra"):
        in_order(graph, ["a", "zebra"], "g")
    assert not any("zero" in warning for warning in warnings)


def test_word_vectors_are_brought_to_one_length_where_it_is_given():
    examples = examples_of([[1, 1, 0], [1, 0, 1]])
    as_they_are, _ = prepare_label_graph(ModelConfig(), "abc", examples, 0)
    graph, _ = prepare_label_graph(ModelConfig(word_vector_norm=0.3), "abc", examples, 0)
    np.testing.assert_allclose(np.linalg.norm(graph.word_vectors, axis=1), 0.3, rtol=1e-6)
    cosine = np.sum(graph.word_vectors * as_they_are.word_vectors, axis=1)
    np.testing.assert_allclose(cosine / 0.3, np.linalg.norm(as_they_are.word_vectors, axis=1), rtol=1e-5)


def test_synchronized_batch_norm_keeps_the_weights():
    examples = examples_of([[1, 1, 0], [1, 0, 1]])
    config = ModelConfig(backbone="resnet_tiny", channels=8, head="elementwise")
    graph, _ = prepare_label_graph(config, ["a", "b", "c"], examples, 0)
    model = create_model(config, list("abc"), 32, graph, synchronized_batch_norm=True)
    norms = [layer for layer in model.backbone.layers if type(layer).__name__ == "BatchNormalization"]
    assert norms and all(layer.synchronized for layer in norms)


READ_FLAGFILES = """
import dataclasses, json, sys
from absl import flags
from absl.testing import flagsaver
from msrn_tf import command_line, config
from msrn_tf.flagfile import expanded
subjects = (config.TrainingDataConfig, config.ModelConfig, config.OptimizationConfig, config.RunConfig)
for subject in subjects:
    command_line.define_flags(subject)
found = []
for files in json.loads(sys.argv[1]):
    with flagsaver.flagsaver():
        assert not flags.FLAGS(expanded(["train", "--workdir=w", *(f"--flagfile={file}" for file in files)]))[1:]
        values = [command_line.from_flags(subject) for subject in subjects]
        config.check_training(*values)
        found.append({key: value for one in values for key, value in dataclasses.asdict(one).items()})
print(json.dumps(found))
"""


def test_every_flagfile_is_good_alone_and_with_each_recipe_and_starts_with_the_command_it_is_for():
    files = sorted((ROOT / "configs").glob("*.cfg"))
    assert len(files) >= 6
    recipes = [ROOT / "configs" / "recipes" / f"{name}.cfg" for name in ("published", "modern", "gpu")]
    groups = [[str(file), *map(str, recipe)] for file in files for recipe in ([], *([one] for one in recipes))]
    run = subprocess.run(
        [sys.executable, "-c", READ_FLAGFILES, json.dumps(groups)],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    chosen = iter(json.loads(run.stdout.splitlines()[-1]))
    for file in files:
        assert f"#   python -m msrn_tf.train --flagfile=configs/{file.name}" in file.read_text()
        alone, published, modern, gpu = (next(chosen) for _ in range(4))
        assert {one["backbone"] for one in (alone, published, modern, gpu)} == {alone["backbone"]}
        assert (published["loss"], modern["loss"], modern["augment"]) == ("bce", "asl", "randaugment")
        assert (gpu["mixed_precision"], gpu["jit_compile"]) == ("bfloat16", True)
        assert gpu["loss"] == alone["loss"] and gpu["batch_size"] == alone["batch_size"]


def test_training_starts_from_a_model_of_other_labels_and_says_what_it_took(trained, small_voc, tmp_path):
    model = f"--init_from={trained[0] / 'model.keras'}"
    flags = [*SMALL, "--notensorboard", "--image_size=32"]
    splits = ["--train_split=val", "--val_split=test"]
    run = command("msrn_tf.train", "--dataset=demo", *splits, f"--workdir={tmp_path / 'a'}", model, *flags)
    assert run.returncode == 0, run.stderr
    said = [line for line in run.stdout.splitlines() if line.startswith("transfer")]
    assert any("boat" in line and "bird" in line for line in said)  # labels of both sets
    wrong = command(
        "msrn_tf.train", "--dataset=demo", *splits, f"--workdir={tmp_path / 'b'}", *flags, "--init_from=nowhere.keras"
    )
    assert_refused(wrong, "--init_from=nowhere.keras")
    assert not (tmp_path / "b").exists()
