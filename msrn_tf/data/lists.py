"""Text files with a name a line, as data sets list their images and labels and people their photos."""

import os
import unicodedata

from msrn_tf import storage
from msrn_tf.errors import UserError
from msrn_tf.text import lines_of, read_text, text_of


def read_lines(path: str, advice: str) -> list[str]:
    """The lines of a text file (see `text_of`) without what surrounds them, empty ones left out.

    Raises:
        UserError: it cannot be read; `advice` says what to do then.
    """
    return lines_of(read_text(path, advice))


def paths_listed(content: bytes) -> list[str]:
    """The paths of a list with one a line, of its bytes; what is no text in them stays what it is on the disk.

    Raises:
        UserError: it is cut short within a letter of UTF-16 or UTF-32.
    """
    try:
        lines = text_of(content, "surrogateescape").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"the list of photos: is not a complete text ({error}); save it as UTF-8") from error
    return [path_on_disk(line) for line in (line.rstrip("\r") for line in lines) if line.strip()]


def path_on_disk(path: str) -> str:
    """`path`; where no such file is, what a list from elsewhere meant by it, if that is there.

    Such lists separate folders by backslashes (Windows), compose accents otherwise (macOS), or are not in the encoding
    that the disk's names are in (UTF-8 and Latin-1).
    """
    if path.isascii() and "\\" not in path:
        return path  # has no other spelling: most names of a data set, which need not be looked for here
    for wanted in (path, path.replace("\\", "/")):
        for candidate in (wanted, *_other_spellings(wanted)):
            if "\0" not in candidate and storage.lexists(candidate):
                return candidate
    return path


def _other_spellings(path):
    yield unicodedata.normalize("NFC", path)
    yield unicodedata.normalize("NFD", path)
    content = os.fsencode(path)
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        latin = content.decode("cp1252", "replace")
        yield latin
        yield unicodedata.normalize("NFD", latin)
    else:
        yield os.fsdecode(path.encode("cp1252", "replace"))
