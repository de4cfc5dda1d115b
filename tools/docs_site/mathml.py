"""Equations in Markdown, as GitHub writes them, become MathML when the site is built: browsers draw that themselves.

A fence named `math` is an equation of its own; a dollar, code and a dollar one within a sentence.
"""

from typing import Any

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

INLINE = r"\$`([^`\n]+)`\$"
BEFORE_CODE = 200  # Markdown's own pattern of code has 190


def block(source: str, language: str, css_class: str, options: dict[str, Any], md: Markdown, **kwargs: Any) -> str:
    """A formatter of `pymdownx.superfences`."""
    return f'<div class="equation">{convert(source, display="block")}</div>'


class _Inline(InlineProcessor):
    def handleMatch(self, m, data):
        return self.md.htmlStash.store(convert(m[1])), m.start(0), m.end(0)


class MathML(Extension):
    """The equations within sentences."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.inlinePatterns.register(_Inline(INLINE, md), "mathml", BEFORE_CODE)
