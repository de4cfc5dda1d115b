"""A person's own photos in a table: CSV, JSON lines or Parquet; labels in lists in one column, or a column a label."""

import os
import posixpath
import re
from collections.abc import Sequence

import numpy as np
import pyarrow

from msrn_tf import storage
from msrn_tf.data.examples import PRESENT, UNKNOWN
from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.label_choice import shown
from msrn_tf.data.label_files import Folder
from msrn_tf.data.listing import ListedPhotos, Listing, Marked
from msrn_tf.data.readers.label_lists import BLANK, MARKS, ONE_LABEL, labels_of_nothing, parsed, separator_of
from msrn_tf.data.readers.table_columns import (
    GROUP_COLUMNS,
    UNASSIGNED,
    VALIDATION_COLUMNS,
    WORDS,
    Columns,
    are_boxes,
    find_columns,
    states_of,
    with_policies,
    word_of,
)
from msrn_tf.data.readers.table_file import (
    PHOTO_BYTES,
    can_be_text,
    is_table_name,
    photos_in_table,
    read_table,
    text_column,
)
from msrn_tf.data.splits import split_of_file, split_of_single
from msrn_tf.errors import UserError
from msrn_tf.terminal import say
from msrn_tf.text import clean_label

SHARD = re.compile(r"-\d+-of-\d+[-.\w]*$")
STRANGE_JOINTS = re.compile(r"[/+&\t]")


def open_table(data_dir: str, options: FormOptions) -> ListedPhotos:
    """The reader of a folder's table, or of its tables, one a split.

    Raises:
        UserError: there is no table or there are several, or what one says cannot be told.
    """
    return open_tables(data_dir, find_tables(data_dir, options), options)


def open_tables(data_dir: str, paths: dict[str, str], options: FormOptions) -> ListedPhotos:
    """The reader of some tables, path → split; of an empty one, the table says or nobody."""
    parts, labels, said, shows = [], None, [], True
    tables = {path: read_table(path, options.table_encoding) for path in paths}
    where = next(iter(paths)) if len(paths) == 1 else data_dir
    for path, table in tables.items():
        columns = find_columns(table, options, path)
        _check_are_text(table, columns, path)
        if columns.are_lists and are_boxes(table):
            table = _united(table, columns)
        part, what = (_listed if columns.are_lists else _in_columns)(table, columns, options, path)
        _say_unread(table, columns, path)
        # A column says more than the name of the only file.
        of_file = paths[path] if len(paths) > 1 or columns.split is None else ""
        part.splits = _splits(table, columns.split, of_file, path)
        part.sources = [_below(path, data_dir)] * len(part.names)
        part.contents = photos_in_table(table)
        part.groups = None if columns.group is None else text_column(table, columns.group)
        shows = shows and columns.are_lists
        parts.append(part)
        said.append(what)
    labels = tuple(dict.fromkeys(label for part in parts for label in part.labels))
    labels = tuple(sorted(labels)) if shows else labels
    if not labels:
        raise UserError(f"{where}: names no label")
    _warn_of_joined(labels, where)
    say(f"read as    {said[0]}: {len(labels)} labels ({shown(labels)})", error=True)
    return ListedPhotos(data_dir, where, _joined(parts, labels, shows), names_what_is_shown=shows)


def find_tables(data_dir: str, options: FormOptions) -> dict[str, str]:
    """Paths of the tables to read, path → split, or `""` where the file's name says none.

    Raises:
        UserError: there is none, or several of which none is of a split.
    """
    if options.table:
        names = [name.strip() for name in options.table.split(",") if name.strip()]
        paths = [name if storage.exists(name) else os.path.join(data_dir, name) for name in names]
        if missing := [path for path in paths if not storage.isfile(path)]:
            raise UserError(f"`table`={options.table}: {missing[0]} is not a file")
    else:
        paths = tables_in(Folder(data_dir))
    if len(paths) == 1 and (options.table or os.path.dirname(paths[0]) == data_dir.rstrip("/")):
        return {paths[0]: split_of_single(split_of_file(paths[0], data_dir))}
    found = {path: split for path in paths if (split := split_of_file(path, data_dir))}
    one_each = len(set(found.values())) == len(found) or all(SHARD.search(path) for path in found)
    if found and len(found) == len(paths) and one_each:
        return found
    if not paths:
        raise UserError(
            f"`data_dir`={data_dir}: must hold one .csv file (image,labels[,split]), or one for each split; it has 0"
        )
    raise UserError(
        f"`data_dir`={data_dir}: must hold one table, or one for each split, and has {len(paths)}: "
        f"{shown(os.path.relpath(path, data_dir) for path in paths)}; say which with `table`"
    )


def tables_in(folder: Folder) -> list[str]:
    """Paths of the tables in a folder, or where it has none, of those in its folders, as one a split lies.

    JSON files may be anything: they are taken where there is no other table.
    """
    for level in folder.levels:
        found = [path for path in level if is_table_name(os.path.basename(path))]
        tables = [path for path in found if not path.lower().endswith(".json")]
        if tables or found:
            return tables or found
    return []


def _below(path, data_dir):
    relative = os.path.relpath(path, data_dir)
    return "" if relative.startswith(os.pardir) else relative.replace(os.sep, posixpath.sep)


def _united(table, columns):
    """A table with a row a box as one with a row a photo, whose labels are those of its boxes, as a list."""
    keys = [name for name in (columns.image, columns.split, columns.group) if name]
    return (
        table.group_by(keys, use_threads=False)
        .aggregate([(columns.labels[0], "list")])
        .rename_columns([*keys, columns.labels[0]])
    )


