"""Clients that ask for too much, that do not finish what they began, or that name what is not theirs."""

import asyncio
import contextlib
import gzip
import io
import json
import logging
import socket
import threading

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving import free_port, running_server, write_doubles
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    input_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from export.serving import grpc_services
from export.serving.admission import Admission, Arrivals
from export.serving.limits import RequestLimits
from export.serving.log import JsonLines
from export.serving.requests import example_bytes
from export.serving.serve_config import ServeConfig
from export.serving.server import Server
from export.serving.serving_error import ServingError
from export.serving.tensors import array_of, tensor_of
from export.serving.versions import version_folders
from export.serving.warm_up import predict_request

LIMITS = RequestLimits(max_rows=64, max_bytes=1 << 20)
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


# Tensors


@pytest.mark.parametrize(
    ("dtype", "field"),
    [
        ("float32", "float_val"), ("float64", "double_val"), ("int32", "int_val"), ("uint8", "int_val"),
        ("int64", "int64_val"), ("uint32", "uint32_val"), ("uint64", "uint64_val"), ("bool", "bool_val"),
    ],
)  # fmt: skip
def test_answers_hold_their_values_in_the_field_of_their_type(dtype, field):
    array = np.array([[0, 1, 200], [3, 0, 5]]).astype(dtype)
    proto = tensor_of(array)
    assert not proto.tensor_content
    assert np.array(getattr(proto, field), dtype).tolist() == array.ravel().tolist()
    assert proto.dtype == tf.dtypes.as_dtype(dtype).as_datatype_enum
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)


def test_texts_scalars_halves_and_empty_answers_survive():
    for array in (np.array([[b"a", b"\xff"]], object), np.float32(2.5), np.zeros((0, 3), np.float32),
                  np.array([1.5, -2], np.float16), np.arange(70_000, dtype=np.float32)):  # fmt: skip
        np.testing.assert_array_equal(tf.make_ndarray(tensor_of(np.asarray(array))), array)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64", "bool", "float16", "complex64"])
@pytest.mark.parametrize("one_value", [False, True])
def test_requests_are_read_as_tensorflow_reads_them(dtype, one_value):
    proto = tf.make_tensor_proto(np.ones((4, 3), dtype) if one_value else np.arange(12).reshape(4, 3).astype(dtype))
    np.testing.assert_array_equal(array_of("x", proto, LIMITS), tf.make_ndarray(proto))
    typed = tensor_of(tf.make_ndarray(proto))
    np.testing.assert_array_equal(array_of("x", typed, LIMITS), tf.make_ndarray(proto))


def tensor(dtype, sizes, **values):
    proto = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("proto", "words"),
    [
        (tensor(types_pb2.DT_STRING, [20_000], string_val=[b"x" * 2900]), "Task size 20000 is larger than maximum"),
        (tensor(types_pb2.DT_STRING, [1 << 62], string_val=[b""]), "Task size"),
        (tensor(types_pb2.DT_STRING, [64], string_val=[b"x" * 60_000]), "stands for 3840512 bytes"),
        (tensor(types_pb2.DT_UINT8, [1, 1 << 40], int_val=[0]), "stands for 1099511627776 bytes"),
        (tensor(types_pb2.DT_FLOAT, [1, 1 << 18], float_val=[0]), None),
        (tensor(types_pb2.DT_FLOAT, [1, (1 << 18) + 1], float_val=[0]), "stands for 1048580 bytes"),
        (tensor(types_pb2.DT_COMPLEX64, [1, 1 << 30], scomplex_val=[0, 0]), "stands for"),
        (tensor(types_pb2.DT_FLOAT, [2], float_val=[0, 0, 0]), "tensor parsing error"),
        (tensor(types_pb2.DT_STRING, [1], string_val=[b"", b""]), "tensor parsing error"),
        (tensor(types_pb2.DT_FLOAT, [2], tensor_content=b"\0" * 12), "tensor parsing error"),
        (tensor(types_pb2.DT_FLOAT, [-1], float_val=[0]), "tensor parsing error"),
        (tensor(types_pb2.DT_UINT8, [1], int_val=[256]), "tensor parsing error"),
        (tensor(types_pb2.DT_RESOURCE, [1]), "tensor parsing error"),
        (tensor(99, [1]), "tensor parsing error"),
    ],
)  # fmt: skip
def test_what_a_tensor_stands_for_is_checked_before_it_is_made(proto, words):
    if words is None:
        assert array_of("x", proto, LIMITS).nbytes == 1 << 20
        return
    with pytest.raises(ServingError, match=words) as failure:
        array_of("x", proto, LIMITS)
    assert failure.value.code is grpc.StatusCode.INVALID_ARGUMENT


