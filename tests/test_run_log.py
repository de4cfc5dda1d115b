"""What a run leaves for people: `metrics.jsonl`, TensorBoard, profiles, and what it says at its start."""

import glob
import json

import numpy as np
import pytest
import tensorflow as tf
from running import SMALL, command
from serving import small_model
from sklearn.metrics import precision_score, recall_score

from msrn_tf.config import ModelConfig, OptimizationConfig, RunConfig, TrainingDataConfig
from msrn_tf.data import demo
from msrn_tf.data.readers import open_dataset, read_split
from msrn_tf.models.factory import create_model
from msrn_tf.train import sample_pictures
from msrn_tf.training.run_log import PR_THRESHOLDS, RunLog
from msrn_tf.training.summary import memory_estimate, print_end


def summaries(folder):
    """tag → tensor of every summary in a folder's event files."""
    found = {}
    for path in glob.glob(f"{folder}/**/events*", recursive=True):
        for event in tf.compat.v1.train.summary_iterator(path):
            found |= {value.tag: tf.make_ndarray(value.tensor) for value in event.summary.value}
    return found


def test_numbers_and_members_of_dicts_become_scalars(tmp_path):
    log = RunLog(str(tmp_path))
    log.write({"epoch": 1, "step": 5, "loss": 0.5, "val_AP": {"cat": 80.0, "dog": None}})
    found = summaries(tmp_path / "tensorboard")
    assert float(found["loss"]) == 0.5 and float(found["val_AP/cat"]) == 80.0
    assert "val_AP/dog" not in found
    assert log.records() == [{"epoch": 1, "step": 5, "loss": 0.5, "val_AP": {"cat": 80.0, "dog": None}}]


def test_precision_recall_curves_are_those_of_scikit_learn_without_unknown_targets(tmp_path, rng):
    scores, targets = rng.random((200, 2)), rng.integers(-1, 2, (200, 2))
    picture = np.full((4, 5, 3), 7, np.uint8)
    RunLog(str(tmp_path), pictures=lambda: {"sheet": picture}).write_predictions(1, ["cat", "dog"], scores, targets)
    found = summaries(tmp_path / "tensorboard")
    curve = found["precision_recall/dog/pr_curves"]
    known = targets[:, 1] >= 0
    middle = PR_THRESHOLDS // 2
    predicted = scores[known, 1] >= middle / (PR_THRESHOLDS - 1)
    np.testing.assert_allclose(curve[4, middle], precision_score(targets[known, 1], predicted), rtol=1e-6)
    np.testing.assert_allclose(curve[5, middle], recall_score(targets[known, 1], predicted), rtol=1e-6)
    assert {"precision_recall/all/pr_curves", "precision_recall/cat/pr_curves"} <= found.keys()
    np.testing.assert_array_equal(tf.io.decode_png(found["sheet"][2]), picture)


def test_a_run_writes_pictures_curves_both_rates_and_a_profile_and_says_what_it_will_need(small_voc, tmp_path):
    run = command("msrn_tf.train", "--dataset=voc2007", f"--data_dir={small_voc}", f"--workdir={tmp_path}", *SMALL,
                  "--backbone_factor=0.5", "--profile_steps=2,99")  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = summaries(tmp_path / "tensorboard")
    scalars = {"loss", "classification_loss", "group_loss", "gradient_norm", "images_per_second", "val_mAP",
               "learning_rate", "backbone_learning_rate", "val_AP/cat"}  # fmt: skip
    assert scalars <= found.keys()
    record = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    labels = {tag.split("/")[1] for tag in found if tag.startswith("precision_recall/")}
    assert labels == record["val_AP"].keys() | {"all"} and len(labels) == 21
    width, height, *pictures = found["predictions"]
    assert len(pictures) == 1 and tf.io.decode_png(pictures[0]).shape == (int(height), int(width), 3)
    assert record["backbone_learning_rate"] == record["learning_rate"] / 2
    assert glob.glob(f"{tmp_path}/tensorboard/plugins/profile/*/*.xplane.pb")
    said = [line.split()[0] for line in run.stdout.splitlines() if line and not line.startswith(" ")]
    assert said[:5] == ["devices", "data", "graph", "model", "memory"] and "best" in said
    for next_command in ("msrn_tf.evaluate", "msrn_tf.predict", "export.saved_model"):
        assert f"python -m {next_command} --model={tmp_path}/model.keras" in run.stdout
    assert float(found["backbone_learning_rate"]) == pytest.approx(record["learning_rate"] / 2)


def test_pictures_are_of_photos_that_can_be_decoded(monkeypatch):
    monkeypatch.setattr(demo, "SPLIT_SIZES", {"train": 8, "val": 8, "test": 8})
    model, drawn = small_model(32), read_split(open_dataset("demo", ""), "val")
    contents = [example.image_bytes for example in drawn]
    for bad, cells in (([], 4), ([0, 2], 2), (range(8), 0)):
        broken = drawn.with_contents([b"nothing" if row in bad else content for row, content in enumerate(contents)])
        pictures = sample_pictures(model, broken, 10**8)()
        expected = sample_pictures(model, drawn.take([row for row in (0, 2, 4, 6) if row not in bad]), 10**8)
        if cells:
            np.testing.assert_array_equal(pictures["predictions"], expected()["predictions"])
        else:
            assert pictures == {}
    assert sample_pictures(model, drawn, 10)() == {}  # all have more pixels


def test_a_finished_run_whose_records_are_gone_still_says_where_its_model_is(capsys):
    print_end(TrainingDataConfig(dataset="demo"), RunConfig(workdir="runs/a"), None, ["test"])
    assert capsys.readouterr().out.startswith("best       runs/a/model.keras; of which epoch, runs/a/metrics.jsonl no")


def test_memory_is_weights_gradients_slots_and_what_layers_put_out():
    config = ModelConfig(model="gap", backbone="resnet_tiny")
    optimization = OptimizationConfig(optimizer="adamw", ema_decay=0.9)
    model = create_model(config, ["cat", "dog"], 64)
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    fixed, one = memory_estimate(config, optimization, model, 1)
    assert fixed == 4 * (model.count_params() + 4 * trainable)  # gradient, two slots, an average
    assert memory_estimate(config, optimization, model, 3) == (fixed, 3 * one)
    # The stem alone puts out 32 × 32 × 64 numbers three times: convolution, normalisation, activation.
    assert one > 4 * 3 * 32 * 32 * 64
    frozen = ModelConfig(model="gap", backbone="resnet_tiny", freeze_backbone=True)
    assert memory_estimate(frozen, optimization, create_model(frozen, ["cat", "dog"], 64), 1)[1] == 0
