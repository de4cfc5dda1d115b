"""Examples as columns: rows, counts and places as row by row; tables and compressed rows; an epoch starts at once."""

import json
import os
import zlib

import numpy as np
import pytest
from PIL import Image

from msrn_tf.data import pipeline
from msrn_tf.data.examples import Example, Examples
from msrn_tf.data.label_choice import with_columns
from msrn_tf.data.pipeline import InputPlan, evaluation_batches, training_batches
from msrn_tf.data.preparation import PreparationPlan, finish, write_split
from msrn_tf.data.prepared import Prepared
from msrn_tf.data.targets import CompressedTargets


def random_targets(rng, count=40, labels=9):
    return rng.choice(np.array([-1, 0, 1], np.int8), size=(count, labels), p=[0.3, 0.5, 0.2])


def examples_of(targets):
    rows = [Example(f"photo {n}", target, image_path=f"{n}.jpg") for n, target in enumerate(targets)]
    return Examples.of(rows, targets.shape[1]), rows


def in_both_forms(targets):
    examples, _ = examples_of(targets)
    for default in (None, 0, -1):
        kept = targets if default is None else CompressedTargets.from_dense(targets, default)
        yield examples.with_targets(kept)


def assert_same_rows(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.image_id, one.image_path, one.image_bytes) == (other.image_id, other.image_path, other.image_bytes)
        assert one.record_offset == other.record_offset
        np.testing.assert_array_equal(one.target, other.target)


def test_rows_slices_and_choices_are_those_of_a_list(rng):
    targets = random_targets(rng)
    _, rows = examples_of(targets)
    chosen = [7, 7, 0, 39]
    for examples in in_both_forms(targets):
        assert_same_rows(list(examples), rows)
        assert_same_rows(examples[5:30:3], rows[5:30:3])
        assert_same_rows(examples[::-1], rows[::-1])
        assert_same_rows(examples.take(np.array(chosen)), [rows[n] for n in chosen])
        assert_same_rows(examples.take(targets[:, 0] == 1), [row for row in rows if row.target[0] == 1])
        assert_same_rows([examples[-1], examples[3]], [rows[-1], rows[3]])
        assert_same_rows([row for chunk in examples.chunks(7) for row in chunk], rows)
        with pytest.raises(IndexError):
            examples[40]


def test_counts_and_cooccurrence_are_those_of_a_loop(rng):
    targets = random_targets(rng)
    together = np.zeros((9, 9), int)
    for row in targets:
        for i in np.flatnonzero(row == 1):
            for j in np.flatnonzero(row == 1):
                together[i, j] += i != j
    for examples in in_both_forms(targets):
        for value in (1, 0, -1):
            assert examples.counts(value).tolist() == [(column == value).sum() for column in targets.T]
        np.testing.assert_array_equal(examples.cooccurrence(), together)
        np.testing.assert_array_equal(examples.targets, targets)
        assert examples.show_a_label().tolist() == [(row == 1).any() for row in targets]


def test_a_fingerprint_is_of_all_names_and_targets_in_their_order(rng, monkeypatch):
    targets = random_targets(rng)
    examples, rows = examples_of(targets)
    names = zlib.crc32("\n".join(row.image_id for row in rows).encode())
    assert examples.fingerprint() == (40, names, zlib.crc32(targets.tobytes()))
    for other in in_both_forms(targets):
        changed = targets.copy()
        changed[3, 2] = 1 if changed[3, 2] < 1 else 0
        assert other.fingerprint() == other[:].fingerprint() != other[::-1].fingerprint()
        kind = changed if other.compressed_default is None else CompressedTargets.from_dense(
            changed, other.compressed_default
        )  # fmt: skip
        assert other.with_targets(kind).fingerprint() != other.fingerprint()


def test_labels_are_chosen_in_compressed_rows_as_in_a_table(rng):
    targets = random_targets(rng)
    columns = [[3], [], [0, 1], [8]]
    expected = np.full((40, 4), -1)
    expected[:, 0], expected[:, 3] = targets[:, 3], targets[:, 8]
    for row, pair in zip(expected, targets[:, :2], strict=True):
        row[2] = 1 if 1 in pair else -1 if -1 in pair else 0
    for examples in in_both_forms(targets):
        chosen = with_columns(examples, columns, -1)
        np.testing.assert_array_equal(chosen.targets, expected)
        assert chosen.compressed_default == examples.compressed_default


def write_photos(folder, count):
    for n in range(count):
        Image.new("RGB", (8, 8), (n, n, n)).save(folder / f"{n}.png")


def prepare(folder, targets):
    """Photos of grey levels 0, 1, 2 … and what `msrn_tf.prepare` writes of them; returns the reader."""
    write_photos(folder, len(targets))
    rows = (Example(f"café {n}", target, image_path=str(folder / f"{n}.png")) for n, target in enumerate(targets))
    examples = Examples.of(rows, targets.shape[1])
    labels = [f"label {c}" for c in range(targets.shape[1])]
    (folder / "records").mkdir()
    notes = write_split(
        str(folder / "records"), "train", examples, PreparationPlan(100, shard_bytes=900), lambda done: None
    )
    finish(str(folder / "records"), labels, {"train": examples}, {"train": notes})
    return Prepared(str(folder / "records"))


