"""TFLite: equal to the trained model mode by mode, built-in operations alone, readable to MediaPipe, honest errors."""

import ast
import csv
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import types
import zipfile

import flatbuffers
import mediapipe
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata_schema
from mediapipe.tasks.python import BaseOptions, vision
from PIL import Image
from running import ROOT
from serving import LABELS, SIZE, small_model

from export import compare, ondevice, tflite
from export.device_classifier import DeviceClassifier, read_labels
from export.quantization import calibration_photos, conversion, device_model
from export.quantization.arena import arena_bytes
from export.quantization.conversion import convert, quantize
from export.quantization.metadata import with_metadata
from export.quantization.model_object import joins_constants, read_model
from export.quantization.modes import MODES
from export.quantization.recipes import recipe
from export.signatures import combined_maps
from msrn_tf.config import DataConfig
from msrn_tf.data import demo
from msrn_tf.data.decoding import evaluation_pixels
from msrn_tf.errors import UserError
from msrn_tf.layers import SemanticAttention
from msrn_tf.models.factory import save_model

TOLERANCES = {"none": 1e-4, "float16": 1e-2, "dynamic": 0.05, "int8": 0.06, "int8_full": 0.3, "int16x8": 0.05}


@pytest.fixture(scope="module")
def photos():
    """Twelve drawn photos, uint8 `[1, SIZE, SIZE, 3]` each."""
    drawn = (demo.draw_example("val", index).image_bytes for index in range(12))
    return [evaluation_pixels(encoded, SIZE)[None].numpy() for encoded in drawn]


@pytest.fixture(scope="module")
def model():
    model = small_model()
    model.thresholds = (0.3, 0.4, 0.5, 0.6, 0.7)
    return model


def write_tflite(path, model, mode, photos, with_attention=False):
    with open(path, "wb") as file:
        file.write(tflite.tflite_bytes(model, mode, photos, with_attention))
    return str(path)


@pytest.fixture(scope="module")
def files(model, photos, tmp_path_factory):
    """Mode → path; `attention` → float with heat-maps."""
    folder = tmp_path_factory.mktemp("tflite")
    convert_anew, in_float = conversion._converted, []

    def convert_once(device_model, calibration_photos=None):
        if calibration_photos is not None:
            return convert_anew(device_model, calibration_photos)
        if not in_float:
            in_float.append(convert_anew(device_model))
        return in_float[0]

    with pytest.MonkeyPatch.context() as patch:  # all modes but `int8_full` are quantized from the same float file
        patch.setattr(conversion, "_converted", convert_once)
        paths = {mode: write_tflite(folder / f"{mode}.tflite", model, mode, photos) for mode in TOLERANCES}
    return paths | {"attention": write_tflite(folder / "attention.tflite", model, "none", photos, True)}


def scores_of(path, photos):
    classifier = DeviceClassifier(path)
    return np.array([classifier.scores(photo[0]) for photo in photos])


@pytest.mark.parametrize("mode", TOLERANCES)
def test_scores_are_the_trained_models(model, files, photos, mode):
    expected = model.probabilities(np.concatenate(photos))
    assert np.ptp(expected, axis=0).max() > 0.1  # the photos are not all alike to it
    np.testing.assert_allclose(scores_of(files[mode], photos), expected, atol=TOLERANCES[mode])


@pytest.mark.parametrize(
    ("choices", "mode", "tolerance"),
    [
        ({"head": "mlp", "head_units": 16}, "none", 1e-4),
        ({"head": "mlp", "head_units": 16}, "int8", 0.15),
        ({"model": "gap"}, "int8", 0.15),
        ({"backbone": "mobilenet_v3_small"}, "none", 1e-4),
    ],
    ids=str,
)
def test_other_heads_baselines_and_backbones_are_exported(photos, tmp_path, choices, mode, tolerance):
    model = small_model(**choices)
    path = write_tflite(tmp_path / "model.tflite", model, mode, photos)
    expected = model.probabilities(np.concatenate(photos))
    np.testing.assert_allclose(scores_of(path, photos), expected, atol=tolerance)
    if mode == "int8":
        dense = [kinds for name, kinds in operations(path) if name == "FULLY_CONNECTED"]
        assert dense and not any(np.float32 in kinds for kinds in dense)


