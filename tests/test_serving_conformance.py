"""TF-Serving's gRPC and REST APIs over the wire, as its documentation and messages have them.

By default against `export.serve`. With `TF_SERVING_ADDRESS=host:port` (gRPC) and `TF_SERVING_REST=http://host:port` the
same cases run against a real server that serves the model written by `python tests/serving.py FOLDER` under the name
`msrn`, with `FOLDER/models.config` and `--allow_version_labels_for_unavailable_models`.
"""

import base64
import gzip
import json
import os

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from serving import LABELS, SIZE, exported_once, free_port, running_server, write_model_config
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from test_decoding import READABLE

from export.serving.warm_up import classification_request, example_of

PHOTO = READABLE["baseline"]
OUTPUTS = {
    "serving_default": {"scores", "labels", "thresholds", "is_present", "valid"},
    "serving_pixels": {"scores", "labels", "thresholds", "is_present", "valid"},
    "explain": {"scores", "labels", "thresholds", "is_present", "valid", "attention"},
    "embed": {"features", "labels", "valid"},
}
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """`(host:port of gRPC, URL of REST)`"""
    if os.environ.get("TF_SERVING_ADDRESS"):
        yield os.environ["TF_SERVING_ADDRESS"], os.environ.get("TF_SERVING_REST", "http://localhost:8501")
        return
    base = tmp_path_factory.mktemp("conformance")
    for version in (1, 2):
        (base / str(version)).symlink_to(exported_once()[1])
    config, rest_port = write_model_config(str(base), str(base)), free_port()
    options = {"reload_folder": (str(base),), "rest_port": rest_port}
    with running_server(model_config_file=config, **options) as (_, address):
        yield address, f"http://localhost:{rest_port}"


@pytest.fixture(scope="module")
def address(served):
    return served[0]


@pytest.fixture(scope="module")
def rest(served):
    return served[1]


@pytest.fixture(scope="module")
def channel(address):
    options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
    with grpc.insecure_channel(address, options) as channel:
        yield channel


