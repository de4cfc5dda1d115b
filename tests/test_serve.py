"""The embedded server and its client: load, reloads, ends, strangers' bytes, TLS, metrics."""

import concurrent.futures
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from running import ROOT, assert_refused, command
from serving import LABELS, SIZE, export_version, running_server, small_model
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from test_decoding import READABLE

from export.client import Client, ServingFailure, ask
from export.serve import ServeConfig, Server
from export.serving.batching import Batcher, BatchingOptions
from export.serving.errors import ServingError
from export.serving.warm_up import predict_request
from msrn_tf.data.decoding import evaluation_pixels
from msrn_tf.errors import UserError
from msrn_tf.predict import predict_photos

PHOTO = READABLE["baseline"]


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def base(model, tmp_path_factory):
    base = tmp_path_factory.mktemp("serve") / "msrn"
    base.mkdir()
    export_version(model, str(base), 1)
    return base


@pytest.fixture
def own_base(base, tmp_path):
    """A base path with version 1 (linked), to add versions to."""
    own = tmp_path / "msrn"
    own.mkdir()
    (own / "1").symlink_to(base / "1")
    return own


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
        with pytest.raises(ServingError) as failure:
            batcher.run({"x": np.array([1])}, seconds=0.05)
        assert failure.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
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


def test_the_client_gives_what_prediction_gives_for_every_encoding(model, base, tmp_path):
    paths = []
    for index, content in enumerate(READABLE.values()):
        paths.append(str(tmp_path / f"{index:03}.img"))
        (tmp_path / f"{index:03}.img").write_bytes(content)
    with running_server(base) as (_, address), Client(address, "msrn") as client:
        assert client.is_ready()
        rows, bad = ask(client, paths)
    assert bad == []
    expected = predict_photos(model, [(path, evaluation_pixels(tf.io.read_file(path), SIZE)) for path in paths])
    for row, there in zip(rows, expected, strict=True):
        assert row["labels"] == there["labels"] and row["present"] == there["present"]
        np.testing.assert_allclose(row["scores"], there["scores"], atol=1e-5)


def test_a_bad_photo_is_named_and_the_others_are_answered(base, tmp_path):
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    good.write_bytes(PHOTO)
    bad.write_bytes(b"no photo")
    with running_server(base) as (_, address):
        arguments = [f"--address={address}", "--json", f"--heatmaps={tmp_path / 'maps'}", good, bad]
        run = command("export.client", *arguments)
    assert run.returncode == 2 and f"error: {bad}" in run.stderr and "Traceback" not in run.stderr
    row = json.loads(run.stdout)
    assert row["photo"] == str(good) and set(row["labels"]) <= set(LABELS)
    assert all(os.path.isfile(path) for path in row["heatmaps"])


def test_one_corrupt_photo_in_a_dynamic_batch_leaves_strangers_alone(base):
    with running_server(base, batch_timeout_ms=200, num_batch_threads=1) as (server, address):
        with Client(address, "msrn") as client:
            alone = client.predict([PHOTO])
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda i: client.predict([b"bad" if i == 3 else PHOTO]), range(8)))
        sizes = server.metrics.registry.get_sample_value("msrn_batch_size_count")
    assert sizes < 9  # nine requests in fewer batches: they were merged
    assert [answer["valid"].tolist() for answer in answers] == [[i != 3] for i in range(8)]
    for i in (0, 1, 2, 4, 5, 6, 7):
        np.testing.assert_allclose(answers[i]["scores"], alone["scores"], atol=1e-6)
        np.testing.assert_array_equal(answers[i]["labels"], alone["labels"])


def test_no_server_and_no_model_are_one_sentence(base, tmp_path):
    (tmp_path / "a.jpg").write_bytes(PHOTO)
    run = command("export.client", "--address=localhost:1", "--retries=1", tmp_path / "a.jpg")
    assert_refused(run, "--address=localhost:1", "UNAVAILABLE")
    with running_server(base) as (_, address), Client(address, "nobody", retries=0) as client:
        assert not client.is_ready()
        with pytest.raises(ServingFailure, match=r"nobody gave no answer \(NOT_FOUND"):
            client.predict([PHOTO])