@pytest.mark.parametrize("strength", [1.0, 30.0])
def test_unrolled_attention_is_the_layers(rng, strength):
    positions = (3 * rng.standard_normal((1, 784, 16))).astype("float32")
    semantics = (strength * rng.standard_normal((7, 16))).astype("float32")
    gradients = rng.standard_normal((1, 5, 16)).astype("float32")
    layer, unrolled = SemanticAttention(), device_model.UnrolledAttention()
    found = unrolled(tf.constant(positions), tf.constant(semantics))
    np.testing.assert_allclose(found, layer(positions, semantics), atol=1e-4)
    found = unrolled.evidence_maps(tf.constant(positions), tf.constant(semantics[:5]), tf.constant(gradients))
    expected = layer.evidence_maps(positions, semantics[:5], gradients)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_with_calibration_photos_attention_goes_by_moments_and_gives_the_same(photos, tmp_path):
    """Small exponents, as trained models have them: one segment, and no exponential is left."""
    model = small_model()
    for projection in model.projection.projections:
        projection.kernel.assign(0.1 * projection.kernel)
    paths = {kind: tmp_path / f"{kind}.tflite" for kind in ("unrolled", "moments")}
    for kind, path in paths.items():
        write_tflite(path, model, "none", photos if kind == "moments" else ())
    names = {kind: [name for name, _ in operations(str(path))] for kind, path in paths.items()}
    assert "EXP" in names["unrolled"] and "EXP" not in names["moments"]
    found = {kind: scores_of(str(path), photos) for kind, path in paths.items()}
    np.testing.assert_allclose(found["moments"], found["unrolled"], atol=1e-5)
    np.testing.assert_allclose(found["moments"], model.probabilities(np.concatenate(photos)), atol=1e-5)


def test_exponents_that_need_many_segments_are_left_to_the_unrolled_form(photos, monkeypatch):
    model = small_model()
    monkeypatch.setattr(device_model, "largest_exponent", lambda *_: 100.0)
    assert isinstance(device_model.device_attention(model, False, photos), device_model.UnrolledAttention)


