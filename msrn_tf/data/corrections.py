"""A person's decisions on single labels of single photos, read beside a data set of which nothing is written over.

The file is a table with the columns `photo,label[,annotated],decision`, as the page of `msrn_tf.check_labels` saves it:
a decision is `present`, `absent` or `unknown`; `annotated` is what the data set said when it was made. Rows without a
decision, and further columns, are passed over.
"""

import contextlib
import csv
import dataclasses
import difflib
import io
import re
from collections.abc import Iterable, Sequence

import numpy as np

from msrn_tf.data.examples import CHUNK, Examples, Reader
from msrn_tf.data.label_choice import shown
from msrn_tf.data.targets import ABSENT, PRESENT, UNKNOWN, CompressedTargets
from msrn_tf.errors import UserError, printable
from msrn_tf.text import clean_label, read_text

STATES = {"present": PRESENT, "absent": ABSENT, "unknown": UNKNOWN}
NAMES_OF_STATES = {value: name for name, value in STATES.items()}
NEEDED = ("photo", "label", "decision")
COLUMNS = ("photo", "label", "annotated", "decision")
ADVICE = "give the file that the page of msrn_tf.check_labels saved"


@dataclasses.dataclass(frozen=True)
class Decision:
    """One row: what a person decided of a photo's label, and what was annotated then (None: the file does not say)."""

    photo: str
    label: str
    annotated: int | None
    decision: int
    line: int


@dataclasses.dataclass(frozen=True)
class Changes:
    """Targets to set in some examples: rows, columns and values, int `[n]` each."""

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    def made_in(self, examples: Examples) -> Examples:
        """The examples with these targets."""
        default = examples.compressed_default
        if default is None:
            targets = np.array(examples.targets)
            targets[self.rows, self.columns] = self.values
            return examples.with_targets(targets)
        kept, parts = examples.compressed_targets(), []
        for start in range(0, len(kept), CHUNK):
            part = kept[start : start + CHUNK]
            here = (self.rows >= start) & (self.rows < start + CHUNK)
            if here.any():
                dense = part.dense()
                dense[self.rows[here] - start, self.columns[here]] = self.values[here]
                part = CompressedTargets.from_dense(dense, default)
            parts.append(part)
        return examples.with_targets(CompressedTargets.joined(parts)) if parts else examples


class Corrections:
    """The decisions of a file, each photo's label once.

    Args:
        path: of the file.
        labels: of the data set.

    Raises:
        UserError: it is no such file, has a label that the data set lacks, or decisions that contradict each other.
    """

    def __init__(self, path: str, labels: Sequence[str]):
        self.path = path
        self._columns = {label: column for column, label in enumerate(labels)}
        self.decisions = read_decisions(path)
        self._check_labels(labels)
        self._of_photo: dict[str, list[Decision]] = {}
        for decision in self.decisions:
            self._of_photo.setdefault(decision.photo, []).append(decision)
        self._not_found = set(self._of_photo)

    def changes(self, examples: Examples, reader: Reader, split: str) -> Changes:
        """What the decisions change in the examples of a split, as the reader gives them.

        Raises:
            UserError: a photo is in no split of the reader, or is annotated in another way than the file says.
        """
        names = [printable(name) for name in examples.ids]
        rows = [row for row, name in enumerate(names) if name in self._of_photo]
        self._find({names[row] for row in rows}, reader, split)
        targets = examples.take(np.array(rows, int)).targets
        entries = [
            (row, self._columns[decision.label], decision.decision)
            for row, target in zip(rows, targets, strict=True)
            for decision in self._of_photo[names[row]]
            if self._fits(decision, int(target[self._columns[decision.label]]))
        ]
        return Changes(*np.array(entries, int).reshape(-1, 3).T)

    def _find(self, names, reader, split):
        """Looks in other splits for photos that the file names and this split does not have, once."""
        self._not_found -= names
        for other in reader.splits:
            if self._not_found and other != split:
                with contextlib.suppress(UserError):  # a split that is not read here need not be whole
                    self._not_found -= {printable(name) for name in reader.read(other).ids}
        if self._not_found:
            first = next(decision for decision in self.decisions if decision.photo in self._not_found)
            raise UserError(
                f"{self.path}, line {first.line}: no split of the data set has the photo {first.photo} "
                f"({len(self._not_found)} of {len(self._of_photo)}); {ADVICE} for this data set"
            )

    def _fits(self, decision, annotated):
        """True; where the data set says neither what it said nor what was decided, an error."""
        if decision.annotated in (None, annotated) or annotated == decision.decision:
            return True
        raise UserError(
            f"{self.path}, line {decision.line}: {decision.label} was annotated "
            f"{NAMES_OF_STATES[decision.annotated]} in {decision.photo} when that was decided, and the data set says "
            f"{NAMES_OF_STATES[annotated]} now; {ADVICE} for these labels"
        )

    def _check_labels(self, labels):
        for decision in self.decisions:
            if decision.label not in self._columns:
                close = difflib.get_close_matches(decision.label, labels, 1)
                hint = f"did you mean {close[0]}?" if close else f"it has {shown(labels)}"
                raise UserError(
                    f"{self.path}, line {decision.line}: the data set has no label {decision.label}; {hint}"
                )


def corrections_text(decisions: Iterable[Decision]) -> str:
    """Decisions as the text of a file that `Corrections` reads."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in decisions:
        annotated = "" if one.annotated is None else NAMES_OF_STATES[one.annotated]
        writer.writerow([one.photo, one.label, annotated, NAMES_OF_STATES[one.decision]])
    return file.getvalue()


def read_decisions(path: str) -> list[Decision]:
    """The decisions of a file, each photo's label once.

    Raises:
        UserError: it is no such file, or two decisions on one label of a photo contradict each other.
    """
    first = {}
    for decision in _read(path):
        before = first.setdefault((decision.photo, decision.label), decision)
        if before.decision != decision.decision:
            raise UserError(
                f"{path}, lines {before.line} and {decision.line}: {decision.label} in {decision.photo} is "
                f"{NAMES_OF_STATES[before.decision]} and {NAMES_OF_STATES[decision.decision]}; leave one of them out"
            )
    return list(first.values())


def _read(path):
    """The rows with a decision, one after the other."""
    text = read_text(path, ADVICE)
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    delimiter = max(",;\t", key=first.count)  # spreadsheets write the two others
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [clean_label(name).casefold() for name in next(reader, [])]
        for name in NEEDED:
            if names.count(name) != 1:
                raise UserError(
                    f"{path}: its first line must name the columns photo,label,decision once each; {ADVICE}"
                )
        for fields in reader:
            if fields:
                row = dict(zip(names, fields, strict=False))
                if len(fields) != len(names):
                    raise UserError(f"{path}, line {reader.line_num}: has {len(fields)} fields, not {len(names)}")
                if row["decision"].strip():
                    yield _decision(path, reader.line_num, row)
    except csv.Error as error:
        raise UserError(
            f"{path}: cannot be read as a CSV file ({error} in line {reader.line_num}); {ADVICE}"
        ) from error


def _decision(path, line, row):
    def state(column):
        word = row[column].strip().casefold()
        if word not in STATES:
            raise UserError(f"{path}, line {line}: its {column} is {row[column][:60]!r}; write {', '.join(STATES)}")
        return STATES[word]

    annotated = state("annotated") if row.get("annotated", "").strip() else None
    return Decision(row["photo"], clean_label(row["label"]), annotated, state("decision"), line)
