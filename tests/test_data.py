"""Decoding, augmentation and the order of batches."""

import importlib.util
import io
import json
import threading
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from msrn_tf.data.augmentation import crop_candidate, random_crop_box
from msrn_tf.data.decoding import decode, evaluation_pixels, resize, training_resize
from msrn_tf.data.demo import DEMO_LABELS, Demo, draw_example
from msrn_tf.data.examples import Example, Examples
from msrn_tf.data.multi_scale_crops import NUM_CROP_CANDIDATES
from msrn_tf.data.pipeline import InputPlan, distributed, epoch_order, evaluation_batches, training_batches
from msrn_tf.data.policies import mixed
from msrn_tf.label_graph import LabelGraph

needs_addons = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_addons") is None, reason="tensorflow-addons has no wheels for this Python"
)


def encoded(image, format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def numbered_examples(count, labels=3):
    """Each image is one grey level, its number."""
    rows = (
        Example(
            str(n), np.array([n % 2, 0, -1][:labels], np.int8), image_bytes=encoded(Image.new("RGB", (8, 8), (n, n, n)))
        )
        for n in range(count)
    )
    return Examples.of(rows, labels)


# Crops


@pytest.mark.parametrize("case", range(4))
def test_crop_candidates_equal_the_published_ones(parity, case):
    fixture = json.loads((parity / "multiscale_crop.json").read_text())[case]
    width, height = fixture["image_size"]
    expected = [
        (y, x, candidate["crop_h"], candidate["crop_w"])
        for candidate in fixture["candidates"]
        for x, y in candidate["offsets"]
    ]
    assert len(expected) == NUM_CROP_CANDIDATES
    ours = [crop_candidate(height, width, fixture["input_size"], index).numpy() for index in range(len(expected))]
    for (top, left, crop_height, crop_width), box in zip(expected, ours, strict=True):
        if crop_height <= height and crop_width <= width:
            assert (top, left, crop_height, crop_width) == tuple(box)
        # The published code cuts beyond an image one pixel too small; ours stays inside.
        assert box[0] >= 0 and box[1] >= 0 and box[0] + box[2] <= height and box[1] + box[3] <= width


def test_crops_are_random_by_seed_and_inside_the_image():
    boxes = [tuple(random_crop_box(50, 33, 32, [7, n]).numpy()) for n in range(60)]
    assert boxes == [tuple(random_crop_box(50, 33, 32, [7, n]).numpy()) for n in range(60)]
    assert len(set(boxes)) > 20
    assert all(top + height <= 50 and left + width <= 33 for top, left, height, width in boxes)


# Decoding


@pytest.mark.parametrize(("format", "tolerance"), [("PNG", 0), ("JPEG", 2), ("BMP", 0)])
def test_decoded_pixels_equal_pillows(format, tolerance):
    image = Image.open(io.BytesIO(draw_example("test", 1).image_bytes))
    data = encoded(image, format)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)
    assert np.abs(decode(tf.constant(data)).numpy().astype(int) - expected).max() <= tolerance


def test_shrinking_equals_pillows():
    image = Image.open(io.BytesIO(draw_example("test", 1).image_bytes))
    expected = np.asarray(image.resize((40, 40), Image.Resampling.BILINEAR), int)
    ours = evaluation_pixels(tf.constant(encoded(image)), 40).numpy().astype(int)
    assert np.abs(ours - expected).max() <= 1


def test_training_skips_no_pixel_of_a_photo_however_large_it_is():
    """Black and white in turns are grey once shrunk; without antialiasing a photo five times as large stays striped."""
    for shape in ((160, 200), (200, 160), (20, 161)):
        stripes = np.indices(shape).sum(axis=0)[..., None].repeat(3, -1) % 2 * np.uint8(255)
        small = training_resize(stripes, 40).numpy().astype(int)
        np.testing.assert_array_equal(small, resize(stripes, 40))
        assert np.abs(small[1:-1, 1:-1] - 128).max() < 20
    larger = np.indices((50, 45)).sum(axis=0)[..., None].repeat(3, -1).astype(np.uint8)
    np.testing.assert_array_equal(training_resize(larger, 40), resize(larger, 40, antialias=False))


# The pipeline


def order_of(examples, **options):
    batches = training_batches(examples, InputPlan(8), batch_size=4, **options)
    return [int(level) for images, _ in batches for level in images.numpy()[:, 0, 0, 0]]


def test_order_is_a_function_of_seed_and_epoch_and_training_batches_are_full():
    examples = numbered_examples(11)
    first = order_of(examples, seed=1, epoch=1)
    assert len(first) == 8 and len(set(first)) == 8
    assert first == order_of(examples, seed=1, epoch=1)
    assert first != order_of(examples, seed=1, epoch=2) and first != order_of(examples, seed=2, epoch=1)


@pytest.mark.parametrize(
    ("augment", "mix"),
    [
        ("multi_scale_crop", "none"),
        pytest.param("randaugment", "none", marks=pytest.mark.slow),
        pytest.param("addons", "none", marks=[needs_addons, pytest.mark.slow]),
        ("flip", "mixup"),
        ("flip", "cutmix"),
    ],
)
def test_augmentation_is_a_function_of_seed_and_epoch_also_from_the_middle(augment, mix):
    examples = Examples.of((draw_example("train", n) for n in range(12)), 12)

    def batches(epoch, first_batch=0):
        plan = InputPlan(32, augment, mix)
        dataset = training_batches(examples, plan, batch_size=4, seed=3, epoch=epoch, first_batch=first_batch)
        pictures = np.stack([images for images, _ in dataset])
        assert pictures.dtype == np.uint8 and pictures.shape == (3 - first_batch, 4, 32, 32, 3)
        return pictures

    whole = batches(1)
    np.testing.assert_array_equal(whole[1:], batches(1, first_batch=1))
    assert (whole != batches(2)).any()


