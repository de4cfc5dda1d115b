"""The SavedModel: equal to the trained model, one bad photo at a time, only operations that any TF-Serving knows."""

import json
import os
import pathlib
import re
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from running import ROOT, assert_refused, command
from serving import LABELS, SIZE, exported_once, pixels_of, small_model
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2
from test_decoding import READABLE, encoded, photo

from export.saved_model import choose_version, find_versions, labels_text
from export.serving.configuration import write_configuration
from export.serving.warm_up import WARM_UP_FILE, example_of, read_warm_up_requests
from export.signatures import combined_maps, photo_decoder
from msrn_tf.models.factory import save_model
from msrn_tf.models.folding import fold_batch_norms
from msrn_tf.models.inference_model import inference_model
from msrn_tf.predict import predict_photos
from msrn_tf.visualization.heatmaps import combine_scales


@pytest.fixture(scope="module")
def model():
    return exported_once()[0]


@pytest.fixture(scope="module")
def exported():
    return exported_once()[1]


@pytest.fixture(scope="module")
def signatures(exported):
    loaded = tf.saved_model.load(exported)
    return {name: lambda f=f, **inputs: {k: v.numpy() for k, v in f(**inputs).items()}
            for name, f in loaded.signatures.items()} | {"keep": loaded}  # fmt: skip


def randomised(network, rng):
    for variable in network.variables:
        if variable.path.endswith(("moving_variance", "gamma")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith(("moving_mean", "beta", "bias")):
            variable.assign(rng.uniform(-0.3, 0.3, variable.shape))
    return network


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "mobilenet_v2",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("efficientnet_b0", "densenet121")),
    ],
)
def test_folding_changes_nothing_but_the_number_of_layers(name, rng):
    from msrn_tf.models.backbones import build_backbone

    network = randomised(build_backbone(name)[0], rng)
    folded = fold_batch_norms(network)
    images = rng.uniform(-1, 1, (2, 64, 96, 3)).astype("float32")
    for found, expected in zip(folded(images), network(images, training=False), strict=True):
        expected = np.asarray(expected)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)

    def batch_norms(network):
        return sum(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)

    assert batch_norms(folded) == {"densenet121": 62}.get(name, 0) < batch_norms(network)


@pytest.mark.parametrize("choices", [{}, {"head": "mlp", "head_units": 8}, {"model": "gap"}, {"model": "gmp"}], ids=str)
def test_the_inference_model_equals_the_trained_one(choices, rng):
    model = small_model(**choices)
    images = rng.integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    found = inference_model(model)
    expected = np.asarray(model(images, training=False))
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found(images, training=False), expected, atol=1e-5 * scale, rtol=0)
    assert not [v for v in found.variables if "graph" in v.path or "diff_pool" in v.path]


def test_every_encoding_gets_the_scores_of_prediction(model, signatures):
    unusual = {"bmp with a palette", "one-bit bmp", "bmp of 16 bits", "bmp of red, green and blue in another order"}
    names = [name for name in READABLE if not any(kind in name for kind in ("webp", "tiff", "avif", "heic"))]
    names = [name for name in names if name not in unusual]  # those are Pillow's alone
    outputs = signatures["serving_default"](image_bytes=tf.constant([READABLE[name] for name in names]))
    assert outputs["valid"].all()
    photos = [(name, pixels_of(READABLE[name])) for name in names]
    for index, expected in enumerate(predict_photos(model, photos)):
        labels = [label.decode() for label in outputs["labels"][index]]
        assert labels == expected.labels, expected.photo
        np.testing.assert_allclose(outputs["scores"][index], expected.scores, atol=1e-5)
        assert [label for label, there in zip(labels, outputs["is_present"][index], strict=True) if there] == list(
            expected.present
        )
    assert all(len(value) == len(names) for value in outputs.values())


