"""Files that come with the package: flagfiles and trained models, `configs/` and `models/` of a checkout."""

import os

PACKAGE = os.path.dirname(os.path.abspath(__file__))
CHECKOUT = os.path.dirname(PACKAGE)
FOLDERS = {"configs": "configs", "models": "trained"}
"""Folder of a checkout → the package's own folder that pip installs it as."""


def packaged_file(folder: str, name: str) -> str | None:
    """The path of a file that comes with the package; None where there is no such file.

    Args:
        folder: a key of `FOLDERS`.
        name: of the file in it, with slashes between folders.
    """
    name = os.path.normpath(name)
    if os.path.isabs(name) or name.startswith(os.pardir):
        return None
    places = [os.path.join(PACKAGE, FOLDERS[folder], name)]
    if os.path.isfile(os.path.join(CHECKOUT, "pyproject.toml")):
        places.append(os.path.join(CHECKOUT, folder, name))
    return next((path for path in places if os.path.isfile(path)), None)