def operations(path):
    """(name, types of what is read and written) of each operation, as the file has them."""
    interpreter = Interpreter(
        model_path=path, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    return [
        (details["op_name"], [*details["operand_types"], *details["result_types"]])
        for details in interpreter._get_ops_details()
    ]


def test_every_operation_is_built_in(files):
    builtin = {value for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    for path in files.values():
        content = pathlib.Path(path).read_bytes()
        codes = schema.ModelT.InitFromPackedBuf(content, 0).operatorCodes
        assert codes and all(code.customCode is None for code in codes), path
        assert {code.builtinCode for code in codes} <= builtin - {schema.BuiltinOperator.CUSTOM}, path


def test_int8_keeps_attention_in_float_and_the_backbone_in_integers(files):
    for name, kinds in operations(files["int8"]):
        if name == "CONV_2D":
            assert np.float32 not in kinds
        if name in ("EXP", "SUM", "DIV", "TANH"):
            assert np.float32 in kinds and np.int8 not in kinds, name
    assert sum(name == "DEQUANTIZE" for name, _ in operations(files["int8"])) == 2  # one a scale


def test_int8_full_computes_nothing_in_float(files):
    arithmetic = [kinds for name, kinds in operations(files["int8_full"]) if name not in ("CAST", "QUANTIZE")]
    assert arithmetic and not any(np.float32 in kinds for kinds in arithmetic)


def test_sizes_fall_with_the_weights(files, model):
    size = {name: os.path.getsize(path) for name, path in files.items()}
    assert size["float16"] < 0.55 * size["none"] and size["int8"] < 0.45 * size["none"]


def test_the_arena_holds_the_largest_value_and_not_all(files):
    interpreter = Interpreter(model_path=files["none"])
    written = {index for details in interpreter._get_ops_details() for index in details["outputs"]}
    sizes = [
        np.prod(details["shape"]) * np.dtype(details["dtype"]).itemsize
        for details in interpreter.get_tensor_details()
        if details["index"] in written
    ]
    assert max(sizes) <= arena_bytes(files["none"]) < sum(sizes)


def test_heatmaps_are_the_trained_models(model, files, photos):
    classifier = DeviceClassifier(files["attention"])
    classifier.scores(photos[0][0])
    np.testing.assert_allclose(
        classifier.attention()[None], combined_maps(model.classify_and_explain(photos[0])[1]), atol=1e-3
    )


# Metadata, and MediaPipe as a client


def metadata_of(path):
    content = pathlib.Path(path).read_bytes()
    root = schema.Model.GetRootAs(content, 0)
    (entry,) = (e for e in map(root.Metadata, range(root.MetadataLength())) if e.Name() == b"TFLITE_METADATA")
    buffer = root.Buffers(entry.Buffer())
    data = buffer.DataAsNumpy().tobytes() if buffer.DataLength() else content[buffer.Offset() :][: buffer.Size()]
    assert metadata_schema.ModelMetadata.ModelMetadataBufferHasIdentifier(data, 0)
    return metadata_schema.ModelMetadataT.InitFromPackedBuf(data, 0)


@pytest.mark.parametrize("mode", ["none", "int8", "attention"])
def test_metadata_is_read_by_mediapipes_own_classes(files, mode):
    root = metadata_of(files[mode])
    assert b"multi-label" in root.description
    (subgraph,) = root.subgraphMetadata
    (image,), scores = subgraph.inputTensorMetadata, subgraph.outputTensorMetadata[-1]
    assert len(subgraph.outputTensorMetadata) == (2 if mode == "attention" else 1)
    properties = image.content.contentProperties
    assert properties.colorSpace == metadata_schema.ColorSpaceType.RGB and properties.defaultSize.width == SIZE
    (normalization,) = image.processUnits
    assert list(normalization.options.mean) == [0.0] and list(normalization.options.std) == [1.0]
    assert scores.processUnits[0].options.globalScoreThreshold == pytest.approx(0.3)
    assert [(file.name, file.type) for file in scores.associatedFiles] == [
        (b"labels.txt", metadata_schema.AssociatedFileType.TENSOR_AXIS_LABELS),
        (b"thresholds.txt", metadata_schema.AssociatedFileType.DESCRIPTIONS),
    ]
    with zipfile.ZipFile(files[mode]) as archive:
        assert archive.read("labels.txt").decode().split() == list(LABELS)
        assert archive.read("thresholds.txt").decode().split() == ["0.3", "0.4", "0.5", "0.6", "0.7"]


def mediapipe_scores(path, pixels, **options):
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=path), **options)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        answer = classifier.classify(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels))
    return {category.category_name: category.score for category in answer.classifications[0].categories}


@pytest.mark.parametrize("mode", TOLERANCES)
def test_mediapipe_gives_the_same_labels_and_scores(files, photos, shared, mode):
    classifier = DeviceClassifier(files[mode])
    real = shared / "voc2007" / "VOCdevkit" / "VOC2007" / "JPEGImages" / "000012.jpg"
    for pixels in (photos[0][0], classifier.pixels(str(real))):
        expected = {label: score for label, score, _ in classifier.classify(Image.fromarray(pixels))}
        found = mediapipe_scores(files[mode], pixels, score_threshold=1e-9)
        assert found == pytest.approx({label: score for label, score in expected.items() if score > 0}, abs=1e-6)
    candidates = mediapipe_scores(files[mode], pixels)  # nobody's label below the lowest threshold
    assert set(candidates) == {label for label, score in expected.items() if score >= 0.3}


