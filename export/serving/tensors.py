"""`TensorProto`s and arrays: requests' within limits, and answers' with the fields that TF-Serving fills."""

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from export.serving.limits import RequestLimits
from export.serving.serving_error import ServingError, invalid

FIELDS = {
    "bool_val": (types_pb2.DT_BOOL,),
    "double_val": (types_pb2.DT_DOUBLE,),
    "float_val": (types_pb2.DT_FLOAT,),
    "int64_val": (types_pb2.DT_INT64,),
    "int_val": (types_pb2.DT_INT8, types_pb2.DT_INT16, types_pb2.DT_INT32, types_pb2.DT_UINT8, types_pb2.DT_UINT16),
    "uint32_val": (types_pb2.DT_UINT32,),
    "uint64_val": (types_pb2.DT_UINT64,),
}
FIELD_OF = {dtype: field for field, dtypes in FIELDS.items() for dtype in dtypes}
VALUES_AT_ONCE = 1 << 16
"""Numbers turned into an array in one go: between two of them, other threads have their turn."""


def array_of(alias: str, proto: tensor_pb2.TensorProto, limits: RequestLimits) -> np.ndarray:
    """The array that a `TensorProto` stands for.

    Raises:
        ServingError: INVALID_ARGUMENT: more rows or bytes than the limits allow, or content that does not fit.
    """
    shape = [dimension.size for dimension in proto.tensor_shape.dim]
    if min(shape, default=0) < 0:
        raise _parsing_error(alias)
    limits.check_rows(shape[0] if shape else 1)
    elements = math.prod(shape)
    try:
        if proto.dtype == types_pb2.DT_STRING:
            return _strings(alias, proto, elements, limits).reshape(shape)
        dtype = tf.dtypes.as_dtype(proto.dtype).as_numpy_dtype
        limits.check_bytes(alias, array_bytes(proto))
        if proto.tensor_content:
            return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
        if proto.dtype not in FIELD_OF:
            return tf.make_ndarray(proto)
        return _numbers(getattr(proto, FIELD_OF[proto.dtype]), dtype, elements).reshape(shape)
    except ServingError:
        raise
    except Exception as error:  # untrusted bytes
        raise _parsing_error(alias) from error


def array_bytes(proto: tensor_pb2.TensorProto) -> int:
    """Bytes of the array that a `TensorProto` stands for, however few its own are; of texts, those it repeats."""
    elements = max(0, math.prod(dimension.size for dimension in proto.tensor_shape.dim))
    if proto.dtype == types_pb2.DT_STRING:
        values = proto.string_val
        return elements * 8 + max(0, elements - len(values)) * len(values[-1] if values else b"")
    return elements * np.dtype(tf.dtypes.as_dtype(proto.dtype).as_numpy_dtype).itemsize


def tensor_of(array: np.ndarray) -> tensor_pb2.TensorProto:
    """An answer's `TensorProto`, its values in the field of their type: many clients read no `tensor_content`."""
    if array.dtype.kind in "OSU":
        proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING)
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto = tensor_pb2.TensorProto(dtype=tf.dtypes.as_dtype(array.dtype).as_datatype_enum)
        field = FIELD_OF.get(proto.dtype)
        if field is None:  # half and bfloat16 as bits, complex numbers as pairs
            return tf.make_tensor_proto(array)
        if field in ("float_val", "double_val", "bool_val"):
            # In a message, numbers of a fixed width lie one after the other as they do in memory.
            values = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
            number = tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name[field].number
            proto.MergeFromString(bytes([number << 3 | 2]) + _varint(len(values)) + values)
        else:
            getattr(proto, field).extend(array.ravel().tolist())
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def _strings(alias, proto, elements, limits):
    values = proto.string_val
    if elements < len(values):
        raise _parsing_error(alias)
    last = values[-1] if values else b""  # it stands for all that follow
    limits.check_bytes(alias, sum(map(len, values)) + array_bytes(proto))
    array = np.empty(elements, object)
    array[: len(values)] = values
    array[len(values) :] = last
    return array


def _numbers(values, dtype, elements):
    array = np.empty(elements, dtype)
    for start in range(0, len(values), VALUES_AT_ONCE):
        part = values[start : start + VALUES_AT_ONCE]
        array[start : start + len(part)] = part
    array[len(values) :] = values[-1] if values else 0
    return array


def _varint(number):
    """A length as protocol buffers write it: seven bits a byte, the lowest first."""
    content = bytearray()
    while number > 127:
        content.append(number & 127 | 128)
        number >>= 7
    return bytes([*content, number])


def _parsing_error(alias):
    return invalid(f"tensor parsing error: {alias}")
