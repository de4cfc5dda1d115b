"""Labels that are not listed, weights of present ones, and epochs that show each label equally often."""

import types

import numpy as np
import pytest
import tensorflow as tf

from msrn_tf.config import ModelConfig, OptimizationConfig, RunConfig, TrainingDataConfig, check_training
from msrn_tf.data.examples import Example, Examples
from msrn_tf.data.label_choice import with_columns
from msrn_tf.data.label_policies import UNLISTED, with_unlisted
from msrn_tf.data.targets import ABSENT, PRESENT, UNKNOWN, CompressedTargets
from msrn_tf.errors import UserError
from msrn_tf.training.batches import TrainingBatches
from msrn_tf.training.losses import asymmetric_loss, binary_crossentropy, focal_loss, make_loss
from msrn_tf.training.sampling import BalancedSampling
from msrn_tf.training.setup import check_absent, positive_weights
from msrn_tf.training.unlisted import LargeLosses, growing_share

TARGETS = np.array([[1, 0, -1, 0, 0], [0, 1, 0, -1, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], np.int8)


def examples_of(targets, compressed_default=None):
    rows = (Example(f"{n:03}", target, image_bytes=bytes([n])) for n, target in enumerate(targets))
    examples = Examples.of(rows, targets.shape[1])
    if compressed_default is None:
        return examples
    return examples.with_targets(CompressedTargets.from_dense(targets, compressed_default))


# Large losses


def by_the_paper(targets, logits, share, correct):
    """LL-R and LL-Ct of arXiv 2206.03740, equations 3 to 5, a label at a time."""
    losses = np.where(targets == 1, np.log1p(np.exp(-logits)), np.log1p(np.exp(logits)))
    unlisted = [tuple(place) for place in np.argwhere(targets == UNLISTED)]
    large = sorted(unlisted, key=lambda place: -losses[place])[: int(np.ceil(share * len(unlisted)))]
    for place in large:
        losses[place] = np.log1p(np.exp(-logits[place])) if correct else 0.0
    losses[targets == UNKNOWN] = 0.0
    return losses.mean(axis=1)


@pytest.mark.parametrize("correct", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 1.0])
def test_labels_of_a_large_loss_are_left_out_or_corrected_as_the_paper_says(rng, correct, share):
    targets = np.where(TARGETS == 0, UNLISTED, TARGETS).astype(np.int8)
    targets[3, 1] = ABSENT  # a person looked
    logits = rng.normal(0, 3, targets.shape)
    losses = LargeLosses(lambda: tf.constant(share, tf.float32), correct)
    found = binary_crossentropy(targets, logits, large_losses=losses)
    np.testing.assert_allclose(found, by_the_paper(targets, logits, share, correct), rtol=1e-5)


@pytest.mark.parametrize("loss", [binary_crossentropy, asymmetric_loss, focal_loss])
def test_every_loss_takes_what_is_suspected_for_present_or_unknown(loss):
    logits = np.array([[4.0, 1.0, -2.0, -3.0]])
    targets = np.array([[UNLISTED, UNLISTED, 1, UNLISTED]])
    for correct, judged in ((True, 1), (False, -1)):
        losses = LargeLosses(lambda: tf.constant(1 / 3), correct)
        np.testing.assert_allclose(loss(targets, logits, large_losses=losses), loss([[judged, 0, 1, 0]], logits))


def test_nothing_is_suspected_in_the_first_epoch_and_a_fixed_part_more_in_each_that_follows():
    iterations = tf.Variable(0, dtype=tf.int64)
    share = growing_share(iterations, steps_per_epoch=10, percent_an_epoch=0.2)
    found = []
    for step in (0, 9, 10, 19, 20, 95):
        iterations.assign(step)
        found.append(float(share()))
    np.testing.assert_allclose(found, [0, 0, 0.002, 0.002, 0.004, 0.018], rtol=1e-6)
    iterations.assign(10**6)
    assert float(share()) == 1.0