# export.ondevice


@pytest.fixture
def jpegs(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(2):
        (folder / f"photo{index}.jpg").write_bytes(demo.draw_example("val", index).image_bytes)
    return folder


def test_ondevice_names_labels_and_bad_photos_and_writes_heatmaps(model, files, jpegs, tmp_path, capsys):
    (jpegs / "text.jpg").write_text("no photo")
    config = ondevice.OnDeviceConfig(model=files["attention"], json=True, top_k=2, heatmaps=str(tmp_path / "heat"))
    with pytest.raises(SystemExit) as exit_:
        ondevice.main([str(jpegs)], config)
    printed = capsys.readouterr()
    assert exit_.value.code == 1 and "text.jpg: is not a photo" in printed.err
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert [os.path.basename(row["photo"]) for row in rows] == ["photo0.jpg", "photo1.jpg"]
    for index, row in enumerate(rows):
        expected = model.probabilities(evaluation_pixels(demo.draw_example("val", index).image_bytes, SIZE)[None])[0]
        best = np.argsort(-expected)[:2]
        assert row["labels"] == [LABELS[c] for c in best]
        np.testing.assert_allclose(row["scores"], expected[best], atol=0.02)  # Pillow decodes within two grey levels
        assert row["present"] == [LABELS[c] for c in np.argsort(-expected) if expected[c] >= model.thresholds[c]]
        assert set(row["milliseconds"]) == {"read", "run"}
        for path in row["heatmaps"]:
            assert Image.open(path).size == Image.open(row["photo"]).size


def without_tensorflow(folder):
    """An environment in which importing TensorFlow fails."""
    (folder / "tensorflow").mkdir()
    (folder / "tensorflow" / "__init__.py").write_text("raise ImportError('not on this device')")
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def test_ondevice_runs_where_there_is_no_tensorflow(files, jpegs, tmp_path):
    arguments = ["-m", "export.ondevice", f"--model={files['int8']}", "--threads=1", str(jpegs)]
    environment = without_tensorflow(tmp_path)
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)
    assert run.returncode == 0 and "photo1.jpg" in run.stdout and "run ms" in run.stdout, run.stderr


def test_ondevice_does_not_take_tensorflow_where_there_is_one(files, jpegs):
    code = (
        "import runpy, sys\n"
        "try:\n    runpy.run_module('export.ondevice', run_name='__main__', alter_sys=True)\n"
        "finally:\n    print({'tensorflow', 'keras', 'jax', 'torch'} & {*sys.modules} or 'light')"
    )
    arguments = ["-c", code, f"--model={files['int8']}", str(jpegs)]
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0 and "photo1.jpg" in run.stdout and run.stdout.endswith("light\n"), run.stderr