# The door


def test_the_oldest_gives_up_its_place_when_there_are_too_many():
    gone = []
    arrivals = Arrivals(2)
    first, second = (arrivals.enter(lambda name=name: gone.append(name)) for name in "ab")
    arrivals.leave(first)
    arrivals.enter(lambda: gone.append("c"))
    assert gone == []
    arrivals.enter(lambda: gone.append("d"))
    assert gone == ["b"]
    arrivals.leave(second)  # it is gone already


def test_requests_hold_no_more_together_than_is_allowed():
    admission = Admission(100)
    admission.hold(60)
    with pytest.raises(ServingError) as failure:
        admission.hold(50)
    assert failure.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    admission.let_go(60)
    with admission.holding(100):
        pass
    with admission.holding(100):
        pass


def test_closing_waits_for_requests_inside_as_long_as_it_may():
    async def go():
        admission = Admission(1)
        with admission.request():
            assert await admission.close(0.01) == 1
            with pytest.raises(ServingError, match="ending"), admission.request():
                pass
        assert await admission.close(0.01) == 0

    asyncio.run(go())


# Over the wire


@pytest.fixture(scope="module")
def doubles(tmp_path_factory):
    base = tmp_path_factory.mktemp("limits") / "msrn"
    base.mkdir()
    write_doubles(str(base), 1)
    return base


@pytest.fixture(scope="module")
def server(doubles):
    """(server, gRPC address, REST address, metrics port)"""
    rest_port, metrics_port = free_port(), free_port()
    with running_server(doubles, rest_port=rest_port, metrics_port=metrics_port, max_message_mb=4) as (server, address):
        yield server, address, f"http://127.0.0.1:{rest_port}", metrics_port


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server[1], OWN_CONNECTION) as channel:
        yield channel


def double(channel, *values, **options):
    predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
    request = predict_request("msrn", "", {"x": np.array(values, np.float32)})
    return list(predict(request, **options).outputs["y"].float_val)


def double_by_rest(rest, *values, **options):
    return requests.post(f"{rest}/v1/models/msrn:predict", json={"instances": values}, **options)


@pytest.mark.parametrize("seconds", [None, 30, 1e9])
def test_any_deadline_and_none_will_do(channel, seconds):
    assert double(channel, 3.0, 4.0, **({} if seconds is None else {"timeout": seconds})) == [6.0, 8.0]


def test_rows_of_a_request_are_limited_on_both_ports(server, channel):
    assert double(channel, *range(64)) == [2.0 * i for i in range(64)]
    with pytest.raises(grpc.RpcError, match="Task size 65 is larger than maximum input batch size 64"):
        double(channel, *range(65))
    assert double_by_rest(server[2], *range(64)).json() == {"predictions": [2.0 * i for i in range(64)]}
    refused = double_by_rest(server[2], *range(65))
    assert (refused.status_code, refused.json()["error"]) == (
        400, "Task size 65 is larger than maximum input batch size 64",
    )  # fmt: skip
    columns = requests.post(f"{server[2]}/v1/models/msrn:predict", json={"inputs": [*range(65)]})
    assert columns.status_code == 400 and "Task size 65" in columns.json()["error"]


