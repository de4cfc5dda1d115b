"""What a request holds, checked against a signature, with TF-Serving's messages where it is wrong."""

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import model_pb2

from export.serving.limits import RequestLimits
from export.serving.serving_error import ServingError, invalid
from export.serving.tensors import array_bytes, array_of
from export.signatures import CLASSIFY_METHOD

DEFAULT_SIGNATURE = "serving_default"
LARGEST_RANK = 254  # TensorFlow's
WHATEVER_IT_TAKES = RequestLimits(1 << 62, 1 << 62)
"""For warm-up requests, which a model brings along."""


def predict_signature(signature_defs: Mapping[str, Any], spec: model_pb2.ModelSpec) -> tuple[str, Any]:
    """`(name, SignatureDef)` that a `ModelSpec` asks Predict for."""
    name = spec.signature_name or DEFAULT_SIGNATURE
    if name not in signature_defs:
        raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    return name, signature_defs[name]


def classify_signature(signature_defs: Mapping[str, Any], spec: model_pb2.ModelSpec) -> tuple[str, Any]:
    """`(name, SignatureDef)` that a `ModelSpec` asks Classify for."""
    name = spec.signature_name or DEFAULT_SIGNATURE
    if name not in signature_defs:
        raise invalid(f"No signature was found with the name: {name}")
    method = signature_defs[name].method_name
    if method != CLASSIFY_METHOD:
        raise invalid(f"Expected classification signature method_name to be {CLASSIFY_METHOD}. Was: {method}")
    return name, signature_defs[name]


def tensor_inputs(
    signature: Any, given: Mapping[str, Any], limits: RequestLimits = WHATEVER_IT_TAKES
) -> dict[str, np.ndarray]:
    """Arrays by alias of a map of `TensorProto`s."""
    if len(given) != len(signature.inputs):
        sent, known = sorted(given), sorted(signature.inputs)
        extra, missing = sorted(set(sent) - set(known)), sorted(set(known) - set(sent))
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(known)} len({{{','.join(sent)}}}) != "
            f"len({{{','.join(known)}}}). Sent extra: {{{','.join(extra)}}}. "
            f"Missing but required: {{{','.join(missing)}}}."
        )
    arrays = {}
    for position, (alias, proto) in enumerate(given.items()):
        if alias not in signature.inputs:
            raise invalid(
                f"input tensor alias not found in signature: {alias}. Inputs expected to be in the set "
                f"{{{','.join(sorted(signature.inputs))}}}."
            )
        info = signature.inputs[alias]
        if proto.dtype != info.dtype:
            raise invalid(
                f"Expects arg[{position}] to be {type_name(info.dtype)} but {type_name(proto.dtype)} is provided"
            )
        if len(proto.tensor_shape.dim) > LARGEST_RANK:
            raise invalid(f"tensor parsing error: {alias}")
        arrays[alias] = array_of(alias, proto, limits)
        check_shape(alias, arrays[alias].shape, info)
    check_same_rows(arrays)
    return arrays


def tensor_bytes(signature: Any, given: Mapping[str, Any], limits: RequestLimits) -> int:
    """Bytes of the arrays that `tensor_inputs` makes of a map of `TensorProto`s; what it refuses counts as little."""
    return sum(
        min(array_bytes(given[alias]), limits.max_bytes)
        for alias, info in signature.inputs.items()
        if alias in given and given[alias].dtype == info.dtype and len(given[alias].tensor_shape.dim) <= LARGEST_RANK
    )


def example_inputs(signature: Any, given: Any, limits: RequestLimits = WHATEVER_IT_TAKES) -> dict[str, np.ndarray]:
    """The array by alias of serialised examples that an `Input` stands for, each with the context, if there is one."""
    kind = given.WhichOneof("kind")
    context = given.example_list_with_context.context.SerializeToString() if kind != "example_list" else b""
    examples = getattr(given, kind).examples if kind else []
    if not examples:
        raise invalid("Input is empty")
    limits.check_rows(len(examples))
    limits.check_bytes("examples", example_bytes(given))
    # Messages in a row are a message with the features of all of them.
    serialised = [context + example.SerializeToString() for example in examples]
    return {next(iter(signature.inputs)): np.array(serialised, object)}


def example_bytes(given: Any) -> int:
    """Bytes of the examples that an `Input` stands for, each with the context."""
    both = given.example_list_with_context
    return given.ByteSize() + len(both.examples) * both.context.ByteSize()


def output_names(signature: Any, output_filter: Sequence[str]) -> list[str]:
    """The outputs that are asked for; all where the filter is empty."""
    names = list(output_filter)
    for alias in names:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{','.join(sorted(signature.outputs))}}}."
            )
    if len(set(names)) != len(names):
        raise invalid(f"duplicate output tensor alias: {next(name for name in names if names.count(name) > 1)}")
    return names or sorted(signature.outputs)


def check_shape(alias: str, shape: Sequence[int], info: Any) -> None:
    """Raises `ServingError` where an array's shape is not the one of its `TensorInfo`."""
    expected = [dimension.size for dimension in info.tensor_shape.dim]
    if not shape:
        raise invalid("Batching Run() input tensors must have at least one dimension")
    fits = len(shape) == len(expected) and all(
        wanted in (-1, size) for size, wanted in zip(shape, expected, strict=True)
    )
    if not fits:
        raise invalid(f"input {alias} has shape {list(shape)}; {expected} is needed (-1: any)")


def check_same_rows(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises `ServingError` where the inputs of a request differ in their first axis."""
    if len({len(array) for array in arrays.values()}) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")


def type_name(number: int) -> str:
    """As TF-Serving writes it: `float`, `uint8`, `string`."""
    names = types_pb2.DataType.DESCRIPTOR.values_by_number
    return names[number].name.removeprefix("DT_").lower() if number in names else f"type {number}"
