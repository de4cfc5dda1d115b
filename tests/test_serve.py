"""The embedded server and its client: load, reloads, ends, untrusted bytes, TLS, metrics."""

import concurrent.futures
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from processes import Running
from running import assert_refused, command
from serving import LABELS, exported_once, free_port, pixels_of, running_server, write_doubles
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2
from test_decoding import READABLE

from export import client as client_command
from export import serve
from export.client import ask
from export.client_light import Client, RestClient, ServingFailure
from export.serving.batching import Batcher, BatchingOptions
from export.serving.serve_config import ServeConfig
from export.serving.server import Server
from export.serving.serving_error import ServingError
from export.serving.ssl_config import read_ssl_config, server_context
from export.serving.warm_up import predict_request
from msrn_tf.errors import UserError
from msrn_tf.predict import predict_photos
from msrn_tf.predictions import Prediction

PHOTO = READABLE["baseline"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base path with version 1 of a small model."""
    base = tmp_path_factory.mktemp("serve") / "msrn"
    base.mkdir()
    (base / "1").symlink_to(exported_once()[1])
    return base


@pytest.fixture(scope="module")
def server(base):
    """(server, address) for tests that ask and change nothing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        metrics_port = probe.getsockname()[1]
    with running_server(base, metrics_port=metrics_port, batch_timeout_ms=20, num_batch_threads=1) as started:
        yield (*started, metrics_port)


@pytest.fixture
def doubles(tmp_path):
    """A base path with version 1 of a model that only doubles numbers."""
    base = tmp_path / "msrn"
    base.mkdir()
    write_doubles(str(base), 1)
    return base


def double(channel, value, **options):
    """Asks for twice a number; `(version, answer)`."""
    predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
    request = predict_request("msrn", "", {"x": np.array([value], np.float32)})
    response = predict(request, **{"timeout": 60} | options)
    return response.model_spec.version.value, float(tf.make_ndarray(response.outputs["y"])[0])


def double_by_rest(session, port, value):
    """The same by REST; raises `KeyError` where it is refused."""
    answer = session.post(f"http://localhost:{port}/v1/models/msrn:predict", json={"instances": [value]}, timeout=60)
    return answer.json()["predictions"][0]


# Batching


def doubled(inputs):
    return {"y": 2 * inputs["x"]}


def run_many(batcher, count, **options):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(batcher.run, {"x": np.array([i])}, **options) for i in range(count)]
        concurrent.futures.wait(futures)
    return futures


def test_requests_that_wait_together_run_together_and_get_their_own_rows():
    sizes = []
    batcher = Batcher(doubled, BatchingOptions(8, 0.2, 64, 1), sizes.append)
    futures = run_many(batcher, 16)
    assert [future.result()["y"].tolist() for future in futures] == [[2 * i] for i in range(16)]
    assert sum(sizes) == 16 and max(sizes) <= 8 and len(sizes) < 8
    batcher.close()


def test_a_request_larger_than_a_batch_runs_alone():
    sizes = []
    batcher = Batcher(doubled, BatchingOptions(4, 0.0, 64, 1), sizes.append)
    assert batcher.run({"x": np.arange(9)})["y"].tolist() == list(range(0, 18, 2))
    assert sizes == [9]
    batcher.close()


def test_a_full_queue_refuses_at_once_and_takes_requests_again_afterwards():
    gate = threading.Event()

    def slow(inputs):
        gate.wait()
        return doubled(inputs)

    batcher = Batcher(slow, BatchingOptions(1, 0.0, 3, 1))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        accepted = [pool.submit(batcher.run, {"x": np.array([0])})]
        while len(batcher):  # until it runs
            time.sleep(0.001)
        accepted += [pool.submit(batcher.run, {"x": np.array([i])}) for i in (1, 2, 3)]
        while len(batcher) < 3:
            time.sleep(0.001)
        with pytest.raises(ServingError) as refusal:
            batcher.run({"x": np.array([4])})
        assert refusal.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        gate.set()
        assert [future.result()["y"].tolist() for future in accepted] == [[0], [2], [4], [6]]
    assert batcher.run({"x": np.array([5])})["y"].tolist() == [10]
    batcher.close()


