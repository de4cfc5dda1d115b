"""Docstrings as Markdown: examples become code, and so do blocks that two colons announce."""

import re
from typing import Any

import griffe

EXAMPLES = re.compile(r"^Examples:\n\n((?:>>> .*\n?(?:.+\n?)*\n*)+)", re.MULTILINE)
COLONS = re.compile(r"(^|[^:\s])[ \t]*::$", re.MULTILINE)


class MarkdownDocstrings(griffe.Extension):
    """Rewrites the docstring of every object that is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """The same text as Markdown that griffe finds its sections in."""
    docstring = EXAMPLES.sub(lambda found: f"**Examples**\n\n```pycon\n{found[1].rstrip()}\n```\n\n", docstring)
    return COLONS.sub(lambda found: f"{found[1]}:" if found[1] else "", docstring)
