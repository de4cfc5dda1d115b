"""Files of models and arrays that somebody sent: arguments that no model can have, small files that ask for much."""

import contextlib
import io
import json
import struct
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest
from serving import LABELS, small_model

from msrn_tf.arrays import check_unpacked_size, read_arrays
from msrn_tf.errors import UserError
from msrn_tf.label_graph import LabelGraph
from msrn_tf.label_graph.published_pickles import read_array_pickle, read_graph_pickle
from msrn_tf.models.backbone_weights import _timm_normalization
from msrn_tf.models.factory import load_model, save_model
from msrn_tf.models.model_file import at_most_weights
from msrn_tf.tensor_files import TensorFile

BOMB = 300_000_000  # bytes of zeros: more than is unpacked without asking, and quick to pack


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    save_model(small_model(32), str(path))
    return path


@contextlib.contextmanager
def megabytes_at_most(most):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most * 1e6
    finally:
        tracemalloc.stop()


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path, contents, kind=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def zeros_into(archive, name, start=b""):
    """A member of `start` and BOMB zeros, packed to a thousandth."""
    with archive.open(name, "w") as stream:
        stream.write(start)
        for _ in range(BOMB // 10**6):
            stream.write(bytes(10**6))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_size": 10**9}, "'image_size' must be a whole number from 1 to 8192"),
        ({"image_size": "64"}, "'image_size'"),
        ({"image_size": True}, "'image_size'"),
        ({"thresholds": [float("nan")] * 5}, "'thresholds' must be numbers from 0 to 1"),
        ({"thresholds": [0.5] * 4}, "'thresholds' must have 5 entries"),
        ({"thresholds": ["0.5"] * 5}, "'thresholds'"),
        ({"thresholds": [1.5] * 5}, "'thresholds'"),
        ({"std": [1.0, 0.0, 1.0]}, "'std'"),
        ({"std": [1.0, -1.0, 1.0]}, "'std'"),
        ({"mean": [float("inf"), 0.0, 0.0]}, "'mean' must be finite"),
        ({"mean": [0.0]}, "'mean' must have 3 entries"),
        ({"labels": ["a", "b", "a", "c", "d"]}, r"Received twice: \['a'\]"),
        ({"labels": [1, 2, 3, 4, 5]}, "'labels' must be names"),
        ({"labels": ["a", "b", " ", "c", "d"]}, "'labels' must be names"),
        ({"labels": "abcde"}, "'labels' must be names"),
        ({"labels": []}, "'labels' must be names"),
        ({"calibration": {"slopes": [float("inf")] * 5, "intercepts": [0.0] * 5}}, "'slopes'"),
        ({"calibration": {"slopes": [1.0] * 5, "intercepts": [float("nan")] * 5}}, "'intercepts'"),
        ({"calibration": {"slopes": [1.0], "intercepts": [0.0]}}, "'calibration' must have 5"),
        ({"semantics.units": 0}, "'units'"),
        ({"semantics.units": 10**6}, "asks for more than the [0-9,]+ numbers that its weights have"),
        ({"semantics.word_vector_size": 10**6}, "asks for more than"),
        ({"semantics.num_labels": 4}, "'semantics' must be of 5 labels"),
        ({"semantics.num_groups": 10**9}, "'num_groups'"),
        ({"projection.channels": 10**6}, "asks for more than"),
        ({"projection.channels": 4}, "'projection' must have"),
        ({"projection.strides": [32, 8, 16]}, "'strides' must be"),
        ({"projection.strides": [8, 16, 32]}, "'pooled' must have 3"),
        ({"head.num_labels": 4}, "'head' must be of 5 labels"),
        ({"head.dropout": 1.0}, "'dropout'"),
    ],
    ids=str,
)
def test_arguments_that_no_model_can_have_are_refused_where_a_file_holds_them(saved, tmp_path, change, words):
    contents = members(saved)
    configuration = json.loads(contents["config.json"])
    for name, value in change.items():
        part, _, argument = name.rpartition(".")
        holder = configuration["config"][part] if part else configuration
        holder["config"][argument] = value
    path = tmp_path / "model.keras"
    write_members(path, contents | {"config.json": json.dumps(configuration)})
    with megabytes_at_most(100), pytest.raises(UserError, match=words):
        load_model(str(path))