@pytest.fixture(scope="module")
def prediction(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def model_service(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


def request(signature="serving_default", name="msrn", **inputs):
    message = predict_pb2.PredictRequest()
    message.model_spec.name = name
    message.model_spec.signature_name = signature
    for alias, value in inputs.items():
        message.inputs[alias].CopyFrom(value if hasattr(value, "dtype") and hasattr(value, "tensor_shape") else
                                       tf.make_tensor_proto(value))  # fmt: skip
    return message


def photos(*items):
    return np.array(items or [PHOTO], object)


def pixels(count=1, size=SIZE):
    return np.zeros((count, size, size, 3), np.uint8)


def assert_fails(call, message, code, *words):
    with pytest.raises(grpc.RpcError) as failure:
        call(message, timeout=30)
    assert failure.value.code() is code, failure.value.details()
    for word in words:
        assert word in failure.value.details()


# Predict: what is answered


@pytest.mark.parametrize("signature", OUTPUTS)
def test_a_signature_answers_with_its_outputs(prediction, signature):
    inputs = {"image": pixels(2)} if signature == "serving_pixels" else {"image_bytes": photos(PHOTO, PHOTO)}
    response = prediction.Predict(request(signature, **inputs), timeout=30)
    assert set(response.outputs) == OUTPUTS[signature]
    assert all(value.tensor_shape.dim[0].size == 2 for value in response.outputs.values())
    assert (response.model_spec.name, response.model_spec.signature_name) == ("msrn", signature)
    assert response.model_spec.version.value == 2


DTYPES = {"scores": types_pb2.DT_FLOAT, "labels": types_pb2.DT_STRING, "thresholds": types_pb2.DT_FLOAT,
          "is_present": types_pb2.DT_BOOL, "valid": types_pb2.DT_BOOL}  # fmt: skip


@pytest.mark.parametrize("name", DTYPES)
def test_outputs_have_their_dtypes_and_shapes(prediction, name):
    response = prediction.Predict(request(image_bytes=photos(PHOTO, b"x", PHOTO)), timeout=30)
    value = response.outputs[name]
    assert value.dtype == DTYPES[name]
    assert list(tf.make_ndarray(value).shape) == ([3] if name == "valid" else [3, len(LABELS)])


def test_scores_come_best_first(prediction):
    scores = tf.make_ndarray(prediction.Predict(request(image_bytes=photos()), timeout=30).outputs["scores"])
    assert (np.diff(scores) <= 0).all()


def test_an_empty_signature_name_is_the_default(prediction):
    response = prediction.Predict(request("", image_bytes=photos()), timeout=30)
    assert response.model_spec.signature_name == "serving_default"


@pytest.mark.parametrize("count", [1, 2, 7, 16, 17, 40])
def test_batches_of_any_size_are_answered(prediction, count):
    response = prediction.Predict(request(image_bytes=photos(*[PHOTO] * count)), timeout=60)
    assert len(tf.make_ndarray(response.outputs["scores"])) == count


@pytest.mark.parametrize("signature", ["serving_default", "serving_pixels"])
def test_an_empty_batch_gets_an_empty_answer(prediction, signature):
    empty = {"image": pixels(0)} if signature == "serving_pixels" else {"image_bytes": np.array([], object)}
    if "image_bytes" in empty:
        empty["image_bytes"] = tf.make_tensor_proto([], tf.string, shape=[0])
    response = prediction.Predict(request(signature, **empty), timeout=30)
    assert list(tf.make_ndarray(response.outputs["scores"]).shape) == [0, len(LABELS)]


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_can_be_asked_by_number(prediction, version):
    message = request(image_bytes=photos())
    message.model_spec.version.value = version
    assert prediction.Predict(message, timeout=30).model_spec.version.value == version


@pytest.mark.parametrize(("label", "version"), [("stable", 1), ("canary", 2)])
def test_a_version_can_be_asked_by_label(prediction, label, version):
    message = request(image_bytes=photos())
    message.model_spec.version_label = label
    assert prediction.Predict(message, timeout=30).model_spec.version.value == version


@pytest.mark.parametrize("wanted", [["scores"], ["valid", "labels"], ["thresholds", "is_present", "scores"]])
def test_an_output_filter_leaves_the_others_out(prediction, wanted):
    message = request(image_bytes=photos())
    message.output_filter.extend(wanted)
    assert set(prediction.Predict(message, timeout=30).outputs) == set(wanted)


def test_a_tensor_may_be_sent_as_raw_content(prediction):
    tensor = tf.make_tensor_proto(pixels())
    assert tensor.tensor_content
    one = prediction.Predict(request("serving_pixels", image=tensor), timeout=30)
    repeated = predict_pb2.PredictRequest.FromString(request("serving_pixels", image=tensor).SerializeToString())
    repeated.inputs["image"].ClearField("tensor_content")
    repeated.inputs["image"].int_val.append(0)  # one value that stands for all
    other = prediction.Predict(repeated, timeout=30)
    np.testing.assert_array_equal(*(tf.make_ndarray(answer.outputs["scores"]) for answer in (one, other)))


# Predict: what is refused


@pytest.mark.parametrize("name", ["nobody", "MSRN", "msrn2"])
def test_an_unknown_model_is_not_found(prediction, name):
    assert_fails(prediction.Predict, request(name=name, image_bytes=photos()), Code.NOT_FOUND,
                 "Servable not found for request", name)  # fmt: skip


@pytest.mark.parametrize("version", [0, 3, 99, 2**40])
def test_an_unknown_version_is_not_found(prediction, version):
    message = request(image_bytes=photos())
    message.model_spec.version.value = version
    assert_fails(prediction.Predict, message, Code.NOT_FOUND, f"Specific(msrn, {version})")


@pytest.mark.parametrize("label", ["nightly", "Stable", "1"])
def test_an_unknown_version_label_is_invalid(prediction, label):
    message = request(image_bytes=photos())
    message.model_spec.version_label = label
    assert_fails(prediction.Predict, message, Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}")


def test_a_request_without_a_model_is_invalid(prediction):
    assert_fails(prediction.Predict, predict_pb2.PredictRequest(), Code.INVALID_ARGUMENT, "Missing ModelSpec")
    assert_fails(prediction.Predict, request(name="", image_bytes=photos()), Code.INVALID_ARGUMENT, "no name")


@pytest.mark.parametrize("signature", ["predict", "Serving_default", "__saved_model_init_op"])
def test_an_unknown_signature_is_a_failed_precondition(prediction, signature):
    assert_fails(prediction.Predict, request(signature, image_bytes=photos()), Code.FAILED_PRECONDITION,
                 f'Serving signature key "{signature}" not found.')  # fmt: skip


def test_a_wrong_input_name_is_named_with_those_that_are_known(prediction):
    assert_fails(prediction.Predict, request(images=photos()), Code.INVALID_ARGUMENT,
                 "input tensor alias not found in signature: images", "image_bytes")  # fmt: skip


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, ["0!=1", "Missing but required: {image_bytes}"]),
        ({"image_bytes": photos(), "more": photos()}, ["2!=1", "Sent extra: {more}"]),
    ],
)
def test_a_wrong_number_of_inputs_is_told(prediction, inputs, words):
    assert_fails(prediction.Predict, request(**inputs), Code.INVALID_ARGUMENT,
                 "input size does not match signature", *words)  # fmt: skip