def test_long_names_come_back_clipped(server, channel):
    name = "n" * 20_000
    with pytest.raises(grpc.RpcError) as failure:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(predict_request(name, "", {}))
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND and 100 < len(failure.value.details()) <= 400
    for path in (f"/v1/models/{'n' * 9000}:predict", f"/v1/models/{'n' * 9000}", f"/v1/{'n' * 9000}"):
        answer = requests.post(server[2] + path, data="{}") if ":" in path else requests.get(server[2] + path)
        assert answer.status_code in (400, 404) and len(answer.json()["error"]) <= 400


def test_a_log_line_holds_a_part_of_a_long_name():
    record = logging.makeLogRecord({"msg": "request", "model": "n" * 20_000, "ms": 1.5})
    line = json.loads(JsonLines().format(record))
    assert len(line["model"]) == 200 and line["ms"] == 1.5


def raw_http(port, content, and_nothing_more=False):
    """What a server answers to bytes, until it closes the connection."""
    answer = io.BytesIO()
    with socket.create_connection(("127.0.0.1", port), 60) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(content)
        if and_nothing_more:
            connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(1 << 16):
            answer.write(part)
    return answer.getvalue()


def test_a_body_that_is_too_long_is_refused_by_its_head_by_its_parts_and_unzipped(server):
    url = f"{server[2]}/v1/models/msrn:predict"
    body = json.dumps({"instances": [1.0], "signature_name": "s" * (5 << 20)}).encode()
    parts = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    for data in (body, parts):
        with contextlib.suppress(requests.RequestException):  # where it is still being sent when the connection ends
            answer = requests.post(url, data=data)
            assert answer.status_code == 413 and "longer than 4194304 bytes" in answer.json()["error"]
    port = int(server[2].rpartition(":")[2])
    head = b"POST /v1/models/msrn:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 4194305\r\n\r\n"
    assert b" 413 " in raw_http(port, head) and b"longer than 4194304 bytes" in raw_http(port, head)
    bomb = gzip.compress(b" " * (200 << 20))
    answer = requests.post(url, data=bomb, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 400 and "when it is unzipped" in answer.json()["error"]
    small = gzip.compress(b'{"instances": [1.5]}')
    assert requests.post(url, data=small, headers={"Content-Encoding": "gzip"}).json() == {"predictions": [3.0]}
    for broken in (small[:-4], b"no gzip", small[:12]):
        assert requests.post(url, data=broken, headers={"Content-Encoding": "gzip"}).status_code == 400
    assert requests.post(url, data=b"x", headers={"Content-Encoding": "br"}).status_code == 400


def test_a_body_of_brackets_is_counted_before_it_is_parsed(server):
    answer = requests.post(f"{server[2]}/v1/models/msrn:predict", data=b"[" * (4 << 20))
    assert answer.status_code == 400
    deep = requests.post(f"{server[2]}/v1/models/msrn:predict", data=b'{"instances": ' + b"[" * 100_000)
    assert deep.status_code == 400 and "nested too deeply" in deep.json()["error"]


def half_open(address, count, method="/tensorflow.serving.PredictionService/Predict"):
    """Calls that are opened and send nothing; `(channel, calls, end)`."""
    ending = threading.Event()

    def nothing():
        ending.wait()
        yield from ()

    channel = grpc.insecure_channel(address, OWN_CONNECTION)
    call = channel.stream_unary(method)
    return channel, [call.future(nothing()) for _ in range(count)], ending.set


@contextlib.contextmanager
def half_sent(port, count):
    """Connections that have sent nothing, half a head, and half a body, in turns."""
    head = b"POST /v1/models/msrn:predict HTTP/1.1\r\nHost: x\r\n"
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]
        for index, connection in enumerate(sockets):
            connection.sendall((b"", head, head + b"Content-Length: 1000\r\n\r\n{")[index % 3])
        yield sockets


