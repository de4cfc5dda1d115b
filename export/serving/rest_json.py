"""TF-Serving's JSON: requests in row and column form to arrays, answers to JSON, after its page on the REST API.

Strings that hold bytes are `{"b64": …}`; NaN and infinities are bare tokens. A body of brackets and commas would take
many times its size as Python objects: they are counted before it is parsed.
"""

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    input_pb2,
)

from export.serving.limits import RequestLimits
from export.serving.requests import check_same_rows, check_shape, type_name
from export.serving.serving_error import clipped, invalid
from msrn_tf.text import is_whole_text

MOST_JSON_VALUES = 1 << 22
"""Numbers, strings, lists and objects of a body: five photos of 448×448 pixels as numbers; as files, any number."""
OBJECT_BYTES = {b"[": 96, b"{": 192, b",": 32, b'"': 32}
"""What CPython 3.12 takes for a list, an object, a number and half a string, with its place in the list above it."""
WIDE_CHARACTER = re.compile(rb"\\u(?!00)")
"""An escape of what is not Latin-1. Some clients write `=` of base64 as `\\u003d`."""
LONGEST_VALUE = 80
KINDS = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}
"""Which JSON numbers, by NumPy's kinds, an input of a kind takes."""


def object_bytes(body: bytes) -> int:
    """As many bytes as a body takes as text and Python objects, or more. Raises `ServingError`: too many values."""
    counts = {mark: body.count(mark) for mark in OBJECT_BYTES}
    values = counts[b"["] + counts[b"{"] + counts[b","]
    if values > MOST_JSON_VALUES:
        raise invalid(f"the body holds {values} values; at most {MOST_JSON_VALUES} are allowed. Send photos as base64")
    character = 1 if body.isascii() and not WIDE_CHARACTER.search(body) else 4
    return 2 * len(body) * character + sum(number * OBJECT_BYTES[mark] for mark, number in counts.items())


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body that `object_bytes` let in. Raises `ServingError`."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except RecursionError as error:
        raise invalid("JSON Parse error: nested too deeply") from error
    except ValueError as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
    return document


def signature_name(document: Mapping[str, Any]) -> str:
    """The signature that a request names; empty for none."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_shown(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    _check_name(name)
    return name


def is_row_form(document: Mapping[str, Any]) -> bool:
    """Whether a request is in row form (`instances`), not in column form (`inputs`). Raises `ServingError`."""
    if "instances" in document and "inputs" in document:
        raise invalid(
            f"JSON Value: {_shown(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if "instances" not in document and "inputs" not in document:
        raise invalid("Missing 'inputs' or 'instances' key")
    return "instances" in document


def predict_inputs(
    document: Mapping[str, Any], inputs: Mapping[str, Any], limits: RequestLimits
) -> dict[str, np.ndarray]:
    """Arrays by alias of a Predict request.

    Args:
        document: of `read_object`.
        inputs: `TensorInfo`s by alias, of the signature.
        limits: `RequestLimits`.
    """
    columns = _columns_of_rows(document["instances"], inputs, limits) if is_row_form(document) else None
    if columns is None:
        columns = _columns(document["inputs"], inputs)
    arrays = {}
    for alias, info in inputs.items():
        arrays[alias] = _array(alias, columns[alias], info, limits)
        check_shape(alias, arrays[alias].shape, info)
    check_same_rows(arrays)
    return arrays


def classification_request(document: Mapping[str, Any]) -> classification_pb2.ClassificationRequest:
    """The `ClassificationRequest` of a JSON request with `examples`, without its model."""
    request = classification_pb2.ClassificationRequest()
    request.model_spec.signature_name = signature_name(document)
    examples = document.get("examples")
    if "examples" not in document:
        raise invalid(
            f"JSON Value: {_shown(document)} When method is classify, key 'examples' is expected and was not found"
        )
    if not isinstance(examples, list):
        raise invalid(f"JSON Value: {_shown(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid(f"JSON Value: {_shown(document)} 'examples' value is an empty array")
    made = [_example(example) for example in examples]
    if "context" in document:
        both = input_pb2.ExampleListWithContext(context=_example(document["context"]), examples=made)
        request.input.example_list_with_context.CopyFrom(both)
    else:
        request.input.example_list.CopyFrom(input_pb2.ExampleList(examples=made))
    return request


def write_outputs(outputs: Mapping[str, np.ndarray], as_rows: bool) -> bytes:
    """The answer to Predict: `predictions`, an object or value a row, or `outputs`, an array an output."""
    values = {alias: _values(alias, array) for alias, array in outputs.items()}
    if not as_rows:
        return _written({"outputs": values if len(values) > 1 else next(iter(values.values()))})
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    # A row at a time: other threads have their turn in between.
    texts = [json.dumps(row if len(values) > 1 else next(iter(row.values()))) for row in rows]
    return f'{{"predictions": [{", ".join(texts)}]}}'.encode()


def write_classes(response: classification_pb2.ClassificationResponse) -> bytes:
    """The answer to Classify: for each example a list of `[label, score]`."""
    results = [
        [[entry.label, round(entry.score, 9)] for entry in found.classes] for found in response.result.classifications
    ]
    return _written({"results": results})


def write_status(response: get_model_status_pb2.GetModelStatusResponse) -> bytes:
    """The answer to a question for a model's versions."""
    return _written(_fields(response))


