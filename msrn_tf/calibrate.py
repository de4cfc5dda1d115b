"""`python -m msrn_tf.calibrate`: fits probabilities and thresholds of a model, and stores them in `model.keras`.

Probabilities are calibrated first (Platt scaling for each label). Each label then gets the threshold for its best F1,
or for a wanted precision or recall. Every export of the model includes both. Use a split that the model was not trained
on and that you will not measure on.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from msrn_tf import command_line
from msrn_tf.config import DataConfig, option
from msrn_tf.data.batch_source import PhotoSource
from msrn_tf.data.pipeline import InputPlan
from msrn_tf.data.readers import read_split
from msrn_tf.errors import UserError, argument
from msrn_tf.evaluation.calibration_error import METHODS
from msrn_tf.evaluation.calibrator import CalibrationResult, calibrate
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.evaluation.metrics import FIGURES
from msrn_tf.evaluation.thresholds import ThresholdGoal
from msrn_tf.files import check_output, write_beside
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.factory import load_model, save_model
from msrn_tf.progress import ProgressBar
from msrn_tf.terminal import Table, print_table, say


@dataclasses.dataclass(frozen=True)
class CalibrationConfig:
    """Calibration"""

    model: str = option("", "model.keras written by msrn_tf.train", path="input")
    split: str = option("val", "split to fit on")
    output: str = option("", "model file to write; empty: replace --model", path="file")
    target_precision: float = option(0.0, "target precision for each label, such as 0.9; 0: best F1", low=0.0, high=1.0)
    target_recall: float = option(0.0, "target recall for each label, such as 0.9; 0: best F1", low=0.0, high=1.0)
    probabilities: str = option(
        "platt", "platt: slope and intercept for each label; temperature: one slope for all; none", choices=METHODS
    )
    min_positives: int = option(
        10, "labels that fewer photos show get one threshold and temperature, fitted to all labels together", low=1
    )
    batch_size: int = option(32, "images per batch", low=1)
    json: str = option("", "file for the results (.json)", path="file")


def main(data: DataConfig, config: CalibrationConfig) -> None:
    """Calibrates as configured."""
    if not config.model:
        raise UserError("--model is missing: give the model.keras to calibrate")
    if config.target_precision and config.target_recall:
        raise UserError("--target_recall: cannot be combined with --target_precision; leave one of them out")
    output = config.output or config.model
    if not output.endswith(".keras"):
        raise UserError(f"--{'output' if config.output else 'model'}={output}: must end in .keras")
    with argument("model"):
        model = load_model(config.model)
    check_output("output" if config.output else "model", output)
    reader = data.open(config.split)
    examples = read_split(reader, config.split, data.drop_unlabelled, model.labels)
    targets = examples.targets
    for state, word in ((1, "present"), (0, "absent")):
        if not (targets == state).any():
            raise UserError(
                f"--split={config.split}: no image in it has a label that is known to be {word}, so nothing can be "
                "fitted; choose another split"
            )
    with ProgressBar("calibrating", len(examples)) as bar:
        source = PhotoSource(examples, InputPlan(model.image_size, max_pixels=data.max_pixels))
        logits = Evaluator(model, config.batch_size).logits(source, bar.update)
    goal = ThresholdGoal(config.target_precision, config.target_recall, config.min_positives)
    result = calibrate(logits, targets, goal, config.probabilities)
    model.calibration = dataclasses.replace(result.calibration, dataset=data.dataset, split=config.split)
    model.thresholds = tuple(map(float, result.thresholds.values))
    print_result(model.labels, result)
    save_model(model, output)
    if config.json:
        write_beside(config.json, json.dumps(as_json(model, result), indent=2, ensure_ascii=False))
    say(f"written to {output}: thresholds and calibration of {len(examples)} photos of {data.dataset}:{config.split}")


def print_result(labels: Sequence[str], result: CalibrationResult) -> None:
    """Threshold and F1 of each label, and the figures before and after."""
    table = Table("label", "photos", "threshold", "precision", "recall", "F1 at 0.5", "F1")
    for column in table.columns[1:]:
        column.justify = "right"
    for c, label in enumerate(labels):
        values = [
            result.after["precision"][c],
            result.after["recall"][c],
            result.before["F1"][c],
            result.after["F1"][c],
        ]
        table.add_row(
            label, str(result.positives[c]), f"{result.thresholds.values[c]:.3f}", *(f"{v:.1f}" for v in values)
        )
    print_table(table)
    for c, label in enumerate(labels):
        if note := result.note(c):
            say(f"{label}: {note}")
    for note in result.notes:
        say(note)
    say("percent; each photo is judged by what was fitted to the others (five folds); before: 0.5 and no calibration")
    for title, figures in (("before", result.before), ("after", result.after)):
        errors = f"expected calibration error {figures['ECE']:.4f}, mean over labels {figures['classwise_ECE']:.4f}"
        say(f"{title:7}" + "  ".join(f"{name} {figures[name]:.2f}" for name in FIGURES) + f"  {errors}")


def as_json(model: MultiLabelClassifier, result: CalibrationResult) -> dict[str, Any]:
    """The figures for a program: thresholds, calibration, before and after."""
    return {
        "thresholds": dict(zip(model.labels, model.thresholds, strict=True)),
        "calibration": dataclasses.asdict(model.calibration),
        "kept_global_threshold": [model.labels[c] for c in np.flatnonzero(result.thresholds.is_global)],
        "decided_as_before": [model.labels[c] for c in np.flatnonzero(result.kept)],
        "goal_out_of_reach": [model.labels[c] for c in np.flatnonzero(~result.thresholds.reached)],
    } | {
        name: {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in figures.items()}
        for name, figures in (("before", result.before), ("after", result.after))
    }


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(DataConfig,), extra_flags=CalibrationConfig)