def assert_everything_is_answered(address, rest):
    with grpc.insecure_channel(address, OWN_CONNECTION) as channel:
        assert double(channel, 1.0, timeout=60) == [2.0]
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60).status
        assert status == health_pb2.HealthCheckResponse.SERVING
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "msrn"
        assert model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=60).model_version_status
    assert double_by_rest(rest, 1.0, timeout=60).json() == {"predictions": [2.0]}
    assert requests.get(f"{rest}/v1/models/msrn", timeout=60).json()["model_version_status"][0]["state"] == "AVAILABLE"


def test_clients_that_do_not_finish_shut_nobody_out_and_do_not_keep_the_server_from_ending(doubles):
    rest_port = free_port()
    options = {"rest_port": rest_port, "drain_seconds": 10_000, "arrival_seconds": 10_000}
    with running_server(doubles, **options) as (_, address):  # its end waits for accepted requests alone
        channel, calls, end = half_open(address, 300)
        health, checks, end_checks = half_open(address, 100, "/grpc.health.v1.Health/Check")
        with half_sent(rest_port, 700):  # more than may wait at once
            assert_everything_is_answered(address, f"http://127.0.0.1:{rest_port}")
            assert not any(call.done() for call in calls + checks)
    for call in calls:
        assert call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    end()
    end_checks()
    channel.close()
    health.close()


def test_the_end_says_how_many_accepted_requests_it_left_unanswered(tmp_path):
    write_doubles(str(tmp_path), 1, work=100_000)
    server = Server(
        ServeConfig(model_base_path=str(tmp_path), model_name="msrn", port=0, rest_port=0, drain_seconds=0.1)
    )
    address = f"localhost:{server.start()}"
    with grpc.insecure_channel(address, OWN_CONNECTION) as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        message = predict_request("msrn", "", {"x": np.array([1], np.float32)}).SerializeToString()
        call = predict.future(message)
        while not server.metrics.registry.get_sample_value("msrn_batch_size_count"):
            assert not call.done()
        assert server.stop() == 1 and server.is_at_work
        assert call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def test_the_oldest_unfinished_calls_make_room(doubles, monkeypatch):
    monkeypatch.setattr(grpc_services, "MOST_UNFINISHED", 5)
    with running_server(doubles) as (_, address):
        channel, calls, end = half_open(address, 8)
        codes = [call.code() for call in calls[:3]]  # each waits until the call has ended
        assert codes == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 3
        with grpc.insecure_channel(address, OWN_CONNECTION) as other:
            assert double(other, 1.0, timeout=60) == [2.0]
        assert sum(call.done() for call in calls) == 4  # one more for the call that was answered
        end()
        channel.close()


def test_what_does_not_arrive_in_time_is_given_up(doubles):
    rest_port = free_port()
    with running_server(doubles, rest_port=rest_port, arrival_seconds=0.3) as (_, address):
        channel, calls, end = half_open(address, 3)
        with half_sent(rest_port, 3) as sockets:
            for call in calls:
                assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED and "did not arrive" in call.details()
            for connection in sockets:
                connection.settimeout(60)
                assert connection.recv(1) == b""  # closed
            assert_everything_is_answered(address, f"http://127.0.0.1:{rest_port}")
        end()
        channel.close()


def test_a_call_that_ends_without_a_request_is_invalid(channel):
    with pytest.raises(grpc.RpcError) as failure:
        channel.stream_unary("/tensorflow.serving.PredictionService/Predict")(iter(()))
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_every_port_keeps_to_the_host(server):
    _, address, rest, metrics_port = server
    for port in (int(address.rpartition(":")[2]), int(rest.rpartition(":")[2]), metrics_port):
        socket.create_connection(("127.0.0.1", port)).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port))
    for page in (f"http://127.0.0.1:{metrics_port}/metrics", f"{rest}/monitoring/prometheus/metrics"):
        assert "msrn_batch_size_count" in requests.get(page).text


