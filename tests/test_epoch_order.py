"""Batches and their order are, to the bit, what they were when examples were a list of objects."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from msrn_tf.data.examples import Example, Examples
from msrn_tf.data.pipeline import InputPlan, epoch_order, evaluation_batches, training_batches


def photo(number):
    """8×8 pixels of two greys: one and its mirror image differ."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4], pixels[:, 4:] = number, number * 7 % 256
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def examples():
    rows = (
        Example(f"photo {n}", np.array([n % 2, n % 3 - 1, -(n % 5 == 0)], np.int8), image_bytes=photo(n))
        for n in range(37)
    )
    return Examples.of(rows, 3)


def digest(batches):
    state = hashlib.sha256()
    for images, targets in batches:
        state.update(images.numpy().tobytes())
        state.update(targets.numpy().tobytes())
    return state.hexdigest()[:16]


# (seed, epoch, first batch, shard) → hash of images and targets, and the first photos. All of these, and the hashes and
# sums below, were printed by the program before examples were columns.
EPOCHS = {
    (0, 1, 0, (0, 1)): ("9f766d679831920a", [16, 22, 5, 31, 1, 30]),
    (0, 2, 0, (0, 1)): ("83b16a8b996b7907", [12, 19, 11, 24, 35, 10]),
    (7, 3, 4, (0, 1)): ("0b5141f1e625b379", [31, 36, 3, 35, 13, 34]),
    (7, 3, 1, (1, 2)): ("c1a229e829f850f0", [3, 35, 12, 17, 21, 7]),
    (123456789, 40, 2, (3, 4)): ("6cbef928c40eb23d", [36, 5, 28, 14, 11, 16]),
}


@pytest.mark.parametrize(("seed", "epoch", "first_batch", "shard"), EPOCHS)
def test_an_epoch_from_any_batch_on_and_of_any_worker_is_what_it_was(examples, seed, epoch, first_batch, shard):
    expected, beginning = EPOCHS[seed, epoch, first_batch, shard]
    order, positions = epoch_order(37, 4, seed, epoch, shard)
    assert order[positions].reshape(-1)[:6].tolist() == beginning
    choice = {"batch_size": 4, "seed": seed, "epoch": epoch, "first_batch": first_batch, "shard": shard}
    assert digest(training_batches(examples, InputPlan(8, "flip"), **choice)) == expected


def test_crops_and_mixed_photos_are_what_they_were(examples):
    plan = InputPlan(8, "multi_scale_crop", "mixup")
    batches = training_batches(examples, plan, batch_size=6, seed=5, epoch=6, first_batch=1, shard=(1, 3))
    assert digest(batches) == "57c93a0da5e2b67d"


@pytest.mark.parametrize(("shard", "expected"), [((0, 1), "5a872448dffe0226"), ((1, 2), "deca65e86b1c8707")])
def test_evaluation_batches_are_what_they_were(examples, shard, expected):
    assert digest(evaluation_batches(examples, image_size=8, batch_size=4, shard=shard)) == expected


def test_a_run_that_was_begun_before_knows_its_data_again(examples):
    assert examples.fingerprint() == (37, 2092554491, 3642040227)


def test_a_photo_that_stands_in_for_another_comes_with_its_own_targets(examples):
    sources = np.arange(37)
    sources[5] = 6
    (whole,) = training_batches(examples, InputPlan(8), batch_size=37, seed=0, epoch=1, sources=sources)
    place = epoch_order(37, 37, 0, 1)[0].tolist().index(5)
    assert whole[0][place, 0, 0, 0] == 6 and whole[1][place].numpy().tolist() == examples[6].target.tolist()
