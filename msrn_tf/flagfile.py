"""A run's choices as a flagfile: what a run was, and whether another command is the same run."""

import dataclasses


def flagfile_text(*instances):
    """Every field of some dataclass instances as a flag a line; `--flagfile=` of it repeats the run."""
    lines = []
    for instance in instances:
        lines.append(f"# {type(instance).__doc__}")
        lines += [f"--{field.name}={_text(getattr(instance, field.name))}" for field in dataclasses.fields(instance)]
    return "\n".join(lines) + "\n"


def changed_flags(path, *instances):
    """Flags whose value differs from that of a flagfile, of those that decide what a run computes.

    Returns:
        A list of `(name, value in the file, value now)`.
    """
    with open(path, encoding="utf-8") as file:
        lines = [line.strip()[2:].split("=", 1) for line in file if line.startswith("--")]
    before = {line[0]: line[-1] for line in lines}
    fields = [(instance, field) for instance in instances for field in dataclasses.fields(instance)]
    return [
        (field.name, before.get(field.name, "(not there)"), _text(getattr(instance, field.name)))
        for instance, field in fields
        if not field.metadata["may_change"] and before.get(field.name) != _text(getattr(instance, field.name))
    ]


def _text(value):
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
