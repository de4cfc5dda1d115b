"""Without the packages of an extra: every command starts, and what needs one says which to install."""

import importlib.util
import os
import sys

import pytest
from PIL import Image
from running import ROOT, assert_refused, command, hide, in_fork

from msrn_tf.__main__ import COMMANDS
from msrn_tf.errors import UserError
from msrn_tf.extras import EXTRAS, MissingPackageError, needs

MODEL, TFLITE = f"--model={ROOT}/models/voc2007.keras", f"{ROOT}/models/voc2007.tflite"
PHOTO = ROOT / "tools" / "photos" / "cat.jpg"
SAVED_MODEL = ["export.saved_model", MODEL, "--output=served"]
SERVE = ["export.serve", "--model_base_path=served"]
CONVERT = ["export.tflite", MODEL, "--output=a.tflite"]
ONNX = ["export.onnx", MODEL, "--output=a.onnx"]
CHECK = ["msrn_tf.check_labels", "--dataset=demo"]
ADDONS = ["msrn_tf.train", "--data_dir=photos", "--val_split=", "--augment=addons", "--workdir=run"]
needs_addons = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_addons") is None, reason="tensorflow-addons has no wheels for this Python"
)
RUNS = [
    ("data", "imagehash", ["msrn_tf.prepare", "--dataset=demo", "--output=out"]),
    ("data", "tensorflow_datasets", ["msrn_tf.train", "--dataset=tfds:voc/2007", "--data_dir=photos", "--workdir=run"]),
    ("serving", "grpc", SAVED_MODEL),
    ("serving", "tensorflow_serving", SAVED_MODEL),
    ("serving", "grpc_health", SERVE),
    ("serving", "grpc_reflection", SERVE),
    ("serving", "prometheus_client", SERVE),
    ("serving", "tornado", SERVE),
    ("serving", "grpc", ["export.client", PHOTO]),
    ("serving", "requests", ["export.client", "--rest", PHOTO]),
    ("tflite", "litert_quantizer", CONVERT),
    ("tflite", "ai_edge_litert", [*SERVE, "--prefer_tflite_model"]),
    ("tflite", "flatbuffers", CONVERT),
    ("tflite", "ai_edge_litert", ["export.ondevice", f"--model={TFLITE}", PHOTO]),
    ("tflite", "ai_edge_litert", ["export.compare", MODEL, f"--tflite={TFLITE}", "--dataset=demo"]),
    ("tflite", "ai_edge_litert", ["export.web", f"--tflite={TFLITE}", "--output=page"]),
    ("onnx", "onnx", ONNX),
    ("onnx", "onnxruntime", ONNX),
    ("onnx", "tf2onnx", ONNX),
    ("addons", "tensorflow_addons", ADDONS),
    pytest.param("addons", "tf_keras", ADDONS, marks=needs_addons),
    ("beam", "apache_beam", ["msrn_tf.prepare", "--dataset=demo", "--output=out", "--runner=DirectRunner"]),
    ("report", "cleanlab", CHECK),
    ("report", "scipy", CHECK),
]
TENSORFLOWS = {"google"}
"""Of an extra, and never missing: TensorFlow needs it too."""


@pytest.fixture
def folder(tmp_path):
    for name, label in (("a", "red"), ("b", "green")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        Image.new("RGB", (40, 40), label).save(tmp_path / "photos" / label / f"{name}.jpg")
    return tmp_path


@pytest.mark.parametrize(("extra", "module", "run"), RUNS)
def test_a_command_without_a_package_says_which_extra_brings_it_and_writes_nothing(folder, extra, module, run):
    answer = command(*run, cwd=folder, absent=[module])
    package = EXTRAS[extra][module]
    assert_refused(answer, f'{package} is not installed: pip install "msrn-tf[{extra}]", or ".[{extra}]" in the folder')
    assert os.listdir(folder) == ["photos"] or os.listdir(folder / "served") == []


def test_every_package_of_an_extra_is_left_out_once():
    runs = [getattr(run, "values", run) for run in RUNS]
    assert {module for _, module, _ in runs} | TENSORFLOWS == {name for its in EXTRAS.values() for name in its}


def import_commands(modules, absent):
    hide(absent)
    for module in modules:
        importlib.import_module(module)


def test_every_command_starts_without_any_extra():
    absent = {name for its in EXTRAS.values() for name in its} - TENSORFLOWS
    assert in_fork(import_commands, list(COMMANDS.values()), sorted(absent)) == 0


def test_a_package_that_is_there_and_broken_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise ImportError('libfoo.so: `no` such file')")
    for name in [name for name in sys.modules if name.split(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    broken = r"^a package cannot be imported \(libfoo.so: 'no' such file\): pip"
    with pytest.raises(MissingPackageError, match=broken), needs("onnx"):
        import onnxruntime  # noqa: F401
    with pytest.raises(UserError, match="pydantic_core is not installed: pip install"), needs("onnx"):
        raise ModuleNotFoundError("No module named 'pydantic_core'", name="pydantic_core")


def test_an_error_of_our_own_is_left_as_it_is():
    with pytest.raises(ModuleNotFoundError, match=r"export\.nosuch"), needs("onnx"):
        importlib.import_module("export.nosuch")
