"""Runs the notebooks anew and keeps what they print: `python -m tools.docs_site.run_notebooks [NOTEBOOK...]`.

They run in the repository's folder, with this Python; what they train and write lies in runs/notebooks.
"""

import os
import pathlib
import sys

import nbformat
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS_A_CELL = 3600


def run_notebook(path: pathlib.Path, folder: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook with the output of all of its cells, run in `folder`. Raises what a cell raises."""
    notebook = nbformat.read(path, as_version=4)
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # for its `!python`
    os.environ["PYTHONPATH"] = str(ROOT)
    client = NotebookClient(notebook, timeout=SECONDS_A_CELL, resources={"metadata": {"path": str(folder)}})
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which differ with every run
    return notebook


if __name__ == "__main__":
    for path in map(pathlib.Path, sys.argv[1:] or sorted((ROOT / "notebooks").glob("*.ipynb"))):
        print(path)
        nbformat.write(run_notebook(path, ROOT), path)
