"""Runs the notebooks anew and keeps what they print: `python -m tools.docs_site.run_notebooks [NOTEBOOK...]`.

They run in the repository's folder, with this Python; what they train and write lies in runs/notebooks.
"""

import base64
import io
import os
import pathlib
import sys

import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS_A_CELL = 3600
COLOURS = 128
"""Of a picture that is kept: enough for plots and small photos, at a third of the size."""


def run_notebook(path: pathlib.Path, folder: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook with the output of all of its cells, run in `folder`. Raises what a cell raises."""
    notebook = nbformat.read(path, as_version=4)
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # for its `!python`
    os.environ["PYTHONPATH"] = str(ROOT)
    client = NotebookClient(notebook, timeout=SECONDS_A_CELL, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return tidied(notebook)


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The same without times and what libraries log, with a cell's printed text in one piece and small pictures."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        outputs = []
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                continue
            if output.output_type == "stream" and outputs and outputs[-1].get("name") == output.name:
                outputs[-1].text += output.text
            else:
                outputs.append(output)
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _small(output.data["image/png"])
        if "outputs" in cell:
            cell.outputs = outputs
    return notebook


def _small(picture):
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        small = io.BytesIO()
        image.convert("RGB").quantize(COLOURS).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


if __name__ == "__main__":
    for path in map(pathlib.Path, sys.argv[1:] or sorted((ROOT / "notebooks").glob("*.ipynb"))):
        print(path)
        nbformat.write(run_notebook(path, ROOT), path)