def test_a_model_packed_once_more_is_read(saved, tmp_path):
    path = tmp_path / "model.keras"
    write_members(path, members(saved), zipfile.ZIP_DEFLATED)
    assert load_model(str(path)).labels == LABELS


def test_a_model_is_not_unpacked_to_far_more_than_it_is(saved, tmp_path):
    path = tmp_path / "model.keras"
    contents = members(saved)
    for name in ("model.weights.h5", "assets/more"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for other, content in contents.items():
                if other != name:
                    archive.writestr(other, content)
            zeros_into(archive, name)
        with megabytes_at_most(30), pytest.raises(UserError, match=r"^/.*would unpack to 30. MB"):
            load_model(str(path))


def hdf5(fill):
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        fill(opened)
    return file.getvalue()


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (lambda file: file.create_dataset("a", (10**9,), "f4", chunks=(10**6,), compression="gzip"), "would unpack to"),
        (lambda file: file.create_dataset("a", (10**12,), "f4", chunks=(10**6,)), "would unpack to"),
        (lambda file: file.create_dataset("a", (9,), "f4", external=[("/etc/passwd", 0, 36)]), "in another file"),
        (lambda file: file.__setitem__("a", h5py.ExternalLink("/etc/passwd", "/b")), "in another place"),
        (lambda file: file.__setitem__("a", h5py.SoftLink("/b")), "in another place"),
    ],
    ids=["packed", "not written", "external", "external link", "link"],
)
def test_weights_that_are_far_more_than_their_file_or_lie_elsewhere_are_refused(saved, tmp_path, fill, words):
    path = tmp_path / "model.keras"
    write_members(path, members(saved) | {"model.weights.h5": hdf5(fill)})
    with megabytes_at_most(30), pytest.raises(UserError, match=words):
        load_model(str(path))


def test_groups_that_hold_themselves_end(saved, tmp_path):
    path = tmp_path / "model.keras"
    write_members(
        path, members(saved) | {"model.weights.h5": hdf5(lambda file: file.create_group("a").__setitem__("b", file))}
    )
    with pytest.raises(UserError, match="asks for more than the 0 numbers"):
        load_model(str(path))


@pytest.mark.parametrize("missing", ["config.json", "model.weights.h5"])
def test_a_zip_of_other_files_is_no_model(saved, tmp_path, missing):
    path = tmp_path / "model.keras"
    contents = members(saved)
    del contents[missing]
    write_members(path, contents)
    with pytest.raises(UserError, match=f"it lacks {missing}"):
        load_model(str(path))


def test_weights_of_a_backbone_are_not_unpacked_to_far_more_than_they_are(saved, tmp_path):
    packed = hdf5(lambda file: file.create_dataset("a", (10**9,), "f4", chunks=(10**6,), compression="gzip"))
    (tmp_path / "x.weights.h5").write_bytes(packed)
    write_members(tmp_path / "x.keras", members(saved) | {"model.weights.h5": packed})
    for name in ("x.weights.h5", "x.keras"):
        with pytest.raises(UserError, match=r"`backbone_weights`=.*would unpack to 4,000 MB"):
            small_model(32, backbone_weights=str(tmp_path / name))


@pytest.mark.parametrize("std", [[0.2, 0.0, 0.2], [0.2], ["a", "b", "c"], [float("nan")] * 3], ids=str)
def test_a_normalisation_of_timm_that_cannot_be_is_refused(tmp_path, std):
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": [0.5] * 3, "std": std}}))
    with pytest.raises(UserError, match=r"config\.json beside it has no mean and std"):
        _timm_normalization(str(tmp_path / "model.safetensors"))


