"""`python -m export.compare`: compares the accuracy, size and speed of a .tflite with its `model.keras`."""

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from export.ondevice import open_classifier
from msrn_tf import command_line, storage
from msrn_tf.config import DataConfig, option
from msrn_tf.data.batch_source import PhotoSource
from msrn_tf.data.examples import Examples
from msrn_tf.data.pipeline import InputPlan, evaluation_batches
from msrn_tf.data.readers import read_split
from msrn_tf.errors import UserError, argument
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.evaluation.metrics import evaluate_scores, top_k
from msrn_tf.extras import needs
from msrn_tf.files import write_beside
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.factory import load_model
from msrn_tf.progress import ProgressBar
from msrn_tf.terminal import Table, print_table, say

if TYPE_CHECKING:
    from export.device_classifier import DeviceClassifier

FIGURES = ("mAP", "CF1", "OF1")
SHOWN_LABELS = 3
ACCURACY_LOST_STATUS = 1


class AccuracyLost(UserError):
    """A .tflite's mAP is further below its model's than was allowed."""

    exit_status = ACCURACY_LOST_STATUS


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """Comparison"""

    model: str = option("", "model.keras that the .tflite files were made from", path="input")
    tflite: tuple[str, ...] = option(
        (), "a .tflite to compare; repeat the flag for several", repeated=True, path="input"
    )
    split: str = option("test", "split to measure on")
    max_images: int = option(0, "measure only the first images of the split; 0: all", low=0)
    batch_size: int = option(32, "images per batch, for the model", low=1)
    threads: int = option(2, "threads of the interpreter", low=1)
    runs: int = option(20, "runs whose median is the latency", low=1)
    top_k: int = option(3, "number of top labels to compare for agreement", low=1)
    max_drop: float = option(0.5, "largest allowed mAP loss in points; above it, the exit status is 1", low=0.0)
    output: str = option("", "file for the comparison (.json)", path="file")


def main(data: DataConfig, config: CompareConfig) -> None:
    """Compares as configured."""
    if not config.model or not config.tflite:
        raise UserError("--model and --tflite are needed: the model.keras, and what was made from it")
    with needs("tflite"):
        from export.quantization import arena  # noqa: F401  before anything is computed
    with argument("model"):
        model = load_model(config.model)
    with argument("tflite"):
        classifiers = {path: open_classifier(path, config.threads) for path in config.tflite}
    for path, classifier in classifiers.items():
        check_labels(path, classifier, model)
    reader = data.open(config.split)
    examples = read_split(reader, config.split, data.drop_unlabelled, model.labels)
    examples = examples[: config.max_images or None]
    targets = examples.targets
    expected = model_scores(model, examples, config, data)
    rows = [describe_model(config.model, expected, targets, model)]
    for path, classifier in classifiers.items():
        found = device_scores(classifier, examples, data.max_pixels, os.path.basename(path))
        rows.append(compare(path, classifier, found, expected, targets, model, config))
    print_comparison(rows, config)
    if config.output:
        write_json(config, rows, len(examples))
    lost = [row for row in rows[1:] if row["mAP_drop"] is not None and row["mAP_drop"] > config.max_drop]
    if lost:
        names = ", ".join(f"{row['file']} ({row['mAP_drop']:.2f})" for row in lost)
        raise AccuracyLost(f"mAP falls by more than --max_drop={config.max_drop:g} with {names}")


def check_labels(path: str, classifier: "DeviceClassifier", model: MultiLabelClassifier) -> None:
    """Refuses a .tflite of another model."""
    if len(classifier.labels) != len(model.labels):
        raise UserError(
            f"--tflite={path}: has {len(classifier.labels)} labels and the model {len(model.labels)}; export it from "
            "this model"
        )
    for place, (found, expected) in enumerate(zip(classifier.labels, model.labels, strict=True)):
        if found != expected:
            raise UserError(f"--tflite={path}: its label {place} is {found!r} and the model's {expected!r}")
    if classifier.image_size != model.image_size:
        raise UserError(
            f"--tflite={path}: takes {classifier.image_size} pixels and the model {model.image_size}; export it from "
            "this model"
        )


def model_scores(
    model: MultiLabelClassifier, examples: Examples, config: CompareConfig, data: DataConfig
) -> np.ndarray:
    """Probabilities of the trained model `[images, C]`."""
    with ProgressBar("model.keras", len(examples)) as bar:
        source = PhotoSource(examples, InputPlan(model.image_size, max_pixels=data.max_pixels))
        return Evaluator(model, config.batch_size).scores(source, bar.update)


