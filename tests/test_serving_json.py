"""TF-Serving's JSON to arrays and back, after its page on the REST API; no server."""

import base64
import json
import math
import tracemalloc

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import meta_graph_pb2

from export.serving import rest_json
from export.serving.limits import RequestLimits
from export.serving.serving_error import ServingError

LIMITS = RequestLimits(max_rows=8, max_bytes=1 << 16)


def inputs(**specs):
    """`TensorInfo`s: `x=("float", None, 2)`, an axis of any size for None."""
    signature = meta_graph_pb2.SignatureDef()
    for alias, (dtype, *shape) in specs.items():
        signature.inputs[alias].dtype = tf.dtypes.as_dtype(dtype).as_datatype_enum
        for size in shape:
            signature.inputs[alias].tensor_shape.dim.add(size=-1 if size is None else size)
    return signature.inputs


FLOATS, BYTES, TWO = (
    inputs(x=("float32", None)),
    inputs(image_bytes=("string", None)),
    inputs(tag=("string", None), signal=("float32", None, 5)),
)


def read(document, infos):
    return rest_json.predict_inputs(rest_json.read_object(json.dumps(document).encode()), infos, LIMITS)


@pytest.mark.parametrize(
    ("document", "infos", "expected"),
    [
        ({"instances": [1.0, 2.0, 5.0]}, FLOATS, {"x": [1, 2, 5]}),
        ({"inputs": [1.0, 2.0, 5.0]}, FLOATS, {"x": [1, 2, 5]}),
        ({"inputs": {"x": [1]}}, FLOATS, {"x": [1]}),
        ({"inputs": []}, FLOATS, {"x": []}),
        ({"instances": [{"x": 3}]}, FLOATS, {"x": [3]}),
        ({"instances": [{"b64": "aGk="}, "grün"]}, BYTES, {"image_bytes": [b"hi", "grün".encode()]}),
        ({"instances": [{"image_bytes": {"b64": "aGk"}}]}, BYTES, {"image_bytes": [b"hi"]}),
        ({"inputs": {"image_bytes": [{"b64": " aG\nk= "}]}}, BYTES, {"image_bytes": [b"hi"]}),
        ({"inputs": []}, BYTES, {"image_bytes": []}),
        # The documentation's own example of two inputs, in both forms.
        (
            {"instances": [{"tag": "foo", "signal": [1, 2, 3, 4, 5]}, {"tag": "bar", "signal": [3, 4, 1, 2, 5]}]},
            TWO,
            {"tag": [b"foo", b"bar"], "signal": [[1, 2, 3, 4, 5], [3, 4, 1, 2, 5]]},
        ),
        (
            {"inputs": {"tag": ["foo", "bar"], "signal": [[1, 2, 3, 4, 5], [3, 4, 1, 2, 5]]}},
            TWO,
            {"tag": [b"foo", b"bar"], "signal": [[1, 2, 3, 4, 5], [3, 4, 1, 2, 5]]},
        ),
        ({"instances": [[[0, 255]]]}, inputs(image=("uint8", None, 1, 2)), {"image": [[[0, 255]]]}),
        ({"instances": [True, False]}, inputs(b=("bool", None)), {"b": [True, False]}),
        ({"instances": [2**53, -1]}, inputs(i=("int64", None)), {"i": [2**53, -1]}),
    ],
)  # fmt: skip
def test_rows_and_columns_become_arrays(document, infos, expected):
    arrays = read(document, infos)
    assert {alias: array.tolist() for alias, array in arrays.items()} == expected
    for alias, array in arrays.items():
        wanted = tf.dtypes.as_dtype(infos[alias].dtype).as_numpy_dtype
        assert array.dtype == wanted or (array.dtype == object and wanted is object)


def test_numbers_that_are_none_come_as_bare_tokens():
    arrays = rest_json.predict_inputs(
        rest_json.read_object(b'{"instances": [NaN, Infinity, -Infinity]}'), FLOATS, LIMITS
    )
    assert math.isnan(arrays["x"][0]) and arrays["x"][1:].tolist() == [math.inf, -math.inf]