def test_what_is_too_late_is_not_run():
    gate, ran = threading.Event(), []

    def slow(inputs):
        gate.wait()
        ran.append(inputs["x"].tolist())
        return doubled(inputs)

    batcher = Batcher(slow, BatchingOptions(1, 0.0, 8, 1))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(batcher.run, {"x": np.array([0])})
        while not first.running() or len(batcher):
            time.sleep(0.001)
        late = {"x": np.array([1])}
        with pytest.raises(ServingError) as failure:
            batcher.run(late, seconds=0.05)
        assert failure.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert len(batcher) == 1 and not late  # it has its turn to come, and holds no array any more
        gate.set()
        first.result()
    batcher.close()
    assert ran == [[0]]


def test_one_faulty_request_fails_alone():
    def picky(inputs):
        if (inputs["x"] == 3).any():
            raise ValueError("three")
        return doubled(inputs)

    batcher = Batcher(picky, BatchingOptions(8, 0.2, 64, 1))
    futures = run_many(batcher, 6)
    assert [i for i, future in enumerate(futures) if future.exception()] == [3]
    batcher.close()


def test_closing_answers_what_is_queued():
    batcher = Batcher(doubled, BatchingOptions(2, 0.5, 64, 1))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(batcher.run, {"x": np.array([7])})
        while not len(batcher):
            time.sleep(0.001)
        batcher.close()
        assert future.result()["y"].tolist() == [14]
    with pytest.raises(ServingError):
        batcher.run({"x": np.array([1])})


# Client and server


def test_the_client_gives_what_prediction_gives_for_every_encoding(server, tmp_path):
    paths = []
    for index, content in enumerate(READABLE.values()):
        paths.append(str(tmp_path / f"{index:03}.img"))
        (tmp_path / f"{index:03}.img").write_bytes(content)
    with Client(server[1], "msrn") as client:
        assert client.is_ready()
        predictions, bad = ask(client, paths)
    assert bad == []
    photos = [(path, pixels_of(content)) for path, content in zip(paths, READABLE.values(), strict=True)]
    for answered, there in zip(predictions, predict_photos(exported_once()[0], photos), strict=True):
        assert answered.labels == there.labels and answered.present == there.present
        np.testing.assert_allclose(answered.scores, there.scores, atol=1e-5)


def test_a_bad_photo_is_named_and_the_others_are_answered(server, tmp_path):
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    good.write_bytes(PHOTO)
    bad.write_bytes(b"no photo")
    run = command("export.client", f"--address={server[1]}", "--json", f"--heatmaps={tmp_path / 'maps'}", good, bad)
    assert run.returncode == 1 and f"error: {bad}" in run.stderr and "Traceback" not in run.stderr
    row = json.loads(run.stdout)
    assert row["photo"] == str(good) and set(row["labels"]) <= set(LABELS)
    assert all(os.path.isfile(path) for path in row["heatmaps"])


def test_one_corrupt_photo_in_a_dynamic_batch_leaves_the_others_alone(server):
    count = server[0].metrics.registry.get_sample_value
    with Client(server[1], "msrn") as client:
        alone, before = client.predict([PHOTO]), count("msrn_batch_size_count")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda i: client.predict([b"bad" if i == 3 else PHOTO]), range(8)))
    assert count("msrn_batch_size_count") - before < 8  # eight requests in fewer batches: they were merged
    assert [answer["valid"].tolist() for answer in answers] == [[i != 3] for i in range(8)]
    for i in (0, 1, 2, 4, 5, 6, 7):
        np.testing.assert_allclose(answers[i]["scores"], alone["scores"], atol=1e-6)
        np.testing.assert_array_equal(answers[i]["labels"], alone["labels"])


def test_no_server_and_no_model_are_one_sentence(server, tmp_path):
    (tmp_path / "a.jpg").write_bytes(PHOTO)
    for flags in ([], ["--rest"]):
        run = command("export.client", "--address=localhost:1", "--retries=1", *flags, tmp_path / "a.jpg")
        assert_refused(run, "--address=localhost:1", "UNAVAILABLE: nobody listens there")
    run = command("export.client", "--client_key=x", "--client_certificate=y", tmp_path / "a.jpg")
    assert_refused(run, "needs --ca_certificate")
    with Client(server[1], "nobody", retries=0) as client:
        assert not client.is_ready()
        with pytest.raises(ServingFailure, match=r"nobody gave no answer \(NOT_FOUND"):
            client.predict([PHOTO])