def device_scores(classifier: "DeviceClassifier", examples: Examples, max_pixels: int, name: str) -> np.ndarray:
    """Scores of a .tflite on the pixels that the model saw, `[images, C]`."""
    batches = evaluation_batches(examples, image_size=classifier.image_size, batch_size=1, max_pixels=max_pixels)
    scores = []
    with ProgressBar(name, len(examples)) as bar:
        for images, _ in batches:
            scores.append(classifier.scores(images[0].numpy()))
            bar.update(len(scores))
    return np.stack(scores)


def describe_model(path: str, scores: np.ndarray, targets: np.ndarray, model: MultiLabelClassifier) -> dict[str, Any]:
    """The row of the trained model."""
    metrics = evaluate_scores(scores, targets, model.labels, model.thresholds)
    return {"file": path, "megabytes": storage.getsize(path) / 1e6, **{name: metrics[name] for name in FIGURES}}


def compare(
    path: str,
    classifier: "DeviceClassifier",
    found: np.ndarray,
    expected: np.ndarray,
    targets: np.ndarray,
    model: MultiLabelClassifier,
    config: CompareConfig,
) -> dict[str, Any]:
    """The row of a .tflite: what it costs and what it lost."""
    with needs("tflite"):
        from export.quantization.arena import arena_bytes
    before, after = (evaluate_scores(scores, targets, model.labels, model.thresholds) for scores in (expected, found))
    difference = np.abs(found - expected)
    lost = {
        label: before["AP"][label] - after["AP"][label] for label in model.labels if before["AP"][label] is not None
    }
    worst = sorted(lost, key=lambda label: lost[label], reverse=True)[:SHOWN_LABELS]
    agree = (top_k(found, config.top_k) & top_k(expected, config.top_k)).sum(axis=1)
    return {
        "file": path,
        "megabytes": storage.getsize(path) / 1e6,
        "arena_megabytes": arena_bytes(path) / 1e6,
        "milliseconds": latency(classifier, config.runs),
        **{name: after[name] for name in FIGURES},
        "mAP_drop": None if before["mAP"] is None else before["mAP"] - after["mAP"],
        "top_k_agreement": 100 * float(agree.mean()) / min(config.top_k, len(model.labels)),
        "largest_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "lost_most": {label: lost[label] for label in worst},
    }


def latency(classifier: "DeviceClassifier", runs: int) -> float:
    """Median milliseconds of a run, after one that does not count."""
    pixels = np.full((classifier.image_size, classifier.image_size, 3), 128, np.uint8)
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        classifier.scores(pixels)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[1:])


def print_comparison(rows: Sequence[dict[str, Any]], config: CompareConfig) -> None:
    """A line a file, and the labels that lost most."""
    columns = ["file", "MB", "arena", "ms", *FIGURES, f"top-{config.top_k} %", "max diff", "mean"]
    table = Table(*columns, padding=(0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        cells = [os.path.basename(row["file"]), f"{row['megabytes']:.2f}"]
        cells += [f"{row[name]:.1f}" if name in row else "" for name in ("arena_megabytes", "milliseconds")]
        cells += ["-" if row[name] is None else f"{row[name]:.2f}" for name in FIGURES]
        if "lost_most" in row:
            cells += [f"{row['top_k_agreement']:.1f}", f"{row['largest_difference']:.1e}"]
            cells += [f"{row['mean_difference']:.1e}"]
        table.add_row(*cells)
    print_table(table)
    for row in rows[1:]:
        lost = ", ".join(f"{label} {0 - round(value, 2):+.2f}" for label, value in row["lost_most"].items())
        say(f"{os.path.basename(row['file'])}: labels that lost most AP: {lost}")


def write_json(config: CompareConfig, rows: Sequence[dict[str, Any]], num_images: int) -> None:
    """The same as JSON, written under a temporary name and renamed."""
    content = {
        "model": rows[0],
        "tflite": rows[1:],
        "num_images": num_images,
        "split": config.split,
        "threads": config.threads,
        "runs": config.runs,
        "top_k": config.top_k,
        "max_drop": config.max_drop,
    }
    write_beside(config.output, json.dumps(content, indent=2, ensure_ascii=False))
    say(f"written to {config.output}")


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(DataConfig,), extra_flags=CompareConfig)