def _check_are_text(table, columns, path):
    """Refuses lists and bytes where names are to be: Parquet and JSON have them."""
    for option in ("image", "split", "group"):
        name = getattr(columns, option)
        if name is not None and not can_be_text(table.column(name).type):
            raise UserError(
                f"{path}: column {name!r} holds {table.column(name).type}, not text; name another with "
                f"`{option}_column`"
            )


def _names(table, columns, path):
    names = text_column(table, columns.image)
    if "" in names:
        raise UserError(f"{path}, line {names.index('') + 2}: names no image")
    return names


def _listed(table, columns, options, path):
    """The listing of a table with lists of labels in one column, and a sentence of how it was read."""
    column, name = table.column(columns.labels[0]), columns.labels[0]
    names = _names(table, columns, path)
    if pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type):
        rows = [["" if label is None else str(label) for label in value or []] for value in column.to_pylist()]
        marks, said = [parsed(str(labels), ONE_LABEL, path) for labels in rows], "lists of labels"
    else:
        try:
            fields = text_column(table, name)
        except ValueError as error:
            raise UserError(f"{path}: {error}; say which column holds labels with `label_columns`") from error
        separator = options.label_separator or separator_of(fields, path, name)
        kinds = {field: n for n, field in reversed(list(enumerate(fields)))}
        read = {field: parsed(field, separator, f"{path}, line {n + 2}") for field, n in kinds.items()}
        marks = [read[field] for field in fields]
        said = _separated(separator, next((field for field in fields if separator in field), ""), fields)
    nothing = labels_of_nothing(marks)
    if nothing:
        marks = [{label: value for label, value in mark.items() if label not in nothing} for mark in marks]
        said += f", {' and '.join(map(repr, nothing))} read as none of them"
    listing = Listing.of(Marked(image, mark) for image, mark in zip(names, marks, strict=True))
    return listing, f"labels in {name!r} ({said}), image in {columns.image!r}" + _split_words(columns)


def _separated(separator, example, fields):
    if separator == BLANK:
        example = next((field for field in fields if " " in field), "")
        return f"separated by blanks, as in {example[:60]!r}"
    if separator == ONE_LABEL or separator not in example:
        return "one label a photo, or lists"
    return (
        f"separated by {separator!r}, as in {example[:60]!r}"
        if separator in MARKS[1:]
        else f"separated by {separator!r}"
    )


def _in_columns(table, columns, options, path):
    """The listing of a table with a column a label, and a sentence of how it was read."""
    names = _names(table, columns, path)
    pairs = [states_of(table, name) for name in columns.labels]
    states, blanks = (np.stack(part, axis=1) for part in zip(*pairs, strict=True))
    targets, policy = with_policies(states, blanks, options, path)
    listing = Listing(tuple(columns.labels), names, [], [], targets)
    said = (
        f"a column for each label, image in {columns.image!r}"
        + _split_words(columns)
        + (f", {policy}" if policy else "")
    )
    return listing, said


def _split_words(columns: Columns) -> str:
    return (f", split in {columns.split!r}" if columns.split else "") + (
        f", groups in {columns.group!r}" if columns.group else ""
    )


def _say_unread(table, columns, path):
    read = {PHOTO_BYTES, columns.image, columns.split, columns.group, *columns.labels}
    unread = [name for name in table.column_names if name and name not in read]
    if unread:
        say(f"warning: {path}: columns that are not read: {shown(unread)}", error=True)
    group = next((name for name in unread if name.casefold() in GROUP_COLUMNS), None)
    if group and not columns.split:
        say(f"hint       --group_column='{group}' keeps photos of one {group!r} in one split", error=True)


def _splits(table, column, of_file, path):
    if column is None:
        return [of_file] * table.num_rows
    values = text_column(table, column)
    if column.casefold() in VALIDATION_COLUMNS:
        return ["val" if WORDS.get(word_of(value)) == PRESENT else "train" for value in values]
    values = ["" if value.casefold() == UNASSIGNED else value for value in map(clean_label, values)]
    if of_file and {value.casefold() for value in values} - {of_file.casefold()}:
        raise UserError(
            f"{path}: is of split {of_file!r} by its name, but its column {column!r} names others; rename the file, "
            "or leave the column out"
        )
    return values


def _joined(parts: Sequence[Listing], labels: tuple[str, ...], shows: bool) -> Listing:
    """Listings of several files as one; a label that one of them does not know is absent, or unknown, in it."""
    if len(parts) == 1 and parts[0].labels == labels:
        return parts[0]
    targets = []
    for part in parts:
        wide = np.full((len(part.names), len(labels)), 0 if shows else UNKNOWN, np.int8)
        dense = part.targets if isinstance(part.targets, np.ndarray) else part.targets.dense()
        wide[:, [labels.index(label) for label in part.labels]] = dense
        targets.append(wide)
    rows = {name: [value for part in parts for value in getattr(part, name)] for name in ("names", "splits", "sources")}
    groups = [group for part in parts for group in part.groups or part.names]
    has_groups = any(part.groups for part in parts)
    contents = [part.contents for part in parts if part.contents is not None]
    if contents and len(contents) < len(parts):
        raise UserError("some tables hold photos and others name files; name the ones to read with `table`")
    return Listing(
        labels,
        targets=np.concatenate(targets),
        groups=groups if has_groups else None,
        contents=[content for part in contents for content in part] if contents else None,
        **rows,
    )


def _warn_of_joined(labels, where):
    joined = [label for label in labels if STRANGE_JOINTS.search(label)]
    if joined:
        say(f"warning: {where}: labels with / + & are one label each: {shown(map(repr, joined))}", error=True)