def test_what_was_answered_before_a_failure_is_printed(monkeypatch, capsys, tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(PHOTO)

    def first_only(client, paths, heatmaps):
        if "b.jpg" in paths[0]:
            raise ServingFailure("no answer", "UNAVAILABLE")
        return [Prediction(paths[0], ["cat"], [0.9], ["cat"])], []

    monkeypatch.setattr(client_command, "ask", first_only)
    with pytest.raises(UserError, match="no answer"):
        client_command.main([str(tmp_path)], client_command.ClientConfig(batch_size=1, json=True))
    assert json.loads(capsys.readouterr().out)["photo"] == str(tmp_path / "a.jpg")


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.slow)])
def test_three_versions_change_under_load_without_a_failed_request(doubles, seconds):
    stop, failures, seen, answered, by_rest = threading.Event(), [], set(), [], []

    def load(address):
        with grpc.insecure_channel(address) as channel:
            while not stop.is_set():
                try:
                    version, answer = double(channel, 21.0)
                    seen.add(version)
                    answered.append(answer)
                except grpc.RpcError as error:
                    failures.append(error.details())
                time.sleep(0.005)  # the server shares this process

    def load_rest(port):
        with requests.Session() as session:
            while not stop.is_set():
                try:
                    by_rest.append(double_by_rest(session, port, 21.0))
                except (requests.RequestException, KeyError) as error:
                    failures.append(repr(error))
                time.sleep(0.005)

    rest_port = free_port()
    with running_server(doubles, poll_seconds=0.05, rest_port=rest_port) as (server, address):
        threads = [threading.Thread(target=load, args=(address,)) for _ in range(2)]
        threads += [threading.Thread(target=load_rest, args=(rest_port,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for version in (2, 3, 4):
            time.sleep(seconds / 4)
            write_doubles(str(doubles), version)
            until = time.monotonic() + 60
            while version not in seen and time.monotonic() < until:
                time.sleep(0.01)
        time.sleep(seconds / 4)
        stop.set()
        for thread in threads:
            thread.join()
        available = server.manager._models["msrn"].available()
    assert failures == [] and seen == {1, 2, 3, 4} and available == [4] and set(answered) == {42.0}
    assert set(by_rest) == {42.0}


@pytest.mark.slow
def test_a_version_that_left_leaves_no_more_behind_than_tensorflow_does(base, tmp_path):
    """`tf.saved_model.load` keeps the functions of what it loaded, for ever; docs/serving.md says so."""
    own = tmp_path / "msrn"
    own.mkdir()
    memory = []
    with running_server(own, poll_seconds=100) as (server, _):
        for version in range(1, 6):
            shutil.copytree(base / "1", own / str(version))
            server.manager.poll()
            memory.append(resident_megabytes())
    bare = []
    for _ in range(5):
        tf.saved_model.load(str(base / "1"))
        gc.collect()
        bare.append(resident_megabytes())
    assert memory[-1] - memory[1] < 1.5 * (bare[-1] - bare[1]), (memory, bare)


def test_a_broken_version_leaves_the_old_one_serving_until_it_is_mended(doubles):
    with running_server(doubles, poll_seconds=100) as (server, address), grpc.insecure_channel(address) as channel:
        (doubles / "2").mkdir()
        (doubles / "2" / "saved_model.pb").write_bytes(b"nonsense")
        server.manager.poll()
        assert double(channel, 4.0) == (1, 8.0)
        model = server.manager._models["msrn"]
        assert model.versions[1].error == "" and model.versions[2].error != ""
        server.manager.poll()
        assert model.available() == [1]
        shutil.copytree(doubles / "1", doubles / "2", dirs_exist_ok=True, copy_function=shutil.copyfile)
        server.manager.poll()
        assert model.available() == [2] and double(channel, 4.0) == (2, 8.0)


def test_a_version_that_is_mended_by_a_copy_with_the_same_times_is_tried_again(doubles):
    whole = doubles / "1" / "saved_model.pb"
    (doubles / "2").mkdir()
    broken = doubles / "2" / "saved_model.pb"
    with running_server(doubles, poll_seconds=100) as (server, _):
        broken.write_bytes(b"nonsense")
        for path in (whole, broken):
            os.utime(path, (4e9, 4e9))  # later than any other
        server.manager.poll()
        model = server.manager._models["msrn"]
        failed = model.versions[2]
        assert failed.error and not failed.may_load_again()
        shutil.copy2(whole, broken)
        assert failed.may_load_again()
        shutil.copytree(doubles / "1", doubles / "2", dirs_exist_ok=True)  # with the times of all files
        server.manager.poll()
        assert model.available() == [2]


def config_of(base, versions=(), labels=(), name="msrn"):
    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add(name=name, base_path=str(base), model_platform="tensorflow")
    model.model_version_policy.specific.versions.extend(versions)
    model.version_labels.update(dict(labels))
    return config


def test_a_configuration_that_cannot_be_served_is_refused_and_what_was_served_goes_on(doubles):
    options = {"poll_seconds": 100, "reload_folder": (str(doubles),)}
    with running_server(doubles, **options) as (server, address), grpc.insecure_channel(address) as channel:
        write_doubles(str(doubles), 2)
        reload = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest

        def code_of(config):
            try:
                reload(model_management_pb2.ReloadConfigRequest(config=config), timeout=60)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        # A label of a version that the same configuration does not serve: nothing of it may come into force.
        assert code_of(config_of(doubles, [2], {"stable": 1})) is grpc.StatusCode.FAILED_PRECONDITION
        assert double(channel, 1.0) == (1, 2.0) and server.manager._models["msrn"].available() == [1]
        assert code_of(model_server_config_pb2.ModelServerConfig()) is grpc.StatusCode.INVALID_ARGUMENT
        assert code_of(config_of(doubles, [1, 2], {"stable": 1, "canary": 2})) is grpc.StatusCode.OK
        assert double(channel, 1.0) == (2, 2.0)
        nowhere = config_of(doubles, [1])
        nowhere.model_config_list.config.add(name="other", base_path=str(doubles / "nothing"))
        assert code_of(nowhere) is grpc.StatusCode.UNKNOWN
        assert double(channel, 1.0) == (1, 2.0)  # the rest of that configuration is in force, as in TF-Serving


def test_sigterm_under_load_answers_every_accepted_request(tmp_path):
    base = tmp_path / "msrn"
    base.mkdir()
    write_doubles(str(base), 1, work=200)
    rest_port = free_port()
    ports = ("--port=0", f"--rest_port={rest_port}")
    process = Running("export.serve", f"--model_base_path={base}", *ports, "--log_requests")
    process.wait_for(lambda: "serving on" in process.stdout())
    address = "localhost:" + process.stdout().rpartition(":")[2].strip()
    answered, refused, wrong = [], [], []

    def load():
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            while not refused:
                try:
                    answered.append(double(channel, 3.0)[1])
                except grpc.RpcError as error:
                    # Refused before it was accepted; anything else would be a request that was lost.
                    (refused if error.code() is grpc.StatusCode.UNAVAILABLE else wrong).append(error.details())

    def load_rest():
        with requests.Session() as session:
            while not refused:
                try:
                    answered.append(double_by_rest(session, rest_port, 3.0))
                except (requests.RequestException, KeyError):  # an answer that was lost is in the log below
                    return

    threads = [threading.Thread(target=load) for _ in range(4)] + [threading.Thread(target=load_rest) for _ in range(3)]
    for thread in threads:
        thread.start()
    process.wait_for(lambda: len(answered) >= 20)
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert process.wait() == 0 and wrong == [], process.stderr()
    lines = [json.loads(line) for line in process.stderr().splitlines() if line.startswith("{")]
    assert lines[-1]["event"] == "ended"
    logged = [line for line in lines if line["event"] == "request"]
    assert sum(line["code"] == "OK" for line in logged) == len(answered) and set(answered) == {6.0}
    assert {line["code"] for line in logged} <= {"OK", "UNAVAILABLE"}
    assert all(set(line) == {"time", "level", "event", "method", "model", "code", "ms"} for line in logged)


def test_sigterm_while_a_model_loads_ends_the_server_at_once(monkeypatch):
    class Loading:
        def __init__(self, config):
            pass

        def start(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(600)

    monkeypatch.setattr("export.serving.server.Server", Loading)
    monkeypatch.setattr("export.serving.log.write_log", lambda *_: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(SystemExit) as end:
            serve.main(ServeConfig())
        assert not end.value.code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def mutated(rng, content):
    content = bytearray(content)
    for place in rng.integers(0, len(content), rng.integers(1, 8)):
        content[place] = rng.integers(0, 256)
    return bytes(content[: rng.integers(1, len(content))] if rng.random() < 0.3 else content)


@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_requests_do_no_harm(server, count):
    rng = np.random.default_rng(0)
    whole = predict_request("msrn", "serving_default", {"image_bytes": np.array([PHOTO], object)}).SerializeToString()
    address = server[1]
    with grpc.insecure_channel(address) as channel:
        raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")  # bytes as they are
        memory = []
        for index in range(count):
            if index % 2:
                photo = np.array([mutated(rng, READABLE[["baseline", "png", "exif 6"][index % 3]])], object)
                message = predict_request("msrn", "serving_default", {"image_bytes": photo}).SerializeToString()
            else:
                message = mutated(rng, whole)
            try:
                predict_pb2.PredictResponse.FromString(raw(message, timeout=60))
            except grpc.RpcError as error:
                assert error.code() in (
                    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION,
                    grpc.StatusCode.INTERNAL,
                ), error.details()  # fmt: skip
                if error.code() is grpc.StatusCode.INTERNAL:  # gRPC's own word for bytes that are no message
                    assert "deserializ" in error.details()
            if index % (count // 4) == count // 4 - 1:
                memory.append(resident_megabytes())
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert status.status == health_pb2.HealthCheckResponse.SERVING
        with Client(address, "msrn") as client:
            assert client.predict([PHOTO])["valid"].all()
    if count >= 10_000:
        assert memory[-1] - memory[1] < 50, memory


def resident_megabytes():
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) // 1024 for line in file if line.startswith("VmRSS"))


def test_overload_is_refused_and_then_forgotten(tmp_path):
    base = tmp_path / "msrn"
    base.mkdir()
    write_doubles(str(base), 1, work=20_000)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with running_server(base, max_batch_size=1, max_queued_requests=2, num_batch_threads=1) as (_, address):

        def one(_):
            with grpc.insecure_channel(address, options) as channel:
                try:
                    double(channel, 1.0)
                    return "OK"
                except grpc.RpcError as error:
                    return error.code().name

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            codes = list(pool.map(one, range(24)))
        assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
        assert one(0) == "OK"


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED])
def test_the_client_comes_back_after_a_refusal(code):
    """A server that is busy, or ends, for the first two requests: the third counts, after waits that double."""
    times = []

    class Busy(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            times.append(time.monotonic())
            if len(times) < 3:
                context.abort(code, "another time")
            return predict_pb2.PredictResponse()

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Busy(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        with Client(f"localhost:{port}", "msrn") as client:
            assert client.predict([PHOTO]) == {}
        assert len(times) == 3 and times[2] - times[1] >= 0.1 and times[1] - times[0] >= 0.05
        times.clear()
        with Client(f"localhost:{port}", "msrn", retries=1) as client, pytest.raises(ServingFailure, match=code.name):
            client.predict([PHOTO])
    finally:
        server.stop(None)


def test_health_reflection_and_metrics(server):
    _, address, metrics_port = server

    def counted():
        text = urllib.request.urlopen(f"http://localhost:{metrics_port}/metrics").read().decode()
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return float(values.get('msrn_requests_total{code="OK",method="Predict"}', 0)), float(
            values["msrn_batch_size_sum"]
        )

    with grpc.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for service in ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"):
            status = check(health_pb2.HealthCheckRequest(service=service)).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        assert "tensorflow.serving.PredictionService" in ProtoReflectionDescriptorDatabase(channel).get_services()
    before = counted()
    assert before[1] >= 5  # five signatures were warmed up
    with Client(address, "msrn") as client:
        client.predict([PHOTO, PHOTO])
    assert counted() == (before[0] + 1, before[1] + 2)


def test_a_server_without_a_version_is_not_healthy_until_one_comes(tmp_path):
    base = tmp_path / "msrn"
    base.mkdir()
    with running_server(base, poll_seconds=0.05) as (_, address), grpc.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        assert check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError, match="Servable not found for request: Latest"):
            double(channel, 1.0)
        write_doubles(str(base), 1)
        until = time.monotonic() + 60
        while check(health_pb2.HealthCheckRequest()).status != health_pb2.HealthCheckResponse.SERVING:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert double(channel, 1.0) == (1, 2.0)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Keys and certificates of an authority of our own, a server and a client (openssl)."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-subj", "/CN=authority")  # fmt: skip
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    for name in ("server", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", f"/CN={name}")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-out", f"{name}.pem", "-days", "2", "-extfile", "names")  # fmt: skip
    return {path.name: path.read_text() for path in folder.iterdir()} | {"folder": folder}


@pytest.mark.parametrize("verify", [False, True])
def test_tls_with_and_without_a_client_certificate(doubles, certificates, tmp_path, verify):
    lines = {"server_key": certificates["server.key"], "server_cert": certificates["server.pem"],
             "custom_ca": certificates["ca.pem"]}  # fmt: skip
    text = "".join(f"{name}: {json.dumps(value)}\n" for name, value in lines.items())
    (tmp_path / "ssl.config").write_text(text + f"client_verify: {str(verify).lower()}\n")
    ca = certificates["ca.pem"].encode()
    known = grpc.ssl_channel_credentials(ca, certificates["client.key"].encode(), certificates["client.pem"].encode())
    rest_port = free_port()
    with running_server(doubles, ssl_config=str(tmp_path / "ssl.config"), rest_port=rest_port) as (_, address):
        with grpc.secure_channel(address, known) as channel:
            assert double(channel, 5.0) == (1, 10.0)
        with Client(address, "msrn", deadline=5, retries=1) as client:  # not without TLS
            assert not client.is_ready()
            with pytest.raises(ServingFailure, match="UNAVAILABLE: the server speaks TLS"):
                client.predict([PHOTO])
        folder = certificates["folder"]
        ca_certificate = str(folder / "ca.pem")
        own = {"client_certificate": str(folder / "client.pem"), "client_key": str(folder / "client.key")}
        for kind, where in ((Client, address), (RestClient, f"localhost:{rest_port}")):
            with kind(where, "msrn", ca_certificate=ca_certificate, retries=0) as client:
                assert client.is_ready() is not verify
                if verify:
                    with pytest.raises(ServingFailure, match="UNAVAILABLE: the server asks for a client's certificate"):
                        client.predict([PHOTO])
            with kind(where, "msrn", ca_certificate=ca_certificate, **own) as client:
                assert client.is_ready()
            with (
                kind(where, "msrn", ca_certificate=str(folder / "client.pem"), retries=0) as client,
                pytest.raises(ServingFailure, match="does not vouch for the server"),
            ):
                client.predict([PHOTO])


def test_tls_with_comments_in_any_language_beside_the_authority(doubles, certificates, tmp_path):
    lines = {"server_key": certificates["server.key"], "server_cert": certificates["server.pem"],
             "custom_ca": f"größe\n{certificates['ca.pem']}"}  # fmt: skip
    text = "".join(f"{name}: {json.dumps(value)}\n" for name, value in lines.items())
    (tmp_path / "ssl.config").write_text(text + "client_verify: true\n")
    context = server_context(read_ssl_config(str(tmp_path / "ssl.config")))
    assert [dict(*one["subject"])["commonName"] for one in context.get_ca_certs()] == ["authority"]


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_pass_phrase(doubles, certificates, tmp_path):
    encrypt = ["openssl", "pkey", "-aes256", "-passout", "pass:secret"]
    key = subprocess.run(encrypt, input=certificates["server.key"], capture_output=True, text=True, check=True).stdout
    lines = {"server_key": key, "server_cert": certificates["server.pem"]}
    (tmp_path / "ssl.config").write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in lines.items()))
    config = ServeConfig(model_base_path=str(doubles), port=0, rest_port=0, ssl_config=str(tmp_path / "ssl.config"))
    with pytest.raises(UserError, match=r"`ssl_config`=.*server_key is encrypted; write it without a pass phrase"):
        Server(config).start()


def test_bad_flags_of_the_server_are_one_sentence(doubles, tmp_path):
    assert_refused(command("export.serve", "--model_base_path=/nowhere/msrn"), "no such folder")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"`port`={port}: .* is another server running there"):
            Server(ServeConfig(rest_port=0, port=port, model_base_path=str(doubles))).start()
    nonsense = tmp_path / "x.config"
    nonsense.write_text("nonsense {")
    for flags, words in (
        ({}, "one of the two"),
        ({"model_config_file": str(nonsense)}, "is not a ModelServerConfig"),
        ({"model_base_path": str(doubles), "ssl_config": str(nonsense)}, "is not an SSLConfig"),
        ({"model_base_path": str(doubles), "model_name": "\udcff"}, "`model_name`=.*is no Unicode text"),
        ({"model_base_path": "\udcff"}, "`model_base_path`=.*is no Unicode text"),
    ):
        with pytest.raises(UserError, match=words):
            Server(ServeConfig(port=0, rest_port=0, **flags)).start()