def test_no_gradient_tells_a_logit_to_be_suspected():
    logits = tf.Variable([[3.0, 0.5, -1.0]])
    losses = LargeLosses(lambda: tf.constant(0.3), correct=False)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(binary_crossentropy([[UNLISTED] * 3], logits, large_losses=losses))
    expected = np.array([[0.0, 1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(1.0))]]) / 3
    np.testing.assert_allclose(tape.gradient(value, logits), expected, rtol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_judgement_runs_in_a_traced_and_in_a_compiled_step(jit_compile):
    losses = LargeLosses(growing_share(tf.Variable(30), 10, 10.0), correct=True)
    loss = make_loss(OptimizationConfig(), large_losses=losses)
    targets, logits = np.full((2, 5), UNLISTED, np.int8), np.arange(10.0, dtype=np.float32).reshape(2, 5)
    compiled = tf.function(loss, jit_compile=jit_compile, autograph=False)
    np.testing.assert_allclose(compiled(targets, logits), by_the_paper(targets, logits, 0.3, True), rtol=1e-5)


# Policies


@pytest.mark.parametrize("compressed_default", [None, ABSENT])
@pytest.mark.parametrize(("policy", "meaning"), [("absent", ABSENT), ("unknown", UNKNOWN), ("suspect", UNLISTED)])
def test_what_is_not_listed_means_what_the_policy_says(policy, meaning, compressed_default):
    read = with_unlisted(examples_of(TARGETS, compressed_default), policy)
    np.testing.assert_array_equal(read.targets, np.where(TARGETS == ABSENT, meaning, TARGETS))
    assert read.counts(PRESENT).tolist() == [2, 2, 0, 0, 0] and read.counts(meaning)[4] == 4
    np.testing.assert_array_equal(read.take([3, 0]).targets, read.targets[[3, 0]])


def test_of_data_that_list_what_is_absent_that_stays_and_the_rest_can_be_suspected():
    verified = np.array([[1, 0, -1, -1], [-1, -1, -1, 0]], np.int8)
    examples = examples_of(verified, UNKNOWN)
    np.testing.assert_array_equal(with_unlisted(examples, "unknown").targets, verified)
    np.testing.assert_array_equal(
        with_unlisted(examples, "suspect").targets, np.where(verified == UNKNOWN, UNLISTED, verified)
    )


@pytest.mark.parametrize("compressed_default", [None, ABSENT])
def test_a_label_of_several_columns_is_suspected_where_none_is_present_or_unknown(compressed_default):
    suspected = with_unlisted(examples_of(TARGETS, compressed_default), "suspect")
    read = with_columns(suspected, [[2], [0, 3], [0, 2, 3]], ABSENT)
    assert read.targets.tolist() == [[-1, 1, 1], [-2, -1, -1], [-2, 1, 1], [-2, -2, -2]]
    assert with_columns(suspected.take([3]), [[], [1]], UNKNOWN).targets.tolist() == [[UNKNOWN, UNLISTED]]


def test_data_without_an_absent_label_are_warned_of():
    unknown = with_unlisted(examples_of(TARGETS), "unknown")
    assert "known to be absent" in check_absent(unknown)[0] and "`unlisted`" in check_absent(unknown)[0]
    assert check_absent(with_unlisted(examples_of(TARGETS), "suspect")) == check_absent(examples_of(TARGETS)) == []


def test_suspects_and_mixed_photos_are_refused_in_a_sentence():
    configs = (ModelConfig(), OptimizationConfig(unlisted="suspect"), RunConfig(workdir="run"))
    with pytest.raises(UserError, match=r"--mix=mixup: .*--unlisted=suspect"):
        check_training(TrainingDataConfig(mix="mixup"), *configs)


# Weights


def test_balanced_weights_are_those_of_tensorflows_weighted_cross_entropy(rng):
    targets = (rng.random((50, 4)) < [0.1, 0.3, 0.5, 0.9]).astype(np.int8)
    weights = positive_weights("abcd", examples_of(targets))
    np.testing.assert_allclose(weights, (50 - targets.sum(axis=0)) / targets.sum(axis=0), rtol=1e-6)
    logits = rng.normal(size=targets.shape).astype(np.float32)
    expected = tf.nn.weighted_cross_entropy_with_logits(targets.astype(np.float32), logits, weights)
    found = make_loss(OptimizationConfig(), weights)(targets, logits)
    np.testing.assert_allclose(found, tf.reduce_mean(expected, axis=1), rtol=1e-5)


@pytest.mark.parametrize(("column", "word"), [([1, 1, 1, 1], "absent"), ([0, 0, -1, 0], "present")])
def test_a_label_without_a_weight_is_refused_by_name(column, word):
    targets = np.array([[1, 0, 1, 0], column], np.int8).T
    with pytest.raises(UserError, match=f"^`positive_weight`=balanced: dog is known to be {word}"):
        positive_weights(["cat", "dog"], examples_of(targets))


# Balanced epochs


@pytest.fixture
def skewed():
    """100 photos: one label in 80, one in 12, one in 5 (three of them show the first too), and six that show none."""
    targets = np.zeros((100, 3), np.int8)
    targets[:80, 0] = targets[80:92, 1] = targets[89:94, 2] = 1
    targets[:3, 2] = 1
    targets[5, 1] = UNKNOWN
    return examples_of(targets)


def test_each_label_is_drawn_equally_often_and_its_photos_in_turn(skewed):
    sampling = BalancedSampling(skewed, seed=3)
    drawn = sampling.drawn(1)
    assert len(drawn) == 100
    parts = np.split(drawn, 4)  # 25 draws of three labels and of none
    for part, photos in zip(parts, (range(80), range(80, 92), [0, 1, 2, *range(89, 94)], range(94, 100)), strict=True):
        counts = np.bincount(part, minlength=100)[list(photos)]
        assert counts.sum() == 25 and counts.max() - counts.min() <= 1


def test_an_epochs_photos_are_a_function_of_seed_and_epoch_alone(skewed):
    first, again = BalancedSampling(skewed, seed=3), BalancedSampling(skewed, seed=3)
    again.drawn(7)
    np.testing.assert_array_equal(first.drawn(2), again.drawn(2))
    assert (first.drawn(2) != first.drawn(3)).any() and (first.drawn(2) != BalancedSampling(skewed, 4).drawn(2)).any()


def test_more_labels_than_photos_share_an_epoch_between_them():
    sampling = BalancedSampling(examples_of(np.eye(30, 30, dtype=np.int8)[:7].repeat(1, axis=0)), seed=0)
    assert sorted(sampling.drawn(1)) == list(range(7))


def numbered_source(examples):
    """A source whose inputs are the numbers of the photos that are read."""

    def training_batches(*, batch_size, seed, epoch, first_batch, shard, sources):
        from msrn_tf.data.pipeline import epoch_rows

        rows, _ = epoch_rows(len(examples), batch_size, seed, epoch, first_batch, shard, sources)
        return tf.data.Dataset.from_tensor_slices((rows, examples.targets[rows])).batch(batch_size)

    return types.SimpleNamespace(examples=examples, training_batches=training_batches, why_not_decoded=lambda row: None)


def rows_of(batches):
    return [inputs.numpy().tolist() for inputs, _ in batches]


def test_a_balanced_epoch_goes_on_in_its_middle_as_it_would_have_and_comes_in_another_order(skewed):
    def batches():
        strategy = tf.distribute.get_strategy()
        return TrainingBatches(numbered_source(skewed), strategy, 16, seed=5, sampling="balanced")

    whole = rows_of(batches().in_epoch(4))
    assert len(whole) == 6 and rows_of(batches().in_epoch(4, first=3)) == whole[3:]
    order = np.concatenate(whole)
    assert (np.sort(order) != order).any()
    shown = skewed.targets[order]
    assert (shown[:, 1:].sum(axis=0) > 15).all()  # 12 and 8 of a hundred photos


def test_in_the_place_of_a_bad_photo_that_is_drawn_stands_the_next_sound_one(skewed):
    batches = TrainingBatches(numbered_source(skewed), tf.distribute.get_strategy(), 16, seed=5, sampling="balanced")
    before = rows_of(batches.in_epoch(4))
    batches.bad = {80, 81, 99}
    after = rows_of(batches.in_epoch(4))
    instead = {80: 82, 81: 82, 99: 0}
    assert after == [[instead.get(row, row) for row in batch] for batch in before] and after != before