def test_the_limit_of_weights_ends_with_its_block():
    with pytest.raises(ValueError, match="its configuration asks for more"), at_most_weights(11):
        keras.layers.Dense(3).build((None, 3))
    with at_most_weights(12):
        keras.layers.Dense(3).build((None, 3))
    keras.layers.Dense(3).build((None, 300))


# Files of arrays


def npy_header(shape, dtype="<f8"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def readers(path):
    return (
        lambda: LabelGraph.load(str(path)),
        lambda: TensorFile(str(path), "checkpoint").read("counts"),
        lambda: read_arrays(str(path)),
    )


def test_arrays_are_not_unpacked_to_far_more_than_their_file(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        zeros_into(archive, "counts.npy", npy_header((BOMB // 8,)))
    for read in readers(path):
        with megabytes_at_most(10), pytest.raises((UserError, ValueError), match="would unpack to 300 MB"):
            read()


@pytest.mark.parametrize("shape", [(10**9,), (10**9, 10**9), (-1,), (3,)], ids=str)
def test_arrays_that_are_not_as_long_as_their_shape_are_refused(tmp_path, shape):
    path = tmp_path / "x.npz"
    write_members(path, {"counts.npy": npy_header(shape) + bytes(16)})
    for read in readers(path):
        with megabytes_at_most(10), pytest.raises((UserError, ValueError), match="is not as long as its shape"):
            read()


def test_a_directory_that_understates_a_member_gives_no_more_than_it_says(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        zeros_into(archive, "counts.npy", npy_header((2,)))
    content, size = bytearray(path.read_bytes()), len(npy_header((2,))) + 16
    place = content.rindex(b"PK\x01\x02") + 24  # the size in the central directory
    content[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    for read in readers(path):
        with megabytes_at_most(10), pytest.raises((UserError, ValueError)):
            read()


def test_honest_arrays_may_be_packed(tmp_path):
    counts = np.zeros((3000, 3000), np.int64)  # 72 MB in 70 kB
    np.savez_compressed(tmp_path / "x.npz", counts=counts)
    assert read_arrays(tmp_path / "x.npz")["counts"].shape == (3000, 3000)
    check_unpacked_size(49 * 10**9, 10**9)
    with pytest.raises(ValueError, match="uncompressed"):
        check_unpacked_size(51 * 10**9, 10**9)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02]r\xff\xff\xff\x7f.",  # an empty list, remembered at place 2³¹: 16 GB of places
        b"\x80\x02]p2147483647\n.",
        b"\x80\x04\x8e\xff\xff\xff\xff\x00\x00\x00\x00abc.",  # four gigabytes of bytes, of which three come
        b"\x80\x02](" + b"](" * 60 + b"e" * 61 + b".",
    ],
    ids=["place", "place in text", "length", "depth"],
)
def test_a_small_pickle_asks_for_no_memory(tmp_path, content):
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    with megabytes_at_most(10), pytest.raises(UserError, match="`graph_pickle`="):
        read_graph_pickle(str(path), ["a", "b"])


def test_lists_of_lists_of_one_list_are_no_array(tmp_path):
    # 2⁵⁰ numbers in 300 bytes: each tuple holds the one before twice.
    steps = [b"\x80\x02(K\x01K\x01tq\x00"]
    for i in range(50):
        steps.append(b"0(h" + bytes([i]) + b"h" + bytes([i]) + b"tq" + bytes([i + 1]))
    (tmp_path / "x.pkl").write_bytes(b"".join(steps) + b".")
    value = read_array_pickle(str(tmp_path / "x.pkl"), "graph_pickle")
    assert len(value) == 2
    with (tmp_path / "y.pkl").open("wb") as file:
        file.write(b"".join(steps) + b"q\xf0" + b"0}(X\x03\x00\x00\x00adjh\xf0X\x04\x00\x00\x00numsh\xf0u.")
    with megabytes_at_most(10), pytest.raises(UserError, match="adj is not an array of numbers"):
        read_graph_pickle(str(tmp_path / "y.pkl"), ["a", "b"])