def test_the_classifier_is_one_short_file_that_needs_litert_pillow_and_numpy_alone(files, jpegs, tmp_path):
    source = ROOT / "export" / "device_classifier.py"
    tree = ast.parse(source.read_text())
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    outside = {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert outside == {"ai_edge_litert", "PIL", "numpy", "pillow_heif"}  # the last one where it is
    assert len(source.read_text().splitlines()) < 200
    environment = without_tensorflow(tmp_path) | {"PYTHONPATH": str(tmp_path)}
    shutil.copy(source, tmp_path)
    classify = f"DeviceClassifier({files['int8']!r}).classify({str(jpegs / 'photo0.jpg')!r})"
    code = f"from device_classifier import DeviceClassifier; print({classify})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert run.returncode == 0 and LABELS[0] in run.stdout, run.stderr


def bad_files(good, model, folder):
    """Reason → a file that is wrong for it."""
    content = pathlib.Path(good).read_bytes()
    stream = io.BytesIO(content[: archive_start(content)])
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("labels.txt", "one\ntwo\n")
        archive.writestr("thresholds.txt", "0.5\n0.5\n")
    wanted = {
        "is not a .tflite": b"no model at all",
        "cut short": content[: len(content) // 2],
        "no metadata": convert(model, "none"),
        "5 scores and 2 labels": stream.getvalue(),
    }
    for number, (reason, content) in enumerate(wanted.items()):
        path = folder / f"bad{number}.tflite"
        path.write_bytes(content)
        yield reason, str(path)


def test_files_that_cannot_be_used_are_refused_in_a_sentence(files, model, tmp_path):
    for reason, path in bad_files(files["none"], model, tmp_path):
        with pytest.raises(UserError, match=reason) as error:
            ondevice.open_classifier(path, 1)
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
        assert error.value.exit_status == 2
    with pytest.raises(UserError, match="no such file"):
        ondevice.open_classifier("missing.tflite", 1)


def archive_start(content):
    """Where the ZIP of a .tflite starts: it has two members."""
    return content.rindex(b"PK\x03\x04", 0, content.rindex(b"PK\x03\x04"))


def with_labels(path, folder, labels=b"0\n1\n2\n3\n4\n", thresholds=b"0.5\n" * 5, change=None):
    """A .tflite with other labels; `change` is made to the ZIP's bytes."""
    content = pathlib.Path(path).read_bytes()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", labels)
        archive.writestr("thresholds.txt", thresholds)
    packed = bytearray(stream.getvalue())
    if change:
        change(packed)
    target = folder / "changed.tflite"
    target.write_bytes(content[: archive_start(content)] + packed)
    return str(target)


def flag(place, central, bits):
    """Sets bytes of each member's header, at its place in local headers and in the central directory."""

    def change(packed):
        for start, offset in ((b"PK\x03\x04", place), (b"PK\x01\x02", central)):
            at = packed.find(start)
            while at >= 0:
                packed[at + offset] = bits
                at = packed.find(start, at + 4)

    return change


def damaged(packed):
    packed[42] ^= 0xFF  # within the first member, after its header of 30 bytes and its name


@pytest.mark.parametrize(
    "choices",
    [
        {"change": flag(6, 8, 1)},  # encrypted
        {"change": flag(8, 10, 97)},  # of a compression that nobody knows
        {"change": flag(8, 10, 12)},  # bzip2 by its header, and it is not
        {"change": flag(8, 10, 14)},  # LZMA by its header
        {"change": damaged},
        {"labels": b"a\n\xff\nc\nd\ne\n"},
        {"labels": bytes(2**24 + 1)},
        {"thresholds": b"x\n" * 5},
        {"thresholds": b"nan\n" * 5},
        {"labels": b"a\na\nc\nd\ne\n"},
    ],
    ids=["encrypted", "unknown", "bzip2", "lzma", "damaged", "no text", "large", "no number", "nan", "twice"],
)
def test_every_fault_of_the_files_in_a_tflite_is_one_kind_of_error(files, tmp_path, choices):
    path = with_labels(files["none"], tmp_path, **choices)
    with pytest.raises(
        ValueError, match=r"changed\.tflite: (holds no readable labels|has a label twice).*export it again"
    ):
        DeviceClassifier(path)
    with pytest.raises(UserError, match=f"^{path}: "):
        ondevice.open_classifier(path, 1)


def test_the_files_of_a_tflite_of_random_bytes_are_read_or_refused(files, tmp_path, rng):
    path = with_labels(files["none"], tmp_path)
    content = pathlib.Path(path).read_bytes()
    start = archive_start(content)
    assert read_labels(path, content)[0] == ["0", "1", "2", "3", "4"]
    for _ in range(300):
        changed = bytearray(content)
        for place in rng.integers(start, len(content), 2):
            changed[place] = rng.integers(0, 256)
        try:
            labels, thresholds = read_labels(path, bytes(changed))
            assert len(labels) == len(thresholds)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")


def test_a_tflite_that_takes_no_square_photo_is_refused_before_memory_is_made_for_it(files, tmp_path):
    for shape in ([1, SIZE, SIZE + 1, 3], [1, 10**5, 10**5, 3], [1, 0, 0, 3]):
        content = pathlib.Path(files["none"]).read_bytes()
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].shape = np.array(shape, np.int32)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        archive = content[archive_start(content) :]
        (tmp_path / "x.tflite").write_bytes(bytes(builder.Output()) + archive)
        with pytest.raises(ValueError, match="does not take one uint8 RGB photo"):
            DeviceClassifier(str(tmp_path / "x.tflite"))


def test_labels_of_strange_letters_read_back_and_line_breaks_are_refused(photos, tmp_path):
    model = small_model()
    model.labels = ("a\u2028b", "x\x85y", "c\x0bd", "\x1b[31m", " e ")
    path = write_tflite(tmp_path / "x.tflite", model, "none", photos)
    assert tuple(DeviceClassifier(path).labels) == model.labels
    for label in ("hot\nred", "hot\rred"):
        model.labels = (label, *model.labels[1:])
        with pytest.raises(ValueError, match="has a line break"):
            write_tflite(tmp_path / "y.tflite", model, "none", photos)
        save_model(model, str(tmp_path / "model.keras"))
        config = tflite.TFLiteConfig(model=str(tmp_path / "model.keras"), output=str(tmp_path / "y.tflite"))
        with pytest.raises(UserError, match=r"--model=.*label 'hot.*has a line break"):
            tflite.main(DataConfig(), config)


def test_heatmaps_need_a_model_that_has_them(files, jpegs, tmp_path):
    with pytest.raises(UserError, match="--with_attention"):
        ondevice.main([str(jpegs)], ondevice.OnDeviceConfig(model=files["none"], heatmaps=str(tmp_path / "heat")))


# export.tflite and its calibration


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("model") / "model.keras")
    save_model(model, path)
    return path