def black_png(side):
    """A whole PNG of `side`×`side` black pixels of one bit: it takes no room until it is decoded."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    compressor = zlib.compressobj(1)
    row = bytes(1 + -(-side // 8))  # the filter's number, then the pixels
    rows = b"".join(compressor.compress(row) for _ in range(side)) + compressor.flush()
    header = side.to_bytes(4, "big") * 2 + b"\x01\x00\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def peak_megabytes():
    """The most memory that this process has had since the last call."""
    status = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.parametrize("side", [20_000, 50_000])
def test_a_png_bomb_is_refused_before_it_is_decoded(signatures, side):
    """20000×20000 is what TensorFlow itself would still decode, to 1.2 GB."""
    bomb = black_png(side)
    assert len(bomb) < 2_000_000
    peak_megabytes()
    before = peak_megabytes()
    outputs = signatures["serving_default"](image_bytes=tf.constant([bomb, black_png(200)]))
    assert outputs["valid"].tolist() == [False, True]
    assert peak_megabytes() - before < 200


def test_every_format_is_measured_before_it_is_decoded():
    batch = tf.constant([encoded(photo(), kind) for kind in ("JPEG", "PNG", "GIF", "BMP")] + [READABLE["exif 6"]])
    pixels = photo().size[0] * photo().size[1]
    for most, are_valid in ((pixels, True), (pixels - 1, False)):
        _, valid = tf.function(photo_decoder(32, most), autograph=False)(batch)
        assert valid.numpy().tolist() == [are_valid] * len(batch)


@pytest.mark.parametrize("signature", ["serving_default", "explain", "embed", "classify"])
def test_bad_photos_are_answered_alone(signatures, signature):
    good, other = READABLE["baseline"], READABLE["png"]
    bad = [b"", encoded(photo(), "WEBP"), good[: len(good) // 3], black_png(30_000)]
    batch = [bad[0], good, bad[1], bad[2], other, bad[3]]
    argument = "image_bytes"
    if signature == "classify":
        argument, batch = "inputs", [example_of(item).SerializeToString() for item in batch]
        batch[2] = b"\xff\xffno example"
    mixed = signatures[signature](**{argument: tf.constant(batch)})
    alone = signatures[signature](**{argument: tf.constant([batch[1], batch[4]])})
    for name, value in mixed.items():
        if value.dtype == object:
            np.testing.assert_array_equal(value[[1, 4]], alone[name], err_msg=name)
        else:
            np.testing.assert_allclose(value[[1, 4]], alone[name], atol=1e-6, err_msg=name)
    if "valid" in mixed:
        assert mixed["valid"].tolist() == [False, True, False, False, True, False]
    for value in mixed.values():
        assert value.dtype == object or np.isfinite(np.asarray(value, "float64")).all()


@pytest.mark.parametrize("signature", ["serving_default", "explain", "embed"])
def test_an_empty_batch_and_a_batch_of_bad_photos_are_answered(signatures, signature):
    empty = signatures[signature](image_bytes=tf.constant([], tf.string))
    assert all(len(value) == 0 for value in empty.values())
    bad = signatures[signature](image_bytes=tf.constant([b"x", b"y"]))
    assert not bad["valid"].any()


def test_pixels_and_photos_get_the_same_answer(signatures):
    pixels = pixels_of(READABLE["baseline"])[None]
    one = signatures["serving_pixels"](image=pixels)
    other = signatures["serving_default"](image_bytes=tf.constant([READABLE["baseline"]]))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_attention_maps_are_those_of_prediction(model, signatures):
    outputs = signatures["explain"](image_bytes=tf.constant([READABLE["baseline"]]))
    attention = outputs["attention"]
    assert attention.shape == (1, len(LABELS), 8, 8) and attention.min() >= 0 and attention.max() == pytest.approx(1)
    maps = [np.asarray(scale) for scale in model.classify_and_explain(pixels_of(READABLE["baseline"])[None])[1]]
    for place, label in enumerate(outputs["labels"][0]):
        index = LABELS.index(label.decode())
        expected = combine_scales([scale[0, index] for scale in maps], (8, 8))
        np.testing.assert_allclose(attention[0, place], expected, atol=1e-4)


def test_maps_of_several_scales_are_combined_as_for_heatmaps(rng):
    maps = [rng.random((2, 3, size, size)).astype("float32") for size in (12, 6, 3)]
    found = combined_maps([tf.constant(scale) for scale in maps])
    for photo_index, label in np.ndindex(2, 3):
        expected = combine_scales([scale[photo_index, label] for scale in maps], (12, 12))
        np.testing.assert_allclose(found[photo_index, label], expected, atol=1e-5)


STABLE_OPERATIONS = set((pathlib.Path(__file__).parent / "stable_operations.txt").read_text().split())
"""Operations that were registered years before TensorFlow 2.20, which TF-Serving's newest release is built on."""


