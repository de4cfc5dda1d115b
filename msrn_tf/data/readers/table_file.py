"""Files of tables, read by Arrow: CSV with any of the usual delimiters, JSON lines, Parquet."""

import io
import json
import os
import re
from collections.abc import Sequence

import pyarrow
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from msrn_tf import storage
from msrn_tf.arrays import check_unpacked_size
from msrn_tf.errors import UserError, first_line
from msrn_tf.text import clean_label, lines_of, read_bytes, text_of, where_no_text

DELIMITERS = ",;\t|"
TEXT_SUFFIXES = (".csv", ".tsv", ".tab")
JSON_SUFFIXES = (".jsonl", ".ndjson")
TABLE_SUFFIXES = (*TEXT_SUFFIXES, *JSON_SUFFIXES, ".parquet", ".json")
PHOTO_BYTES, PHOTO_PATH = "bytes", "path"
MOST_CELLS = 1 << 31


def is_table_name(name: str) -> bool:
    """Whether a file of this name is taken for a table."""
    return name.lower().endswith(TABLE_SUFFIXES)


def read_table(path: str, encoding: str = "") -> pyarrow.Table:
    """A file's table, with clean names of columns. Those of CSV are text; of other files, what they hold.

    Args:
        path: the file; its suffix says what it is, and is CSV where it is none of `TABLE_SUFFIXES`.
        encoding: of text, as Python calls it; empty: UTF-8, or what a byte-order mark says.

    Raises:
        UserError: it is no such file, names no columns or holds no row, has two columns of one name, or a row has
            fewer or more fields than columns.
    """
    suffix = os.path.splitext(path)[1].lower()
    try:
        if suffix == ".parquet":
            table = _parquet(path)
        elif suffix in JSON_SUFFIXES:
            table = pyarrow.json.read_json(
                io.BytesIO(_text(path, encoding).encode()), pyarrow.json.ReadOptions(use_threads=False)
            )
        elif suffix == ".json":
            table = _json(_text(path, encoding))
        else:
            table = _csv(_text(path, encoding), path)
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as a table ({first_line(error)}); save it as CSV in UTF-8") from error
    names = [clean_label(name) for name in table.column_names]
    keys = [name.casefold() for name in names if name]
    if twice := next((name for name in names if keys.count(name.casefold()) > 1), None):
        raise UserError(f"{path}: has two columns {twice}; leave one of them out")
    if not table.num_rows:
        raise UserError(f"{path}: its first line must name the columns, such as image,labels, and a row follow")
    return _with_own_names(_unfolded(_with_class_names(table.rename_columns(names), table.schema.metadata, path)), path)


def photos_in_table(table: pyarrow.Table) -> list[bytes] | None:
    """The encoded photos that a table holds, as Hugging Face's Parquet files do; None where it names files."""
    if PHOTO_BYTES not in table.column_names or not pyarrow.types.is_binary(table.column(PHOTO_BYTES).type):
        return None
    return [value or b"" for value in table.column(PHOTO_BYTES).to_pylist()]


def header_of(path: str) -> list[str]:
    """The names of a table's columns, of a CSV file without reading all of it; none where it is no table."""
    try:
        if os.path.splitext(path)[1].lower() == ".parquet":
            with storage.open_file(path, "rb") as file:
                return [clean_label(name) for name in pyarrow.parquet.read_schema(file).names]
        with storage.open_file(path, "rb") as file:
            start = file.read(1 << 16)
        if len(start) == 1 << 16:
            start = start[: start.rfind(b"\n") + 1] or start
        text = text_of(start, "replace")
        if os.path.splitext(path)[1].lower() in JSON_SUFFIXES:
            content = io.BytesIO(next(iter(lines_of(text)), "").encode())
            return [clean_label(name) for name in pyarrow.json.read_json(content).column_names]
        return [clean_label(name.strip('"')) for name in _first_fields(text)]
    except (pyarrow.ArrowException, OSError, ValueError, RecursionError):
        return []


def column_of(table: pyarrow.Table, names: Sequence[str]) -> str | None:
    """The first of some names, compared without case, that a column of the table has."""
    keys = {name.casefold(): name for name in table.column_names}
    return next((keys[name.casefold()] for name in names if name.casefold() in keys), None)


def can_be_text(kind: pyarrow.DataType) -> bool:
    """Whether values of this type can be read as text: neither lists and the like, nor bytes."""
    types = pyarrow.types
    are_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return not (are_bytes or types.is_nested(kind))


def text_column(table: pyarrow.Table, name: str) -> list[str]:
    """The values of a column as stripped text, `""` where there is none. Raises `ValueError` for lists and bytes."""
    column = table.column(name)
    if not can_be_text(column.type):
        raise ValueError(f"column {name!r} holds {column.type}, not text")
    if pyarrow.types.is_floating(column.type):  # whole numbers with gaps between them, as a rule
        texts = column.cast(pyarrow.string()).to_pylist()
        values = zip(column.to_pylist(), texts, strict=True)
        return [str(int(value)) if value is not None and value.is_integer() else text or "" for value, text in values]
    return ["" if value is None else str(value).strip() for value in column.to_pylist()]


