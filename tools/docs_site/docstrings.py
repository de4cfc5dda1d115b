"""Docstrings as Markdown: what Keras' own form of them has, and griffe does not know."""

import re
import textwrap
from typing import Any

import griffe

EXAMPLES = re.compile(r"^Examples:\n\n((?:>>> .*\n?(?:.+\n?)*\n*)+)", re.MULTILINE)
COLONS = re.compile(r"(^|[^:\s])[ \t]*::$", re.MULTILINE)
SECTION = re.compile(r"^(Call arguments|Returns|Reference):\n((?:    .*\n?|\n(?=    ))+)", re.MULTILINE)
ENTRY = re.compile(r"^(\w+(?:, \w+)*): ", re.MULTILINE)


class MarkdownDocstrings(griffe.Extension):
    """Rewrites the docstring of every object that is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """The same text: examples and what two colons announce as code, and plain paragraphs for what has no names."""
    docstring = EXAMPLES.sub(lambda found: f"**Examples**\n\n```pycon\n{found[1].rstrip()}\n```\n\n", docstring)
    docstring = SECTION.sub(_section, docstring)
    return COLONS.sub(lambda found: f"{found[1]}:" if found[1] else "", docstring)


def _section(found):
    title, text = found[1], textwrap.dedent(found[2]).strip()
    if title == "Call arguments":
        text = ENTRY.sub(r"* `\1`: ", text)
    return f"**{title}**\n\n{text}\n\n"
