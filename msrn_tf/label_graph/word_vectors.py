"""Word vectors of labels: from a GloVe text file (Pennington et al., 2014), or one-hot, or to be learnt."""

import re

import numpy as np

from msrn_tf.errors import UserError

LEARNED_SIZE = 300


def label_words(label):
    """The words of a label, lower case: `"traffic light"`, `"traffic_light"`, `"TrafficLight"` → traffic, light."""
    label = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(label))
    return [word for word in re.split(r"[^0-9a-z]+", label.lower()) if word]


def read_glove(path, words):
    """The vectors of `words` found in a GloVe text file (`word v1 v2 …` a line): a dict of float32 `[V]`.

    Raises:
        UserError: the file is missing or is no GloVe text file.
    """
    wanted, vectors, size = set(words), {}, None
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                word, _, numbers = line.rstrip().partition(" ")
                if word not in wanted and size is not None:
                    continue
                try:
                    vector = np.array(numbers.split(), np.float32)
                except ValueError:
                    vector = np.empty(0, np.float32)
                if not vector.size or vector.size != (size or vector.size) or not np.isfinite(vector).all():
                    raise UserError(
                        f"--word_vectors={path}: line {number} is not `word v1 v2 …` with one size throughout"
                    )
                size = vector.size
                if word in wanted:
                    vectors.setdefault(word, vector)
    except OSError as error:
        raise UserError(f"--word_vectors={path}: cannot be read ({error.strerror})") from error
    if size is None:
        raise UserError(f"--word_vectors={path}: is empty; a GloVe text file such as glove.6B.300d.txt is needed")
    return vectors


def glove_word_vectors(path, labels):
    """Each label's vector: the mean over its words that the file knows.

    Returns:
        `(vectors, missing)`: float32 `[C, V]` and a dict label → its words that are not in the file. A label of which
        no word is known gets the mean of the other labels' vectors, never silently zero: name it in a warning.

    Raises:
        UserError: as `read_glove`, or no label has a known word.
    """
    known = read_glove(path, {word for label in labels for word in label_words(label)})
    missing = {}
    rows = []
    for label in labels:
        words = label_words(label)
        unknown = [word for word in words if word not in known]
        if unknown or not words:
            missing[label] = unknown
        found = [known[word] for word in words if word in known]
        rows.append(np.mean(found, axis=0) if found else None)
    given = [row for row in rows if row is not None]
    if not given:
        raise UserError(f"--word_vectors={path}: knows no word of any label; is it for another language?")
    mean = np.mean(given, axis=0)
    return np.stack([mean if row is None else row for row in rows]).astype(np.float32), missing


def one_hot_word_vectors(num_labels):
    """The identity `[C, C]`: every label is a word of its own."""
    return np.eye(num_labels, dtype=np.float32)


def random_word_vectors(num_labels, seed, size=LEARNED_SIZE):
    """Where learnt vectors start: standard normal / √size, float32 `[C, size]`."""
    normal = np.random.default_rng(seed).standard_normal((num_labels, size))
    return (normal / np.sqrt(size)).astype(np.float32)
