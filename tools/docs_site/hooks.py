"""Hooks of MkDocs: pages that lie outside of docs/, notebooks as pages, links between them."""

import pathlib

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tools.docs_site.links import Links
from tools.docs_site.notebooks import as_page

OUTSIDE = {
    "BUILD.md": "building.md",
    "benchmarks/RESULTS.md": "benchmarks.md",
    "models/README.md": "bundled-model.md",
    "tools/photos.md": "demo-photos.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
"""Path in the repository → path of its page."""

NOTEBOOKS = "notebooks"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made of other files than those in docs/."""
    root = _root(config)
    for path, page in OUTSIDE.items():
        if (root / path).exists():
            files.append(File.generated(config, page, content=(root / path).read_text(encoding="utf-8")))
    for notebook in sorted((root / NOTEBOOKS).glob("*.ipynb")):
        text, pictures = as_page(notebook)
        files.append(File.generated(config, _notebook_page(notebook), content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"{NOTEBOOKS}/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links between files of the repository into links between pages."""
    root = _root(config)
    pages = {f"docs/{file.src_uri}": file.src_uri for file in files.documentation_pages()}
    pages |= {path: uri for path, uri in OUTSIDE.items() if (root / path).exists()}
    pages |= {f"{NOTEBOOKS}/{path.name}": _notebook_page(path) for path in (root / NOTEBOOKS).glob("*.ipynb")}
    sources = {uri: path for path, uri in pages.items()}
    repository = f"{config.repo_url.rstrip('/')}/blob/main/" if config.repo_url else ""
    return Links(root, pages, repository).rewritten(markdown, sources[page.file.src_uri], page.file.src_uri)


def _notebook_page(path):
    return f"{NOTEBOOKS}/{path.stem}.md"


def _root(config):
    return pathlib.Path(config.config_file_path).parent
