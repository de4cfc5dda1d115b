"""A model measured on a split by a stated protocol: what `msrn_tf.evaluate` prints, stores and draws."""

import dataclasses
from typing import Any

import numpy as np

from msrn_tf.choices import MAX_PIXELS
from msrn_tf.data.batch_source import PhotoSource
from msrn_tf.data.examples import Examples, Reader
from msrn_tf.data.pipeline import InputPlan
from msrn_tf.data.readers import read_split
from msrn_tf.errors import UserError
from msrn_tf.evaluation.calibration_error import classwise_calibration_error, expected_calibration_error
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.evaluation.metrics import evaluate_scores
from msrn_tf.evaluation.thresholds import DEFAULT, ThresholdGoal, fit_thresholds
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.type_names import Progress

THRESHOLDS = ("model", "fixed", "calibrated")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Scores of one model on one split, and its metrics.

    Attributes:
        model: `MultiLabelClassifier`.
        examples: the N examples, targets in the order of the model's labels.
        logits, scores: float `[N, C]`; scores are calibrated probabilities.
        targets: int8 `[N, C]`.
        thresholds: float `[C]`.
        metrics: the metrics file (docs/evaluation.md), a dict.
    """

    model: MultiLabelClassifier
    examples: Examples
    logits: np.ndarray
    scores: np.ndarray
    targets: np.ndarray
    thresholds: np.ndarray
    metrics: dict


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How scores are made and decided upon.

    Attributes:
        dataset, split: what is measured on.
        thresholds: one of `THRESHOLDS`.
        calibration_split: where `calibrated` thresholds come from.
        image_sizes, flip: test-time augmentation, as in `Evaluator`.
        i_know_this_is_optimistic: allow thresholds and calibration that were fitted to photos which are measured on.
    """

    dataset: str
    split: str
    thresholds: str = "model"
    calibration_split: str = ""
    image_sizes: tuple = ()
    flip: bool = False
    i_know_this_is_optimistic: bool = False

    def describe(self, model: MultiLabelClassifier) -> dict[str, str]:
        """Sentences that a table's caption needs: name → text."""
        fitted = model.calibration.split and f"{model.calibration.dataset}:{model.calibration.split}"
        sizes = self.image_sizes or (model.image_size,)
        return {
            "data": f"{self.dataset}, split {self.split}; unknown targets are left out of every figure",
            "images": f"warped to {', '.join(f'{size}×{size}' for size in sizes)}"
            + (", and mirrored" if self.flip else "")
            + ("; mean of the logits" if self.flip or len(sizes) > 1 else "; no test-time augmentation"),
            "thresholds": {
                "model": f"those in the model, fitted to {fitted}" if fitted else "0.5 for every label",
                "fixed": "0.5 for every label, as papers do",
                "calibrated": f"best F1 for each label on {self.dataset}:{self.calibration_split}",
            }[self.thresholds],
            "probabilities": f"calibrated on {fitted}"
            if not model.calibration.is_identity
            else "sigmoid of the logits, not calibrated",
        }


def measure(
    evaluator: Evaluator,
    examples: Examples,
    protocol: Protocol,
    reader: Reader,
    progress: Progress | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Measurement:
    """A `Measurement` of the evaluator's model.

    Args:
        evaluator: `Evaluator`, with the protocol's test-time augmentation.
        examples: of the split, in the order of the model's labels.
        protocol: `Protocol`.
        reader: of the data set, for a further split where the protocol names one.
        progress: as in `Evaluator.logits`.
        max_pixels: int. Larger photos are refused.

    Raises:
        UserError: thresholds or calibration were fitted to photos of this split.
    """
    model = evaluator.model
    plan = InputPlan(model.image_size, max_pixels=max_pixels)
    thresholds = _thresholds(evaluator, examples, protocol, reader, plan)
    logits, targets = evaluator.logits(PhotoSource(examples, plan), progress), examples.targets
    scores = np.asarray(model.calibrated(logits))
    metrics = metrics_of(model, scores, targets, thresholds, protocol)
    return Measurement(model, examples, logits, scores, targets, thresholds, metrics)


def metrics_of(
    model: MultiLabelClassifier, scores: np.ndarray, targets: np.ndarray, thresholds: np.ndarray, protocol: Protocol
) -> dict[str, Any]:
    """The metrics file of scores `[N, C]`: metrics, calibration errors, counts, thresholds, the protocol."""
    return evaluate_scores(scores, targets, model.labels, thresholds) | {
        "expected_calibration_error": expected_calibration_error(scores, targets),
        "classwise_calibration_error": classwise_calibration_error(scores, targets),
        "positives": dict(zip(model.labels, (targets == 1).sum(axis=0).tolist(), strict=True)),
        "thresholds": dict(zip(model.labels, map(float, thresholds), strict=True)),
        "protocol": protocol.describe(model),
    }


def _thresholds(evaluator, examples, protocol, reader, plan):
    model, split = evaluator.model, protocol.calibration_split
    _refuse_photos_of_the_calibration(model, examples, protocol, reader)
    if protocol.thresholds == "calibrated":
        if not split:
            raise UserError("`calibration_split` is missing: `thresholds`=calibrated needs a split to find them on")
        others = read_split(reader, split, labels=model.labels)
        _refuse_shared_photos(examples, others, protocol, f"`calibration_split`={split}")
        scores = evaluator.scores(PhotoSource(others, plan))
        return fit_thresholds(scores, others.targets, ThresholdGoal()).values
    return np.array(model.thresholds if protocol.thresholds == "model" else [DEFAULT] * len(model.labels))


def _refuse_photos_of_the_calibration(model, examples, protocol, reader):
    """Those that the model's probabilities were fitted to, and its thresholds where they are the model's."""
    fitted = model.calibration
    if fitted.split and fitted.dataset == protocol.dataset:
        try:
            others = read_split(reader, fitted.split)
        except UserError:  # another data set of this kind, without such a split
            others = examples[:0]
        _refuse_shared_photos(examples, others, protocol, f"the model was calibrated on split {fitted.split}, which")


def _refuse_shared_photos(examples, others, protocol, subject):
    shared = len(set(examples.ids) & set(others.ids))
    if shared and not protocol.i_know_this_is_optimistic:
        raise UserError(
            f"{subject} holds {shared} of the {len(examples)} photos of `split`={protocol.split}: the figures would "
            "look better than the model is; use another split, or `i_know_this_is_optimistic`"
        )
