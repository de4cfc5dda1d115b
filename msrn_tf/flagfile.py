"""A run's choices as a flagfile: what a run was, and whether another command is the same run."""

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Any

from msrn_tf import storage
from msrn_tf.errors import UserError
from msrn_tf.package_files import packaged_file
from msrn_tf.text import lines_of, read_text


def expanded(arguments: Sequence[str]) -> list[str]:
    """A command line with the lines of its flagfiles in their places, as absl expands it, in any encoding of `text_of`.

    A flagfile that another one names is looked for beside that, then in the working directory. One that is in neither
    place is looked for among those that come with the package: `custom.cfg` or `configs/custom.cfg`.

    Raises:
        UserError: a flagfile cannot be read, or names itself.
    """
    return list(_expanded(arguments, ()))


def _expanded(arguments, around):
    arguments = iter(arguments)
    for argument in arguments:
        if argument == "--":
            yield from (argument, *arguments)
        elif argument in ("--flagfile", "-flagfile"):
            yield from _lines(next(arguments, ""), around)
        elif argument.startswith(("--flagfile=", "-flagfile=")):
            yield from _lines(argument.partition("=")[2].strip(), around)
        else:
            yield argument


def _lines(path, around):
    """The flags in a flagfile; `around`: those that it is named in."""
    if not path:
        raise UserError("--flagfile: names no file; write --flagfile=FILE")
    path = os.path.expanduser(path)
    try:
        storage.check_address(path)
    except UserError as error:
        raise UserError(f"--flagfile={error}") from error
    if around and not storage.is_address(path):
        beside = os.path.join(os.path.dirname(around[-1]), path)
        path = beside if storage.exists(beside) else path
    if not storage.exists(path):
        path = packaged_file("configs", path.removeprefix("configs/")) or path
    if os.path.realpath(path) in map(os.path.realpath, around):
        raise UserError(f"--flagfile={path}: names itself; take that line out")
    try:
        lines = lines_of(read_text(path, "give a text file with one flag a line", only_regular=False))
    except UserError as error:
        raise UserError(f"--flagfile={error}") from error
    return _expanded([line for line in lines if not line.startswith(("#", "//"))], (*around, path))


def flagfile_text(*instances: Any) -> str:
    """Every field of some dataclass instances as a flag a line; `--flagfile=` of it repeats the run."""
    lines = []
    for instance in instances:
        lines.append(f"# {type(instance).__doc__}")
        lines += [f"--{field.name}={_text(getattr(instance, field.name))}" for field in dataclasses.fields(instance)]
    return "\n".join(lines) + "\n"


def changed_flags(path: str, *instances: Any) -> list[tuple[str, str, str]]:
    """Flags whose value differs from that of a flagfile, of those that decide what a run computes.

    Returns:
        A list of `(name, value in the file, value now)`.
    """
    # Not `lines_of`: a value may be a blank, such as what separates labels.
    lines = [line[2:].split("=", 1) for line in re.split(r"\r\n|\r|\n", read_text(path)) if line.startswith("--")]
    before = {line[0]: line[-1] for line in lines}
    fields = [(instance, field) for instance in instances for field in dataclasses.fields(instance)]
    values = [  # a flag that there was not yet had what is now its default
        (field, before.get(field.name, _text(field.default)), _text(getattr(instance, field.name)))
        for instance, field in fields
    ]
    return [(field.name, then, now) for field, then, now in values if not field.metadata["may_change"] and then != now]


def _text(value):
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
