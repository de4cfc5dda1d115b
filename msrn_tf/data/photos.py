"""A person's photos: files, folders, patterns and lists named on a command line."""

import glob
import os

from msrn_tf.errors import UserError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
STANDARD_INPUT = "-"


def find_photos(arguments, listed=()):
    """Paths of photos, each once: files as they are named, what lies in folders, what matches patterns.

    Args:
        arguments: files, folders (searched by suffix, sorted, with subfolders) and patterns (`*`, `?`, `[…]`, `**`);
            `-` stands for `listed`.
        listed: lines of standard input, a path each. One that is not there is found out when it is read.

    Raises:
        UserError: nothing is named, a name does not exist, or no photo is found.
    """
    if not arguments:
        raise UserError("no photo is named: give files, folders or patterns after the flags, or - for a list")
    paths = []
    for argument in arguments:
        if argument == STANDARD_INPUT:
            paths += [line.rstrip("\r\n") for line in listed if line.strip()]
        elif os.path.isdir(argument):
            paths += _photos_in(argument)
        elif os.path.isfile(argument):
            paths.append(argument)
        else:
            matches = sorted(glob.glob(argument, recursive=True)) if glob.has_magic(argument) else []
            if not matches:
                raise UserError(f"{argument}: no such file or folder, and no pattern that matches one")
            for match in matches:
                paths += _photos_in(match) if os.path.isdir(match) else [match]
    if not paths:
        raise UserError(f"{', '.join(arguments)}: no photo found; looked for {', '.join(PHOTO_SUFFIXES)}")
    return list(dict.fromkeys(paths))


def _photos_in(folder):
    return [
        os.path.join(inner, name)
        for inner, _, names in sorted(os.walk(folder))
        for name in sorted(names)
        if name.lower().endswith(PHOTO_SUFFIXES)
    ]
