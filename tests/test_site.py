"""The site of docs/: it builds strictly from the repository alone, asks no other host for anything, is up to date."""

import ast
import base64
import contextlib
import functools
import html.parser
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import threading

import pytest
from browser import find_chromium, running_browser
from running import ROOT

from msrn_tf.__main__ import COMMANDS

pytest.importorskip("mkdocs", reason="requirements-docs.txt is not installed")

import nbformat

from tools.docs_site import architecture, cli_reference, docstrings, notebooks
from tools.docs_site.links import Links

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST_NOTEBOOK = 600_000
ELSEWHERE = re.compile(r"\s*(?:https?:)?//")


class Resources(html.parser.HTMLParser):
    """What a browser fetches by itself to show a page, and the paragraphs of its text."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.paragraphs, self._styles = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "link" and values.get("rel") not in ("prev", "next", "canonical"):
            self.addresses.append(values.get("href"))
        elif tag != "a":
            self.addresses += [values[name] for name in ("src", "srcset", "poster", "data") if values.get(name)]
        self.addresses += re.findall(r"url\(['\"]?([^)'\"]+)", values.get("style") or "")
        self._styles = tag == "style"
        self.paragraphs += [""] if tag == "p" else []

    def handle_data(self, data):
        if self._styles:
            self.addresses += re.findall(r"(?:url\(|@import )['\"]?([^)'\";]+)", data)
        elif self.paragraphs:
            self.paragraphs[-1] += data

    def handle_endtag(self, tag):
        self._styles = False
        if tag == "p":
            self.paragraphs.append("")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={folder}"],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def page_names(site):
    return sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))


def test_every_page_of_docs_is_on_the_site(site):
    made = {name.removesuffix(".html") for name in page_names(site)}
    sources = {str(path.relative_to(ROOT / "docs").with_suffix("")) for path in (ROOT / "docs").rglob("*.md")}
    assert sources <= made
    assert {f"notebooks/{path.stem}" for path in NOTEBOOKS} <= made and NOTEBOOKS


def test_no_page_asks_another_host_for_anything(site):
    for path in site.rglob("*.html"):
        addresses = Resources(path.read_text(encoding="utf-8")).addresses
        assert [address for address in addresses if ELSEWHERE.match(address)] == [], path
    for path in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//[^)]*", path.read_text(encoding="utf-8")) == [], path


OPENED = (
    "index",
    "tutorials/own-photos",
    "concepts/architecture",
    "reference/cli/msrn_tf.train",
    "results",
    "datasets",
)


@pytest.mark.parametrize("width", [400, pytest.param(1280, marks=pytest.mark.slow)])
def test_a_browser_shows_pages_without_another_host_and_without_scrolling_sideways(site, width):
    chromium = find_chromium()
    with served(site) as address, running_browser(chromium) as browser:
        for name in OPENED:
            browser.open(f"{address}/{name}.html", width, scheme="dark")
            told = [
                event for event in browser.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")
            ]
            assert told == [], name
            asked = {event["params"]["request"]["url"] for event in browser.events if "request" in event["params"]}
            assert asked and all(url.startswith((address, "data:", "blob:")) for url in asked), name
            assert browser.evaluate("document.documentElement.scrollWidth") <= width, name


class Silent(http.server.SimpleHTTPRequestHandler):
    """Says nothing of requests."""

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def served(folder):
    """The folder on a port of this machine; its address."""
    handler = functools.partial(Silent, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_resources_elsewhere_are_found():
    page = '<link rel="stylesheet" href="https://a/b.css"><script src="//c/d.js"></script><a href="https://e/">f</a>'
    styles = '<style>@import "https://g/h.css"; p { background: url(i.png) }</style>'
    assert [a for a in Resources(page + styles).addresses if ELSEWHERE.match(a)] == [
        "https://a/b.css", "//c/d.js", "https://g/h.css"
    ]  # fmt: skip


def test_lists_and_tables_are_not_run_into_paragraphs(site):
    """GitHub begins a list right after a line of text; Markdown here wants an empty line before it."""
    for path in site.rglob("*.html"):
        if "reference/api" not in str(path):
            text = "\n".join(Resources(path.read_text(encoding="utf-8")).paragraphs)
            assert re.findall(r"^(?:\* |\|.*\|$|```).*", text, re.MULTILINE) == [], path


def test_equations_are_drawn_by_the_browser(site):
    text = (site / "concepts" / "architecture.html").read_text(encoding="utf-8")
    assert text.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"') >= 7
    assert "$`" not in text and "\\operatorname" not in text


def test_links_lead_to_pages_and_to_nothing_that_is_not_there(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Page A\n")
    (tmp_path / "deploy.yaml").touch()
    pages = {"docs/a.md": "a.md", "BUILD.md": "sub/building.md"}
    text = "[docs/a.md](docs/a.md#x) [here](docs/a.md) [file](deploy.yaml) [gone](gone.md) [out](https://b/)"
    rewritten = Links(tmp_path, pages).rewritten(text, "BUILD.md", "sub/building.md")
    assert rewritten == "[Page A](../a.md#x) [here](../a.md) file [gone](gone.md) [out](https://b/)"
    with_address = Links(tmp_path, pages, "https://host/blob/main/").rewritten(text, "BUILD.md", "sub/building.md")
    assert "[file](https://host/blob/main/deploy.yaml)" in with_address
    fenced = "```\n[file](deploy.yaml)\n```\n"
    assert Links(tmp_path, pages).rewritten(fenced, "BUILD.md", "sub/building.md") == fenced


def test_docstrings_become_markdown():
    docstring = (
        "Says.\n\n::\n\n    y = x\n\nCall arguments:\n    x: `[n]`,\n        known.\n\nReturns:\n    `[n]`.\n\n"
        "Examples:\n\n>>> f(1)\n1\n\n>>> f(2)\n2\n"
    )
    assert docstrings.as_markdown(docstring).split("\n") == [
        "Says.", "", "", "", "    y = x", "",
        "**Call arguments**", "", "* `x`: `[n]`,", "    known.", "", "",
        "**Returns**", "", "`[n]`.", "", "",
        "**Examples**", "", "```pycon", ">>> f(1)", "1", "", ">>> f(2)", "2", "```", "", "",
    ]  # fmt: skip


def test_a_notebook_becomes_a_page(tmp_path):
    cell = nbformat.v4.new_code_cell("print(1)")
    picture = base64.b64encode(b"picture").decode()
    cell.outputs = [
        nbformat.v4.new_output("stream", text="\x1b[1m1\x1b[0m\n"),
        nbformat.v4.new_output("display_data", data={"image/png": picture, "text/plain": "<Figure>"}),
        nbformat.v4.new_output("execute_result", data={"text/plain": "2"}),
    ]
    path = tmp_path / "look.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Look"), cell]), path)
    text, pictures = notebooks.as_page(path)
    assert text.split("\n\n") == [
        "# Look", "```python\nprint(1)\n```", "```text\n1\n```",
        "![Figure 1 of this notebook](look/figure-1.png)", "```text\n2\n```\n",
    ]  # fmt: skip
    assert pictures == {"look/figure-1.png": b"picture"}


def test_the_reference_of_commands_has_every_flag():
    """After a change of flags: `python -m tools.docs_site.cli_reference`."""
    expected = cli_reference.pages([cli_reference.command_of(name) for name in COMMANDS])
    written = {path.name: path.read_text(encoding="utf-8") for path in cli_reference.FOLDER.glob("*.md")}
    assert written == expected
    assert "| `--workdir` |" in written["msrn_tf.train.md"] and len(written) > 10


def test_the_diagram_is_as_it_was_drawn():
    """After a change of it: `python -m tools.docs_site.architecture`."""
    for name, palette in architecture.PALETTES.items():
        assert (architecture.FOLDER / name).read_text(encoding="utf-8") == architecture.svg(palette)


def sentences_of_the_code():
    """The texts of the code, with an ellipsis where a value goes, and arguments as the flags that commands say."""
    for path in [*(ROOT / "msrn_tf").rglob("*.py"), *(ROOT / "export").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts = [node.value]
            else:
                continue
            yield re.sub(r"`(\w+)`", r"--\1", "".join(map(str, parts)))


def test_errors_of_troubleshooting_are_those_of_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^### `(.*)`$", page, re.MULTILINE)
    texts = list(sentences_of_the_code())
    for sentence in quoted:
        pieces = [piece.strip() for piece in sentence.split("…") if len(piece.strip(" :;,.()")) > 1]
        assert any(all(piece in text for piece in pieces) for text in texts), sentence
    assert len(quoted) > 15


def test_pages_have_no_gaps():
    for path in (ROOT / "docs").rglob("*.md"):
        assert "@@" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_as_they_were_run(path):
    assert path.stat().st_size < LARGEST_NOTEBOOK
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert str(pathlib.Path.home()) not in json.dumps(outputs)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path, monkeypatch):
    """All cells, in a folder of their own, with short training."""
    pytest.importorskip("nbclient")
    from tools.docs_site.run_notebooks import run_notebook

    for name in ("configs", "models", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # as it was, afterwards
    monkeypatch.setenv("NOTEBOOK_EPOCHS", "1")
    notebook = run_notebook(path, tmp_path)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
