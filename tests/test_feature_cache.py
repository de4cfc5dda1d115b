"""Feature maps kept on a disk: the same batches, the same training, as from the photos themselves."""

import dataclasses
import errno
import os
import subprocess
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from msrn_tf import train as train_command
from msrn_tf.config import ModelConfig, OptimizationConfig, RunConfig, TrainingDataConfig, check_training
from msrn_tf.data import demo, pipeline
from msrn_tf.data.batch_source import PhotoSource
from msrn_tf.data.demo import DEMO_LABELS, draw_example
from msrn_tf.data.examples import Examples
from msrn_tf.data.pipeline import InputPlan
from msrn_tf.errors import UserError
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.models.factory import create_model, save_model
from msrn_tf.training import feature_cache
from msrn_tf.training.checkpoints import RunCheckpoints
from msrn_tf.training.feature_cache import FeatureCache
from msrn_tf.training.graph_setup import prepare_label_graph
from msrn_tf.training.run_log import RunLog
from msrn_tf.training.setup import make_train_step
from msrn_tf.training.trainer import Trainer

SIZE = 64
PLAN = InputPlan(SIZE, augment="flip")
BATCHING = {"batch_size": 4, "seed": 3}
CONFIG = ModelConfig(
    backbone="resnet_tiny", freeze_backbone=True, channels=16, head="elementwise", dropout=0.3, strides=(16, 32)
)


@pytest.fixture(scope="module")
def examples():
    return Examples.of((draw_example("train", number) for number in range(18)), len(DEMO_LABELS))


@pytest.fixture(scope="module")
def make_model(examples):
    def make():
        tf.keras.utils.set_random_seed(0)
        graph, _ = prepare_label_graph(CONFIG, DEMO_LABELS, examples, 0)
        return create_model(CONFIG, DEMO_LABELS, SIZE, graph)

    return make


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


@pytest.fixture(scope="module")
def cache(model, examples, tmp_path_factory):
    return FeatureCache(str(tmp_path_factory.mktemp("cache")), model)


@pytest.fixture(scope="module")
def maps(cache, examples):
    """Sources of cached maps for training and for validation."""
    training, _ = cache.open(examples[:12], augment="flip", training=True)
    return training, cache.open(examples[12:], training=False)[0]


def assert_same_batches(images, features, model):
    count = 0
    for (pixels, targets), (maps, same_targets) in zip(images, features, strict=True):
        for expected, kept in zip(model.feature_maps(pixels), maps, strict=True):
            np.testing.assert_allclose(kept, expected, atol=1e-5)
        np.testing.assert_array_equal(targets, same_targets)
        count += 1
    return count


@pytest.mark.parametrize("first_batch, shard", [(0, (0, 1)), (1, (1, 2))])
def test_training_batches_hold_what_the_backbone_makes_of_the_same_photos(cache, maps, examples, first_batch, shard):
    for epoch in (1, 2):
        choice = BATCHING | {"epoch": epoch, "first_batch": first_batch, "shard": shard}
        images = pipeline.training_batches(examples[:12], PLAN, **choice)
        features = maps[0].training_batches(**choice)
        assert features.options().autotune.enabled is False
        assert assert_same_batches(images, features, cache.model) == 3 - first_batch


def test_evaluation_gives_the_same_scores_and_leaves_out_nobody(cache, maps, examples):
    scores = Evaluator(cache.model, 4).scores(PhotoSource(examples[12:], PLAN))
    assert scores.shape == (6, len(DEMO_LABELS))
    np.testing.assert_allclose(Evaluator(cache.model, 4).scores(maps[1]), scores, atol=1e-6)
    *_, (_, targets) = maps[1].evaluation_batches(np.arange(6), batch_size=4)
    assert (targets.numpy()[2:] == -1).all()


def train(model, training, validation, folder, **changes):
    optimization = OptimizationConfig(
        epochs=1, batch_size=4, learning_rate=0.01, optimizer="adamw", decay_epochs=[1], **changes
    )
    step = make_train_step(
        optimization, model, tf.distribute.get_strategy(), len(training.examples), training.feature_maps(model)
    )
    checkpoints = RunCheckpoints(str(folder), model, step.optimizer, step.moving_average)
    run = RunConfig(workdir=str(folder), seed=3)
    trainer = Trainer(step, checkpoints, RunLog(str(folder), False), optimization, run)
    return trainer.fit(training, validation), trainer


