"""The SavedModel: equal to the trained model, one bad photo at a time, only operations that any TF-Serving knows."""

import json
import os
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from running import assert_refused, command
from serving import LABELS, SIZE, export_version, small_model
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2
from test_decoding import READABLE, encoded, photo

from export.folding import fold_batch_norms
from export.inference_model import inference_model
from export.serving.warm_up import WARM_UP_FILE, example_of, read_warm_up_requests
from export.signatures import combined_maps
from msrn_tf.data.decoding import evaluation_pixels
from msrn_tf.models.calibration import Calibration
from msrn_tf.models.factory import save_model
from msrn_tf.predict import predict_photos
from msrn_tf.visualization.heatmaps import combine_scales


@pytest.fixture(scope="module")
def model():
    """Calibrated, so that every comparison below is of calibrated scores."""
    model = small_model()
    model.calibration = Calibration(np.linspace(0.4, 1.6, len(LABELS)), np.linspace(-1, 1, len(LABELS)))
    return model


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    base = tmp_path_factory.mktemp("serving")
    export_version(model, str(base), 1)
    return str(base / "1")


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


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_b0", "densenet121"])
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
    np.testing.assert_allclose(found(images, training=False), model(images, training=False), atol=1e-5)
    assert not [v for v in found.variables if "label_encoder" in v.path or "diff_pool" in v.path]


def test_every_encoding_gets_the_scores_of_prediction(model, signatures):
    names = [name for name in READABLE if "webp" not in name.lower()]
    outputs = signatures["serving_default"](image_bytes=tf.constant([READABLE[name] for name in names]))
    assert outputs["valid"].all()
    photos = [(name, evaluation_pixels(READABLE[name], SIZE)) for name in names]
    for index, row in enumerate(predict_photos(model, photos)):
        assert [label.decode() for label in outputs["labels"][index]] == row["labels"], row["photo"]
        np.testing.assert_allclose(outputs["scores"][index], row["scores"], atol=1e-5)
        present = [label for label, there in zip(row["labels"], outputs["is_present"][index], strict=True) if there]
        assert present == row["present"]
    assert all(len(value) == len(names) for value in outputs.values())


def png_bomb():
    """A PNG whose header says 50000×50000."""
    small = bytearray(encoded(photo(), "PNG"))
    small[16:24] = (50000).to_bytes(4, "big") * 2
    return bytes(small)


@pytest.mark.parametrize("signature", ["serving_default", "explain", "embed", "classify"])
def test_bad_photos_are_answered_alone(signatures, signature):
    good, other = READABLE["baseline"], READABLE["png"]
    bad = [b"", encoded(photo(), "WEBP"), good[: len(good) // 3], png_bomb()]
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
    pixels = evaluation_pixels(READABLE["baseline"], SIZE)[None]
    one = signatures["serving_pixels"](image=pixels)
    other = signatures["serving_default"](image_bytes=tf.constant([READABLE["baseline"]]))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_attention_maps_are_those_of_prediction(model, signatures):
    outputs = signatures["explain"](image_bytes=tf.constant([READABLE["baseline"]]))
    attention = outputs["attention"]
    assert attention.shape == (1, len(LABELS), 8, 8) and attention.min() >= 0 and attention.max() == pytest.approx(1)
    maps = [np.asarray(scale) for scale in model.attention_maps(evaluation_pixels(READABLE["baseline"], SIZE)[None])]
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


def test_the_command_writes_versions_and_never_over_one(model, tmp_path):
    keras_file, output = str(tmp_path / "model.keras"), tmp_path / "msrn"
    save_model(model, keras_file)
    arguments = [f"--model={keras_file}", f"--output={output}"]
    for extra in ([], ["--serving_dtype=bfloat16"]):
        run = command("export.saved_model", *arguments, *extra)
        assert run.returncode == 0, run.stderr
    assert sorted(os.listdir(output)) == ["1", "2", "config"]
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((output / "config" / "models.config").read_text(), config)
    served = config.model_config_list.config[0]
    assert dict(served.version_labels) == {"stable": 1, "canary": 2}
    assert list(served.model_version_policy.specific.versions) == [1, 2] and served.base_path == "/models/msrn"
    assert_refused(command("export.saved_model", *arguments, "--version=2"), "--version=2", "use 3")
    assert sorted(os.listdir(output)) == ["1", "2", "config"]


def test_bad_flags_are_one_sentence(tmp_path):
    assert_refused(command("export.saved_model", "--output=x"), "--model is missing")
    (tmp_path / "file").write_text("")
    assert_refused(command("export.saved_model", f"--model={tmp_path / 'file'}", f"--output={tmp_path}"), "--model")