def test_the_command_writes_the_file_and_says_what_it_lost(saved, jpegs, tmp_path, capsys):
    output = tmp_path / "model.tflite"
    config = tflite.TFLiteConfig(model=saved, output=str(output), quantize="int8_full", calibration=str(jpegs))
    tflite.main(DataConfig(), config)
    printed = capsys.readouterr().out
    assert "warning: int8_full" in printed and "2 photos only" in printed and "scores differ by at most" in printed
    assert DeviceClassifier(str(output)).labels == list(LABELS)
    assert sorted(os.listdir(tmp_path)) == ["model.tflite", "photos"]


def test_int16x8_warns():
    assert "180 times" in MODES["int16x8"].warning


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"model": "missing.keras"}, "missing.keras"),
        ({"output": "missing/model.tflite"}, "missing/model.tflite"),
        ({"quantize": "int8", "calibration": "missing"}, "`calibration`=missing"),
        ({"quantize": "int8", "calibration": "missing.tfrecord"}, "missing.tfrecord"),
        ({"quantize": "int8"}, "its labels are not those of the data set"),
        ({"quantize": "int8_full", "with_attention": True}, "--quantize=int8"),
    ],
    ids=str,
)
def test_bad_flags_are_refused(saved, tmp_path, choices, words):
    config = tflite.TFLiteConfig(**{"model": saved, "output": str(tmp_path / "model.tflite")} | choices)
    with pytest.raises(UserError, match=words):
        tflite.main(DataConfig(), config)
    assert os.listdir(tmp_path) == []