@pytest.mark.slow
def test_training_from_feature_maps_gives_the_weights_of_training_from_photos(
    cache, maps, make_model, examples, tmp_path
):
    (tmp_path / "photos").mkdir()
    (tmp_path / "maps").mkdir()
    start = cache.model.get_weights()
    models = make_model(), cache.model
    models[0].set_weights(start)
    photos = PhotoSource(examples[:12], PLAN), PhotoSource(examples[12:], PLAN)
    by_photos, _ = train(models[0], *photos, tmp_path / "photos", accumulation_steps=2)
    by_maps, _ = train(models[1], *maps, tmp_path / "maps", accumulation_steps=2)
    assert by_maps["loss"] == pytest.approx(by_photos["loss"], rel=1e-5)
    assert by_maps["val_mAP"] == pytest.approx(by_photos["val_mAP"])
    for a, b in zip(models[0].weights, models[1].weights, strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy(), atol=1e-4, err_msg=a.path)
    assert any(abs(a - b).max() > 1e-3 for a, b in zip(models[0].get_weights(), start, strict=True))


def test_maps_are_computed_once_for_the_same_photos_and_weights(cache, maps, examples, monkeypatch):
    again = FeatureCache(cache.folder, cache.model)
    monkeypatch.setattr(FeatureCache, "_write", lambda *args: pytest.fail("computed again"))
    assert "12 photos and their mirror images" in again.open(examples[:12], augment="flip", training=True)[1]
    monkeypatch.undo()
    before = set(os.listdir(cache.folder))
    kernel = cache.model.backbone.weights[0]
    kernel.assign(kernel * 1.01)
    again.open(examples[:12], augment="flip", training=True)
    assert len(set(os.listdir(cache.folder)) - before) == 2  # its maps, and its lock
    assert not [name for name in os.listdir(cache.folder) if "unfinished" in name]


@pytest.mark.slow
def test_a_photo_that_cannot_be_decoded_is_stood_in_for_in_training_and_named_in_evaluation(model, examples, tmp_path):
    broken = dataclasses.replace(examples[5], image_bytes=b"no photo")
    cache = FeatureCache(str(tmp_path), model)
    rows = Examples.of([*examples[:5], broken, *examples[6:12]], len(DEMO_LABELS))
    training, _ = cache.open(rows, augment="flip", training=True)
    rows = Examples.of([*examples[12:], broken], len(DEMO_LABELS))
    evaluation, _ = cache.open(rows, training=False)
    best, trainer = train(model, training, None, tmp_path)
    assert best["bad_images"] == 1
    assert np.isfinite(best["loss"])
    assert "val_mAP" not in best  # nothing to validate on: the last epoch's model is kept
    assert (tmp_path / "model.keras").exists()
    with pytest.raises(UserError, match=r"train_00005: is not a photo that can be decoded"):
        trainer.evaluator.scores(evaluation)


@pytest.mark.parametrize(
    "damage", [np.zeros((12, 2, 1), np.float32), np.zeros((12, 2, 4, 4, 128), np.float16), b"no maps"]
)
def test_maps_that_are_damaged_are_one_sentence(model, examples, tmp_path, damage):
    cache = FeatureCache(str(tmp_path), model)
    cache.open(examples[:12], augment="flip", training=True)
    (path,) = tmp_path.glob("*/map0.npy")
    path.write_bytes(damage) if isinstance(damage, bytes) else np.save(path, damage)
    with pytest.raises(UserError, match="delete it, and"):
        cache.open(examples[:12], augment="flip", training=True)


def test_a_disk_that_fills_up_meanwhile_is_one_sentence_and_no_bus_error(model, examples, tmp_path, monkeypatch):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", tmp_path]).returncode:
        pytest.skip("no right to mount a small file system")
    try:
        usage = feature_cache.shutil.disk_usage(tmp_path)._replace(free=1 << 40)
        monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(UserError, match=r"`cache_features`=.*: cannot be written \(No space left on device\)"):
            FeatureCache(str(tmp_path), model).open(examples, training=True)
        assert not [name for name in os.listdir(tmp_path) if not name.endswith(".lock")]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_too_small_a_disk_is_told_before_anything_is_computed(model, examples, tmp_path, monkeypatch):
    usage = feature_cache.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"`cache_features`=.*: needs 0\.0 GB and 0\.0 are free; choose another folder"):
        FeatureCache(str(tmp_path), model).open(examples, augment="flip", training=True)
    assert not [name for name in os.listdir(tmp_path) if name.startswith("train")]


