"""Word vectors of labels: from a text file (GloVe, word2vec or fastText), or one-hot, or to be learnt."""

import collections
import gzip
import io
import itertools
import re
import unicodedata
import zlib
from collections.abc import Sequence

import numpy as np

from msrn_tf import storage
from msrn_tf.errors import UserError
from msrn_tf.progress import ProgressBar
from msrn_tf.text import encoding_of

LEARNED_SIZE = 300
_MAX_LINE = 1 << 20
_LINES_LOOKED_AT = 100
_LINES_BETWEEN_REPORTS = 10_000
_ARCHIVES = {
    b"PK\x03\x04": "a ZIP archive",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ": "packed by xz",
    b"7z\xbc\xaf": "a 7z archive",
}


def label_words(label: str) -> list[str]:
    """The words of a label, lower case: `"traffic light"`, `"traffic_light"`, `"TrafficLight"` → traffic, light.

    A word is letters, their marks and digits of any script.
    """
    letters = []
    label = unicodedata.normalize("NFC", str(label))
    for before, letter in zip(" " + label, label, strict=False):
        if unicodedata.category(letter)[0] not in "LMN":
            letter = " "
        elif before.islower() and letter.isupper():
            letters.append(" ")
        letters.append(letter)
    return "".join(letters).casefold().split()