def test_calibration_on_noise_is_refused(rng, tmp_path):
    for index in range(3):
        noise = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"noise{index}.png")
    examples = calibration_photos.calibration_examples(str(tmp_path), DataConfig(), "val", LABELS, 200, 0)
    with pytest.raises(UserError, match="noise or of one colour"):
        calibration_photos.calibration_photos(examples, SIZE, 10**7)


def test_calibration_names_a_photo_that_cannot_be_decoded(jpegs):
    (jpegs / "text.jpg").write_text("no photo")
    examples = calibration_photos.calibration_examples(str(jpegs), DataConfig(), "val", LABELS, 200, 0)
    with pytest.raises(UserError, match=r"text\.jpg: is not a photo"):
        calibration_photos.calibration_photos(examples, SIZE, 10**7)


def test_photos_have_alike_neighbours_and_noise_has_not(photos, rng):
    assert min(calibration_photos.neighbour_correlation(photo[0]) for photo in photos) > 0.8
    assert abs(calibration_photos.neighbour_correlation(rng.integers(0, 256, (64, 64, 3)))) < 0.1
    assert calibration_photos.neighbour_correlation(np.full((8, 8, 3), 7)) == 0


def test_calibration_takes_records_and_draws_by_the_seed(tmp_path):
    path = str(tmp_path / "photos.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for index in range(6):
            encoded = tf.train.BytesList(value=[demo.draw_example("val", index).image_bytes])
            feature = {"image/encoded": tf.train.Feature(bytes_list=encoded)}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    records = calibration_photos.calibration_examples(path, DataConfig(), "val", LABELS, 4, 0)
    assert len(calibration_photos.calibration_photos(records, SIZE, 10**7)) == 4
    for index in range(12):
        (tmp_path / f"{index}.jpg").touch()

    def drawn(seed):
        examples = calibration_photos.calibration_examples(str(tmp_path), DataConfig(), "val", LABELS, 5, seed)
        return [example.image_path for example in examples]

    assert len(set(drawn(0))) == 5 and drawn(0) == drawn(0) != drawn(1)


# export.compare


@pytest.fixture
def labelled(model, photos, tmp_path):
    """A CSV data set whose labels are what the model scores above its own median: its mAP is 100."""
    scores = model.probabilities(np.concatenate(photos))
    folder = tmp_path / "data"
    folder.mkdir()
    with open(folder / "list.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "labels", "split"])
        for index, photo in enumerate(photos):
            Image.fromarray(photo[0]).save(folder / f"{index}.png")
            present = [label for c, label in enumerate(LABELS) if scores[index, c] > np.median(scores[:, c])]
            writer.writerow([f"{index}.png", "|".join(present), "test"])
    return DataConfig(dataset="csv", data_dir=str(folder))


@pytest.mark.slow
def test_compare_measures_both_and_fails_where_accuracy_is_lost(saved, files, labelled, photos, tmp_path, capsys):
    output = tmp_path / "comparison.json"
    other = small_model()
    other.head.kernel.assign(-other.head.kernel)
    damaged = write_tflite(tmp_path / "damaged.tflite", other, "none", ())
    paths = (files["none"], files["float16"], damaged)
    with pytest.raises(UserError, match=r"--max_drop=0.5 with .*damaged") as error:
        compare.main(labelled, compare.CompareConfig(model=saved, tflite=paths, output=str(output), runs=2))
    assert error.value.exit_status == 1
    content = json.loads(output.read_text())
    assert content["num_images"] == len(photos) and content["model"]["mAP"] == pytest.approx(100)
    exact = content["tflite"][0]
    assert exact["mAP_drop"] == pytest.approx(0) and exact["top_k_agreement"] == 100
    assert exact["largest_difference"] < 1e-4 and exact["milliseconds"] > 0 and exact["arena_megabytes"] > 0
    assert exact["megabytes"] == os.path.getsize(files["none"]) / 1e6 and len(exact["lost_most"]) == 3
    assert "float16.tflite" in capsys.readouterr().out
    assert content["tflite"][2]["mAP_drop"] > 0.5


def test_compare_refuses_what_is_of_another_model(model):
    def classifier(labels, image_size=SIZE):
        return types.SimpleNamespace(labels=list(labels), image_size=image_size)

    for wrong, words in (
        (classifier(LABELS[:3]), "3 labels and the model 5"),
        (classifier([*LABELS[:4], "dog"]), "label 4 is 'dog'"),
        (classifier(LABELS, 32), "takes 32 pixels"),
    ):
        with pytest.raises(UserError, match=words):
            compare.check_labels("a.tflite", wrong, model)
    compare.check_labels("a.tflite", classifier(LABELS), model)


def test_a_constant_that_joins_activations_is_quantized_with_them_in_float(rng):
    """Transformers join a class token to the tokens of the patches."""
    kernel, token = rng.normal(size=(2, 2, 3, 4)).astype("float32"), rng.normal(size=(1, 1, 4)).astype("float32")

    def backbone(image, token):
        with tf.name_scope("backbone"):
            tokens = tf.reshape(tf.nn.conv2d(image, kernel, 2, "SAME"), (1, 16, 4))
            return tf.reduce_mean(tf.nn.relu(tf.concat([token, tokens], axis=1)), axis=1)

    spec = tf.TensorSpec((1, 8, 8, 3), tf.float32, "image")
    joined = tf.function(lambda image: backbone(image, tf.constant(token)), input_signature=[spec])
    alone = tf.function(lambda image: backbone(image, tf.reduce_mean(image) * token), input_signature=[spec])
    images = [rng.normal(size=spec.shape).astype("float32") for _ in range(4)]
    for function, expected in ((joined, True), (alone, False)):
        traced = function.get_concrete_function()
        content = tf.lite.TFLiteConverter.from_concrete_functions([traced], tf.Module()).convert()
        assert joins_constants(read_model(content)) == expected
        made = quantize(content, recipe("int8", expected), images)
        interpreter = Interpreter(model_content=made)
        interpreter.allocate_tensors()
        for image in images:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
            interpreter.invoke()
            result = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
            np.testing.assert_allclose(result, function(image), atol=0.1)


def test_what_the_quantizer_cannot_do_is_one_sentence(model, photos, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("no scales\nfor this")

    monkeypatch.setattr(conversion.quantizer.Quantizer, "quantize", refuse)
    with pytest.raises(
        UserError, match=r"cannot quantize an operation of this model \(no scales\); use float16 or none"
    ):
        convert(model, "int8", photos)


@pytest.mark.slow
def test_resnet101_at_448_keeps_its_sizes_its_arena_and_its_scores(tmp_path):
    """20 labels; random weights, two drawn photos."""
    model = small_model(448, backbone="resnet101", channels=512)
    drawn = [demo.draw_example("val", index).image_bytes for index in range(2)]
    photos = [evaluation_pixels(encoded, 448)[None].numpy() for encoded in drawn]
    content, paths = convert(model, "none"), {}
    for mode in ("none", "float16", "dynamic", "int8"):
        paths[mode] = str(tmp_path / f"{mode}.tflite")
        made = content if mode == "none" else quantize(content, recipe(mode), photos)
        pathlib.Path(paths[mode]).write_bytes(with_metadata(made, model, mode))
    size = {mode: os.path.getsize(path) for mode, path in paths.items()}
    assert size["float16"] <= 0.52 * size["none"] and max(size["dynamic"], size["int8"]) <= 0.27 * size["none"]
    assert arena_bytes(paths["int8"]) <= 64e6
    expected = model.probabilities(np.concatenate(photos))
    for mode, tolerance in (("none", 1e-4), ("float16", 1e-2)):
        np.testing.assert_allclose(scores_of(paths[mode], photos), expected, atol=tolerance)
    assert not any(name in ("CUSTOM", "DELEGATE") for path in paths.values() for name, _ in operations(path))
