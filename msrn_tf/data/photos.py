"""A person's photos: files, folders, patterns and lists named on a command line."""

import collections
import fnmatch
import glob
import os
import stat
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from msrn_tf import storage
from msrn_tf.data.lists import paths_listed
from msrn_tf.errors import UserError
from msrn_tf.terminal import say

PHOTO_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif",
)  # fmt: skip
STANDARD_INPUT = "-"
MAX_FILE_BYTES = 1 << 30  # of a photo of 100 million pixels, uncompressed and with 16 bits: 0.8e9
# What systems and archives put beside photos: thumbnails, bins, the other halves of macOS files.
IGNORED_NAMES = frozenset(
    ("__MACOSX", "@eaDir", "@__thumb", "@Recycle", "#recycle", "#snapshot", "$RECYCLE.BIN", "lost+found",
     "System Volume Information", "Thumbs.db", "desktop.ini")
)  # fmt: skip
_NOT_REGULAR = "not a regular file"
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def is_ignored_name(name: str) -> bool:
    """Whether a file or folder of this name holds no photo and names no label: hidden, or a system's own."""
    return name.startswith(".") or name in IGNORED_NAMES


def is_photo_name(name: str) -> bool:
    """Whether a file of this name is taken for a photo: by its suffix, and not where `is_ignored_name`."""
    return name.lower().endswith(PHOTO_SUFFIXES) and not is_ignored_name(name)


def why_not_a_photo_file(path: str | bytes) -> str | None:
    """Why a path cannot be read as a photo, in a few words, without opening it; None for a regular file.

    To open a pipe would wait for ever, and to read a device would never end.
    """
    try:
        return why_no_photo_is_there(path)
    except OSError as error:
        return error.strerror


def why_no_photo_is_there(path: str | bytes) -> str | None:
    """The same, of what can be looked at: raises `OSError` where the path, a disk or a store does not let us."""
    try:
        status = storage.status(os.fsdecode(path))
    except FileNotFoundError:
        return "no such file"
    except ValueError as error:  # a zero in the path
        return str(error)
    kind = next((name for is_kind, name in _KINDS if is_kind(status.mode)), None)
    if kind:
        return f"{kind}, {_NOT_REGULAR}"
    if status.size > MAX_FILE_BYTES:
        return f"{status.size / 1e9:.1f} GB, more than the {MAX_FILE_BYTES >> 30} GiB of any photo"
    return None


def walk(folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, sorted, through links to folders too, each folder once, and without what `is_ignored_name`."""
    seen = set()
    for inner, folders, names in storage.walk(folder, followlinks=True):
        identity = _identity(inner)
        if identity in seen:  # a link to a folder around it, or a second one to the same
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(name for name in folders if not is_ignored_name(name))
        yield inner, folders, sorted(name for name in names if not is_ignored_name(name))


def _identity(folder):
    if storage.is_address(folder):
        return folder
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def photos_in(folder: str) -> tuple[list[str], dict[str, str]]:
    """The photos in a folder and those below it, and what was left out.

    Returns:
        `(paths, left_out)`: regular files with a photo's suffix; of the others, a dict of path → suffix, or what it is.
    """
    paths, left_out = [], {}
    for inner, _, names in walk(folder):
        for name in names:
            path = os.path.join(inner, name)
            if not is_photo_name(name):
                left_out[path] = os.path.splitext(name)[1].lower() or "without a suffix"
            elif not storage.is_address(path) and not os.path.isfile(path):  # addresses have files and folders alone
                left_out[path] = _NOT_REGULAR
            else:
                paths.append(path)
    return paths, left_out


def left_out_sentence(left_out: dict[str, str]) -> str:
    """What a person is told of what `photos_in` left out."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in collections.Counter(left_out.values()).most_common(8))
    return f"left out   {len(left_out)} files that are not photos by their names ({kinds})"


def find_photos(arguments: Sequence[str], listed: BinaryIO | None = None) -> list[str]:
    """Paths of photos, each once: files as they are named, what lies in folders, what matches patterns.

    What lies in folders and is no photo by its name is counted on standard error.

    Args:
        arguments: files, folders (searched by suffix, sorted, with subfolders) and patterns (`*`, `?`, `[…]`, `**`);
            `-` stands for `listed`.
        listed: a binary file such as `sys.stdin.buffer`, with a path a line (see `lists.paths_listed`). One that is not
            there is found out when it is read.

    Raises:
        UserError: nothing is named, a name does not exist or is no regular file, or no photo is found.
    """
    if not arguments:
        raise UserError("no photo is named: give files, folders or patterns after the flags, or - for a list")
    paths, left_out = [], {}
    for argument in arguments:
        if argument == STANDARD_INPUT and listed is not None:
            paths += paths_listed(listed.read())
            continue
        for path in _matches(argument):
            if storage.is_address(path) and is_photo_name(os.path.basename(path)):  # to ask about each takes time
                paths.append(path)
            elif storage.isdir(path):
                found, others = photos_in(path)
                paths += found
                left_out |= others
            elif storage.isfile(path):
                paths.append(path)
            else:
                left_out[path] = _NOT_REGULAR
    if left_out:
        say(left_out_sentence(left_out), error=True)
    if not paths:
        raise UserError(f"{', '.join(arguments)}: no photo found; looked for {', '.join(PHOTO_SUFFIXES)}")
    return list(dict.fromkeys(paths))


def _matches(argument):
    """The file or folder of that name, or those that match the pattern."""
    path = argument if storage.lexists(argument) else os.path.expanduser(argument)  # in quotes, no shell expands it
    if storage.lexists(path):
        reason = None if storage.isdir(path) else why_not_a_photo_file(path)
        if reason:
            raise UserError(f"{argument}: cannot be read as a photo ({reason}); name photos or folders")
        return [path]
    matches = _matching(path) if glob.has_magic(path) else []
    if not matches:
        raise UserError(f"{argument}: no such file or folder, and no file matches it as a pattern")
    return matches


def _matching(pattern):
    """Sorted matches of a pattern. Where it has `**`, for any folders between, each folder is looked through once."""
    before, recursive, after = f"{os.sep}{pattern}".partition(f"{os.sep}**{os.sep}")
    if not recursive:
        whole = os.path.basename(pattern) == "**"
        return sorted(storage.matches_of((pattern[:-2] or os.curdir) if whole else pattern))
    wanted = ["**", *after.split(os.sep)]
    matches = []
    for root in storage.matches_of(f"{before[1:]}{os.sep}") if before else [""]:
        for inner, folders, names in walk(root or os.curdir):
            between = [] if (way := os.path.relpath(inner, root or os.curdir)) == os.curdir else way.split(os.sep)
            matches += [
                os.path.join(root, *between, name) for name in folders + names if _fits([*between, name], wanted)
            ]
    return sorted(matches)


def _fits(parts, wanted):
    """Whether the parts of a path fit those of a pattern."""
    if not wanted:
        return not parts
    if wanted[0] == "**" and _fits(parts, wanted[1:]):
        return True
    fits_first = bool(parts) and (wanted[0] == "**" or fnmatch.fnmatchcase(parts[0], wanted[0]))
    return fits_first and _fits(parts[1:], wanted if wanted[0] == "**" else wanted[1:])