def _text(path, encoding):
    content = read_bytes(path, "save the table as CSV in UTF-8")
    try:
        return content.decode(encoding) if encoding else text_of(content)
    except LookupError as error:
        raise UserError(f"`table_encoding`={encoding}: no such encoding; Python calls them utf-8, cp1252, …") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is not a text file in {encoding or 'UTF-8'} ({where_no_text(content, error)}); save the table "
            "as CSV in UTF-8, or give `table_encoding`=cp1252 if it is in Windows' encoding of Western Europe, or "
            "name another"
        ) from error


def _json(text):
    """Of a list of objects, or an object of photo → labels, or photo → object."""
    content = json.loads(text)
    if isinstance(content, dict):
        content = [{"image": k, **v} if isinstance(v, dict) else {"image": k, "labels": v} for k, v in content.items()]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise ValueError("it is neither a list of objects nor an object of photos and their labels")
    return pyarrow.Table.from_pylist(content)


def _csv(text, path):
    if text.count('"') % 2:
        raise ValueError("a quotation mark is not closed: their number is odd")
    fields = _first_fields(text)
    if len(fields) < 2:
        raise UserError(f"{path}: its first line must name the columns, such as image,labels, and a row follow")
    names = [f"f{number}" for number in range(len(fields))]
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(text.encode()),
            pyarrow.csv.ReadOptions(use_threads=False, column_names=names),
            pyarrow.csv.ParseOptions(delimiter=_delimiter(text), newlines_in_values=True),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pyarrow.string()), strings_can_be_null=False, null_values=[]
            ),
        )
    except pyarrow.ArrowInvalid as error:
        found = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", str(error))
        if not found:
            raise
        raise UserError(
            f"{path}, line {found[1]}: has {found[3]} fields, and the first line names {found[2]} columns; write "
            "image,labels, several labels separated by |"
        ) from error
    header = [table.column(name)[0].as_py() for name in names]
    return table.slice(1).rename_columns(header)


def _first_line(text):
    return next(iter(re.split(r"[\r\n]+", text.lstrip("\r\n"), maxsplit=1)), "")


def _delimiter(text):
    """The one that the first line has most of, outside quotation marks."""
    plain = re.sub(r'"[^"]*"', "", _first_line(text))
    return max(DELIMITERS, key=lambda mark: (plain.count(mark), -DELIMITERS.index(mark)))


def _first_fields(text):
    line = re.sub(r'"[^"]*"', lambda quoted: re.sub(r"[,;\t|]", "\0", quoted[0]), _first_line(text))
    return line.split(_delimiter(text)) if line.strip() else []


def _parquet(path):
    with storage.local_copy(path) as copy, pyarrow.parquet.ParquetFile(copy) as file:
        metadata = file.metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        check_unpacked_size(sum(group.total_byte_size for group in groups), os.path.getsize(copy))
        if metadata.num_rows * metadata.num_columns > MOST_CELLS:
            raise ValueError(f"it says that it has {metadata.num_rows} rows of {metadata.num_columns} columns")
        table = file.read(use_threads=False)
    table.validate(full=True)  # else text that is none is found out when it is looked at
    return table


def _unfolded(table):
    """Columns of named fields, such as `{"cat": 1, "dog": 0}`, as a column each."""
    while any(pyarrow.types.is_struct(field.type) for field in table.schema):
        nested = [field.name for field in table.schema if pyarrow.types.is_struct(field.type)]
        table = table.flatten()
        names = [
            next((n.removeprefix(f"{outer}.") for outer in nested if n.startswith(f"{outer}.")), n)
            for n in table.column_names
        ]
        if len(set(names)) < len(names):
            return table
        table = table.rename_columns(names)
    return table


def _with_class_names(table, metadata, path):
    """Numbers of classes as their names, where Hugging Face's description of the columns in a Parquet file has them."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return table
    for name, feature in features.items() if isinstance(features, dict) else ():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else None
        names = inner.get("names") if isinstance(inner, dict) else None
        if name in table.column_names and isinstance(names, list) and all(isinstance(text, str) for text in names):
            place, column = table.column_names.index(name), table.column(name).to_pylist()
            table = table.set_column(place, name, pyarrow.array([_named(value, names, path) for value in column]))
    return table


def _named(value, names, path):
    """A class's name for its number, and names for a list of these."""
    if isinstance(value, list):
        return [_named(item, names, path) for item in value]
    if value == -1:
        raise UserError(
            f"{path}: has class -1, which stands for photos that nobody labelled; name other files with `table`"
        )
    if value is None:
        return None
    if not isinstance(value, int) or not 0 <= value < len(names):
        raise UserError(f"{path}: has class {str(value)[:60]!r}, and there are {len(names)}, from 0; fix the file")
    return names[value]


def _with_own_names(table, path):
    """A table that holds photos, with a name for each: where paths are missing or not of one photo, by row."""
    if photos_in_table(table) is None:
        return table
    names = table.column(PHOTO_PATH).to_pylist() if PHOTO_PATH in table.column_names else []
    if None in names or len(set(names)) < table.num_rows:
        stem = os.path.splitext(os.path.basename(path))[0]
        names = [f"{stem}/{row}" for row in range(table.num_rows)]
    others = table.drop_columns([name for name in (PHOTO_PATH,) if name in table.column_names])
    return others.append_column(PHOTO_PATH, pyarrow.array(names, pyarrow.string()))
