"""A notebook as a page: its text, its code, and what it printed when it was run."""

import base64
import pathlib
import re

import nbformat

PICTURES = {"image/png": "png", "image/jpeg": "jpg"}
TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def as_page(path: pathlib.Path) -> tuple[str, dict[str, bytes]]:
    """`(Markdown, pictures)` of a notebook; pictures lie in a folder beside the page that is called as the notebook."""
    notebook = nbformat.read(path, as_version=4)
    parts, pictures = [], {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code":
            parts.append(f"```python\n{cell.source}\n```")
            for output in cell.outputs:
                parts += _shown(output, path.stem, pictures)
    return "\n\n".join(parts) + "\n", pictures


def _shown(output, folder, pictures):
    if output.output_type == "stream":
        return [_printed(output.text)]
    data = output.get("data", {})
    for kind, suffix in PICTURES.items():
        if kind in data:
            name = f"{folder}/figure-{len(pictures) + 1}.{suffix}"
            pictures[name] = base64.b64decode(data[kind])
            return [f"![Figure {len(pictures)} of this notebook]({name})"]
    return [_printed(data["text/plain"])] if "text/plain" in data else []


def _printed(text):
    return f"```text\n{TERMINAL_COLOURS.sub('', text).rstrip()}\n```"