@pytest.mark.parametrize("labels", [4, 300])
def test_prepared_columns_are_what_was_written(rng, tmp_path, labels):
    targets = random_targets(rng, 12, labels)
    examples = prepare(tmp_path, targets).read("train")
    np.testing.assert_array_equal(examples.targets, targets)
    assert examples.ids == [f"café {n}" for n in range(12)]
    assert (examples.compressed_default is None) == (labels == 4)
    assert len(examples.files()) > 1
    images, found = next(iter(evaluation_batches(examples, image_size=8, batch_size=12)))
    assert images.numpy()[:, 0, 0, 0].tolist() == list(range(12))
    np.testing.assert_array_equal(found, targets)


def test_an_index_of_the_older_form_is_read(rng, tmp_path):
    targets = random_targets(rng, 12, 4)
    expected = list(prepare(tmp_path, targets).read("train"))
    folder = tmp_path / "records"
    columns = {name: np.load(folder / f"train.{name}.npy") for name in ("image_id", "target", "shard", "offset")}
    for name in columns:
        os.remove(folder / f"train.{name}.npy")
    columns["image_id"] = np.array([name.decode() for name in columns["image_id"].tolist()])
    np.savez(folder / "train.index.npz", **columns)
    assert_same_rows(Prepared(str(folder)).read("train"), expected)


COMPRESSED_FAULTS = {
    "a row that ends before it begins": ("target_indptr", lambda values: values[::-1], "not compressed rows"),
    "a label beyond the last": ("target_indices", lambda values: values + 300, "not compressed rows"),
    "fewer values than labels": ("target_data", lambda values: values[:-1], "not compressed rows"),
    "target 9": ("target_data", lambda values: values + np.int8(9), "targets other than"),
    "another default": ("target_default", lambda values: np.int8(3), "default target"),
    "a row too few": ("target_indptr", lambda values: np.append(values[:-2], values[-1]), "not whole numbers of shape"),
    "numbers that are not whole": ("target_data", lambda values: values * 1.0, "not compressed rows"),
}


@pytest.mark.parametrize("fault", COMPRESSED_FAULTS)
def test_compressed_rows_of_a_file_are_checked_before_they_are_used(rng, tmp_path, fault):
    reader, (column, change, words) = prepare(tmp_path, random_targets(rng, 6, 300)), COMPRESSED_FAULTS[fault]
    path = tmp_path / "records" / f"train.{column}.npy"
    np.save(path, change(np.load(path)))
    with pytest.raises(Exception, match=words):
        reader.read("train")
    assert json.loads((tmp_path / "records" / "dataset.json").read_text())["splits"]["train"]["num_images"] == 6


@pytest.mark.parametrize(("first", "shard"), [(0, (0, 1)), (2, (0, 1)), (1, (1, 2))])
def test_an_epoch_is_the_permutation_of_its_seed_cut_into_batches(rng, tmp_path, first, shard):
    targets = random_targets(rng, 13, 5)
    write_photos(tmp_path, 13)
    rows = (Example(str(n), target, image_path=str(tmp_path / f"{n}.png")) for n, target in enumerate(targets))
    examples = Examples.of(rows, 5)
    order = np.random.default_rng((7, 3)).permutation(13)[:12].reshape(3, 4)[first:]
    mine = order.reshape(len(order), shard[1], -1)[:, shard[0]]
    batches = list(
        training_batches(examples, InputPlan(8), batch_size=4, seed=7, epoch=3, first_batch=first, shard=shard)
    )
    for wanted, (images, found) in zip(mine, batches, strict=True):
        assert images.numpy()[:, 0, 0, 0].tolist() == wanted.tolist()
        np.testing.assert_array_equal(found, targets[wanted])


def test_an_epoch_looks_up_a_few_rows_before_its_first_batch(tmp_path, monkeypatch):
    """However many photos there are: a row is looked up shortly before it is read."""
    write_photos(tmp_path, 1)
    count = 200_000
    examples = Examples(
        np.arange(count).astype(np.bytes_),
        np.zeros((count, 3), np.int8),
        paths=[str(tmp_path / "0.png")],
        path_index=np.zeros(count, np.int32),
    )
    looked_up = []
    take = Examples.take
    monkeypatch.setattr(Examples, "take", lambda self, rows: looked_up.append(np.size(rows)) or take(self, rows))
    batches = iter(training_batches(examples, InputPlan(8), batch_size=4, seed=1, epoch=1))
    next(batches)
    assert 0 < sum(looked_up) <= 20 * pipeline.ROWS_AT_A_TIME
