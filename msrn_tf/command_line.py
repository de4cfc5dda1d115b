"""How every command here starts: flags from dataclasses, one-sentence errors, exit status 2.

absl reads the flags (and `--flagfile`), with three of its habits mended: a line of a flagfile without `--` and any
other stray word is an error, not silently ignored; a bad flag ends with status 2; `--help` shows this command's flags
by subject.
"""

import dataclasses
import logging as standard_logging
import math
import os
import re
import select
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import flags, logging

from msrn_tf.errors import UserError, file_error, first_line, is_out_of_memory, printable
from msrn_tf.files import check_output
from msrn_tf.flagfile import expanded
from msrn_tf.storage import check_address

USAGE_STATUS = 2
NOBODY_READS_STATUS = 128 + 13  # as shells say it of a program that SIGPIPE ended
PATHS = ("input", "file", "folder")


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    low: float | None = None,
    high: float | None = None,
    may_change: bool = False,
    repeated: bool = False,
    path: str | None = None,
) -> Any:
    """A dataclass field with what its flag needs: help text, allowed values, bounds (inclusive).

    `may_change`: whether a run that goes on from a checkpoint may have another value than before. `repeated`: the flag
    may be given several times, and its value is a tuple of strings. `path`: one of `PATHS`, for the name of a file or
    folder, or its address: `~` is expanded, an address that nothing reads is refused, and where a `"file"` or
    `"folder"` is to be written, that is tried before `main` starts.
    """
    if path not in (None, *PATHS):
        raise ValueError(f"`path` must be one of {PATHS}. Received: {path}")
    metadata = {
        "help": help,
        "choices": choices,
        "low": low,
        "high": high,
        "may_change": may_change,
        "repeated": repeated,
        "path": path,
    }
    return dataclasses.field(default=default, metadata=metadata)


def run(
    main: Callable[..., None],
    *,
    usage: str,
    configs: Sequence[type] = (),
    extra_flags: type | None = None,
    positional: str | None = None,
    chooses_devices: bool = False,
) -> NoReturn:
    """Defines flags, parses the command line and calls `main`; does not return.

    Args:
        main: called as `main(*config instances)`, or `main(arguments, *config instances)` where `positional` is given.
        usage: what the command does; the first lines of `--help`.
        configs: dataclasses whose fields become flags.
        extra_flags: a further dataclass of flags of this command alone.
        positional: what words without `--` are, for `--help` (`"PHOTO_OR_DIR..."`); None: there are none.
        chooses_devices: bool. Whether `main` says which GPUs may be seen before they are looked for, and does that.
    """
    subjects = [*configs, *([extra_flags] if extra_flags else [])]
    for subject in subjects:
        define_flags(subject)

    logging.set_verbosity(logging.WARNING)
    standard_logging.getLogger("tensorflow").setLevel(standard_logging.WARNING)

    def call(arguments):
        values = []
        try:
            values += [from_flags(subject) for subject in subjects]
            check_outputs(*values)
            if "tensorflow" in sys.modules and not chooses_devices:
                from msrn_tf.gpus import find_gpus  # no device that answers without TensorFlow has to have it

                find_gpus()
            main(*values) if positional is None else main(arguments, *values)
        except UserError as error:
            _fail(with_flags(str(error), *values), error.exit_status)
        except KeyboardInterrupt:
            _fail("interrupted", 130)
        except Exception as error:
            sentence = memory_error(error, values) if is_out_of_memory(error) else file_error(error)
            if sentence is None:
                raise
            _fail(printable(sentence))

    logging.use_absl_handler()
    try:
        try:
            # Not by `absl.app.run`: before `main` it calls what TensorFlow left there, which looks for GPUs.
            call(_parsed(sys.argv, usage, subjects, positional))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads(sys.stdout):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is written there at the end
        sys.exit(NOBODY_READS_STATUS)
    sys.exit()


def _parsed(argv, usage, subjects, positional):
    """The words of a command line that are no flags; the flags have their values then."""
    if any(argument in ("--help", "-help", "-h", "--helpfull", "--helpshort") for argument in argv[1:]):
        print(help_text(usage, subjects, positional))
        sys.exit(0)
    try:
        arguments = flags.FLAGS(expanded(argv))[1:]
    except flags.Error as error:
        _fail(f"{error} (see --help)")
    except UserError as error:
        _fail(error)
    if arguments and positional is None:
        _fail(
            f"{arguments[0]!r}: stray word on the command line or in a flagfile; write --flag=value (also in a "
            "flagfile, one on each line)"
        )
    return arguments


