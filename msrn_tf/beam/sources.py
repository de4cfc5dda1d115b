"""Where the photos of a prediction are named: by a pattern or a folder, or in a column of tables."""

import dataclasses
import functools
import os
import posixpath
from collections.abc import Iterator, Sequence

import apache_beam as beam
import pyarrow
import pyarrow.parquet
from apache_beam.io import fileio
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from msrn_tf import storage
from msrn_tf.data.label_choice import shown
from msrn_tf.data.photos import PHOTO_SUFFIXES, is_photo_name
from msrn_tf.data.readers.table_columns import IMAGE_COLUMNS
from msrn_tf.data.readers.table_file import header_of, is_table_name, read_table, text_column
from msrn_tf.errors import UserError, argument, first_line
from msrn_tf.text import clean_label

ROWS_AT_A_TIME = 1 << 14
MOST_LOOKED_AT = 10_000


@dataclasses.dataclass(frozen=True)
class Source:
    """What names photos.

    Attributes:
        pattern: of photos' paths; empty: tables name them.
        is_folder: whether it is everything in a folder, of which only what has a photo's name is meant.
        tables: paths of tables.
        column: their column of photos' paths, which are relative to the table's folder.
    """

    pattern: str = ""
    is_folder: bool = False
    tables: tuple[str, ...] = ()
    column: str = ""


def find_source(text: str, column: str = "") -> Source:
    """What a person means by `input`.

    Args:
        text: a pattern, a folder, a photo; or a table or a pattern of tables, by the suffix.
        column: of tables; empty: the first that has a usual name of such a column.

    Raises:
        UserError: nothing matches, the place cannot be looked at, or tables have not the same columns or none of
            photos.
    """
    if is_table_name(text):
        tables = tuple(_matches(text, None))
        return Source(tables=tables, column=_column(tables, column))
    if column:
        raise UserError(f"`image_column`={column}: is for tables, and `input`={text} is none by its suffix")
    with argument("input"):
        is_folder = storage.isdir(text)
    pattern = posixpath.join(text, "**") if is_folder else text
    found = _matches(pattern, MOST_LOOKED_AT if is_folder else 1)
    if is_folder and not any(map(_is_photo, found)):
        raise UserError(f"`input`={text}: no photo found; looked for {', '.join(PHOTO_SUFFIXES)}")
    return Source(pattern, is_folder)


def photos_named(pipeline: beam.Pipeline, source: Source) -> beam.PCollection:
    """The paths of the photos, bytes as file systems have them, spread over workers."""
    if source.pattern:
        paths = (
            pipeline
            | "pattern" >> beam.Create([source.pattern])
            | "match" >> fileio.MatchAll(fileio.EmptyMatchTreatment.DISALLOW)
            | "paths" >> beam.Map(_path_of)
        )
        if source.is_folder:
            paths |= "with a photo's name" >> beam.Filter(_is_photo)
    else:
        paths = (
            pipeline
            | "tables" >> beam.Create(list(source.tables))
            | "tables to workers" >> beam.Reshuffle()
            | "rows" >> beam.FlatMap(functools.partial(_rows, column=source.column))
        )
    return paths | "as bytes" >> beam.Map(os.fsencode) | "photos to workers" >> beam.Reshuffle()


def _path_of(metadata) -> str:
    return metadata.path


def _is_photo(path: str) -> bool:
    return is_photo_name(posixpath.basename(path))


def _matches(pattern, most):
    """Paths that match; `most` at most."""
    try:
        (result,) = FileSystems.match([pattern], None if most is None else [most])
    except (BeamIOError, ValueError, OSError, ImportError) as error:
        raise UserError(f"`input`={pattern}: cannot be looked at ({first_line(error)})") from error
    if not result.metadata_list:
        raise UserError(f"`input`={pattern}: no such file, and no file matches it as a pattern")
    return sorted(metadata.path for metadata in result.metadata_list)


def _column(tables: Sequence[str], column: str) -> str:
    """The column that names photos, which is the same in all tables, as their other columns are."""
    headers = {path: tuple(header_of(path)) for path in tables}
    first, names = next(iter(headers.items()))
    if other := next((path for path, its in headers.items() if sorted(its) != sorted(names)), None):
        raise UserError(
            f"`input`: {first} has the columns {shown(names)}, and {other} {shown(headers[other])}; give tables of the "
            "same columns"
        )
    keys = {name.casefold(): name for name in names}
    wanted = [clean_label(column)] if column else IMAGE_COLUMNS
    found = next((keys[name.casefold()] for name in wanted if name.casefold() in keys), None)
    if found is None:
        what = f"`image_column`={column}: {first} has" if column else f"`input`={first}: no column names photos in"
        raise UserError(f"{what} {shown(names) or 'no columns'}; name the one that does with `image_column`")
    return found


def _rows(table: str, column: str) -> Iterator[str]:
    """The paths that a table names."""
    folder = posixpath.dirname(table)
    for name in _names(table, column):
        if name:
            yield name if storage.is_address(name) or not folder else posixpath.join(folder, name)


def _names(table, column):
    try:
        yield from _texts(table, column)
    except ValueError as error:  # lists or bytes
        raise UserError(f"{table}: {error}; name another with `image_column`") from error


def _texts(table, column):
    if not table.lower().endswith(".parquet"):
        yield from text_column(read_table(table), column)
        return
    with storage.local_copy(table) as copy, pyarrow.parquet.ParquetFile(copy) as file:
        own = next(name for name in file.schema_arrow.names if clean_label(name) == column)
        for batch in file.iter_batches(ROWS_AT_A_TIME, columns=[own]):
            yield from text_column(pyarrow.Table.from_batches([batch]), own)
