"""Which folders below a base path are versions of a model: the same to who writes them and to who serves them."""

import os
import re

from msrn_tf import storage

LARGEST_VERSION = (1 << 63) - 1


def version_folders(base_path: str) -> dict[int, str]:
    """The folders of a base path that are named by a version's number, leading zeros or not, ascending by it.

    Raises:
        OSError: the base path is there and cannot be read.
    """
    if not storage.isdir(base_path):
        return {}
    names = (name for name in sorted(storage.listdir(base_path)) if re.fullmatch("[0-9]+", name))
    folders = {int(name): os.path.join(base_path, name) for name in names if len(name) < 40}
    return {
        version: folder
        for version, folder in sorted(folders.items())
        if version <= LARGEST_VERSION and storage.isdir(folder)
    }
