"""Writes docs/reference/cli/: a page for each command, from the definitions that its `--help` is made from.

    python -m tools.docs_site.cli_reference

The pages are committed, so that the site is built without TensorFlow, which commands import; a test compares them with
what this makes.
"""

import dataclasses
import html
import pathlib
import re
import runpy
import warnings
from collections.abc import Sequence
from unittest import mock

from msrn_tf import command_line
from msrn_tf.__main__ import COMMANDS

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "reference" / "cli"
NOTICE = "<!-- Written by tools/docs_site/cli_reference.py from the commands' flags: change those, then run it. -->"
INDEX = """# Commands

Run a command as `python -m MODULE --flag=value …` in the folder of the repository. After `pip install .`, the same
command is `msrn NAME --flag=value …` in any folder. `--help` prints what these pages show.

* `--flagfile=FILE` reads flags from a file, one a line. Lines that start with `#` are comments. Flags that come later
  override earlier ones. A flagfile can name others, relative to its own folder.
* A flag that is true or false is given as `--flag` or `--noflag`.
* Bad input ends a command with one sentence on standard error and exit status 2.

| module | name | what it does |
|---|---|---|
"""


@dataclasses.dataclass(frozen=True)
class Command:
    """A command as it is started."""

    name: str
    module: str
    usage: str
    subjects: Sequence[type]
    positional: str | None

    @property
    def summary(self) -> str:
        """The first paragraph of what it says of itself, without its name."""
        return self.paragraphs[0]

    @property
    def paragraphs(self) -> list[str]:
        """What it says of itself."""
        first, *others = re.split(r"\n\s*\n", self.usage.strip())
        first = re.sub(r"^`[^`]*`:\s*", "", first)
        return [first[:1].upper() + first[1:], *others]


def command_of(name: str) -> Command:
    """How a command starts; it is not run."""
    started = []

    def note(main, *, usage, configs=(), extra_flags=None, positional=None, chooses_devices=False):
        started.append(
            Command(name, COMMANDS[name], usage, [*configs, *([extra_flags] if extra_flags else [])], positional)
        )

    with mock.patch.object(command_line, "run", note), warnings.catch_warnings(action="ignore"):
        runpy.run_module(COMMANDS[name], run_name="__main__")
    (command,) = started
    return command


def pages(commands: Sequence[Command]) -> dict[str, str]:
    """Name of the file → its text."""
    rows = [f"| [`{c.module}`]({c.module}.md) | `{c.name}` | {_cell(c.summary)} |" for c in commands]
    return {"index.md": f"{NOTICE}\n\n{INDEX}" + "\n".join(rows) + "\n"} | {f"{c.module}.md": page(c) for c in commands}


def page(command: Command) -> str:
    """The page of a command."""
    rest = f"[--flagfile=FILE] [--flag=value …] {command.positional or ''}".rstrip()
    usage = f"python -m {command.module} {rest}\nmsrn {command.name} {rest}"
    parts = [NOTICE, f"# {command.module}", "\n\n".join(command.paragraphs), f"```\n{usage}\n```"]
    for subject in command.subjects:
        rows = ["| flag | default | meaning |", "|---|---|---|", *map(_row, dataclasses.fields(subject))]
        parts += [f"## {(subject.__doc__ or '').strip()}", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def _row(field):
    value, more = field.default, field.metadata
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, tuple):
        value = ",".join(map(str, value))
    meaning = _cell(more["help"])
    if more["choices"]:
        meaning += f" ({', '.join(f'`{choice}`' for choice in more['choices'])})"
    words = {"low": "at least", "high": "at most"}
    bounds = [f"{word} {more[key]:g}" for key, word in words.items() if more[key] is not None]
    meaning += f"; {', '.join(bounds)}" if bounds else ""
    meaning += "; may be given several times" if more["repeated"] else ""
    shown = f"`{value}`" if value != "" else ""
    return f"| `--{field.name}` | {shown} | {meaning} |"


def _cell(text):
    """Text that Markdown takes for no markup of its own, in one line; code in backticks stays code."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(
        piece if piece.startswith("`") else re.sub(r"([\\|*_\[\]])", r"\\\1", html.escape(piece, quote=False))
        for piece in pieces
    )


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    written = pages([command_of(name) for name in COMMANDS])
    for path in FOLDER.glob("*.md"):
        if path.name not in written:
            path.unlink()
    for name, text in written.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(written)} pages in {FOLDER.relative_to(ROOT)}")