def test_versions_change_under_load_without_a_failed_request(base, own_base):
    stop, failures, seen = threading.Event(), [], set()

    def load(address):
        with Client(address, "msrn", retries=0) as client:
            request = predict_request("msrn", "serving_default", {"image_bytes": np.array([PHOTO], object)})
            while not stop.is_set():
                try:
                    seen.add(client._predict(request, timeout=30).model_spec.version.value)
                except grpc.RpcError as error:
                    failures.append(error.details())
                time.sleep(0.02)  # the server shares this process

    with running_server(own_base, poll_seconds=0.1) as (server, address):
        threads = [threading.Thread(target=load, args=(address,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for version in (2, 3, 4):
            shutil.copytree(base / "1", own_base / f".writing-{version}")
            os.rename(own_base / f".writing-{version}", own_base / str(version))
            until = time.monotonic() + 60
            while version not in seen and time.monotonic() < until:
                time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join()
        available = server.manager._models["msrn"].available()
    assert failures == [] and seen == {1, 2, 3, 4} and available == [4]


def test_a_broken_version_leaves_the_old_one_serving_until_it_is_mended(base, own_base):
    with running_server(own_base, poll_seconds=0.1) as (server, address):
        (own_base / "2").mkdir()
        (own_base / "2" / "saved_model.pb").write_bytes(b"nonsense")
        server.manager.poll()
        with Client(address, "msrn") as client:
            assert client.predict([PHOTO])["valid"].all()
        model = server.manager._models["msrn"]
        assert model.versions[1].error == "" and model.versions[2].error != ""
        shutil.copytree(base / "1", own_base / "2", dirs_exist_ok=True, copy_function=shutil.copyfile)
        until = time.monotonic() + 60
        while model.available() != [2] and time.monotonic() < until:
            time.sleep(0.05)
        assert model.available() == [2]


def start_process(base, tmp_path, *flags):
    """The command as a process, and its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "export.serve", f"--model_base_path={base}", "--port=0", *flags],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    line = process.stdout.readline()
    assert line.startswith("serving on"), process.stderr.read()
    return process, line.rpartition(":")[2].strip()


def test_sigterm_under_load_answers_every_accepted_request(base, tmp_path):
    process, port = start_process(base, tmp_path, "--log_requests")
    answered, refused, wrong = [], [], []

    def load():
        with grpc.insecure_channel(f"localhost:{port}") as channel:
            predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            request = predict_request("msrn", "serving_default", {"image_bytes": np.array([PHOTO], object)})
            while not refused:
                try:
                    answered.append(predict(request, timeout=30))
                except grpc.RpcError as error:
                    # Refused before it was accepted; anything else would be a request that was lost.
                    (refused if error.code() is grpc.StatusCode.UNAVAILABLE else wrong).append(error.details())

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(answered) < 20:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0 and wrong == [], log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert lines[-1]["event"] == "ended"
    requests = [line for line in lines if line["event"] == "request"]
    assert sum(line["code"] == "OK" for line in requests) == len(answered)
    assert {line["code"] for line in requests} <= {"OK", "UNAVAILABLE"}
    assert all(set(line) == {"time", "level", "event", "method", "model", "code", "ms"} for line in requests)


def mutated(rng, content):
    content = bytearray(content)
    for place in rng.integers(0, len(content), rng.integers(1, 8)):
        content[place] = rng.integers(0, 256)
    return bytes(content[: rng.integers(1, len(content))] if rng.random() < 0.3 else content)


@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_requests_do_no_harm(base, count):
    rng = np.random.default_rng(0)
    whole = predict_request("msrn", "serving_default", {"image_bytes": np.array([PHOTO], object)}).SerializeToString()
    with running_server(base, max_batch_size=8) as (_, address), grpc.insecure_channel(address) as channel:
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


def test_overload_is_refused_and_then_forgotten(base):
    with running_server(base, max_batch_size=1, max_queued_requests=2, num_batch_threads=1) as (_, address):
        options = [("grpc.use_local_subchannel_pool", 1)]

        def one(_):
            with grpc.insecure_channel(address, options) as channel:
                predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
                try:
                    predict(
                        predict_request("msrn", "explain", {"image_bytes": np.array([PHOTO] * 8, object)}), timeout=60
                    )
                    return "OK"
                except grpc.RpcError as error:
                    return error.code().name

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            codes = list(pool.map(one, range(24)))
        assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
        assert one(0) == "OK"
        with Client(address, "msrn") as client, concurrent.futures.ThreadPoolExecutor(6) as pool:  # and with retries
            answers = list(pool.map(lambda _: client.predict([PHOTO]), range(12)))
    assert all(answer["valid"].all() for answer in answers)


def test_health_reflection_and_metrics(base):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        metrics_port = probe.getsockname()[1]
    with running_server(base, metrics_port=metrics_port) as (_, address), grpc.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for service in ("", "tensorflow.serving.PredictionService"):
            status = check(health_pb2.HealthCheckRequest(service=service)).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        assert "tensorflow.serving.PredictionService" in ProtoReflectionDescriptorDatabase(channel).get_services()
        with Client(address, "msrn") as client:
            client.predict([PHOTO])
        text = urllib.request.urlopen(f"http://localhost:{metrics_port}/metrics").read().decode()
    assert 'msrn_requests_total{code="OK",method="Predict"} 1.0' in text
    assert "msrn_batch_size_sum 6.0" in text  # five signatures were warmed up before


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
def test_tls_with_and_without_a_client_certificate(base, certificates, tmp_path, verify):
    lines = {"server_key": certificates["server.key"], "server_cert": certificates["server.pem"],
             "custom_ca": certificates["ca.pem"]}  # fmt: skip
    text = "".join(f"{name}: {json.dumps(value)}\n" for name, value in lines.items())
    (tmp_path / "ssl.config").write_text(text + f"client_verify: {str(verify).lower()}\n")
    ca = certificates["ca.pem"].encode()
    known = grpc.ssl_channel_credentials(ca, certificates["client.key"].encode(), certificates["client.pem"].encode())
    with running_server(base, ssl_config=str(tmp_path / "ssl.config")) as (_, address):
        with Client(address, "msrn", credentials=known) as client:
            assert client.predict([PHOTO])["valid"].all()
        with Client(address, "msrn", credentials=grpc.ssl_channel_credentials(ca)) as client:
            assert client.is_ready() is not verify


def test_bad_flags_of_the_server_are_one_sentence(base, tmp_path):
    assert_refused(command("export.serve", "--model_base_path=/nowhere/msrn"), "no such folder")
    nonsense = tmp_path / "x.config"
    nonsense.write_text("nonsense {")
    for flags, words in (
        ({}, "one of the two"),
        ({"model_config_file": str(nonsense)}, "is no ModelServerConfig"),
        ({"model_base_path": str(base), "ssl_config": str(nonsense)}, "is no SSLConfig"),
    ):
        with pytest.raises(UserError, match=words):
            Server(ServeConfig(port=0, **flags)).start()