def read_word_vectors(path: str, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """The vectors in a text file (`word v1 v2 …` a line) of the words of some labels, and of words that it joins.

    Read are GloVe's files, also entries with blanks of their own; word2vec's and fastText's text files, with a first
    line of two numbers; blanks or tabs; UTF-8 or UTF-16; packed by gzip. Of entries that differ by case alone, the one
    that is spelt as the label has it is taken, then the one in small letters.

    Args:
        path: the file.
        labels: names.

    Returns:
        dict of words joined by `_` → float32 `[V]`.

    Raises:
        UserError: the file is missing or is no such text file.
    """
    words = {label: label_words(label) for label in labels}
    wanted = {"_".join(its[first:end]) for its in words.values() for first, end in _runs(its)}
    spelt = set(labels) | {part for label in labels for part in label.replace("_", " ").split()}
    vectors, ranks = {}, {}
    for number, line, size in _lines(path):
        first = line.split(None, 1)[0]
        # An entry with blanks begins with a word that is wanted too.
        if first not in wanted and (
            (first.isascii() and first.isalnum() and first.islower()) or _key(first) not in wanted
        ):
            continue
        entry, vector = _parsed(line, size)
        if vector is None:
            raise _no_vectors(path, number, size)
        key = _key(entry)
        rank = 0 if entry in spelt else 1 if entry == entry.lower() else 2
        if key in wanted and rank < ranks.get(key, 3):
            vectors[key], ranks[key] = vector, rank
    return vectors


def _key(entry):
    """What an entry and a run of words are compared by: without case, and whatever joins the words.

    Empty for an entry that begins or ends with a sign, such as `#dog`.
    """
    is_word = entry and all(unicodedata.category(letter)[0] in "LMN" for letter in (entry[0], entry[-1]))
    return "_".join(label_words(entry)) if is_word else ""


def _runs(words):
    """All runs of neighbouring words, as `(first, last + 1)`, the longest first."""
    runs = [(first, end) for first in range(len(words)) for end in range(first + 1, len(words) + 1)]
    return sorted(runs, key=lambda run: run[0] - run[1])


def _lines(path):
    """`(number, line, V)` of the lines of vectors in a text file.

    V is what most of the first lines have: an entry may hold blanks. A first line of two numbers, the second of them V,
    is word2vec's and fastText's.
    """
    try:
        with (
            storage.open_file(path, "rb") as file,
            ProgressBar("word vectors", storage.getsize(path) >> 20, "MB") as bar,
        ):
            stream = _text_of(file, path)
            lines = enumerate(iter(lambda: stream.readline(_MAX_LINE), ""), 1)
            start = [(number, line) for number, line in itertools.islice(lines, _LINES_LOOKED_AT) if line.strip()]
            widths = [len(line.split()) - 1 for _, line in start]
            if len(start) > 1 and re.fullmatch(rf"\s*\d+\s+{widths[1]}\s*", start[0][1]):
                start, widths = start[1:], widths[1:]
            size = collections.Counter(widths).most_common(1)[0][0] if start else 0
            if not start or size < 1 or _parsed(start[0][1], size)[1] is None:
                raise _no_vectors(path, start[0][0] if start else 1, size)
            for number, line in itertools.chain(start, lines):
                if len(line) == _MAX_LINE:
                    raise _no_vectors(path, number, size)
                if number % _LINES_BETWEEN_REPORTS == 0:
                    bar.update(file.tell() >> 20)
                if line.strip():
                    yield number, line, size
    except (OSError, EOFError, zlib.error, UnicodeError) as error:
        raise UserError(
            f"`word_vectors`={path}: cannot be read ({getattr(error, 'strerror', None) or error})"
        ) from error


def _text_of(file, path):
    """A text stream of a file, whatever its encoding, and whether or not it is packed by gzip."""
    start = file.peek(8)
    for mark, what in _ARCHIVES.items():
        if start.startswith(mark):
            raise UserError(f"`word_vectors`={path}: is {what}; unpack it, and name one text file")
    stream = gzip.GzipFile(fileobj=file) if start.startswith(b"\x1f\x8b") else file
    buffered = stream if stream is file else io.BufferedReader(stream)
    return io.TextIOWrapper(buffered, encoding_of(buffered.peek(8)), errors="replace", newline="\n")


def _parsed(line, size):
    """`(entry, vector)` of a line; the vector is None where the line has no V numbers."""
    entry, *numbers = " ".join(line.split()).rsplit(" ", size)
    try:
        with np.errstate(over="ignore"):  # too large a number is infinite, and refused as that
            vector = np.array([float(number) for number in numbers], np.float32)
    except (ValueError, OverflowError):
        return entry, None
    return entry, vector if vector.size == size and np.isfinite(vector).all() else None


def _no_vectors(path, number, size):
    numbers = f"{size} numbers, as other lines have" if size > 0 else "numbers"
    return UserError(
        f"`word_vectors`={path}: line {number} is not a word and {numbers}; give a text file such as glove.6B.300d.txt"
    )


def glove_word_vectors(path: str, labels: Sequence[str]) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Each label's vector: that of an entry for the whole label, or the mean over its parts, the longest known first.

    Args:
        path: the file.
        labels: C names.

    Returns:
        `(vectors, missing)`: float32 `[C, V]` and a dict label → its words that are not in the file. A label of which
        no word is known gets the mean of the other labels' vectors, never silently zero: name it in a warning.

    Raises:
        UserError: as `read_word_vectors`, or no label has a known word.
    """
    labels = list(map(str, labels))
    known = read_word_vectors(path, labels)
    missing, rows = {}, []
    for label in labels:
        found, unknown = _parts(label_words(label), known)
        if unknown or not found:
            missing[label] = unknown
        rows.append(np.mean(found, axis=0) if found else None)
    given = [row for row in rows if row is not None]
    if not given:
        raise UserError(f"`word_vectors`={path}: knows no word of any label; is it for another language?")
    mean = np.mean(given, axis=0)
    return np.stack([mean if row is None else row for row in rows]).astype(np.float32), missing


def _parts(words, known):
    """Vectors of the longest known runs of words, and the words of none."""
    free, found = set(range(len(words))), []
    for first, end in _runs(words):
        vector = known.get("_".join(words[first:end]))
        if vector is not None and free.issuperset(range(first, end)):
            found.append(vector)
            free -= set(range(first, end))
    return found, [words[place] for place in sorted(free)]


def one_hot_word_vectors(num_labels: int) -> np.ndarray:
    """The identity `[C, C]`: every label is a word of its own."""
    return np.eye(num_labels, dtype=np.float32)


def random_word_vectors(num_labels: int, seed: int, size: int = LEARNED_SIZE) -> np.ndarray:
    """Where learnt vectors start: standard normal / √size, float32 `[C, size]`."""
    normal = np.random.default_rng(seed).standard_normal((num_labels, size))
    return (normal / np.sqrt(size)).astype(np.float32)
