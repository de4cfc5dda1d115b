"""Which labels of a data set are read, and in which order: cleaned, chosen by a person, or those of a model."""

import collections
import difflib
import os
import re
from collections.abc import Iterable, Sequence

import numpy as np

from msrn_tf import storage
from msrn_tf.data.examples import Examples, Reader
from msrn_tf.data.targets import ABSENT, PRESENT, UNKNOWN, CompressedTargets
from msrn_tf.errors import UserError
from msrn_tf.terminal import say
from msrn_tf.text import clean_label, lines_of, look_alike, read_text, what_is_wrong_with

NAMES_SHOWN = 10
_JOINTS = re.compile(r"[|;,/+&_\s-]+")


class ChosenLabels:
    """A reader with other labels than it has: each of some of the reader's columns, or of none.

    Args:
        reader: as in `msrn_tf.data.examples`.
        columns: dict of label → list of the reader's columns; a label of no column has the value `missing`.
        missing: `ABSENT` or `UNKNOWN`.
        names_what_is_shown: as in `msrn_tf.data.examples`.
        examples: dict of split → `Examples` of the reader, for splits that have been read.
    """

    def __init__(
        self,
        reader: Reader,
        columns: dict[str, list[int]],
        missing: int = UNKNOWN,
        names_what_is_shown: bool = False,
        examples: dict[str, Examples] | None = None,
    ):
        self.labels, self.splits, self.names_what_is_shown = tuple(columns), reader.splits, names_what_is_shown
        self._reader, self._columns, self._missing = reader, columns, missing
        self._examples = dict(examples or {})
        if hasattr(reader, "places"):
            self.places = reader.places

    def read(self, split: str) -> Examples:
        """As `Reader.read`."""
        examples = self._examples.pop(split) if split in self._examples else self._reader.read(split)
        return with_columns(examples, list(self._columns.values()), self._missing)


def with_columns(examples: Examples, columns: list, missing: int) -> Examples:
    """Examples whose targets have other columns: of some old ones each, present where one of them is."""
    default = examples.compressed_default
    if default is None:
        return examples.with_targets(_chosen(examples.targets, columns, missing))
    parts = [
        CompressedTargets.from_dense(_chosen(chunk.targets, columns, missing), default) for chunk in examples.chunks()
    ]
    return examples.with_targets(CompressedTargets.joined(parts)) if parts else examples


def _chosen(old, columns, missing):
    targets = np.full((len(old), len(columns)), missing, np.int8)
    for place, sources in enumerate(columns):
        if sources:
            values = old[:, sources]
            # The least of what is left is absent only where all are: one that is not listed may be a suspect.
            unknown = np.where((values == UNKNOWN).any(axis=1), UNKNOWN, values.min(axis=1))
            targets[:, place] = np.where((values == PRESENT).any(axis=1), PRESENT, unknown)
    return targets


def with_clean_labels(reader: Reader, where: str) -> Reader:
    """The reader with `clean_label` of its labels; warns of labels that may be meant to be one, or to be several.

    Args:
        reader: any.
        where: the start of a sentence about the data set.

    Raises:
        UserError: a label holds a line break or a control character, or nothing at all.
    """
    columns = collections.defaultdict(list)
    for column, label in enumerate(reader.labels):
        clean = clean_label(label)
        if wrong := what_is_wrong_with(clean):
            raise UserError(
                f"{where}: the label {str(label)[:60]!r} holds {wrong}; give each label a name of one line (in "
                "a table, several labels are separated by |)"
            )
        columns[clean].append(column)
    for sentence in _doubtful(list(columns)):
        say(f"warning: {where}: {sentence}", error=True)
    if list(columns) == list(reader.labels):
        return reader
    return ChosenLabels(reader, columns, names_what_is_shown=getattr(reader, "names_what_is_shown", False))


