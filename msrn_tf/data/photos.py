"""A person's photos: files and folders named on a command line."""

import os

from msrn_tf.errors import UserError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")


def find_photos(arguments):
    """Paths of photos: files as they are named, and what lies in folders (by suffix, sorted, with subfolders).

    Raises:
        UserError: nothing is named, a name does not exist, or no photo is found.
    """
    if not arguments:
        raise UserError("no photo is named: give files or folders after the flags")
    paths = []
    for argument in arguments:
        if os.path.isdir(argument):
            for folder, _, names in sorted(os.walk(argument)):
                paths += [os.path.join(folder, name) for name in sorted(names) if name.lower().endswith(PHOTO_SUFFIXES)]
        elif os.path.isfile(argument):
            paths.append(argument)
        else:
            raise UserError(f"{argument}: no such file or folder")
    if not paths:
        raise UserError(f"{', '.join(arguments)}: no photo found; looked for {', '.join(PHOTO_SUFFIXES)}")
    return paths
