"""CSV files of others: separated by commas, semicolons or tabs, each column known by its name."""

import ast
import collections
import csv
import io
import re
from collections.abc import Sequence

from msrn_tf.data.label_choice import shown
from msrn_tf.errors import UserError
from msrn_tf.terminal import say
from msrn_tf.text import clean_label, read_text

DELIMITERS = ",;\t"


def read_table(path: str, needed: Sequence[str], optional: Sequence[str] = ()) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file, and the numbers of the lines that they end in.

    Args:
        path: the file, with the names of its columns in the first line.
        needed: names of columns that must be there, in lower case.
        optional: names of columns that may be.

    Returns:
        List of `(line, dict of column → text)`; of columns that are not there nothing.

    Raises:
        UserError: it is no such file, a column is there twice, or a row has fewer or more fields than columns.
    """
    text = read_text(path, "save the table as CSV in UTF-8")
    known = (*needed, *optional)
    layout = ",".join(needed) + "".join(f"[,{name}]" for name in optional)
    names, delimiter = _header(text, needed)
    if names is None:
        raise UserError(f"{path}: its first line must name the columns {layout}, and a row follow")
    twice = [name for name, count in collections.Counter(names).items() if count > 1 and name in known]
    if twice:
        raise UserError(f"{path}: has two columns {twice[0]}; leave one of them out")
    unread = [name for name in names if name not in known and name]
    if unread:
        say(f"warning: {path}: columns that are not read: {shown(unread)}", error=True)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows = []
    try:
        for fields in reader:
            if not fields or reader.line_num == 1:
                continue
            if len(fields) != len(names):
                raise UserError(
                    f"{path}, line {reader.line_num}: has {len(fields)} fields, and the first line names {len(names)} "
                    f"columns; write {layout}, several labels separated by |"
                )
            rows.append((reader.line_num, dict(zip(names, fields, strict=True))))
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read as a CSV file ({error} in line {reader.line_num})") from error
    if not rows:
        raise UserError(f"{path}: its first line must name the columns {layout}, and a row follow")
    return rows


def _header(text, needed):
    """`(names, delimiter)` of the first line: the first delimiter by which all needed columns are there."""
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    for delimiter in DELIMITERS:
        names = [clean_label(name.strip('"')).casefold() for name in first.split(delimiter)]
        if set(needed) <= set(names):
            return names, delimiter
    return None, None


def labels_in_list(text: str) -> list[str] | None:
    """The labels of a list as Python or JSON writes it, `['cat', 'dog']`; None for anything else."""
    if not re.fullmatch(r"\s*[\[({].*[\])}]\s*", text, re.DOTALL) or re.search(r"['\"]\s+['\"]", text):
        return None  # the second: NumPy's way, without commas, which Python reads as one word
    try:
        labels = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return _strings(labels)


def _strings(labels):
    if not isinstance(labels, list | tuple | set) or not all(isinstance(label, str) for label in labels):
        return None
    return list(labels)