def write_metadata(response: get_model_metadata_pb2.GetModelMetadataResponse) -> bytes:
    """The answer to a question for a model's signatures."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return _written({"model_spec": _fields(response.model_spec), "metadata": {"signature_def": _fields(signatures)}})


def write_error(message: str) -> bytes:
    """A refusal."""
    return _written({"error": message})


def _written(value):
    return json.dumps(value).encode()


def _fields(message):
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _columns_of_rows(instances, inputs, limits):
    """Lists by alias of a list of rows."""
    if not isinstance(instances, list):
        raise invalid(f"JSON Value: {_shown(instances)} Excepting 'instances' to be an list/array")
    if not instances:
        raise invalid("JSON Value: [] No values in 'instances' array")
    limits.check_rows(len(instances))
    if not _has_names(instances[0]):
        if len(inputs) > 1:
            raise invalid(
                "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
                "tensorinfo_map"
            )
        for number, item in enumerate(instances):
            if _has_names(item):
                raise invalid(f"Expecting value/list but got object at item {number} of input list")
        return {alias: instances for alias in inputs}
    for number, item in enumerate(instances):
        if not _has_names(item):
            raise invalid(f"Expecting object but got list at item {number} of input list")
        if item.keys() != set(inputs):
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: {_shown(item)} keys must be "
                f"equal to: {','.join(sorted(inputs))}"
            )
    return {alias: [item[alias] for item in instances] for alias in inputs}


def _columns(given, inputs):
    """Values by alias of a column form's `inputs`."""
    if not _has_names(given):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        return {alias: given for alias in inputs}
    for alias in inputs:
        if alias not in given:
            raise invalid(f"Missing named input: {alias} in 'inputs' object.")
    return given


def _has_names(value):
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value):
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _array(alias, value, info, limits):
    """The array of a JSON value: nested lists, all of one length at a level."""
    shape = _shape_of(value, len(info.tensor_shape.dim))
    limits.check_rows(shape[0] if shape else 1)
    if info.dtype == types_pb2.DT_STRING:
        array = np.empty(math.prod(shape), object)
        array[:] = [_bytes(leaf) for leaf in _leaves(value, shape)]
        return array.reshape(shape)
    dtype = np.dtype(tf.dtypes.as_dtype(info.dtype).as_numpy_dtype)
    limits.check_bytes(alias, math.prod(shape) * dtype.itemsize)
    try:
        given = np.array(value)
    except ValueError as error:
        raise invalid(f"Encountered list at unexpected size in {alias}: its rows differ in shape") from error
    if given.size and given.dtype.kind not in KINDS.get(dtype.kind, ""):
        raise invalid(f"JSON Value: {_shown(value)} is not of expected type: {type_name(info.dtype)}")
    with np.errstate(over="ignore"):
        array = given.astype(dtype)
    lost = np.isinf(array) != np.isinf(given) if dtype.kind == "f" else array != given
    if lost.any():
        raise invalid(
            f"Cannot convert JSON value: {_shown(given[lost].ravel()[0].item())} to {type_name(info.dtype)} without "
            "loss of precision."
        )
    return array