@pytest.mark.parametrize("value", [np.zeros(2, np.float32), np.zeros(2, np.int64), np.zeros(2, bool)], ids=str)
def test_a_wrong_dtype_is_told(prediction, value):
    found = {"float32": "float", "int64": "int64", "bool": "bool"}[value.dtype.name]
    assert_fails(prediction.Predict, request(image_bytes=value), Code.INVALID_ARGUMENT,
                 f"to be string but {found} is provided")  # fmt: skip


def test_float_pixels_are_a_wrong_dtype(prediction):
    assert_fails(prediction.Predict, request("serving_pixels", image=pixels().astype(np.float32)),
                 Code.INVALID_ARGUMENT, "to be uint8 but float is provided")  # fmt: skip


@pytest.mark.parametrize("shape", [(SIZE, SIZE, 3), (1, SIZE, SIZE, 4), (1, SIZE + 1, SIZE, 3), (1, SIZE, SIZE), (5,)])
def test_pixels_of_another_shape_are_invalid(prediction, shape):
    assert_fails(prediction.Predict, request("serving_pixels", image=np.zeros(shape, np.uint8)), Code.INVALID_ARGUMENT)


@pytest.mark.parametrize("value", [np.array(PHOTO, object), np.array([[PHOTO]], object)], ids=["scalar", "matrix"])
def test_photos_of_another_shape_are_invalid(prediction, value):
    assert_fails(prediction.Predict, request(image_bytes=value), Code.INVALID_ARGUMENT)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["score"], "output tensor alias not found in signature: score"),
        (["scores", "scores"], "duplicate output tensor alias: scores"),
    ],
)
def test_a_wrong_output_filter_is_told(prediction, names, words):
    message = request(image_bytes=photos())
    message.output_filter.extend(names)
    assert_fails(prediction.Predict, message, Code.INVALID_ARGUMENT, words)


@pytest.mark.parametrize("sizes", [[10**6, 10**6, 10**6, 3], [-1, SIZE, SIZE, 3], [2, SIZE, SIZE, 3]])
def test_a_tensor_whose_size_is_a_lie_is_invalid(prediction, sizes):
    message = request("serving_pixels", image=pixels())
    shape = message.inputs["image"].tensor_shape
    for dimension, size in zip(shape.dim, sizes, strict=True):
        dimension.size = size
    assert_fails(prediction.Predict, message, Code.INVALID_ARGUMENT)


# Classify