@pytest.mark.parametrize(
    "data, model, sentence",
    [
        ({"augment": "multi_scale_crop"}, {"freeze_backbone": True}, "--augment=none or flip"),
        ({"augment": "flip", "mix": "mixup"}, {"freeze_backbone": True}, "--mix=none"),
        ({"augment": "flip"}, {}, "needs --freeze_backbone"),
        ({"augment": "flip"}, {"freeze_backbone": True, "mixed_precision": "bfloat16"}, "--mixed_precision=bfloat16"),
        ({}, {"strides": (32, 16)}, "--strides=32,16: must be some of 8,16,32, in order"),
    ],
)
def test_choices_that_make_endless_variants_are_refused(data, model, sentence):
    data = TrainingDataConfig(cache_features="cache" if "strides" not in model else "", **data)
    with pytest.raises(UserError, match=sentence):
        check_training(data, ModelConfig(**model), OptimizationConfig(), RunConfig(workdir="run"))


def test_a_run_that_goes_on_has_the_maps_of_the_backbone_that_it_took(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SPLIT_SIZES", {"train": 32, "val": 4, "test": 4})
    tf.keras.utils.set_random_seed(5)
    choices = ModelConfig(model="gap", backbone="resnet_tiny", freeze_backbone=True)
    save_model(create_model(choices, DEMO_LABELS, 32), str(tmp_path / "other.keras"))
    configs = (
        TrainingDataConfig(
            dataset="demo", image_size=32, augment="none", train_split="train", cache_features=str(tmp_path / "maps")
        ),
        dataclasses.replace(choices, init_from=str(tmp_path / "other.keras")),
        OptimizationConfig(epochs=1, batch_size=4),
        RunConfig(workdir=str(tmp_path / "run"), tensorboard=False),
    )
    kept = []
    for _ in range(2):  # the second finds a checkpoint
        tf.keras.backend.clear_session()  # as a process of its own would name layers
        train_command.main(*configs)
        kept.append(sorted(os.listdir(tmp_path / "maps")))
    assert kept[0] == kept[1]


def test_maps_say_why_a_photo_has_none_and_are_made_anew_where_more_can_be_decoded(
    cache, examples, tmp_path, monkeypatch
):
    with_bad = examples[:6].with_contents(
        [b"none" if n == 2 else row.image_bytes for n, row in enumerate(examples[:6])]
    )
    maps, _ = FeatureCache(str(tmp_path), cache.model).open(with_bad, training=True)
    assert maps.why_not_decoded(1) is None and "is not one of" in maps.why_not_decoded(2)
    mended = dataclasses.replace(maps, examples=examples[:6])
    assert "could not be decoded when its feature maps were computed" in mended.why_not_decoded(2)
    key = cache._key(examples, False, True)
    monkeypatch.setattr(feature_cache, "readable_formats", lambda: ("BMP",))
    assert cache._key(examples, False, True) != key


def test_a_photo_that_fails_once_is_not_kept_as_undecodable(cache, examples, tmp_path, monkeypatch):
    pixels = FeatureCache._pixels

    def without_the_first(self, *arguments):
        return ((rows[1:], images[1:]) if rows[0] == 0 else (rows, images) for rows, images in pixels(self, *arguments))

    monkeypatch.setattr(FeatureCache, "_pixels", without_the_first)
    with pytest.raises(UserError, match="could be read at a second try alone; start again"):
        FeatureCache(str(tmp_path), cache.model).open(examples, training=True)
    monkeypatch.setattr(pipeline, "decoded", mock.Mock(side_effect=OSError(errno.EIO, "broken")))
    with pytest.raises(UserError, match=r"cannot be read now \(broken\); mend that, and start again"):
        FeatureCache(str(tmp_path), cache.model).open(examples, training=True)
    assert not [name for name in os.listdir(tmp_path) if not name.endswith((".lock", ".unfinished"))]
