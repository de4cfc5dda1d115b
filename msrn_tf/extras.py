"""Packages that only some commands need, and which extra of `pip install` brings each.

What needs one imports it where it is used, within `needs`. `pyproject.toml` says which releases; a test compares both.
"""

import contextlib
from collections.abc import Iterator

from msrn_tf.errors import UserError, first_line

EXTRAS = {
    "data": {"tensorflow_datasets": "tensorflow-datasets", "imagehash": "ImageHash"},
    "serving": {
        "google": "protobuf",
        "grpc": "grpcio",
        "grpc_health": "grpcio-health-checking",
        "grpc_reflection": "grpcio-reflection",
        "prometheus_client": "prometheus_client",
        "requests": "requests",
        "tensorflow_serving": "tensorflow-serving-api",
        "tornado": "tornado",
    },
    "tflite": {
        "ai_edge_litert": "ai-edge-litert",
        "flatbuffers": "flatbuffers",
        "litert_quantizer": "litert-quantizer",
    },
    "onnx": {"onnx": "onnx", "onnxruntime": "onnxruntime", "tf2onnx": "tf2onnx"},
    "addons": {"tensorflow_addons": "tensorflow-addons", "tf_keras": "tf_keras"},
    "beam": {"apache_beam": "apache-beam"},
    "report": {"cleanlab": "cleanlab", "scipy": "scipy"},
}
"""Extra → name of a module that is imported → name of its package."""

OWN = ("msrn_tf", "export")


class MissingPackageError(UserError, ImportError):
    """A package of an extra is not installed."""


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Within it, an import that fails says which package is missing and how to install it.

    Args:
        extra: a key of `EXTRAS`.

    Raises:
        MissingPackageError: a package that is imported is not installed, or cannot be imported as it is.
    """
    try:
        yield
    except ImportError as error:
        module = (error.name or "").split(".")[0]
        if isinstance(error, MissingPackageError) or module in OWN:
            raise
        package = EXTRAS[extra].get(module, module) or "a package"
        missing = isinstance(error, ModuleNotFoundError) and error.name == module
        what = "is not installed" if missing else f"cannot be imported ({first_line(error)})"
        raise MissingPackageError(
            f'{package} {what}: pip install "msrn-tf[{extra}]", or ".[{extra}]" in the folder of the repository'
        ) from error
