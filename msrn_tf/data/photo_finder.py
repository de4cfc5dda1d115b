"""Where the photos of a list are: lists name them as they lay elsewhere, or without a folder or suffix.

A list's names are read in one way, which is said where it is not the plain one: so many folders at their front are left
out, and photos that end with the rest are looked for in all folders. Where there are several, nobody is to guess.
"""

import collections
import functools
import os
import posixpath
import re
import urllib.parse
from collections.abc import Sequence

from msrn_tf import storage
from msrn_tf.data.lists import path_on_disk
from msrn_tf.data.photo_names import photo_name
from msrn_tf.data.photos import PHOTO_SUFFIXES, photos_in
from msrn_tf.errors import UserError
from msrn_tf.terminal import say

SAMPLE = 200


def local_name(text: str) -> str:
    """A photo's name without what says on which machine it lay: `s3://bucket/a.jpg`, `C:\\photos\\a.jpg`."""
    text = text.strip()
    address = re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+://(.*)", text, re.DOTALL)
    if address:
        text = urllib.parse.unquote(re.split(r"[?#]", address[1], maxsplit=1)[0])
    name = photo_name(re.sub(r"^[A-Za-z]:[\\/]", "", text))
    return name.lstrip("/") if address or not os.path.isabs(name) or not os.path.exists(name) else name


class PhotoFinder:
    """Finds the photos of a list below a folder.

    Args:
        data_dir: the folder.
        where: the start of a sentence about the list.
    """

    def __init__(self, data_dir: str, where: str):
        self.data_dir, self._where = data_dir, where

    def find(self, names: Sequence[str], splits: Sequence[str], below: Sequence[str] | None = None) -> list[str]:
        """The photos' paths relative to the folder; that of a photo that is not there is its name.

        Args:
            names: N of `local_name`.
            splits: N names of splits, or empty ones: of photos with one name, that in its split's folder is meant.
            below: N folders that the lists are in, relative to `data_dir`, in which photos are looked for first.

        Raises:
            UserError: a name may stand for several photos, or several names stand for one.
        """
        below = below or [""] * len(names)
        step = max(1, len(names) // SAMPLE)
        sample = range(0, len(names), step)
        for folders in (below, [""] * len(names)):
            paths = [posixpath.join(folder, name) for folder, name in zip(folders, names, strict=True)]
            asked = storage.in_flight(self._is_there, [paths[n] for n in sample], storage.is_address(self.data_dir))
            if all(asked):
                return paths
        found = self._read_alike(names, splits, sample)
        places = [place or path for place, path in zip(found, paths, strict=True)]
        self._check_one_each(names, places)
        moved = next((n for n, place in enumerate(found) if place and place != names[n]), None)
        if moved is not None:
            say(f"photos     of {self._where}: {names[moved]!r} is {places[moved]}, and so on", error=True)
        return places

    def path(self, relative: str) -> str:
        """The path on the disk of a photo that `find` found."""
        actual, _ = self._tree if "_tree" in self.__dict__ else ({}, {})
        return os.path.join(self.data_dir, actual[relative]) if relative in actual else self._direct(relative)

    def _direct(self, relative):
        return path_on_disk(os.path.join(self.data_dir, relative))

    def _is_there(self, relative):
        return "\0" not in relative and storage.isfile(self._direct(relative))

    @functools.cached_property
    def _tree(self):
        """Photos below the folder: name → path, and base name, with its suffix or without → names."""
        paths, _ = photos_in(self.data_dir)
        relative = [os.path.relpath(path, self.data_dir) for path in paths]
        actual = {photo_name(path): path for path in relative}
        bases = collections.defaultdict(list)
        for name in actual:
            bases[posixpath.basename(name)].append(name)
            bases[posixpath.basename(posixpath.splitext(name)[0])].append(name)
        return actual, bases

    def _of_base(self, name):
        """All photos whose base name is that of `name`, or where there is none, whose base name without suffix is."""
        _, bases = self._tree
        base = posixpath.basename(name)
        return bases.get(base) or bases.get(_without_suffix(base), [])

    def _read_alike(self, names, splits, sample):
        """For each name a photo's, or None: without as few of its first folders as any of the sample is found with."""
        most = max(names[n].count("/") for n in sample)
        dropped = next((k for k in range(most + 1) if any(self._ending_with(names[n], k) for n in sample)), 0)
        return [
            self._one(self._ending_with(name, dropped), name, split) for name, split in zip(names, splits, strict=True)
        ]

    def _ending_with(self, name, dropped):
        """The photos whose names end with a name without its first folders, or are that; suffixes may be missing."""
        folders = name.split("/")[:-1][dropped:]
        found = [
            match for match in self._of_base(name) if match.split("/")[:-1][-len(folders) :] == folders or not folders
        ]
        exact = [match for match in found if match.count("/") == len(folders)]
        return exact if folders and exact else found

    def _one(self, matches, name, split):
        """The photo that is meant of those with one name."""
        if len(matches) > 1 and split:
            matches = [match for match in matches if split in match.split("/")] or matches
        if len(matches) > 1:
            raise UserError(
                f"{self._where}: {name!r} may be {matches[0]} or {matches[1]}; write the folder too, or leave one of "
                "them out"
            )
        return matches[0] if matches else None

    def _check_one_each(self, names, places):
        seen = {}
        for name, place in zip(names, places, strict=True):
            if seen.setdefault(place, name) != name:
                raise UserError(
                    f"{self._where}: {seen[place]!r} and {name!r} would both be {place}; put the photos into the "
                    "folders that the list names"
                )


def _without_suffix(name):
    stem, suffix = posixpath.splitext(name)
    return stem if suffix.lower() in PHOTO_SUFFIXES else name
