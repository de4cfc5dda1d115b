"""What one request may ask for.

A few bytes can stand for any number of rows: sizes are checked before anything is made.
"""

import dataclasses

from export.serving.serving_error import invalid


@dataclasses.dataclass(frozen=True)
class RequestLimits:
    """Limits of a request.

    Attributes:
        max_rows: photos, or other rows, at most.
        max_bytes: of the tensors that it stands for, at most.
    """

    max_rows: int = 64
    max_bytes: int = 64 << 20

    def check_rows(self, rows: int) -> None:
        """Raises `ServingError`, in TF-Serving's words, where there are too many."""
        if rows > self.max_rows:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {self.max_rows}")

    def check_bytes(self, alias: str, size: int) -> None:
        """Raises `ServingError` where a tensor would be too large."""
        if size > self.max_bytes:
            raise invalid(f"input {alias} stands for {size} bytes; at most {self.max_bytes} are allowed")
