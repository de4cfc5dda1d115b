"""A .tflite as an object of its schema, to be changed and written again."""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

LARGEST_OLD_CODE = schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES
WEIGHTED = (
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
)


def read_model(content: bytes) -> Any:
    """The schema's `ModelT`."""
    return flatbuffer_utils.read_model_from_bytearray(bytearray(content))


def write_model(model: Any) -> bytes:
    """The bytes of a `ModelT`; all of its buffers come to lie in its FlatBuffer."""
    for buffer in model.buffers:
        if buffer.data is not None:  # an array is copied whole, anything else byte by byte
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def add_old_codes(model: Any) -> None:
    """Writes each operation's number where readers of older files look for it, too.

    litert-quantizer leaves that at 0 for operations that it adds. TFLite takes the larger one, OpenVINO the older one,
    which is an addition then.
    """
    for code in model.operatorCodes:
        code.deprecatedBuiltinCode = min(code.builtinCode, LARGEST_OLD_CODE)


def joins_constants(model: Any) -> bool:
    """Whether a concatenation has an operand that does not depend on the input."""
    return any(
        model.buffers[graph.tensors[index].buffer].data is not None
        for graph in model.subgraphs
        for operation in graph.operators
        if model.operatorCodes[operation.opcodeIndex].builtinCode == schema.BuiltinOperator.CONCATENATION
        for index in operation.inputs
    )


def unpacks_weights(model: Any) -> bool:
    """Whether an operation computes in float32 with weights of another type, as `dynamic` and `float16` have them.

    Only LiteRT's own runtime has fast kernels for that; others unpack the weights each time.
    """
    for graph in model.subgraphs:
        kinds = [tensor.type for tensor in graph.tensors]
        for operation in graph.operators:
            read = [kinds[index] for index in operation.inputs if index >= 0]
            code = model.operatorCodes[operation.opcodeIndex].builtinCode
            if code == schema.BuiltinOperator.DEQUANTIZE and read == [schema.TensorType.FLOAT16]:
                return True
            if code in WEIGHTED and read[0] == schema.TensorType.FLOAT32 != read[1]:
                return True
    return False