def test_a_crop_of_a_photo_one_pixel_high_or_wide_lies_within_it():
    for height, width in ((1, 1), (1, 200), (200, 1)):
        boxes = np.stack([crop_candidate(height, width, 32, index).numpy() for index in range(NUM_CROP_CANDIDATES)])
        assert (boxes[:, 2:] == 1).all()
        assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] < (height, width)).all()


@pytest.mark.parametrize("augment", ["multi_scale_crop", pytest.param("randaugment", marks=pytest.mark.slow)])
def test_photos_one_pixel_high_or_wide_are_trained_on(augment):
    photos = (encoded(Image.new("RGB", (1, 1), (90,) * 3)), encoded(Image.new("RGB", (1, 200), (90,) * 3), "JPEG"))
    examples = Examples.of((Example(str(n), np.zeros(1, np.int8), image_bytes=photos[n % 2]) for n in range(16)), 1)
    ((images, _),) = training_batches(examples, InputPlan(32, augment), batch_size=16, seed=0, epoch=1)
    assert images.shape == (16, 32, 32, 3)
    if augment == "multi_scale_crop":  # which changes no colour
        assert (images.numpy() == 90).all()


def test_workers_share_each_batch_of_an_epoch():
    order, whole = epoch_order(35, 8, seed=1, epoch=2)
    assert whole.tolist() == np.arange(32).reshape(4, 8).tolist() and sorted(order) == list(range(35))
    parts = [epoch_order(35, 8, seed=1, epoch=2, shard=(worker, 2)) for worker in range(2)]
    np.testing.assert_array_equal(np.concatenate([positions for _, positions in parts], axis=1), whole)
    for its_order, _ in parts:
        np.testing.assert_array_equal(its_order, order)


@pytest.mark.parametrize("how", ["mixup", "cutmix"])
def test_mixed_targets_are_the_photos_shares_and_what_is_unknown_in_one_is_unknown_in_the_mixture(how):
    """A black and a white photo: a picture's mean brightness says what share of it is the white one's."""
    images = np.zeros((2, 20, 20, 3), np.uint8)
    images[1] = 255
    targets = np.array([[1, 0, 1, -1, -1], [0, 0, 1, 1, -1]], np.int8)
    shares = set()
    for seed in range(20):
        pictures, found = (part.numpy() for part in mixed(images, targets, [seed, 7], how))
        assert pictures.dtype == np.uint8 and found.dtype == np.float32
        black = 1 - pictures.mean(axis=(1, 2, 3)) / 255
        np.testing.assert_allclose(found, [[share, 0, 1, -1, -1] for share in black], atol=0.003)
        assert how == "mixup" or set(np.unique(pictures)) <= {0, 255}
        shares.add(round(float(black[0]), 2))
    assert len(shares) > 10


def test_evaluation_fills_the_last_batch_with_unknown_targets():
    batches = list(evaluation_batches(numbered_examples(5), image_size=8, batch_size=4))
    levels = np.concatenate([images.numpy()[:, 0, 0, 0] for images, _ in batches])
    targets = np.concatenate([batch.numpy() for _, batch in batches])
    assert levels.tolist() == [0, 1, 2, 3, 4, 0, 0, 0]
    assert (targets[5:] == -1).all() and targets.shape == (8, 3)


def test_nothing_tunes_parallel_calls_meanwhile_which_an_epochs_end_would_wait_for():
    examples = numbered_examples(4)
    for batches in (
        training_batches(examples, InputPlan(8), batch_size=4, seed=1, epoch=1),
        evaluation_batches(examples, image_size=8, batch_size=4),
    ):
        assert batches.options().autotune.enabled is False


def test_each_worker_reads_its_shard_and_its_replicas_take_batches_in_turn():
    class Strategy:  # the second of two workers, with two replicas each
        num_replicas_in_sync = 4
        extended = types.SimpleNamespace(worker_devices=("GPU:0", "GPU:1"))
        cluster_resolver = types.SimpleNamespace(task_id=1)

        def experimental_distribute_values_from_function(self, value_of):
            return [value_of(types.SimpleNamespace(replica_id_in_sync_group=replica)).numpy() for replica in (2, 3)]

    def of_shard(shard):
        assert shard == (1, 2)
        return tf.data.Dataset.range(5).map(lambda n: (n, 10 * n))

    assert list(distributed(Strategy(), of_shard)) == [([0, 1], [0, 10]), ([2, 3], [20, 30])]


def test_one_replica_takes_batches_as_they_come_and_no_thread_of_python_is_left_when_they_are_dropped():
    before = threading.active_count()
    batches = distributed(tf.distribute.get_strategy(), lambda shard: tf.data.Dataset.range(3))
    assert next(batches).numpy() == 0
    batches.close()
    assert threading.active_count() == before


# The demo set


def test_the_demo_set_is_the_same_each_time_and_labels_imply_each_other():
    assert draw_example("val", 3).image_bytes == draw_example("val", 3).image_bytes
    targets = np.stack([draw_example("train", n).target for n in range(200)])
    assert ((targets == 1).mean(axis=0) > 0.08).all() and targets.shape == (200, 12)
    edges = LabelGraph.from_targets(DEMO_LABELS, targets).edges()
    implies = {(DEMO_LABELS[i], DEMO_LABELS[j]) for i, j in zip(*np.nonzero(edges), strict=True)}
    assert {("boat", "water"), ("flower", "grass"), ("bird", "sky")} <= implies


def test_demo_splits_share_no_picture():
    assert len({draw_example(split, n).image_bytes for split in Demo.splits for n in range(20)}) == 60
