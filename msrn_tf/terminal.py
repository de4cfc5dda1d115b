"""What commands say. Names of labels, files and splits are other people's text: here none of it steers the terminal.

Markup that rich would read, escape sequences, line breaks and marks of writing direction come out as characters that
can be seen.
"""

import sys
from typing import Any

import rich.table
from rich.console import Console
from rich.text import Text

from msrn_tf.errors import printable

LONGEST_LINE = 100_000


def say(sentence: str, error: bool = False) -> None:
    """Prints one line, at once: to standard output, or to standard error."""
    print(printable(str(sentence)), file=sys.stderr if error else sys.stdout, flush=True)


class Table(rich.table.Table):
    """A table whose headers and cells are plain text."""

    def add_column(self, header: str = "", *arguments: Any, **options: Any) -> None:  # type: ignore[override]
        """As `rich.table.Table.add_column`."""
        super().add_column(_plain(header), *arguments, **options)

    def add_row(self, *cells: str, **options: Any) -> None:  # type: ignore[override]
        """As `rich.table.Table.add_row`."""
        super().add_row(*map(_plain, cells), **options)


class _Console(Console):
    def on_broken_pipe(self):  # called where the error is handled; rich would end the process
        raise


def print_table(table: Table) -> None:
    """To standard output; where that is no terminal, lines are as long as they need to be."""
    console = _Console()
    if not sys.stdout.isatty():  # rich goes by FORCE_COLOR too
        console.width = console.measure(table, options=console.options.update(max_width=LONGEST_LINE)).maximum
    console.print(table)


def _plain(cell):
    return Text(printable(cell)) if isinstance(cell, str) else cell