def test_classify_names_every_label_best_first(prediction):
    response = prediction.Classify(classification_request("msrn", [PHOTO, READABLE["png"]]), timeout=30)
    assert len(response.result.classifications) == 2
    for classification in response.result.classifications:
        assert {entry.label for entry in classification.classes} == set(LABELS)
        scores = [entry.score for entry in classification.classes]
        assert scores == sorted(scores, reverse=True)
    assert response.model_spec.signature_name == "classify"


def test_classify_gives_the_scores_of_predict(prediction):
    classes = prediction.Classify(classification_request("msrn", [PHOTO]), timeout=30).result.classifications[0].classes
    scores = tf.make_ndarray(prediction.Predict(request(image_bytes=photos()), timeout=30).outputs["scores"])[0]
    np.testing.assert_allclose([entry.score for entry in classes], scores, atol=1e-6)


def test_classify_without_examples_is_invalid(prediction):
    message = classification_pb2.ClassificationRequest()
    message.model_spec.name, message.model_spec.signature_name = "msrn", "classify"
    assert_fails(prediction.Classify, message, Code.INVALID_ARGUMENT, "Input is empty")


def test_classify_without_a_model_is_invalid(prediction):
    message = classification_pb2.ClassificationRequest()
    message.input.example_list.examples.append(example_of(PHOTO))
    assert_fails(prediction.Classify, message, Code.INVALID_ARGUMENT, "Missing ModelSpec")


def test_classify_of_an_unknown_model_is_not_found(prediction):
    assert_fails(prediction.Classify, classification_request("nobody", [PHOTO]), Code.NOT_FOUND, "nobody")


@pytest.mark.parametrize("method", ["Regress", "MultiInference"])
def test_what_the_model_cannot_do_is_refused(prediction, method):
    if method == "Regress":
        message = regression_pb2.RegressionRequest()
        message.model_spec.name, message.model_spec.signature_name = "msrn", "classify"
        message.input.example_list.examples.append(example_of(PHOTO))
    else:
        message = inference_pb2.MultiInferenceRequest()
        message.input.example_list.examples.append(example_of(PHOTO))
    with pytest.raises(grpc.RpcError) as failure:
        getattr(prediction, method)(message, timeout=30)
    assert failure.value.code() in (Code.UNIMPLEMENTED, Code.INVALID_ARGUMENT)
    assert len(failure.value.details()) > 20


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        ("nothing", "No signature was found with the name: nothing"),
        ("", "Expected classification signature method_name to be tensorflow/serving/classify"),
        ("explain", "Expected classification signature method_name to be tensorflow/serving/classify"),
    ],
)
def test_classify_with_a_signature_that_does_not_classify_is_invalid(prediction, signature, words):
    message = classification_request("msrn", [PHOTO])
    message.model_spec.signature_name = signature
    assert_fails(prediction.Classify, message, Code.INVALID_ARGUMENT, words)


def test_the_context_of_a_list_of_examples_goes_to_each(prediction):
    message = classification_pb2.ClassificationRequest()
    message.model_spec.name, message.model_spec.signature_name = "msrn", "classify"
    message.input.example_list_with_context.context.CopyFrom(example_of(PHOTO))
    for _ in range(2):
        message.input.example_list_with_context.examples.add()
    found = prediction.Classify(message, timeout=30).result
    expected = prediction.Classify(classification_request("msrn", [PHOTO, PHOTO]), timeout=30).result
    for one, other in zip(found.classifications, expected.classifications, strict=True):
        assert [entry.label for entry in one.classes] == [entry.label for entry in other.classes]
        np.testing.assert_allclose([e.score for e in one.classes], [e.score for e in other.classes], atol=1e-6)


# GetModelMetadata


def metadata_request(name="msrn", fields=("signature_def",), version=None):
    message = get_model_metadata_pb2.GetModelMetadataRequest()
    message.model_spec.name = name
    if version is not None:
        message.model_spec.version.value = version
    message.metadata_field.extend(fields)
    return message