def test_what_a_request_expands_to_is_held_until_it_is_answered(doubles):
    rest_port = free_port()
    options = {"rest_port": rest_port, "max_message_mb": 8, "max_held_mb": 8, "max_request_rows": 1 << 20}
    url = f"http://127.0.0.1:{rest_port}/v1/models/msrn:predict"
    with running_server(doubles, **options) as (_, address):

        def by_rest(megabytes):
            body = gzip.compress(b'{"instances": [1.5]}' + b" " * (megabytes << 20))
            return requests.post(url, data=body, headers={"Content-Encoding": "gzip"})

        def by_grpc(channel, megabytes):
            request = predict_request("msrn", "", {})
            request.inputs["x"].CopyFrom(tensor(types_pb2.DT_FLOAT, [megabytes << 18], float_val=[1.5]))
            y = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request).outputs["y"].float_val
            return len(y), y[-1]

        with grpc.insecure_channel(address, OWN_CONNECTION) as channel:
            for _ in range(2):  # what was held is let go
                assert by_rest(2).json() == {"predictions": [3.0]}
                assert by_grpc(channel, 2) == (2 << 18, 3.0)
                answer = by_rest(3)
                assert answer.status_code == 400 and "holds 9 MB, more than all may together" in answer.json()["error"]
                lists = requests.post(url, data=b'{"instances": [' + b"[]," * 80_000 + b"[]]}")
                assert lists.status_code == 400 and "holds 10 MB, more than all may together" in lists.json()["error"]
                with pytest.raises(grpc.RpcError, match="holds 8 MB, more than all may together") as failure:
                    by_grpc(channel, 8)
                assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_request_that_never_fits_is_invalid_and_one_that_may_fit_later_is_asked_to_come_again():
    admission = Admission(8 << 20)
    with admission.holding(5 << 20):
        with pytest.raises(ServingError, match="requests of all clients hold 5 MB already; try again") as later:
            admission.hold(4 << 20)
        for size, besides in ((9, 0), (4, 5)):
            with pytest.raises(ServingError, match="holds 9 MB, more than all may together: 8 MB") as never:
                admission.hold(size << 20, besides << 20)
            assert never.value.code is grpc.StatusCode.INVALID_ARGUMENT
        admission.hold(3 << 20, 1 << 20)
    assert later.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_gzip_that_holds_more_than_it_says_is_refused_before_it_is_unzipped_whole(server):
    body = gzip.compress(b'{"instances": [1.5]}' + b" " * 5000)[:-4] + (20).to_bytes(4, "little")
    answer = requests.post(f"{server[2]}/v1/models/msrn:predict", data=body, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 400 and "longer than the 20 bytes that its gzip data says" in answer.json()["error"]


def test_a_context_counts_once_for_each_example():
    context = tf.train.Example()
    context.features.feature["a"].bytes_list.value.append(b"x" * 1000)
    both = input_pb2.ExampleListWithContext(context=context, examples=[tf.train.Example()] * 50)
    given = input_pb2.Input(example_list_with_context=both)
    assert given.ByteSize() + 50_000 <= example_bytes(given) < given.ByteSize() + 60_000
    assert example_bytes(input_pb2.Input(example_list=input_pb2.ExampleList(examples=[context]))) < 1100


# Versions and configurations


def test_folders_that_are_no_versions_are_passed_over(tmp_path):
    too_large = ("99999999999999999999", "9" * 200)
    for name in ("1", "007", "²", "١", *too_large, "9223372036854775807", "-3", "1.5", "x", "1_0", "+4"):
        (tmp_path / name).mkdir()
    (tmp_path / "12").write_text("a file")
    folders = version_folders(str(tmp_path))
    assert list(folders) == [1, 7, 9223372036854775807] and folders[7] == str(tmp_path / "007")
    assert version_folders(str(tmp_path / "nothing")) == {}


def reload_request(*base_paths):
    request = model_management_pb2.ReloadConfigRequest()
    for number, path in enumerate(base_paths):
        request.config.model_config_list.config.add(
            name=f"model{number}" if number else "msrn", base_path=str(path), model_platform="tensorflow"
        )
    request.config.model_config_list.SetInParent()
    return request


def reload_code(channel, request):
    try:
        model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=60)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def test_clients_change_the_configuration_only_in_folders_that_are_named(server, channel, doubles, tmp_path):
    code, details = reload_code(channel, reload_request(doubles))
    assert code is grpc.StatusCode.PERMISSION_DENIED and "takes no configuration" in details
    (tmp_path / "elsewhere").symlink_to("/proc")
    options = {"reload_folder": (str(doubles.parent),), "poll_seconds": 100}
    with running_server(doubles, **options) as (_, address), grpc.insecure_channel(address) as own:
        for path in ("/proc", doubles.parent / ".." / "..", tmp_path / "elsewhere", f"{doubles.parent}-more"):
            assert reload_code(own, reload_request(doubles, path))[0] is grpc.StatusCode.PERMISSION_DENIED
        assert reload_code(own, reload_request("\0"))[0] is grpc.StatusCode.INVALID_ARGUMENT
        code, details = reload_code(own, reload_request())
        assert code is grpc.StatusCode.INVALID_ARGUMENT and "names no model" in details
        assert double(own, 2.0) == [4.0]
        assert reload_code(own, reload_request(doubles))[0] is grpc.StatusCode.OK
        assert double(own, 2.0) == [4.0]