def define_flags(subject: type) -> None:
    """Defines an absl flag for each field of a dataclass, with its bounds and choices."""
    for field in dataclasses.fields(subject):
        default: Any = field.default
        help_, choices = field.metadata["help"], field.metadata["choices"]
        low, high = field.metadata["low"], field.metadata["high"]
        if field.metadata["repeated"]:
            flags.DEFINE_multi_string(field.name, list(default), help_)
        elif choices:
            flags.DEFINE_enum(field.name, default, choices, help_)
        elif isinstance(default, bool):
            flags.DEFINE_bool(field.name, default, help_)
        elif isinstance(default, int):
            flags.DEFINE_integer(field.name, default, help_, lower_bound=low, upper_bound=high)
        elif isinstance(default, float):
            flags.DEFINE_float(field.name, default, help_, lower_bound=low, upper_bound=high)
            flags.register_validator(field.name, math.isfinite, message="must be a finite number")
        elif isinstance(default, tuple):
            flags.DEFINE_list(field.name, [str(value) for value in default], help_)
            flags.register_validator(field.name, _are_integers, message="must be whole numbers, separated by commas")
        else:
            flags.DEFINE_string(field.name, default, help_)


def from_flags(subject: type) -> Any:
    """An instance of the dataclass with the flags' values. Raises `UserError` for a path that cannot be one."""
    values = {}
    for field in dataclasses.fields(subject):
        value: Any = flags.FLAGS[field.name].value
        if isinstance(value, list):
            value = tuple(value) if field.metadata["repeated"] else tuple(map(int, value))
        if field.metadata["path"]:
            several = isinstance(value, tuple)
            value = tuple(_path(field.name, one) for one in value) if several else _path(field.name, value)
        values[field.name] = value
    return subject(**values)


def _path(flag, text):
    """`text` with `~` and `~name` as a shell has them. Shells leave them alone after `=`, and flagfiles know none.

    Raises `UserError` for what cannot be a path, and for an address that nothing reads here.
    """
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise UserError(f"--{flag}={text}: no such user; write ./{text} for a name that starts with ~")
    if "\0" in path:
        raise UserError(f"--{flag}={text}: holds a NUL, which no name of a file can")
    try:
        check_address(path)
    except UserError as error:
        raise UserError(f"--{flag}={error}") from error
    return path


def check_outputs(*instances: Any) -> None:
    """Refuses paths to write to where that cannot be done. Raises `UserError`."""
    for instance in instances:
        for field in dataclasses.fields(instance):
            kind, value = field.metadata["path"], getattr(instance, field.name)
            if kind in ("file", "folder"):
                for path in value if isinstance(value, tuple) else [value] if value else []:
                    check_output(field.name, path, folder=kind == "folder")


def with_flags(sentence: str, *instances: Any) -> str:
    """A library's sentence with the flags of this command in place of the arguments that it names in backticks."""
    names = "|".join(field.name for instance in instances for field in dataclasses.fields(instance))
    return re.sub(rf"`({names})`", r"--\1", sentence)


def memory_error(error: BaseException, instances: Sequence[Any]) -> str:
    """The sentence for memory that ran out, with the flags of this command that help."""
    named = {
        field.name: getattr(instance, field.name) for instance in instances for field in dataclasses.fields(instance)
    }
    helps = [
        f"a smaller --batch_size than {named['batch_size']}" if named.get("batch_size", 1) > 1 else "",
        "more --accumulation_steps" if "accumulation_steps" in named else "",
        "--recompute_backbone" if not named.get("recompute_backbone", True) else "",
        "--head=elementwise" if named.get("head") == "mlp" and "epochs" in named else "",
    ]
    helps = [text for text in helps if text]
    what = f"{', '.join(helps[:-1])} or {helps[-1]}" if len(helps) > 1 else "".join(helps) or "more memory"
    goes_on = (
        "; the last checkpoint is intact, and the same command continues from it, also with another "
        "--accumulation_steps or --recompute_backbone (other changes need a --workdir of their own)"
        if "workdir" in named and "epochs" in named
        else ""
    )
    return f"memory ran out ({first_line(error)}); what helps: {what}{goes_on}"


def help_text(usage: str, subjects: Sequence[type], positional: str | None = None) -> str:
    """`--help`: usage, then the flags of each subject with defaults, choices and bounds."""
    lines = [f"{_program()} [--flagfile=FILE] [--flag=value ...] {positional or ''}".rstrip(), "", usage.strip()]
    for subject in subjects:
        lines += ["", f"{subject.__doc__}:"]
        for field in dataclasses.fields(subject):
            default: Any = field.default
            value = ",".join(map(str, default)) if isinstance(default, tuple) else default
            value = str(value).lower() if isinstance(value, bool) else value
            note = field.metadata["help"]
            if field.metadata["choices"]:
                note += f" ({', '.join(field.metadata['choices'])})"
            lines.append(f"  --{field.name}={value}")
            lines += textwrap.wrap(note, 110, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def _program():
    """How this command is called: `msrn train`, or `python -m msrn_tf.train`."""
    spec = sys.modules["__main__"].__spec__
    if spec is None or sys.argv[0].startswith("msrn "):
        return os.path.basename(sys.argv[0])
    return f"python -m {spec.name}"


def _nobody_reads(stream):
    """Whether a stream is a pipe that nobody reads any more, as after `| head -1`."""
    poll = select.poll()
    poll.register(stream, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _are_integers(values):
    try:
        list(map(int, values))  # what `from_flags` does with them
    except ValueError:
        return False
    return True


def _fail(message, status=USAGE_STATUS):
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(status)