def test_metadata_have_the_signatures(prediction):
    response = prediction.GetModelMetadata(metadata_request(), timeout=30)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    found = signatures.signature_def
    assert set(OUTPUTS) | {"classify"} <= set(found)
    info = found["serving_default"].inputs["image_bytes"]
    assert info.dtype == types_pb2.DT_STRING and [dimension.size for dimension in info.tensor_shape.dim] == [-1]
    assert set(found["explain"].outputs) == OUTPUTS["explain"]
    assert found["classify"].method_name == "tensorflow/serving/classify"
    assert response.model_spec.version.value == 2


def test_metadata_of_a_version(prediction):
    assert prediction.GetModelMetadata(metadata_request(version=1), timeout=30).model_spec.version.value == 1


def test_metadata_without_a_field_are_invalid(prediction):
    assert_fails(prediction.GetModelMetadata, metadata_request(fields=()), Code.INVALID_ARGUMENT,
                 "must specify at least one metadata_field")  # fmt: skip


def test_unknown_metadata_are_invalid(prediction):
    # TF-Serving's own sentence has a place for the field that it does not fill ("%s").
    assert_fails(prediction.GetModelMetadata, metadata_request(fields=["graph"]), Code.INVALID_ARGUMENT,
                 "Metadata field", "is not supported", "graph")  # fmt: skip


def test_metadata_without_a_model_are_invalid(prediction):
    message = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    assert_fails(prediction.GetModelMetadata, message, Code.INVALID_ARGUMENT, "Missing ModelSpec")


@pytest.mark.parametrize(("name", "version"), [("nobody", None), ("msrn", 77)])
def test_metadata_of_what_is_not_there_are_not_found(prediction, name, version):
    assert_fails(prediction.GetModelMetadata, metadata_request(name, version=version), Code.NOT_FOUND)


# GetModelStatus and HandleReloadConfigRequest


def status_request(name="msrn", version=None):
    message = get_model_status_pb2.GetModelStatusRequest()
    message.model_spec.name = name
    if version is not None:
        message.model_spec.version.value = version
    return message


AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE


def test_status_lists_every_version(model_service):
    versions = model_service.GetModelStatus(status_request(), timeout=30).model_version_status
    assert {status.version: status.state for status in versions} == {1: AVAILABLE, 2: AVAILABLE}
    assert all(status.status.error_code == 0 for status in versions)


def test_status_of_one_version(model_service):
    versions = model_service.GetModelStatus(status_request(version=1), timeout=30).model_version_status
    assert [status.version for status in versions] == [1]


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [("nobody", None, "Could not find any versions of model nobody"), ("msrn", 9, "Could not find version 9 of model")],
)
def test_status_of_what_is_not_there_is_not_found(model_service, name, version, words):
    assert_fails(model_service.GetModelStatus, status_request(name, version), Code.NOT_FOUND, words)


def test_status_of_a_label_is_that_of_every_version(model_service):
    message = status_request()
    message.model_spec.version_label = "stable"
    assert len(model_service.GetModelStatus(message, timeout=30).model_version_status) == 2


def test_status_of_no_name_is_not_found(model_service):
    assert_fails(model_service.GetModelStatus, status_request(""), Code.NOT_FOUND, "Could not find any versions")


def test_status_without_a_model_is_invalid(model_service):
    assert_fails(model_service.GetModelStatus, get_model_status_pb2.GetModelStatusRequest(), Code.INVALID_ARGUMENT)


def test_a_model_listed_twice_is_refused_and_nothing_changes(model_service):
    message = model_management_pb2.ReloadConfigRequest()
    for _ in range(2):
        message.config.model_config_list.config.add(name="msrn", base_path="/nowhere", model_platform="tensorflow")
    assert_fails(model_service.HandleReloadConfigRequest, message, Code.INVALID_ARGUMENT, "msrn multiple times")
    test_status_lists_every_version(model_service)


def test_a_configuration_that_lists_nothing_known_is_refused(model_service):
    assert_fails(model_service.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest(),
                 Code.INVALID_ARGUMENT, "Only ModelConfigList is currently supported")  # fmt: skip


# REST: the same model, and TF-Serving's page on its REST API


