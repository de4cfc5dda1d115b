"""Text files with a name a line, as data sets list their images and labels and people their photos."""

import codecs
import os
import unicodedata

from msrn_tf.errors import UserError

# The longer marks first: that of UTF-32 begins as that of UTF-16 does.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def text_of(content, errors="strict"):
    """The text of a file's bytes: UTF-8 with or without a byte-order mark, UTF-16 or UTF-32 with one.

    `errors`: as `bytes.decode`; `surrogateescape` keeps file names that are no UTF-8.

    Raises:
        UnicodeDecodeError: it is none of these.
    """
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8-sig")
    return content.decode(encoding, errors if encoding == "utf-8-sig" else "strict")


def read_lines(path, advice):
    """The lines of a text file (see `text_of`) without what surrounds them, empty ones left out.

    Raises:
        UserError: it cannot be read; `advice` says what to do then.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
        return [line.strip() for line in text_of(content).splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: is no text file in UTF-8 ({error.reason} in line {line}); save it as UTF-8, or {advice}"
        ) from error
    except ValueError as error:  # a zero in the path
        raise UserError(f"{path}: cannot be read ({error}); {advice}") from error


def paths_listed(content):
    """The paths of a list with one a line, of its bytes; what is no text in them stays what it is on the disk.

    Raises:
        UserError: it is cut short within a letter of UTF-16 or UTF-32.
    """
    try:
        lines = text_of(content, "surrogateescape").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"the list of photos: is no whole text ({error}); save it as UTF-8") from error
    return [path_on_disk(line) for line in (line.rstrip("\r") for line in lines) if line.strip()]


def path_on_disk(path):
    """`path`; where no such file is, what a list from elsewhere meant by it, if that is there.

    Such lists separate folders by backslashes (Windows), compose accents otherwise (macOS), or are not in the encoding
    that the disk's names are in (UTF-8 and Latin-1).
    """
    for wanted in (path, path.replace("\\", "/")):
        for candidate in (wanted, *_other_spellings(wanted)):
            if os.path.lexists(candidate) if "\0" not in candidate else False:
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
