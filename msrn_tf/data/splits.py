"""Splits of data that bring none: stratified by labels, and a function of the content alone."""

import collections
import hashlib
import heapq
import os
import re
from collections.abc import Iterable, Sequence

from msrn_tf.errors import UserError
from msrn_tf.terminal import say
from msrn_tf.text import look_alike, what_is_wrong_with

DEFAULT_FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}
USUAL_NAMES = frozenset(
    ("train", "training", "trainval", "val", "valid", "validation", "dev", "minival", "test", "testing", "eval")
)
SYNONYMS = (("train", "training"), ("val", "valid", "validation", "dev"), ("test", "testing"))


def stratified_splits(
    contents: Sequence[bytes], label_sets: Sequence[Iterable[str]], fractions: dict[str, float]
) -> list[str]:
    """The split of each of some photos: every label's photos are divided in the same shares, rare ones first.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011, algorithm 1). Its draws are hashes, and
    photos are taken in the order of theirs: the splits do not depend on the order of the photos or on the machine. A
    library would draw from a generator of numbers, and its next version might put other photos into the test split.

    Args:
        contents: list of bytes, of each image or of its name; equal bytes are never in two splits.
        label_sets: as many collections of labels.
        fractions: dict of split → share; the shares add up to 1.

    Returns:
        List of splits' names.
    """
    digests = [hashlib.sha256(content).digest() for content in contents]
    labels_of = collections.defaultdict(set)
    for digest, labels in zip(digests, label_sets, strict=True):
        labels_of[digest].update(labels)
    photos_of = collections.defaultdict(list)
    for digest in sorted(labels_of):
        for label in labels_of[digest]:
            photos_of[label].append(digest)

    names, shares = list(fractions), list(fractions.values())
    wanted = [share * len(labels_of) for share in shares]
    wanted_of = {label: [share * len(photos) for share in shares] for label, photos in photos_of.items()}
    remaining = {label: len(photos) for label, photos in photos_of.items()}
    rarest = [(count, label) for label, count in remaining.items()]
    heapq.heapify(rarest)
    chosen = {}

    def place(digest, most_wanted):
        candidates = _largest(_largest(range(len(names)), most_wanted), wanted)
        split = candidates[int.from_bytes(digest[:8], "big") % len(candidates)]
        chosen[digest] = split
        wanted[split] -= 1
        for label in labels_of[digest]:
            wanted_of[label][split] -= 1
            remaining[label] -= 1
            heapq.heappush(rarest, (remaining[label], label))

    while rarest:
        count, label = heapq.heappop(rarest)
        if count == remaining[label] > 0:  # else the count is of an earlier time
            for digest in photos_of[label]:
                if digest not in chosen:
                    place(digest, wanted_of[label])
    for digest in sorted(labels_of.keys() - chosen.keys()):  # those that show nothing
        place(digest, wanted)
    return [names[chosen[digest]] for digest in digests]


def _largest(candidates, values):
    most = max(values[candidate] for candidate in candidates)
    return [candidate for candidate in candidates if values[candidate] == most]


def check_split_names(counts: dict[str, int], labels: Sequence[str], where: str) -> None:
    """Refuses names that a slip put into a list's column of splits, and warns of unusual ones.

    Args:
        counts: dict of split → number of photos.
        labels: the data set's.
        where: the start of a sentence about the list.

    Raises:
        UserError: a split is called as a label is, or two differ by case alone.
    """
    unusual = [name for name in counts if name.casefold() not in USUAL_NAMES]
    known = {look_alike(label) for label in labels}
    if slips := [name for name in unusual if look_alike(name) in known]:
        raise UserError(f"{where}: has {slips[0]!r} as a split, which is a label; separate labels by |")
    cases = collections.Counter(name.casefold() for name in counts)
    if twice := [name for name in counts if cases[name.casefold()] > 1]:
        raise UserError(
            f"{where}: has splits that differ only by case, {' and '.join(sorted(twice))}; write one of them"
        )
    if len(unusual) < len(counts):
        for name in unusual:
            say(f"warning: {where}: has a split {name!r} of {counts[name]} photos; is it a label?", error=True)


def check_split(name: str, where: str) -> None:
    """Refuses a split's name that cannot be part of a file's. Raises `UserError`."""
    if what_is_wrong_with(name) or "/" in name or "\\" in name or name.startswith("."):
        raise UserError(f"{where}: has a split {name[:60]!r}; give it a name of letters and digits")


def split_of_file(path: str, data_dir: str) -> str:
    """The split that a file of labels is named by: `train.csv`, `labels_train.json`, `train/_classes.csv`; or empty."""
    stem, folder = os.path.splitext(os.path.basename(path))[0], os.path.basename(os.path.dirname(path))
    words = [word for word in re.split(r"[\W_]+", stem) if word.casefold() in USUAL_NAMES]
    if len(words) == 1:
        return words[0]
    is_below = os.path.abspath(os.path.dirname(path)) != os.path.abspath(data_dir)
    return folder if is_below and folder.casefold() in USUAL_NAMES else ""


def split_meant(name: str, splits: Sequence[str]) -> str:
    """The split of that name; where there is none, that of a synonym (`valid` for `val`), and says so."""
    words = next((words for words in SYNONYMS if name in words), ())
    others = [split for split in splits if split.casefold() in words]
    if name in splits or len(others) != 1:
        return name
    say(f"split      {others[0]!r} is read as {name!r}", error=True)
    return others[0]


def split_of_single(split: str) -> str:
    """What the split that a data set's only file is named by says: a training file is all there is, and is divided."""
    return "" if split.casefold() in SYNONYMS[0] else split
