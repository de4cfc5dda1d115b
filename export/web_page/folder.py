"""The page's folder: files of this package, LiteRT.js, the model, and what only this page has, in `build.js`."""

import hashlib
import importlib.resources
import json
import os
import shutil
import tempfile
from typing import Any

import matplotlib
import numpy as np

from msrn_tf import storage
from msrn_tf.choices import MAX_PIXELS
from msrn_tf.errors import UserError
from msrn_tf.visualization.heatmaps import COLOUR_MAP, OPACITY

MODEL_FILE, BUILD_FILE, LITERT_FOLDER = "model.tflite", "build.js", "litert"
FIRST_LINE = "// Written by export.web.\n"
"""Of `build.js`: a folder is known as a page by it."""


def page_files(model: bytes, title: str, litert: dict[str, bytes]) -> dict[str, bytes]:
    """Path in the page → content.

    Args:
        model: bytes of a .tflite.
        title: of the page.
        litert: files of LiteRT.js (`litert_js.litert_files`).
    """
    static = importlib.resources.files("export.web_page") / "static"
    files = {entry.name: entry.read_bytes() for entry in static.iterdir() if entry.is_file()}
    files |= {f"{LITERT_FOLDER}/{name}": content for name, content in litert.items()}
    files[MODEL_FILE] = model
    digest = hashlib.sha256(title.encode())
    for path, content in sorted(files.items()):
        digest.update(f"\0{path}\0{len(content)}\0".encode() + content)
    build = {
        "title": title,
        "version": digest.hexdigest()[:16],
        "model": MODEL_FILE,
        "sizes": {path: len(content) for path, content in files.items() if path.endswith((".tflite", ".wasm"))},
        "maxPixels": MAX_PIXELS,
        "colours": colours(),
        "opacity": OPACITY,
    }
    return files | {BUILD_FILE: script(build).encode()}


def colours() -> str:
    """The colour map of heat-maps as 256 hexadecimal colours, one after the other."""
    values = matplotlib.colormaps[COLOUR_MAP](np.arange(256))[:, :3]
    return np.round(values * 255).astype(np.uint8).tobytes().hex()


def script(build: dict[str, Any]) -> str:
    """What the page, its workers and its service worker read; JSON is JavaScript."""
    return f"{FIRST_LINE}globalThis.BUILD = {json.dumps(build, indent=2)};\n"


def write_folder(output: str, files: dict[str, bytes]) -> None:
    """Writes the files beside `output` and renames: a page is whole or not there. Replaces an earlier page.

    Raises:
        UserError: `output` is a folder of something else, or cannot be written.
    """
    if storage.is_address(output):
        raise UserError(f"`output`={output}: a page is put together on this machine; give a folder, and copy it")
    parent = os.path.dirname(os.path.abspath(output))
    try:
        if os.path.isdir(output):
            _check_replaceable(output, {path.partition("/")[0] for path in files})
        os.makedirs(parent, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".writing-page-") as folder:
            new, old = os.path.join(folder, "new"), os.path.join(folder, "old")
            for path, content in files.items():
                target = os.path.join(new, path)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target, "wb") as file:
                    file.write(content)
            if os.path.isdir(output):
                os.rename(output, old)
            os.rename(new, output)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise UserError(f"`output`={output}: cannot be written ({error.strerror}); choose another place") from error


def _check_replaceable(output, names):
    """Refuses a folder that is no earlier page, or has more at its top than `names`: all of it would be gone."""
    found = set(os.listdir(output))
    if found and not _is_page(output):
        raise UserError(f"`output`={output}: is a folder of something else; name a new one, or that of an earlier page")
    if others := sorted(found - names):
        raise UserError(
            f"`output`={output}: has {others[0]!r}, which is not of a page and would be deleted; move it away, or name "
            "another folder"
        )


def _is_page(folder):
    path = os.path.join(folder, BUILD_FILE)
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(FIRST_LINE)) == FIRST_LINE.encode()