@pytest.mark.parametrize(
    ("document", "infos", "words"),
    [
        ({"x": 1}, FLOATS, "Missing 'inputs' or 'instances' key"),
        ({"inputs": [1], "instances": [1]}, FLOATS, "only one of 'inputs' or 'instances'"),
        ({"instances": 1}, FLOATS, "to be an list/array"),
        ({"instances": []}, FLOATS, "No values in 'instances'"),
        ({"instances": [[1]]}, FLOATS, "at unexpected level"),
        ({"instances": [1, "a"]}, FLOATS, "not of expected type: float"),
        ({"instances": [1, None]}, FLOATS, "not of expected type: float"),
        ({"instances": [1, {"b64": "aGk="}]}, FLOATS, "not of expected type: float"),
        ({"instances": [1e300]}, FLOATS, "without loss of precision"),
        ({"instances": [1.5]}, inputs(i=("int64", None)), "not of expected type: int64"),
        ({"instances": [256]}, inputs(i=("uint8", None)), "256 to uint8 without loss"),
        ({"instances": [-1]}, inputs(i=("uint8", None)), "-1 to uint8 without loss"),
        ({"instances": [2**70]}, inputs(i=("int64", None)), "not of expected type: int64"),
        ({"instances": [1]}, inputs(b=("bool", None)), "not of expected type: bool"),
        ({"instances": [[1, 2], [1]]}, inputs(x=("float32", None, 2)), "rows differ in shape"),
        ({"instances": [[1, 2, 3]]}, inputs(x=("float32", None, 2)), "has shape"),
        ({"instances": [1] * 9}, FLOATS, "Task size 9 is larger than maximum input batch size 8"),
        ({"inputs": [1] * 9}, FLOATS, "Task size 9 is larger than maximum input batch size 8"),
        ({"inputs": 1}, FLOATS, "at least one dimension"),
        ({"inputs": {"b64": "aGk="}}, BYTES, "at least one dimension"),
        ({"instances": [1]}, BYTES, "not of expected type: string"),
        ({"instances": [{"b64": "?"}]}, BYTES, "Unable to base64 decode"),
        ({"instances": [{"b64": "aGk-"}]}, BYTES, "Unable to base64 decode"),
        ({"instances": ["a", {"image_bytes": "b"}]}, BYTES, "Expecting value/list but got object at item 1"),
        ({"instances": [{"image_bytes": "b"}, "a"]}, BYTES, "Expecting object but got list at item 1"),
        ({"instances": [{"image_bytes": {"b64": 1}}]}, BYTES, "not formatted correctly for base64 data"),
        ({"instances": [{"images": "b"}]}, BYTES, "keys must be equal to: image_bytes"),
        ({"inputs": {"images": ["b"]}}, BYTES, "Missing named input: image_bytes"),
        ({"instances": ["a"]}, TWO, "expecting list of objects"),
        ({"inputs": ["a"]}, TWO, "expecting an object"),
        ({"instances": [{"tag": "a"}]}, TWO, "keys must be equal to: signal,tag"),
        ({"inputs": {"tag": ["a"], "signal": [[1] * 5] * 2}}, TWO, "equal 0th-dimension"),
        ({"inputs": [["a"], ["b", "c"]]}, inputs(s=("string", None, None)), "unexpected size: 2"),
        ({"inputs": [["a"], "b"]}, inputs(s=("string", None, None)), "Encountered \"b\" at level: 1"),
        ({"inputs": [[0] * 9000] * 2}, inputs(x=("float64", None, None)), "stands for 144000 bytes"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_request_is_told(document, infos, words):
    with pytest.raises(ServingError) as failure:
        read(document, infos)
    assert words in str(failure.value) and failure.value.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "The document is empty"),
        (b"nonsense", "JSON Parse error"),
        (b'{"instances": [1,', "JSON Parse error"),
        (b"[1]", "Is not object"),
        (b"\xff\xfe{", "JSON Parse error"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"instances": [' + b"9" * 5000 + b"]}", "JSON Parse error"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body, words):
    with pytest.raises(ServingError, match=words):
        rest_json.read_object(body)


@pytest.mark.parametrize(
    "value",
    (
        "1", "1.5", "null", "[]", "{}", "[0]", "[[1.5]]", "[1,2,3,4,5]", '"ab"', '"€€"', f'"{"A" * 999}"',
        rf'"\ud83d\ude00{"a" * 40}"', '{"a":0}', '{"b64":"AAAA"}', '{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6}',
    ),
)  # fmt: skip
def test_the_objects_of_a_body_take_no_more_than_is_counted(value):
    body = f'{{"instances": [{",".join([value] * 20_000)}]}}'.encode()
    tracemalloc.start()
    try:
        rest_json.read_object(body)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken <= rest_json.object_bytes(body)


def test_a_body_of_too_many_values_is_refused_before_it_is_parsed():
    with pytest.raises(ServingError, match="values; at most"):
        rest_json.object_bytes(b"[],[]," * (2 << 20))


def test_a_signature_is_named_by_a_string():
    assert rest_json.signature_name({}) == "" and rest_json.signature_name({"signature_name": "a"}) == "a"
    with pytest.raises(ServingError, match="must be a string value"):
        rest_json.signature_name({"signature_name": 1})
    with pytest.raises(ServingError, match="half of a surrogate pair") as failure:
        rest_json.signature_name(rest_json.read_object(b'{"signature_name": "\\ud800"}'))
    assert failure.value.code is grpc.StatusCode.INVALID_ARGUMENT


OUTPUTS = {
    "scores": np.array([[0.2, 0.1 + 0.2, 1.0], [1e-30, 16777217.0, 0.0]], np.float32),
    "labels": np.array([[b"cat"], ["größe".encode()]], object),
    "valid": np.array([True, False]),
}


def test_answers_in_rows_and_in_columns():
    rows = json.loads(rest_json.write_outputs(OUTPUTS, as_rows=True))["predictions"]
    assert rows[0] == {"scores": [0.2, 0.3, 1.0], "labels": ["cat"], "valid": True}
    columns = json.loads(rest_json.write_outputs(OUTPUTS, as_rows=False))["outputs"]
    assert columns["labels"] == [["cat"], ["größe"]] and columns["valid"] == [True, False]
    np.testing.assert_array_equal(np.array(columns["scores"], np.float32), OUTPUTS["scores"])
    # One output alone has no name.
    one = {"valid": OUTPUTS["valid"]}
    assert json.loads(rest_json.write_outputs(one, as_rows=True)) == {"predictions": [True, False]}
    assert json.loads(rest_json.write_outputs(one, as_rows=False)) == {"outputs": [True, False]}


def test_floats_are_short_and_exact(rng):
    numbers = np.concatenate([rng.random(2000), rng.random(2000) * 10.0 ** rng.integers(-38, 38, 2000)]).astype(
        "float32"
    )
    text = rest_json.write_outputs({"x": numbers}, as_rows=False)
    np.testing.assert_array_equal(np.array(json.loads(text)["outputs"], np.float32), numbers)
    ordinary = rest_json.write_outputs({"x": rng.random(1000).astype(np.float32)}, as_rows=False)
    assert len(ordinary) < 1000 * 15


def test_bytes_and_no_numbers_are_written_as_tf_serving_does():
    text = rest_json.write_outputs({"raw_bytes": np.array([b"\xff\0"], object)}, as_rows=True)
    assert json.loads(text) == {"predictions": [{"b64": base64.b64encode(b"\xff\0").decode()}]}
    text = rest_json.write_outputs({"x": np.array([np.nan, np.inf, -np.inf], np.float32)}, as_rows=True)
    assert text == b'{"predictions": [NaN, Infinity, -Infinity]}'
    text = rest_json.write_outputs({"x": np.array([b"\xff"], object)}, as_rows=True)
    assert json.loads(text) == {"predictions": ["\\xff"]}


def test_examples_become_messages():
    request = rest_json.classification_request(
        {
            "signature_name": "classify",
            "context": {"c": 1.5},
            "examples": [{"a": [1, True], "b": {"b64": "aGk="}}, {"b": "x"}],
        }
    )
    expected = """
        context { features { feature { key: "c" value { float_list { value: 1.5 } } } } }
        examples { features { feature { key: "a" value { int64_list { value: 1 value: 1 } } }
                              feature { key: "b" value { bytes_list { value: "hi" } } } } }
        examples { features { feature { key: "b" value { bytes_list { value: "x" } } } } }
    """
    kind = type(request.input.example_list_with_context)
    assert request.input.example_list_with_context == text_format.Parse(expected, kind())
    assert request.model_spec.signature_name == "classify"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "key 'examples' is expected"),
        ({"examples": {}}, "to be an list/array"),
        ({"examples": []}, "is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"examples": [{"a": None}]}, "unexpected JSON type: Null"),
        ({"examples": [{"a": [[1]]}]}, "unexpected JSON type: Array"),
        ({"examples": [{"a": {"b": 1}}]}, "unexpected JSON type: Object"),
        ({"examples": [{"a": [1, "b"]}]}, "Unexpected element type in feature: a expecting type: int64"),
        ({"examples": [{"a": 2**64}]}, "too large"),
        ({"examples": [{"\ud800": "x"}]}, "half of a surrogate pair"),
        ({"context": {"\udc00": "x"}, "examples": [{}]}, "half of a surrogate pair"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_examples_is_told(document, words):
    with pytest.raises(ServingError) as failure:
        rest_json.classification_request(document)
    assert words in str(failure.value)