def operations(folder):
    content = saved_model_pb2.SavedModel()
    with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
        content.ParseFromString(file.read())
    graph = content.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    functions = {function.signature.name for function in graph.library.function}
    return {node.op for node in nodes} - functions, graph


def test_only_operations_that_every_server_knows_are_used(exported):
    found, graph = operations(exported)
    assert found - STABLE_OPERATIONS == set()
    assert not any("_XlaMustCompile" in function.attr for function in graph.library.function)


def test_the_folder_holds_what_a_server_and_a_person_look_for(exported):
    with open(os.path.join(exported, "assets", "labels.txt"), encoding="utf-8") as file:
        assert file.read().split() == list(LABELS)
    with open(os.path.join(exported, "assets", "model_card.json"), encoding="utf-8") as file:
        card = json.load(file)
    assert card["image_size"] == SIZE and card["labels"] == list(LABELS)
    names = {"serving_default", "serving_pixels", "classify", "explain", "embed"}
    assert set(card["signatures"]) == names
    assert {request.model_spec.signature_name for request in read_warm_up_requests(exported)} == names
    for record in tf.data.TFRecordDataset(os.path.join(exported, WARM_UP_FILE)).as_numpy_iterator():
        prediction_log_pb2.PredictionLog.FromString(record)


def test_saved_model_cli_shows_and_runs_it(exported, tmp_path):
    run = command("tensorflow.python.tools.saved_model_cli", "show", "--dir", exported, "--all")
    assert run.returncode == 0 and "tensorflow/serving/classify" in run.stdout, run.stderr
    np.save(tmp_path / "image.npy", np.zeros((1, SIZE, SIZE, 3), np.uint8))
    run = command(
        "tensorflow.python.tools.saved_model_cli", "run", "--dir", exported, "--tag_set", "serve",
        "--signature_def", "serving_pixels", "--inputs", f"image={tmp_path / 'image.npy'}",
    )  # fmt: skip
    assert run.returncode == 0 and "scores" in run.stdout, run.stderr


def test_the_command_writes_versions_and_never_over_one(tmp_path):
    keras_file, output = str(tmp_path / "model.keras"), tmp_path / "msrn"
    save_model(small_model(strides=(8,)), keras_file)
    arguments = [f"--model={keras_file}", f"--output={output}"]
    differences = []
    for extra in ([], ["--serving_dtype=bfloat16"]):
        run = command("export.saved_model", *arguments, *extra)
        assert run.returncode == 0, run.stderr
        differences.append(float(re.search(r"differ by at most (\S+) from", run.stdout)[1]))
    assert differences[0] <= 1e-5 < differences[1] < 0.1
    cards = [json.loads((output / version / "assets" / "model_card.json").read_text()) for version in "12"]
    assert [card["compute_dtype"] for card in cards] == ["float32", "bfloat16"]
    assert sorted(os.listdir(output)) == ["1", "2", "config"]
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((output / "config" / "models.config").read_text(), config)
    served = config.model_config_list.config[0]
    assert dict(served.version_labels) == {"stable": 1, "canary": 2}
    assert list(served.model_version_policy.specific.versions) == [1, 2] and served.base_path == "/models/msrn"
    assert_refused(command("export.saved_model", *arguments, "--version=2"), "--version=2", "use 3")
    assert sorted(os.listdir(output)) == ["1", "2", "config"]


def test_the_file_of_labels_has_a_line_for_each_of_them_whatever_is_in_them():
    labels = ["sky", "größe", "hot\nred", "a\r\nb", "c\u2028d", "\x1b[2J"]
    text = labels_text(labels)
    assert text.splitlines() == ["sky", "größe", r"hot\nred", r"a\r\nb", r"c\u2028d", r"\x1b[2J"]


def message_class(messages):
    """The last of some message classes, each `(name, {field: (number, type)})`; `repeated` before a type."""
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    for name, fields in messages:
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            added = message.field.add(name=field, number=number, label=3 if kind.startswith("repeated") else 1)
            kind = kind.removeprefix("repeated ")
            if kind.startswith("."):
                added.type, added.type_name = 11, kind
            else:
                added.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{messages[-1][0]}"))


