"""What was found in photos, and its forms in print: a table, JSON and CSV, the same wherever the model runs."""

import csv
import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from msrn_tf.errors import printable
from msrn_tf.terminal import Table, print_table, say

FORMULA_STARTS = tuple("=+-@＝＋－＠")
SCORE_DECIMALS = 6


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is in one photo.

    Attributes:
        photo: its path.
        labels: all names, best first.
        scores: calibrated probabilities in [0, 1], one a label, to six decimals.
        present: the labels whose scores reach their thresholds, best first.
        milliseconds: by stage, where they were measured.
        heatmaps: paths of the files with heat-maps, where those were asked for.
    """

    photo: str
    labels: Sequence[str]
    scores: Sequence[float]
    present: Sequence[str]
    milliseconds: dict[str, float] | None = None
    heatmaps: Sequence[str] | None = None

    @classmethod
    def of(cls, photo: str, answer: Iterable[tuple[str, float, bool]], **more: Any) -> "Prediction":
        """From `(label, score, is present)` of each label, best first, as `DeviceClassifier.classify` gives them."""
        labels, scores, are_present = zip(*answer, strict=True)
        present = [label for label, is_present in zip(labels, are_present, strict=True) if is_present]
        return cls(photo, list(labels), [round(float(score), SCORE_DECIMALS) for score in scores], present, **more)

    @property
    def explained(self) -> list[str]:
        """The labels that heat-maps are drawn of: those that are present, or the best one where none is."""
        return list(self.present or self.labels[:1])

    @property
    def score_of(self) -> dict[str, float]:
        """Label → score."""
        return dict(zip(self.labels, self.scores, strict=True))

    def as_json(self, top_k: int | None = None) -> dict:
        """For `json.dumps`, with the `top_k` best labels and scores; None: all."""
        fields = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        return fields | {"labels": list(self.labels[:top_k]), "scores": list(self.scores[:top_k])}


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A photo that cannot be read or decoded, and why, in a few words."""

    photo: str
    reason: str

    def as_json(self, _top_k: int | None = None) -> dict:
        """For `json.dumps`: a row as of a `Prediction` in which nothing is found."""
        return {"photo": self.photo, "labels": [], "scores": [], "present": [], "reason": self.reason}


def print_table_of(predictions: Sequence[Prediction], top_k: int) -> None:
    """A line a photo with its `top_k` best labels, and milliseconds where they were measured."""
    stages = list((predictions[0].milliseconds if predictions else None) or {})
    table = Table("photo", f"best {top_k} labels (present ones marked *)", *(f"{stage} ms" for stage in stages))
    for prediction in predictions:
        best = zip(prediction.labels[:top_k], prediction.scores, strict=False)
        names = [f"{'*' if label in prediction.present else ''}{label} {score:.3f}" for label, score in best]
        times = [f"{(prediction.milliseconds or {})[stage]:.1f}" for stage in stages]
        table.add_row(os.path.basename(prediction.photo), "  ".join(names), *times)
    print_table(table)


def print_json_of(predictions: Iterable[Prediction | Refusal], top_k: int) -> None:
    """A JSON object a line, a line a photo."""
    for prediction in predictions:
        say(json.dumps(prediction.as_json(top_k)))


def print_csv_of(predictions: Sequence[Prediction], labels: Sequence[str]) -> None:
    """A line a photo: its path, the present labels separated by `|`, and the score of each label.

    What a spreadsheet would compute (`=`, `+`, `-`, `@` in front) gets a `'` before it, which there means "text";
    control characters, and a `|` within a label, come as escapes.

    Args:
        labels: in the order of the columns.
    """
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(csv_text, ["photo", "present", *labels]))
    for prediction in predictions:
        present = "|".join(label.replace("|", "\\|") for label in prediction.present)
        scores = prediction.score_of
        writer.writerow([csv_text(prediction.photo), csv_text(present), *(scores[label] for label in labels)])


def csv_text(text: str) -> str:
    """Other people's text as a cell that neither a spreadsheet nor a terminal obeys (OWASP, "CSV injection")."""
    shown = printable(text)
    return f"'{shown}" if shown.lstrip().startswith(FORMULA_STARTS) else shown
