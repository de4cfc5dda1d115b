"""Failures of a request, with the status code and message that TF-Serving gives."""

import grpc

LONGEST_MESSAGE = 400
"""Characters of a message: it may repeat what the request says, and that may be anything of any length."""


class ServingError(Exception):
    """Ends a request with `code` (a `grpc.StatusCode`) and a message."""

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(clipped(message, LONGEST_MESSAGE))
        self.code = code


def clipped(text: str, longest: int) -> str:
    """`text`, at most so many characters of it."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def invalid(message: str) -> ServingError:
    """INVALID_ARGUMENT: the request itself is wrong."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """NOT_FOUND: no such model or version."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def exhausted(message: str) -> ServingError:
    """RESOURCE_EXHAUSTED: too much at once; the same request may be answered later."""
    return ServingError(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
