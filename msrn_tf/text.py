"""Text of others: files in the encodings that editors and spreadsheets write, and names that look alike."""

import codecs
import re
import stat
import unicodedata

from msrn_tf import storage
from msrn_tf.errors import UserError

# The longer marks first: that of UTF-32 begins as that of UTF-16 does.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Zero-width space, word joiner, byte-order mark, soft hyphen, and marks of writing direction. Not the zero-width
# joiners U+200C and U+200D, by which words of Persian and Hindi, and emoji, differ.
_INVISIBLE = dict.fromkeys(
    (0x00AD, 0x061C, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), 0x2060, *range(0x2066, 0x206A), 0xFEFF)
)
_REFUSED = {"Cc": "a control character", "Zl": "a line break", "Zp": "a line break", "Cs": "half a character"}


def encoding_of(start: bytes) -> str:
    """The encoding of text that begins with these bytes: by its byte-order mark, else UTF-8."""
    return next((name for mark, name in _BYTE_ORDER_MARKS if start.startswith(mark)), "utf-8-sig")


def text_of(content: bytes, errors: str = "strict") -> str:
    """The text of a file's bytes: UTF-8 with or without a byte-order mark, UTF-16 or UTF-32 with one.

    `errors`: as `bytes.decode`; `surrogateescape` keeps file names that are no UTF-8.

    Raises:
        UnicodeDecodeError: it is none of these.
    """
    encoding = encoding_of(content)
    return content.decode(encoding, errors if encoding == "utf-8-sig" else "strict")


def read_bytes(path: str, advice: str, only_regular: bool = True) -> bytes:
    """The bytes of a file.

    `only_regular`: whether to refuse pipes and devices, which may never end; one that a person named may be meant.

    Raises:
        UserError: it cannot be read, or is no regular file; `advice` says what to do then.
    """
    try:
        if only_regular and not stat.S_ISREG(storage.status(path).mode):
            raise UserError(f"{path}: is not a regular file; {advice}")
        return storage.read_whole(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    except ValueError as error:  # a zero in the path
        raise UserError(f"{path}: cannot be read ({error}); {advice}") from error


def read_text(path: str, advice: str = "save it as UTF-8", only_regular: bool = True) -> str:
    """The text of a file, see `text_of`.

    Raises:
        UserError: as `read_bytes`, or it is no text.
    """
    content = read_bytes(path, advice, only_regular)
    try:
        return text_of(content)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not a text file in UTF-8 ({where_no_text(content, error)}); {advice}") from error


def where_no_text(content: bytes, error: UnicodeDecodeError) -> str:
    """The line that is no UTF-8, and how it reads in the encoding that is then the likeliest."""
    number = content.count(b"\n", 0, error.start) + 1
    if error.encoding != "utf-8":
        return f"{error.reason} in {error.encoding}"
    line = content.splitlines()[content[: error.start].count(b"\n")] if b"\r" not in content else b""
    reading = line.strip().decode("cp1252", "replace")[:60]
    return f"line {number}" + (f", in Windows' encoding of Western Europe: {reading!r}" if reading else "")


def lines_of(text: str) -> list[str]:
    """The lines of a text as editors count them, without what surrounds them, empty ones left out.

    Not `str.splitlines`, which breaks lines at letters that a name may hold, such as U+2028.
    """
    return [line.strip() for line in re.split(r"\r\n|\r|\n", text) if line.strip()]


def clean_label(label: str) -> str:
    """A label in the form that is compared: letters composed (NFC), blanks of any kind one blank, nothing invisible."""
    text = unicodedata.normalize("NFC", str(label).translate(_INVISIBLE))
    text = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in text)
    return re.sub(" +", " ", text.strip())


def what_is_wrong_with(label: str) -> str | None:
    """What a cleaned label holds that no list with a label a line can, in a few words; None for a good one."""
    if not label:
        return "no letter"
    return next((_REFUSED[c] for letter in label if (c := unicodedata.category(letter)) in _REFUSED), None)


def look_alike(label: str) -> str:
    """A key that labels share which differ by case, width or what joins their words alone."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", label).casefold())


def is_whole_text(text: str) -> bool:
    """Whether a string can be written: JSON may hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_whole_text(argument: str, value: str, user: str) -> None:
    """Refuses text of the command line that is none. Raises `UserError`, which says that `user` needs it."""
    if not is_whole_text(value):
        raise UserError(f"{argument}={value}: is no Unicode text, which {user} needs; write UTF-8")
