"""Clients: the one in a file of its own, the programs of docs/serving.md, and two from PyPI that know none of this."""

import asyncio
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from PIL import Image
from running import ROOT, assert_refused, command
from serving import free_port, running_server, write_lengths
from tensorflow_serving.config import model_server_config_pb2

from export import client as client_command
from export import client_light, saved_model
from export.client_light import Client, RestClient, ServingFailure, attention_maps, write_png
from msrn_tf.errors import UserError

LIGHT = ROOT / "export" / "client_light.py"


class Words(tf.Module):
    """What a client from PyPI, made for another kind of model, reads: `preds` and `logprobs`."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "image")], autograph=False)
    def serve(self, image):
        length = tf.cast(tf.strings.length(image), tf.float32)
        return {"preds": tf.stack([image, tf.strings.upper(image)], 1), "logprobs": tf.stack([-length, -2 * length], 1)}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """`(port of gRPC, port of REST)` of a server with two models."""
    folder = tmp_path_factory.mktemp("clients")
    (folder / "msrn").mkdir()
    write_lengths(str(folder / "msrn"), 1)
    words = Words()
    tf.saved_model.save(words, str(folder / "words" / "1"), {"serving_default": words.serve})
    config = model_server_config_pb2.ModelServerConfig()
    for name in ("msrn", "words"):
        config.model_config_list.config.add(name=name, base_path=str(folder / name), model_platform="tensorflow")
    (folder / "models.config").write_text(text_format.MessageToString(config))
    rest_port = free_port()
    with running_server(model_config_file=str(folder / "models.config"), rest_port=rest_port) as (_, address):
        yield int(address.rpartition(":")[2]), rest_port


@pytest.fixture(params=[Client, RestClient], ids=["grpc", "rest"])
def connect(request, served):
    """A function that makes a client, of either protocol."""
    port = served[request.param is RestClient]
    return lambda *model, **options: request.param(f"localhost:{port}", *(model or ("msrn",)), **options)


def scores_of(length):
    """By hand: what `Lengths` says of a photo of so many bytes."""
    return [1 - 1 / (1 + length), 1 / (1 + length)]


def test_both_protocols_give_arrays_of_the_same_kind(connect):
    with connect() as client:
        assert client.is_ready()
        outputs = client.predict([b"\xff\xd8\0", b"", b"x"])
    np.testing.assert_allclose(outputs["scores"], [scores_of(3), scores_of(0), scores_of(1)], rtol=1e-6)
    assert outputs["scores"].dtype == np.float32 and outputs["labels"].tolist() == [["größe", "cat"]] * 3
    assert outputs["valid"].dtype == bool and outputs["valid"].tolist() == [True, False, True]
    assert outputs["is_present"].tolist() == [[True, False], [False, True], [True, True]]


def test_numbers_that_are_none_survive(connect):
    with connect() as client:
        numbers = client.predict([b"x"], "not_numbers")["numbers"]
    np.testing.assert_array_equal(numbers, np.array([[np.nan, np.inf, -np.inf, 0.2]], np.float32))


def test_heatmaps_of_the_labels_that_a_photo_shows(connect, tmp_path):
    with connect() as client:
        maps = attention_maps(client.predict([b"xyz"], "explain"), 0)
    ramp = np.linspace(0, 1, 12).reshape(3, 4)
    assert list(maps) == ["größe"]
    np.testing.assert_allclose(maps["größe"], 0.75 * ramp, atol=1e-6)
    write_png(str(tmp_path / "map.png"), maps["größe"])
    with Image.open(tmp_path / "map.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.rint(255 * 0.75 * ramp).astype(np.uint8))


def test_an_event_loop_asks_for_many_at_once(connect):
    async def ask(client):
        return await asyncio.gather(*(client.predict_async([b"x" * length]) for length in range(1, 9)))

    with connect() as client:
        answers = asyncio.run(ask(client))
    for length, answer in enumerate(answers, 1):
        np.testing.assert_allclose(answer["scores"], [scores_of(length)], rtol=1e-6)


def test_failures_have_the_code_and_the_reason(connect):
    for arguments, options, code, words in (
        (("nobody",), {}, "NOT_FOUND", "Servable not found for request: Latest(nobody)"),
        (("msrn", 9), {}, "NOT_FOUND", "Specific(msrn, 9)"),
        (("msrn",), {"label": "nightly"}, "INVALID_ARGUMENT", "Unrecognized servable version label: nightly"),
    ):
        with connect(*arguments, **options) as client, pytest.raises(ServingFailure) as failure:
            client.predict([b"x"])
        assert failure.value.code == code and words in str(failure.value)
    with connect("nobody") as client:
        assert not client.is_ready()
    with connect("msrn", 1) as client:
        assert len(client.predict([b"x"] * 3)["valid"]) == 3
    with connect() as client, pytest.raises(ServingFailure, match="Task size 65"):
        client.predict([b"x"] * 65)


@pytest.mark.parametrize("kind", [Client, RestClient])
def test_a_server_that_does_not_answer_is_waited_for_until_the_deadline(kind):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with kind(address, "msrn", deadline=0.2, retries=0) as client, pytest.raises(ServingFailure) as failure:
            client.predict([b"x"])
    assert failure.value.code == "DEADLINE_EXCEEDED"


def test_an_address_that_is_none_and_an_answer_that_is_no_json_are_told(tmp_path):
    with (
        RestClient("a..b:8501", "msrn") as client,
        pytest.raises(ServingFailure, match=r"not host:port: .*a\.\.b") as no,
    ):
        client.predict([b"x"])
    assert no.value.code == "INVALID_ARGUMENT"
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:  # answers in HTML
        thread = threading.Thread(target=other.handle_request)
        thread.start()
        told = pytest.raises(ServingFailure, match="status 501 with an answer that is no JSON")
        with RestClient(f"127.0.0.1:{other.server_port}", "msrn") as client, told as no:
            client.predict([b"x"])
        thread.join()
    assert no.value.code == "UNIMPLEMENTED"
    assert client_light.HTTP_CODES[502] in client_light.RETRIED  # a proxy's page while the server starts again


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("version", "9223372036854775808", "give a number up to 9223372036854775807"),
        ("version", "-1", "is no version"),
        ("model_name", "\udcff", "is no Unicode text"),
        ("label", "\udcff", "is no Unicode text"),
        ("address", "\udcff", "is no Unicode text"),
    ],
)
def test_what_no_request_can_hold_is_refused_by_the_file_alone(flag, value, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["client_light.py", f"--{flag}={value}", "x.jpg"])
    with pytest.raises(SystemExit) as end:
        client_light.main()
    assert end.value.code == 2
    assert f"error: argument --{flag}: " in (said := capsys.readouterr().err) and words in said


def test_what_no_request_and_no_export_can_hold_is_refused_by_the_commands(tmp_path):
    refused = command("export.client", "--version=9223372036854775808", tmp_path)
    assert_refused(refused, "--version", "9223372036854775807")
    (tmp_path / "x.jpg").write_bytes(b"")
    for flag in ("model_name", "version_label", "address"):
        with pytest.raises(UserError, match=rf"--{flag}=\\udcff: is no Unicode text"):
            client_command.main([str(tmp_path / "x.jpg")], client_command.ClientConfig(**{flag: "\udcff"}))
    for flag in ("model_name", "output"):
        config = saved_model.SavedModelConfig(**{"model": "model.keras", "output": str(tmp_path)} | {flag: "\udcff"})
        with pytest.raises(UserError, match=rf"--{flag}=\\udcff: is no Unicode text"):
            saved_model.main(config)


def test_photos_that_are_called_alike_have_maps_of_their_own(served, tmp_path, monkeypatch, capsys):
    paths = [tmp_path / name for name in ("a/1.jpg", "b/1.jpg", "b/1.png", "1~2.jpg", "2.jpg")]
    for number, path in enumerate(paths, 1):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 2 * number)
    flags = [f"--address=localhost:{served[0]}", f"--heatmaps={tmp_path / 'maps'}"]
    monkeypatch.setattr(sys, "argv", ["client_light.py", *flags, *map(str, paths)])
    assert client_light.main() == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    written = [line["heatmaps"]["größe"] for line in lines]
    assert [os.path.basename(path) for path in written] == [
        "1-0.png", "1~2-0.png", "1~3-0.png", "1~2~2-0.png", "2-0.png",
    ]  # fmt: skip
    for line, path in zip(lines, written, strict=True):
        with Image.open(path) as image:  # the brightest place of the map is the score
            assert np.asarray(image).max() == np.rint(255 * np.float32(line["scores"]["größe"]))


def run(*command, **options):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, **options)


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_the_file_alone_answers_on_the_command_line_without_tensorflow(served, protocol, tmp_path):
    shutil.copy(LIGHT, tmp_path / "alone.py")
    (tmp_path / "photo.jpg").write_bytes(b"xyz")
    (tmp_path / "empty.jpg").write_bytes(b"")
    flags = (
        ["--rest", f"--address=localhost:{served[1]}"] if protocol == "rest" else [f"--address=localhost:{served[0]}"]
    )
    answer = run(sys.executable, "alone.py", *flags, "--heatmaps=maps", "photo.jpg", "empty.jpg", cwd=tmp_path)
    assert answer.returncode == 1 and answer.stderr == 'error: "empty.jpg": is not a photo that the server can decode\n'
    line = json.loads(answer.stdout)
    assert line["present"] == ["größe"] and line["scores"] == {"größe": 0.75, "cat": 0.25}
    assert (tmp_path / line["heatmaps"]["größe"]).read_bytes().startswith(b"\x89PNG")
    missing = run(sys.executable, "alone.py", *flags, "nothing.jpg", cwd=tmp_path)
    assert missing.returncode == 2 and len(missing.stderr.splitlines()) == 1 and "nothing.jpg" in missing.stderr
    code = (
        "import sys, alone; sys.exit(sorted({'tensorflow', 'grpc', 'requests', 'asyncio', 'ssl'} & set(sys.modules)))"
    )
    assert run(sys.executable, "-c", code.replace("sorted", "len"), cwd=tmp_path).returncode == 0


def example(language):
    """The program of docs/serving.md in a language."""
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    return re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)[1]


@pytest.mark.parametrize(
    ("language", "file", "command"),
    [("sh", "ask.sh", ["sh"]), ("js", "ask.mjs", ["node"]), ("go", "ask.go", ["go", "run"])],
)
def test_the_programs_of_the_documentation_run(served, language, file, command, tmp_path):
    needed = "curl" if language == "sh" else command[0]
    if not shutil.which(needed):
        pytest.skip(f"{needed} is not installed")
    (tmp_path / file).write_text(example(language), encoding="utf-8")
    (tmp_path / "photo.jpg").write_bytes(bytes(range(256)) * 3 + b"\xff" * 231)
    environment = os.environ | {"GOCACHE": str(tmp_path / "cache"), "GOFLAGS": "-mod=mod"}
    address = f"localhost:{served[1]}"
    answer = run(*command, file, address, "photo.jpg", cwd=tmp_path, env=environment)
    assert answer.returncode == 0, answer.stderr
    if language == "sh":
        prediction = json.loads(answer.stdout)["predictions"][0]
        assert prediction["scores"] == [0.999, 0.001] and prediction["labels"] == ["größe", "cat"]
    else:
        assert answer.stdout == "größe 0.999\n"


@pytest.fixture(scope="session")
def from_pypi(tmp_path_factory):
    """A folder with two clients from PyPI and what they need; min-tfs-client was made for an old protobuf."""
    folder = tmp_path_factory.mktemp("pypi")
    packages = ["min-tfs-client==1.0.2", "tf-serving==0.1.6", "protobuf==3.20.3", "grpcio", "numpy"]
    installed = run(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", folder, *packages)
    if installed.returncode:
        pytest.skip(f"no package index to be had: {installed.stderr[-200:]}")
    return folder


def run_with(folder, code, *arguments):
    """Runs a program with the packages of a folder and no others."""
    # Not in this environment: its tensorflow is found before the other's part of that name.
    executable = pathlib.Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "PYTHONNOUSERSITE": "1"}
    answer = run(executable, "-c", code, *arguments, env=environment)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


MIN_TFS_CLIENT = """
import json, sys
import numpy as np
from min_tfs_client.requests import TensorServingClient
from min_tfs_client.tensors import tensor_proto_to_ndarray
client = TensorServingClient("localhost", int(sys.argv[1]))
outputs = client.predict_request("msrn", {"image_bytes": np.array(["xyz", "x"])}).outputs
print(json.dumps({name: tensor_proto_to_ndarray(outputs[name]).tolist() for name in ("scores", "valid")}))
"""
TF_SERVING_CLIENT = """
import asyncio, json, sys
from tf.serving.request import predict
ask = predict(["ab", "xyz"], port=int(sys.argv[1]), endpoint="/v1/models/words:predict")
print(json.dumps([image.model_dump() for image in asyncio.run(ask).unsafe()]))
"""


@pytest.mark.slow
def test_a_grpc_client_from_pypi_reads_the_answers(served, from_pypi):
    answer = run_with(from_pypi, MIN_TFS_CLIENT, served[0])
    np.testing.assert_allclose(answer["scores"], [scores_of(3), scores_of(1)], rtol=1e-6)
    assert answer["valid"] == [True, True]


@pytest.mark.slow
def test_a_rest_client_from_pypi_reads_the_answers(served, from_pypi):
    answer = run_with(from_pypi, TF_SERVING_CLIENT, served[1])
    assert answer == [
        {"preds": ["ab", "AB"], "logprobs": [-2.0, -4.0]}, {"preds": ["xyz", "XYZ"], "logprobs": [-3.0, -6.0]},
    ]  # fmt: skip
