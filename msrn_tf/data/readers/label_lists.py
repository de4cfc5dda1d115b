"""Several labels in one field: `cat|dog`, `cat;dog`, `cat,dog`, `cat dog`, `['cat', 'dog']`."""

import ast
import collections
import re
from collections.abc import Sequence

from msrn_tf.data.examples import PRESENT, UNKNOWN
from msrn_tf.data.label_choice import parts_of, shown
from msrn_tf.errors import UserError
from msrn_tf.terminal import say
from msrn_tf.text import clean_label, look_alike

MARKS = "|;,"
BLANK, ONE_LABEL = "blank", "none"
BLANK_SEPARATED_COLUMNS = ("tags",)
NOTHING = frozenset(("nofinding", "nofindings", "none", "nolabel", "nolabels"))


def separator_of(fields: Sequence[str], where: str, column: str = "") -> str:
    """What separates labels in a table's fields: a mark, `BLANK`, or `ONE_LABEL` where each field is one.

    `|`, or `;` or commas where no field has a `|`. Blanks where labels are numbers, join their own words by `_`, or
    are more often combined than they are many, or where the column is called `tags`.

    Args:
        fields: all of the column's, with those that are lists.
        where: the start of a sentence about the table.
        column: its name.

    Raises:
        UserError: labels are 0 and 1, or may be separated by blanks, and nobody can tell.
    """
    plain = sorted({field for field in fields if field and labels_in_list(field) is None})
    parts = {part for field in plain for part in parts_of(field)}
    if parts and parts <= {"0", "1"}:
        raise UserError(f"{where}: its labels are 0 and 1; write the names of what a photo shows, separated by |")
    mark = next((mark for mark in MARKS if any(mark in field for field in plain)), None)
    if mark:
        return mark
    labels = {clean_label(clean_label(field).removeprefix("?")) for field in plain}
    with_blanks = sorted(label for label in labels if " " in label)
    if not with_blanks:
        return ONE_LABEL
    if _are_blanks_separators(labels, column):
        return BLANK
    _refuse_words_alone(labels, with_blanks, where)
    say(f"warning: {where}: labels with blanks are one label each: {shown(map(repr, with_blanks))}", error=True)
    return ONE_LABEL


def parsed(field: str, separator: str, where: str) -> dict[str, int]:
    """The labels of a field → `PRESENT`, or `UNKNOWN` where one is written `?label`.

    Args:
        field: as the table has it; a list in Python's or JSON's way, or labels with a separator between them.
        separator: of `separator_of`, or any mark.
        where: the start of a sentence about the row.

    Raises:
        UserError: it is a list without quotation marks, or says two things of a label.
    """
    marks = labels_in_list(field)
    if marks is None:
        if re.fullmatch(r"\s*[\[({].*['\",].*[\])}]\s*", field, re.DOTALL):
            raise UserError(f"{where}: {field[:60]!r} is not a list of names in quotes; separate labels by |")
        marks = {BLANK: field.split(), ONE_LABEL: [field]}.get(separator) or field.split(separator)
    labels = {}
    for mark in filter(None, map(clean_label, marks)):
        label, value = clean_label(mark.removeprefix("?")), UNKNOWN if mark.startswith("?") else PRESENT
        if not label:
            raise UserError(f"{where}: ? stands alone; write ?label")
        if labels.setdefault(label, value) != value:
            raise UserError(f"{where}: has both {label} and ?{label}; leave one of them out")
    return labels


def labels_of_nothing(label_sets: Sequence[dict[str, int]]) -> list[str]:
    """Labels that say that a photo shows none, as `No Finding`, and stand alone wherever they stand."""
    named = {label for labels in label_sets for label in labels if look_alike(label) in NOTHING}
    beside = {label for labels in label_sets if len(labels) > 1 for label in labels}
    others = {label for labels in label_sets for label in labels} - named
    return sorted(named - beside) if others else []


def labels_in_list(text: str) -> list[str] | None:
    """The labels of a list as Python or JSON writes it, `['cat', 'dog']`; None for anything else."""
    if not re.fullmatch(r"\s*[\[({].*[\])}]\s*", text, re.DOTALL) or re.search(r"['\"]\s+['\"]", text):
        return None  # the second: NumPy's way, without commas, which Python reads as one word
    try:
        labels = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    if not isinstance(labels, list | tuple | set) or not all(isinstance(label, str) for label in labels):
        return None
    return list(labels)


def _are_blanks_separators(labels, column):
    words = {word for label in labels for word in label.split()}
    combined = [label for label in labels if " " in label]
    return (
        column.casefold() in BLANK_SEPARATED_COLUMNS
        or all(word.isdecimal() for word in words)
        or any("_" in word.strip("_") for word in words)
        or len(combined) > 3 * len(words)
    )


def _refuse_words_alone(labels, with_blanks, where):
    """Refuses labels that are others with blanks between."""
    # A word is a label of its own where it stands alone, or beside other words in another label.
    words = collections.Counter(word for label in labels for word in {look_alike(part) for part in label.split()})
    alone = {look_alike(label) for label in labels if " " not in label}
    joined = [label for label in with_blanks if all(look_alike(word) in alone for word in label.split())]
    mixed = [label for label in with_blanks if all(words[look_alike(word)] > 1 for word in label.split())]
    if joined or len(mixed) > len(with_blanks) / 2:
        raise UserError(
            f"{where}: labels seem to be separated by blanks, as in {(joined or mixed)[0]!r}; separate them by | (and "
            f"where that is one label, end it with |), or give `label_separator`={BLANK} (or {ONE_LABEL})"
        )
