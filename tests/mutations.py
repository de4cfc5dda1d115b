"""A file's bytes with a few of them changed: what a damaged disk, an editor or an attacker makes of it."""

import collections

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from msrn_tf.data.readers import open_dataset
from msrn_tf.errors import UserError

SCRAPS = (b"<", b"[", b'"', b",", b"{", b"null", b"-1", b"\n", b"\0", b"'", b"|", b"/", b"\xff", b"9" * 500)


def mutated(original):
    """One to four bytes changed, pieces cut out, doubled or set in; in one of ten cases the end is missing too."""
    return st.randoms(use_true_random=True).map(lambda random: _mutated(original, random))  # one draw: the fastest


def _mutated(original, random):
    content = bytearray(original)
    for _ in range(random.randint(1, 4)):
        how, place, length = random.randrange(4), random.randint(0, len(content)), random.randint(1, 30)
        if how == 0:
            content[place : place + 1] = bytes([random.randrange(256)])
        elif how == 1:
            del content[place : place + length]
        elif how == 2:
            content[place:place] = random.choice(SCRAPS)
        else:
            content[place:place] = content[place : place + length]
    return bytes(content[: random.randint(0, len(content))] if random.randrange(10) == 0 else content)


def readings_of_mutations(folder, path, datasets, number):
    """Reads a folder with mutations of one of its files; how many were read, and how many refused in a sentence."""
    file, outcomes = folder / path, collections.Counter()

    @settings(max_examples=number, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(mutated(file.read_bytes()))
    def attempt(content):
        file.write_bytes(content)
        for dataset in datasets:
            try:
                reader = open_dataset(dataset, str(folder))
                for split in reader.splits:
                    assert set(np.unique(reader.read(split).targets)) <= {-1, 0, 1}
                outcomes["read"] += 1
            except UserError as error:
                assert len(str(error).splitlines()) == 1
                outcomes["refused"] += 1

    attempt()
    return outcomes