def instances(*photos):
    return {"instances": [{"b64": base64.b64encode(photo).decode()} for photo in photos]}


def post(rest, document, verb="predict", which="", name="msrn", **options):
    data = document if isinstance(document, bytes) else json.dumps(document)
    answer = requests.post(f"{rest}/v1/models/{name}{which}:{verb}", data=data, timeout=60, **options)
    assert answer.headers["Content-Type"] == "application/json"
    return answer.status_code, answer.json()


def assert_refuses(answer, status, *words):
    assert answer[0] == status and list(answer[1]) == ["error"], answer
    for word in words:
        assert word in answer[1]["error"]


def by_grpc(prediction, signature, **inputs):
    response = prediction.Predict(request(signature, **inputs), timeout=60)
    return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}


def as_array(values):
    array = np.array(values)
    return np.char.encode(array, "utf-8").astype(object) if array.dtype.kind == "U" else array


@pytest.mark.parametrize("signature", [name for name in OUTPUTS if name != "serving_pixels"])
@pytest.mark.parametrize("form", ["rows", "columns"])
def test_rest_gives_what_grpc_gives(rest, prediction, signature, form):
    items = [PHOTO, READABLE["png"], b"no photo"]
    document = {"signature_name": signature} | instances(*items)
    if form == "columns":
        document["inputs"] = {"image_bytes": document.pop("instances")}
    status, answer = post(rest, document)
    assert status == 200
    expected = by_grpc(prediction, signature, image_bytes=photos(*items))
    if form == "rows":
        answer = {name: [row[name] for row in answer["predictions"]] for name in expected}
    else:
        answer = answer["outputs"]
    assert set(answer) == OUTPUTS[signature]
    for name, values in expected.items():
        found = as_array(answer[name])
        if values.dtype.kind == "f":
            np.testing.assert_allclose(found, values, atol=1e-6)
        else:
            np.testing.assert_array_equal(found, values)


def test_rest_takes_pixels_as_numbers(rest, prediction):
    image = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), "uint8")
    status, answer = post(rest, {"signature_name": "serving_pixels", "instances": image.tolist()})
    expected = by_grpc(prediction, "serving_pixels", image=image)
    assert status == 200
    np.testing.assert_allclose([row["scores"] for row in answer["predictions"]], expected["scores"], atol=1e-6)


def test_rest_classifies(rest, prediction):
    example = {"image/encoded": {"b64": base64.b64encode(PHOTO).decode()}}
    status, answer = post(rest, {"signature_name": "classify", "examples": [example, example]}, "classify")
    expected = (
        prediction.Classify(classification_request("msrn", [PHOTO]), timeout=30).result.classifications[0].classes
    )
    assert status == 200 and len(answer["results"]) == 2
    for result in answer["results"]:
        assert [label for label, _ in result] == [entry.label for entry in expected]
        np.testing.assert_allclose([score for _, score in result], [entry.score for entry in expected], atol=1e-6)


@pytest.mark.parametrize(
    ("which", "version"), [("", 2), ("/versions/1", 1), ("/labels/stable", 1), ("/labels/canary", 2)]
)
def test_rest_asks_a_version_by_number_or_label(rest, which, version):
    metadata = requests.get(f"{rest}/v1/models/msrn{which}/metadata", timeout=30).json()
    assert metadata["model_spec"] == {"name": "msrn", "signature_name": "", "version": str(version)}
    assert post(rest, instances(PHOTO), which=which)[0] == 200


def test_rest_tells_the_signatures(rest):
    found = requests.get(f"{rest}/v1/models/msrn/metadata", timeout=30).json()["metadata"]["signature_def"]
    default = found["signature_def"]["serving_default"]
    assert default["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert default["inputs"]["image_bytes"]["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]
    assert set(default["outputs"]) == OUTPUTS["serving_default"]
    assert found["signature_def"]["classify"]["method_name"] == "tensorflow/serving/classify"