def _shape_of(value, most):
    """The shape that the first values of nested lists tell, of at most so many axes."""
    shape = []
    while isinstance(value, list):
        if len(shape) >= most:
            raise invalid(f"Encountered list at unexpected level: {len(shape)} expected < {most}")
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _leaves(value, shape, level=0):
    """What is in nested lists; raises `ServingError` where they are not of a shape."""
    if level == len(shape):
        yield value
        return
    if not isinstance(value, list) or len(value) != shape[level]:
        found = f"list at unexpected size: {len(value)}" if isinstance(value, list) else f"{_shown(value)}"
        raise invalid(f"Encountered {found} at level: {level} expected size: {shape[level]}")
    for item in value:
        yield from _leaves(item, shape, level + 1)


def _bytes(value):
    """The bytes that a JSON string or `{"b64": …}` stands for."""
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {_shown(value)} is not of expected type: string")
    if not _is_base64(value):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split())  # white space and missing padding are let pass, as TF-Serving does
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except ValueError as error:
        raise invalid("Unable to base64 decode") from error


def _example(value):
    """The `tf.train.Example` of a JSON object of features."""
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {_json_type(value)}")
    features = {}
    for name, content in value.items():
        _check_name(name)
        features[name] = _feature(name, content if isinstance(content, list) else [content])
    return tf.train.Example(features=tf.train.Features(feature=features))


def _check_name(name):
    """JSON may hold half a character (`"\\ud800"`), and a name in a message cannot."""
    if not is_whole_text(name):
        raise invalid(f"JSON Value: {_shown(name)} is not a name: it has half of a surrogate pair")


def _feature(name, values):
    feature = tf.train.Feature()
    for value in values:
        if isinstance(value, str) or _is_base64(value):
            kind, content = "bytes_list", _bytes(value)
        elif isinstance(value, int):  # true and false among them
            kind, content = "int64_list", int(value)
        elif isinstance(value, float):
            kind, content = "float_list", value
        else:
            raise invalid(f"Feature: {name} has element with unexpected JSON type: {_json_type(value)}")
        if feature.WhichOneof("kind") not in (None, kind):
            expected = feature.WhichOneof("kind").removesuffix("_list")
            raise invalid(f"Unexpected element type in feature: {name} expecting type: {expected}")
        try:
            getattr(feature, kind).value.append(content)
        except ValueError as error:
            raise invalid(f"Feature: {name} has a number that is too large") from error
    return feature


def _values(alias, array):
    """An output for JSON, its rows as nested lists."""
    if array.dtype.kind in "OSU":
        write = _base64_of if alias.endswith("_bytes") else _text_of
        flat = np.empty(array.size, object)
        flat[:] = [write(item) for item in array.ravel()]
        return flat.reshape(array.shape).tolist()
    if array.dtype == np.float32:
        array = _short(array)
    return array.tolist()


def _base64_of(content):
    return {"b64": base64.b64encode(content).decode()}


def _text_of(content):
    return content.decode(errors="backslashreplace") if isinstance(content, bytes) else str(content)


def _short(array):
    """float32 as float64 of six digits where they tell it, as TF-Serving does, else nine: 0.2, not 0.20000000298."""
    wide = array.astype(np.float64)
    with np.errstate(all="ignore"):
        exponent = np.floor(np.log10(np.abs(wide)))
        for digits in (9, 6):  # nine tell any two apart
            places = digits - 1 - exponent
            scale = 10.0**places
            rounded = np.rint(wide * scale) / scale
            is_same = (rounded.astype(np.float32) == array) & (places >= 0) & (places <= 22)  # 10^22 is exact yet
            wide = np.where(is_same, rounded, wide)
    return wide


def _shown(value):
    """A value for a message."""
    if isinstance(value, list | dict) and len(value) > 3:
        return _json_type(value)
    return clipped(json.dumps(value, default=str), LONGEST_VALUE)


def _json_type(value):
    names: Sequence[tuple[Any, str]] = (
        (dict, "Object"), (list, "Array"), (str, "String"), (bool, str(value)), ((int, float), "Number"),
    )  # fmt: skip
    return next((name for kind, name in names if isinstance(value, kind)), "Null")
