"""Annotations that are likely wrong: out-of-fold scores, their order, the list, the command from photos to a page."""

import csv
import json
import re

import numpy as np
import pytest
from running import assert_refused, command
from sklearn.linear_model import LogisticRegression

from msrn_tf.check_labels import as_csv, listed
from msrn_tf.data.corrections import Decision
from msrn_tf.data.demo import DEMO_LABELS, draw_example
from msrn_tf.errors import UserError
from msrn_tf.evaluation.label_errors import fold_numbers, out_of_fold_logits, rank_suspects
from msrn_tf.visualization.label_page import Question

LABELS = ("cat", "dog", "ox")


@pytest.fixture
def data(rng):
    """Features that tell two labels well and one somewhat, and targets of which some are unknown."""
    features = rng.normal(1, [0.1, 1, 10, 1, 1], (300, 5)).astype(np.float32)
    inputs = (features - features.mean(axis=0)) / features.std(axis=0)
    truth = (inputs[:, :3] + rng.normal(0, [0.1, 0.1, 1], (300, 3)) > 0.5).astype(np.int8)
    targets = np.where(rng.random(truth.shape) < 0.1, -1, truth).astype(np.int8)
    return features, inputs, targets


def test_each_labels_positives_and_negatives_are_spread_evenly_over_the_folds(data):
    _, _, targets = data
    numbers = fold_numbers(LABELS, targets, 4, seed=1)
    for column in range(3):
        for state in (1, 0, -1):
            counts = np.bincount(numbers[targets[:, column] == state, column], minlength=4)
            assert len(counts) == 4 and counts.max() - counts.min() <= 1
    assert (numbers != fold_numbers(LABELS, targets, 4, seed=2)).any()


def test_what_cannot_be_divided_is_refused_by_name():
    targets = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.int8)
    with pytest.raises(UserError, match=r"^`folds`=5: are more than the 4 photos"):
        fold_numbers(LABELS, targets, 5, seed=0)
    with pytest.raises(UserError, match=r"present in fewer photos .*: cat \(2\), dog \(2\), ox \(2\).*`min_photos`=3"):
        fold_numbers(LABELS, targets, 3, seed=0)
    with pytest.raises(UserError, match=r"absent in fewer photos .*: ox \(1\).*`labels`"):
        fold_numbers(LABELS, np.where([False, False, True], 1 - targets * (np.arange(4) > 0)[:, None], targets), 2, 0)


def test_the_logits_are_those_of_a_logistic_regression_for_each_label_and_fold(data):
    features, inputs, targets = data
    numbers = fold_numbers(LABELS, targets, 3, seed=0)
    found = out_of_fold_logits(features, targets, numbers, l2=0.05)
    for column in range(3):
        for fold in range(3):
            trained = (targets[:, column] >= 0) & (numbers[:, column] != fold)
            head = LogisticRegression(C=1 / (0.05 * trained.sum()), tol=1e-8).fit(
                inputs[trained], targets[trained, column]
            )
            held_out = numbers[:, column] == fold
            np.testing.assert_allclose(found[held_out, column], head.decision_function(inputs[held_out]), atol=0.01)


def test_a_photos_score_does_not_depend_on_its_own_annotation(data):
    features, _, targets = data
    numbers = fold_numbers(LABELS, targets, 3, seed=0)
    flipped = targets.copy()
    row = int(np.flatnonzero(targets[:, 0] >= 0)[7])
    flipped[row, 0] = 1 - flipped[row, 0]
    before, after = (out_of_fold_logits(features, t, numbers, l2=0.05) for t in (targets, flipped))
    same_fold = numbers[:, 0] == numbers[row, 0]
    assert np.abs(before[same_fold, 0] - after[same_fold, 0]).max() < 1e-3  # one minimisation of all, in float32
    assert np.abs(before[~same_fold, 0] - after[~same_fold, 0]).max() > 1e-2


def test_wrong_annotations_come_first_and_unknown_ones_never(data, rng):
    features, _, targets = data
    targets = targets[:, :2].copy()
    known = np.argwhere(targets >= 0)
    wrong = {tuple(place) for place in known[rng.choice(len(known), 20, replace=False)].tolist()}
    for place in wrong:
        targets[place] = 1 - targets[place]
    logits = out_of_fold_logits(features, targets, fold_numbers(LABELS[:2], targets, 5, seed=0), l2=0.02)
    suspects = rank_suspects(targets, logits)
    order = list(zip(suspects.rows.tolist(), suspects.columns.tolist(), strict=True))
    assert len(set(order[:20]) & wrong) >= 14  # of 20 among 540
    assert len(order) == len(set(order)) == (targets >= 0).sum() and all(targets[place] >= 0 for place in order)
    # The order is by the probability of what is annotated.
    probabilities = 1 / (1 + np.exp(-logits[suspects.rows, suspects.columns]))
    np.testing.assert_allclose(suspects.scores, probabilities)
    annotated = np.where(suspects.annotated == 1, probabilities, 1 - probabilities)
    assert (np.diff(annotated) >= -1e-12).all()
    assert 10 <= suspects.estimated <= 40