def _doubtful(labels):
    """Sentences about labels that look like others."""
    alike = collections.defaultdict(list)
    for label in labels:
        alike[look_alike(label)].append(label)
    pairs = [" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1]
    if pairs:
        yield f"labels that differ only by case, blanks or hyphens are read as different labels: {shown(pairs)}"
    listed = [label for label in labels if re.search(r"[|;,]", label)]
    if listed:
        yield f"labels with | ; or , in them are one label each: {shown(map(repr, listed))}"
    joined = [label for label in labels if len(parts := parts_of(label)) > 1 and all(map(alike.__contains__, parts))]
    if joined:
        yield f"labels made of other labels are read as one label each: {shown(map(repr, joined))}"


def parts_of(label: str) -> list[str]:
    """The keys (`look_alike`) of what a label would be if it were several, joined by blanks or punctuation."""
    return [look_alike(part) for part in _JOINTS.split(label) if look_alike(part)]


def shown(names: Iterable[str]) -> str:
    """The first of some names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def named_labels(text: str) -> list[str]:
    """The labels that `labels` names: a text file with one a line, or names separated by commas.

    Raises:
        UserError: there is none, or one twice.
    """
    path = os.path.expanduser(text)
    names = lines_of(read_text(path)) if storage.isfile(path) else text.split(",")
    labels = [label for label in map(clean_label, names) if label]
    twice = [label for label, count in collections.Counter(labels).items() if count > 1]
    if twice or not labels:
        raise UserError(f"`labels`={text}: names {shown(twice) + ' twice' if twice else 'no label'}; name each once")
    return labels


def with_named_labels(reader: Reader, text: str) -> Reader:
    """The reader with the labels that `labels` names, in that order.

    Raises:
        UserError: as `named_labels`, or the data set cannot have such a label.
    """
    wanted = named_labels(text)
    unknown = [label for label in wanted if label not in reader.labels]
    shows = getattr(reader, "names_what_is_shown", False)
    if unknown and (not shows or len(unknown) == len(wanted)):
        close = difflib.get_close_matches(unknown[0], reader.labels, 1)
        hint = f"did you mean {close[0]}?" if close else f"it has {shown(reader.labels)}"
        raise UserError(f"`labels`={text}: is not a file, and the data set has no label {shown(unknown)}; {hint}")
    if unknown:
        say(f"warning: --labels: no photo of the data set shows {shown(unknown)}", error=True)
    columns = {label: [reader.labels.index(label)] if label in reader.labels else [] for label in wanted}
    return ChosenLabels(reader, columns, missing=ABSENT)


def with_frequent_labels(reader: Reader, split: str, min_photos: int) -> Reader:
    """The reader without labels that fewer than `min_photos` photos of a split show; says which.

    Raises:
        UserError: no label is left.
    """
    examples = reader.read(split)
    counts = examples.counts()
    rare = [f"{label} ({count})" for label, count in zip(reader.labels, counts, strict=True) if count < min_photos]
    if len(rare) == len(reader.labels):
        raise UserError(
            f"`min_photos`={min_photos}: no label has as many photos in split {split!r}; give a smaller one"
        )
    if rare:
        say(f"left out   labels of fewer than {min_photos} photos in split {split}: {shown(rare)}", error=True)
    columns = {label: [column] for column, label in enumerate(reader.labels) if counts[column] >= min_photos}
    return ChosenLabels(reader, columns, examples={split: examples})


def for_labels(examples: Examples, reader: Reader, labels: Sequence[str], argument: str = "model") -> Examples:
    """Examples with their targets in the order of a model's labels, and a word about what does not fit.

    A label that the data set does not know is unknown in all of its photos; in a data set that names just what its
    photos show, it is absent. What the model does not know is left out.

    Args:
        examples: `Examples`, as the reader gives them.
        reader: of `open_dataset`.
        labels: the model's.
        argument: what named the model, for the sentence.

    Raises:
        UserError: they have no label in common.
    """
    places = {label: column for column, label in enumerate(reader.labels)}
    wanted = [places.get(clean_label(label)) for label in labels]
    missing = [label for label, column in zip(labels, wanted, strict=True) if column is None]
    if len(missing) == len(labels):
        raise UserError(
            f"`{argument}`: has no label of the data set; its labels are {shown(labels)}, those of the data "
            f"{shown(reader.labels)}"
        )
    shows = getattr(reader, "names_what_is_shown", False)
    left_out = [label for label, column in places.items() if column not in wanted]
    if missing:
        meaning = "count as absent in all of its photos" if shows else "are not measured"
        say(f"warning: labels of the model that the data set does not name {meaning}: {shown(missing)}", error=True)
    if left_out:
        say(f"warning: labels of the data set that the model lacks are left out: {shown(left_out)}", error=True)
    columns = [[] if column is None else [column] for column in wanted]
    return with_columns(examples, columns, ABSENT if shows else UNKNOWN)
