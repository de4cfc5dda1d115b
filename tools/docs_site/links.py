"""Links of the repository's pages, as the site needs them.

A link to a file that is a page of the site leads there. A link to any other file of the repository leads to the
repository, where the site knows its address, and is plain text where it does not.
"""

import pathlib
import posixpath
import re
from collections.abc import Mapping

FENCED = re.compile(r"^([ \t]*)(```+|~~~+).*?^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")


class Links:
    """Rewrites the links of pages.

    Args:
        root: folder of the repository.
        pages: path in the repository → path of the page in the site's sources.
        repository: address of the repository's files, to which a path is appended; empty: none.
    """

    def __init__(self, root: pathlib.Path, pages: Mapping[str, str], repository: str = ""):
        self._root, self._pages, self._repository = root, dict(pages), repository

    def rewritten(self, text: str, source: str, page: str) -> str:
        """The Markdown of the file `source` of the repository, for its place `page` in the site."""
        parts, end = [], 0
        for fence in FENCED.finditer(text):
            parts += [self._outside_fences(text[end : fence.start()], source, page), fence[0]]
            end = fence.end()
        return "".join([*parts, self._outside_fences(text[end:], source, page)])

    def _outside_fences(self, text, source, page):
        return LINK.sub(lambda link: self._link(link, source, page), text)

    def _link(self, link, source, page):
        words, address = link.groups()
        path, hash_, anchor = address.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return link[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if target in self._pages:
            there = posixpath.relpath(self._pages[target], posixpath.dirname(page) or ".")
            return f"[{self._title(target) if words == target else words}]({there}{hash_}{anchor})"
        if target.startswith("docs/") or not (self._root / target).exists():
            return link[0]  # a picture or a file of docs/; or a mistake, which MkDocs reports
        return f"[{words}]({self._repository}{target})" if self._repository else words

    def _title(self, target):
        """What a page calls itself, in the place of its path."""
        heading = re.search(r"^# (.+)$", (self._root / target).read_text(encoding="utf-8"), re.MULTILINE)
        return heading[1] if heading else target