@pytest.mark.parametrize(
    ("which", "versions"), [("", ["2", "1"]), ("/versions/1", ["1"]), ("/labels/stable", ["2", "1"])]
)
def test_rest_tells_the_state_of_versions(rest, which, versions):
    answer = requests.get(f"{rest}/v1/models/msrn{which}", timeout=30)
    ok = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert answer.status_code == 200
    assert answer.json() == {"model_version_status": [{"version": version} | ok for version in versions]}


def test_rest_zips_long_answers_for_those_who_take_it_and_reads_zipped_requests(rest):
    document = {"signature_name": "explain"} | instances(*[PHOTO] * 8)
    headers = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    url = f"{rest}/v1/models/msrn:predict"
    answer = requests.post(url, data=gzip.compress(json.dumps(document).encode()), headers=headers, timeout=60)
    assert answer.status_code == 200 and answer.headers["Content-Encoding"] == "gzip"
    plain = requests.post(url, json=document, headers={"Accept-Encoding": "identity"}, timeout=60)
    assert "Content-Encoding" not in plain.headers
    for one, other in zip(answer.json()["predictions"], plain.json()["predictions"], strict=True):
        np.testing.assert_allclose(one["attention"], other["attention"], atol=1e-5)


@pytest.mark.parametrize(
    ("where", "status", "words"),
    [
        ({"name": "nobody"}, 404, "Servable not found for request: Latest(nobody)"),
        ({"which": "/versions/99"}, 404, "Servable not found for request: Specific(msrn, 99)"),
        ({"which": "/versions/99999999999999999999"}, 400, "Failed to convert version: 99999999999999999999"),
        ({"which": "/labels/nightly"}, 400, "Unrecognized servable version label: nightly"),
        ({"which": "/versions/x"}, 400, "Malformed request: POST /v1/models/msrn/versions/x:predict"),
        ({"verb": "guess"}, 400, "Malformed request: POST /v1/models/msrn:guess"),
        ({"name": "msrn/1"}, 400, "Malformed request"),
    ],
)  # fmt: skip
def test_rest_refuses_what_is_not_there(rest, where, status, words):
    assert_refuses(post(rest, instances(PHOTO), **where), status, words)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "JSON Parse error"),
        (b"nonsense", "JSON Parse error"),
        ([1], "Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": []}, "instances"),
        ({"instances": [{"b64": "?"}]}, "Unable to base64 decode"),
        ({"instances": [1]}, "not of expected type: string"),
        ({"instances": [{"images": "x"}]}, "keys must be equal to: image_bytes"),
        ({"inputs": {"images": ["x"]}}, "Missing named input: image_bytes"),
        ({"signature_name": "nothing", "instances": ["x"]}, 'Serving signature name: "nothing" not found'),
        ({"signature_name": 1, "instances": ["x"]}, "'signature_name' key must be a string value"),
        ({"signature_name": "serving_pixels", "instances": ["x"]}, "uint8"),
    ],
    ids=str,
)  # fmt: skip
def test_rest_refuses_what_is_no_request(rest, document, words):
    assert_refuses(post(rest, document), 400, words)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"signature_name": "classify"}, "examples"),
        ({"signature_name": "classify", "examples": [1]}, "Example must be JSON object"),
        ({"signature_name": "nothing", "examples": [{}]}, "No signature was found with the name: nothing"),
        ({"examples": [{}]}, "Expected classification signature method_name"),
    ],
)
def test_rest_refuses_what_is_no_classification(rest, document, words):
    assert_refuses(post(rest, document, "classify"), 400, words)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/msrn:predict", 400), ("POST", "/v1/models/msrn", 400), ("GET", "/v1/models/nobody", 404),
        ("GET", "/v1/models/msrn/versions/9", 404), ("GET", "/v1/models/nobody/metadata", 404),
        ("GET", "/v1/models/msrn/metadata/x", 400), ("DELETE", "/v1/models/msrn", 400),
    ],
)  # fmt: skip
def test_rest_refuses_other_paths_and_methods(rest, method, path, status):
    answer = requests.request(method, rest + path, timeout=30)
    assert answer.status_code == status and answer.json()["error"]
