"""A file's bytes with a few of them changed: what a damaged disk, an editor or an attacker makes of it."""

from hypothesis import strategies as st

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
