"""The exports in runtimes that are not TensorFlow's: ONNX Runtime and OpenVINO give the trained model's scores."""

import json
import re

import numpy as np
import pytest
import yaml
from running import ROOT, assert_refused, command
from serving import LABELS, SIZE, small_model

from export.onnx import onnx_bytes, runtime
from export.tflite import tflite_bytes

onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")

PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
CONTROL_FLOW = {"If", "Loop", "Scan"}


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def exported(model):
    return onnx_bytes(model)


def in_openvino(content, pixels, hint="f32"):
    network = openvino.Core().read_model(content)
    compiled = openvino.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    return next(iter(compiled(pixels).values()))


@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_runtime_and_openvino_give_the_models_scores_for_any_batch(model, exported, batch):
    expected = model.probabilities(PIXELS[:batch])
    assert np.ptp(expected) > 0.1
    (found,) = runtime(exported).run(["scores"], {"image": PIXELS[:batch]})
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(in_openvino(exported, PIXELS[:batch]), expected, atol=1e-5)


@pytest.mark.parametrize("with_photos", [False, True])
def test_an_onnx_graph_has_no_control_flow_and_says_what_its_scores_mean(model, exported, with_photos):
    content = onnx_bytes(model, photos=PIXELS[:1]) if with_photos else exported
    graph = onnx.load_from_string(content)
    assert not CONTROL_FLOW & {node.op_type for node in graph.graph.node}
    assert [opset.version for opset in graph.opset_import if not opset.domain] == [18]
    about = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(about["labels"]) == list(LABELS)
    assert json.loads(about["thresholds"]) == list(model.thresholds)
    (found,) = runtime(content).run(["scores"], {"image": PIXELS})
    np.testing.assert_allclose(found, model.probabilities(PIXELS), atol=1e-5)


def test_an_onnx_model_for_bgr_takes_the_channels_the_other_way_round(model):
    content = onnx_bytes(model, opset=13, channel_order="bgr")
    (found,) = runtime(content).run(["scores"], {"image": PIXELS[..., ::-1]})
    np.testing.assert_allclose(found, model.probabilities(PIXELS), atol=1e-6)


@pytest.mark.parametrize(("mode", "tolerance"), [("none", 1e-5), ("float16", 5e-3), ("dynamic", 0.05), ("int8", 0.15)])
def test_openvino_reads_the_tflite(model, tmp_path, mode, tolerance):
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_bytes(model, mode, [image[None] for image in PIXELS]))
    found = np.concatenate([in_openvino(path, image[None]) for image in PIXELS])
    np.testing.assert_allclose(found, model.probabilities(PIXELS), atol=tolerance)


def test_the_command_writes_an_onnx_and_says_how_far_its_scores_are(model, tmp_path):
    model.save(tmp_path / "model.keras")
    answer = command("export.onnx", f"--model={tmp_path}/model.keras", f"--output={tmp_path}/model.onnx")
    assert answer.returncode == 0, answer.stderr
    assert "scores differ by at most" in answer.stdout and "opset 18" in answer.stdout
    assert onnx.load(tmp_path / "model.onnx").graph.input[0].name == "image"


def test_a_model_that_is_none_is_refused(tmp_path):
    assert_refused(command("export.onnx", f"--output={tmp_path}/model.onnx"), "--model is missing")


def test_tritons_configuration_names_what_an_onnx_takes_and_gives(exported):
    graph = onnx.load_from_string(exported).graph
    text = (ROOT / "deploy" / "triton" / "msrn" / "config.pbtxt").read_text()
    assert re.findall(r'\{ name: "(\w+)"', text) == [graph.input[0].name, graph.output[0].name]
    assert (
        "TYPE_UINT8 dims: [ 288, 288, 3 ]" in text
        and graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    )
    assert "max_batch_size: 16" in text and not graph.input[0].type.tensor_type.shape.dim[0].dim_value


@pytest.mark.parametrize("name", ["serving-kserve.yaml", "serving-ovms-compose.yaml"])
def test_manifests_of_other_servers_name_the_model_and_its_folder(name):
    document = yaml.safe_load((ROOT / "deploy" / name).read_text())
    if "services" in document:
        container = document["services"]["serving"]
        flags = dict(argument.removeprefix("--").partition("=")[::2] for argument in container["command"])
        assert flags["model_path"] == container["volumes"][0].split(":")[1] and flags["layout"] == "NHWC"
        assert {f"{flags[port]}:{flags[port]}" for port in ("port", "rest_port")} == set(container["ports"])
    else:
        assert document["kind"] == "InferenceService" and document["apiVersion"] == "serving.kserve.io/v1beta1"
        model = document["spec"]["predictor"]["model"]
        assert model["modelFormat"]["name"] == "tensorflow" and model["storageUri"].endswith("/msrn")