def test_what_was_decided_before_is_not_listed_again(data):
    _, _, targets = data
    suspects = rank_suspects(targets, np.where(targets == 1, 3.0, -3.0) + np.linspace(0, 1, 3))
    names = [f"{n}.jpg" for n in range(300)]
    everything = listed(suspects, names, LABELS, [])
    first, second = everything[:2]
    left = listed(suspects, names, LABELS, [Decision(first.photo, first.label, None, 1, 0)])
    assert left == everything[1:] and left[0] == second


def test_the_list_is_a_table_of_the_states_and_the_score():
    rows = list(
        csv.DictReader(as_csv([Question('a,".jpg', "dog", 1, 0.01234), Question("b", "ox", 0, 0.9)]).splitlines())
    )
    assert rows == [
        {"photo": 'a,".jpg', "label": "dog", "annotated": "present", "score": "0.0123", "suggestion": "absent"},
        {"photo": "b", "label": "ox", "annotated": "absent", "score": "0.9000", "suggestion": "present"},
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Drawn photos with a table, one of them cut short, and a model whose backbone looks at them."""
    from msrn_tf.config import ModelConfig
    from msrn_tf.models.factory import create_model, save_model

    folder = tmp_path_factory.mktemp("drawn")
    (folder / "data").mkdir()
    lines = ["image,labels,split"]
    for number in range(120):
        example = draw_example("train", number)
        content = example.image_bytes[:50] if number == 7 else example.image_bytes
        (folder / "data" / f"{number}.png").write_bytes(content)
        shown = [label for label, value in zip(DEMO_LABELS, example.target, strict=True) if value == 1]
        lines.append(f"{number}.png,{'|'.join(shown)},train")
    (folder / "data" / "list.csv").write_text("\n".join(lines) + "\n")
    model = create_model(ModelConfig(model="gap", backbone="resnet_tiny", freeze_backbone=True), DEMO_LABELS, 32)
    save_model(model, str(folder / "model.keras"))
    return folder


def check(folder, *flags):
    data = ("--dataset=csv", f"--data_dir={folder / 'data'}", f"--model={folder / 'model.keras'}", "--folds=3")
    return command("msrn_tf.check_labels", *data, *flags)


def test_the_command_lists_suspects_and_a_second_pass_leaves_out_what_was_decided(folder):
    before = {path.name: path.read_bytes() for path in (folder / "data").iterdir()}
    listing, page = folder / "suspects.csv", folder / "page.html"
    run = check(folder, f"--output={listing}", f"--page={page}", "--most=30", "--page_questions=12")
    assert run.returncode == 0, run.stderr
    assert "7.png: " in run.stdout and "30 of" in run.stdout
    with open(listing, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30 and "7.png" not in {row["photo"] for row in rows}
    data = json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', page.read_text())[1])
    assert [(q["photo"], q["label"]) for q in data["questions"]] == [(r["photo"], r["label"]) for r in rows[:12]]
    assert all(photo.startswith("data:image/jpeg;base64,") for photo in data["photos"])

    decisions = folder / "corrections.csv"
    decisions.write_text("photo,label,annotated,decision\n" + "".join(
        f"{row['photo']},{row['label']},{row['annotated']},{row['suggestion']}\n" for row in rows[:5]
    ))  # fmt: skip
    again = check(folder, f"--output={listing}", f"--page={page}", "--most=30", f"--corrections={decisions}")
    assert again.returncode == 0, again.stderr
    with open(listing, newline="") as file:
        left = {(row["photo"], row["label"]) for row in csv.DictReader(file)}
    assert len(left) == 30 and not left & {(row["photo"], row["label"]) for row in rows[:5]}
    data = json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', page.read_text())[1])
    assert data["decided"] == [[r["photo"], r["label"], r["annotated"], r["suggestion"]] for r in rows[:5]]
    assert {path.name: path.read_bytes() for path in (folder / "data").iterdir()} == before

    measured = command(
        "msrn_tf.evaluate", "--dataset=csv", f"--data_dir={folder / 'data'}", f"--model={folder / 'model.keras'}",
        "--split=train", f"--corrections={folder / 'page.html'}",
    )  # fmt: skip
    assert_refused(measured, "page.html", "first line")


def test_the_command_refuses_what_it_cannot_check(folder):
    assert_refused(check(folder, "--folds=99"), "--folds=99", "--min_photos=99")
    assert_refused(check(folder, f"--page={folder}"), "--page=", "is a folder")
    assert_refused(command("msrn_tf.check_labels", "--dataset=demo", "--backbone_weights="), "--backbone_weights")
