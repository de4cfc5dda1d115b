"""Failures of a request, with the status code and message that TF-Serving gives."""

import grpc


class ServingError(Exception):
    """Ends a request with `code` (a `grpc.StatusCode`) and a message."""

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code


def invalid(message: str) -> ServingError:
    """INVALID_ARGUMENT: the request itself is wrong."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """NOT_FOUND: no such model or version."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)