# What is mutated


def mutated(rng, content):
    content = bytearray(content)
    for place in rng.integers(0, len(content), rng.integers(1, 6)):
        content[place] = rng.integers(0, 256)
    return bytes(content[: rng.integers(1, len(content))] if rng.random() < 0.3 else content)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_http_requests_do_no_harm(server, count):
    rng = np.random.default_rng(0)
    port = int(server[2].rpartition(":")[2])
    bodies = [
        b'{"signature_name": "serving_default", "instances": [1.5, 2.5, -3e2]}',
        b'{"inputs": {"x": [0.25, NaN]}}',
        b'{"examples": [{"x": [1.5, {"b64": "aGVsbG8="}]}], "context": {"y": "z"}}',
        gzip.compress(b'{"instances": [{"x": 1}]}'),
    ]
    statuses = set()
    for index in range(count):
        body = bodies[index % 4]
        verb = b"classify" if index % 4 == 2 else b"predict"
        encoding = b"Content-Encoding: gzip\r\n" if index % 4 == 3 else b""
        lines = b"POST /v1/models/msrn/versions/1:%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s" % (verb, encoding)
        if index % 2:  # a whole head: what comes after it is read
            body = mutated(rng, body)
            content = lines + b"Content-Length: %d\r\n\r\n" % len(body) + body
        else:
            content = mutated(rng, lines + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answer = raw_http(port, content, and_nothing_more=index % 2 == 0)
        if answer:  # none to a head that does not end
            assert answer.startswith(b"HTTP/1.1 "), content
            statuses.add(int(answer[9:12]))
        assert index % 2 == 0 or answer
    assert statuses <= {100, 200, 400, 404, 405, 413, 415, 417, 501, 505}, statuses
    assert {200, 400} <= statuses
    assert_everything_is_answered(server[1], server[2])


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_messages_do_no_harm(server, channel, count):
    rng = np.random.default_rng(0)
    whole = predict_request("msrn", "serving_default", {"x": np.array([1, 2, 3], np.float32)}).SerializeToString()
    raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    codes = set()
    for _ in range(count):
        try:
            predict_pb2.PredictResponse.FromString(raw(mutated(rng, whole), timeout=60))
        except grpc.RpcError as error:
            codes.add(error.code())
            if error.code() is grpc.StatusCode.INTERNAL:
                assert "deserialize" in error.details()
    Code = grpc.StatusCode
    assert codes <= {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.INTERNAL}
    assert_everything_is_answered(server[1], server[2])
