"""Files of NumPy arrays (`.npz`), read without pickles."""

import numpy as np


def read_arrays(path):
    """The arrays of a file by name.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no such file, or not whole.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # a stranger's ZIP: cut, encrypted, with a bad checksum, of other files …
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0][:200]) from error