INT64 = ".google.protobuf.Int64Value"
BATCHING_PARAMETERS = [("BatchingParameters", {  # tensorflow_serving/servables/tensorflow/session_bundle_config.proto
    "max_batch_size": (1, INT64), "batch_timeout_micros": (2, INT64), "max_enqueued_batches": (3, INT64),
    "num_batch_threads": (4, INT64), "thread_pool_name": (5, ".google.protobuf.StringValue"),
    "allowed_batch_sizes": (6, "repeated int64"), "pad_variable_length_inputs": (7, "bool"),
})]  # fmt: skip
MONITORING_CONFIG = [  # tensorflow_serving/config/monitoring_config.proto
    ("PrometheusConfig", {"enable": (1, "bool"), "path": (2, "string")}),
    ("MonitoringConfig", {"prometheus_config": (1, ".t.PrometheusConfig")}),
]


@pytest.mark.parametrize("largest", [1, 6, 16])
def test_batching_parameters_and_monitoring_are_messages_of_tf_serving(tmp_path, largest):
    write_configuration(str(tmp_path), "msrn", "/models/msrn", [3], largest)
    text = (tmp_path / "batching.config").read_text()
    batching = text_format.Parse(text, message_class(BATCHING_PARAMETERS)())
    sizes = list(batching.allowed_batch_sizes)
    assert sizes == sorted(set(sizes)) and sizes[-1] == batching.max_batch_size.value == largest
    assert batching.num_batch_threads.value >= 1 and batching.max_enqueued_batches.value >= 1
    text = (tmp_path / "monitoring.config").read_text()
    assert text_format.Parse(text, message_class(MONITORING_CONFIG)()).prometheus_config.enable


# tensorflow_serving/model_servers/main.cc
TF_SERVING_FLAGS = {
    "model_config_file", "model_config_file_poll_wait_seconds", "allow_version_labels_for_unavailable_models",
    "enable_batching", "batching_parameters_file", "monitoring_config_file", "num_load_threads",
}  # fmt: skip


@pytest.mark.parametrize("name", ["serving-compose.yaml", "serving-kubernetes.yaml"])
def test_deployments_start_tf_serving_with_the_files_that_an_export_writes(name, tmp_path):
    documents = list(yaml.safe_load_all((ROOT / "deploy" / name).read_text()))
    if "services" in documents[0]:
        container = documents[0]["services"]["serving"]
        arguments = container["command"]
        assert "/v1/models/msrn" in container["healthcheck"]["test"][1] and container["deploy"]["resources"]["limits"]
    else:
        container = documents[0]["spec"]["template"]["spec"]["containers"][0]
        arguments = container["args"]
        assert container["readinessProbe"]["httpGet"]["path"].startswith("/v1/models/msrn")
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}
        assert documents[1]["spec"]["selector"] == documents[0]["spec"]["template"]["metadata"]["labels"]
    assert container["image"] == "tensorflow/serving:2.20.0"
    flags = dict(argument.removeprefix("--").partition("=")[::2] for argument in arguments)
    assert set(flags) <= TF_SERVING_FLAGS
    # The labels of models.config would otherwise keep the server from starting: no version is loaded then.
    assert "allow_version_labels_for_unavailable_models" in flags
    write_configuration(str(tmp_path), "msrn", "/models/msrn", [1])
    files = {os.path.basename(value) for value in flags.values() if value.startswith("/models/msrn/config/")}
    assert files == set(os.listdir(tmp_path))


def test_bad_flags_are_one_sentence(tmp_path):
    assert_refused(command("export.saved_model", "--output=x"), "--model is missing")
    (tmp_path / "file").write_text("")
    assert_refused(command("export.saved_model", f"--model={tmp_path / 'file'}", f"--output={tmp_path}"), "--model")


def test_a_version_is_a_folder_that_servers_take_for_one(tmp_path):
    for name in ("2", "²", "x", "99999999999999999999"):
        (tmp_path / name).mkdir()
    assert find_versions(str(tmp_path)) == [2]
    assert choose_version(str(tmp_path), 0) == 3
