"""Text files with a name a line, as data sets list their images and labels."""

from msrn_tf.errors import UserError


def read_lines(path, advice):
    """The lines of a text file without what surrounds them, empty ones left out.

    Raises:
        UserError: it cannot be read; `advice` says what to do then.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return [line.strip() for line in file if line.strip()]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    except ValueError as error:  # bytes that are no UTF-8, or a zero in the path
        raise UserError(f"{path}: is no text file ({error}); {advice}") from error
