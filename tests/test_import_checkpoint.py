"""The published checkpoints: imported from every kind of file, written back, and refused in a sentence."""

import codecs
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from running import ROOT, assert_refused, command
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from msrn_tf.errors import UserError
from msrn_tf.import_checkpoint import ImportConfig, main, read_label_graph
from msrn_tf.label_graph import LabelGraph
from msrn_tf.label_graph.published_pickles import read_array_pickle, read_graph_pickle, read_word_vector_pickle
from msrn_tf.layers import CosineAttention
from msrn_tf.models.backbones import build_backbone
from msrn_tf.models.factory import load_model
from msrn_tf.models.msrn import make_msrn
from msrn_tf.models.normalization import IMAGENET
from msrn_tf.models.published_checkpoint import (
    assign_published,
    model_from_published,
    published_state,
    published_variables,
)
from msrn_tf.models.published_weights import to_published
from msrn_tf.tensor_files import TensorFile

LABELS = ["cat", "dog", "person", "car", "bus"]
NO_TORCH = "PyTorch is not installed: it is optional, to read .pth files"


def write_tensors(state, path, prefix=""):
    """A checkpoint in the form that the ending says."""
    if path.endswith(".npz"):
        np.savez(path, **{prefix + name: value for name, value in state.items()}, epoch=np.int64(3))
    elif path.endswith(".safetensors"):
        save_file({prefix + name: np.ascontiguousarray(value) for name, value in state.items()}, path)
    else:
        torch = pytest.importorskip("torch", reason=NO_TORCH)
        tensors = {prefix + name: torch.from_numpy(np.array(value)) for name, value in state.items()}
        torch.save({"state_dict": tensors, "epoch": 3, "arch": "MSRN", "best_score": np.float64(94.8)}, path)


@pytest.mark.slow
def test_a_published_checkpoint_of_every_form_gives_the_published_logits(shared, parity, param, tmp_path):
    shapes = json.loads((parity / "voc_params.json").read_text())
    state = {name: param(name, shape) for name, shape in shapes}
    graph = LabelGraph.load(str(shared / "label_graphs" / "voc2007.npz"))
    model = None
    for ending in (".safetensors", ".npz", ".pth.tar"):
        path = str(tmp_path / f"voc{ending}")
        if ending == ".pth.tar" and importlib.util.find_spec("torch") is None:
            continue  # what is missing then is said by the small tests, which are skipped
        write_tensors(state, path, prefix="module.")
        tensors = TensorFile(path, "checkpoint")
        if model is None:
            model, report = model_from_published(tensors, graph)
        else:  # the same network, without building it again
            for variable in published_variables(model).values():
                variable.assign(np.zeros(variable.shape))
            report = assign_published(model, tensors)
        os.remove(path)
        assert report.unknown == (["epoch"] if ending == ".npz" else [])
        assert {"W", "B", "resnet_101.conv_buffer0.weight"} <= set(report.ignored)
        assert len(report.used) + len(report.ignored) == len(shapes)
        for size, seed in ((448, 0), (128, 1)):
            normal = np.random.Generator(np.random.PCG64(seed)).standard_normal((2, 3, size, size), dtype=np.float32)
            images = np.clip(normal, -2, 2).transpose(0, 2, 3, 1).astype(np.float64)
            images = (images * IMAGENET.std + IMAGENET.mean).astype(np.float32)
            with np.load(parity / f"voc_{size}.npz") as fixture:
                np.testing.assert_allclose(model(images, training=False), fixture["logits_f64"], atol=1e-4, rtol=0)


@pytest.mark.slow
def test_a_checkpoint_of_the_published_size_for_coco_needs_at_most_2_5_times_its_size(shared, parity, param, tmp_path):
    shapes = json.loads((parity / "coco_params.json").read_text())
    graph = str(shared / "label_graphs" / "coco2014.npz")
    for ending in (".safetensors", ".npz", ".pth.tar"):
        path = str(tmp_path / f"coco{ending}")
        try:
            write_tensors({name: param(name, shape) for name, shape in shapes}, path)
        except pytest.skip.Exception:
            continue
        flags = {"checkpoint": path, "label_graph": graph, "output": str(tmp_path / "model.keras")}
        script = (
            "from msrn_tf.import_checkpoint import ImportConfig, main\n"
            f"main(ImportConfig(**{flags!r}))\n"
            "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])\n"
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        run = subprocess.run(
            [sys.executable, "-c", script],
            env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        peak = 1024 * int(run.stdout.splitlines()[-1])
        print(f"{ending}: {peak / os.path.getsize(path):.2f} times the file's {os.path.getsize(path) / 2**20:.0f} MB")
        assert peak <= 2.5 * os.path.getsize(path), ending
        os.remove(path)


# The same on a small network: a published file is published names and shapes, whatever their sizes


def small_model(head="mlp", **choices):
    graph = small_graph()
    choices = {
        "mean": IMAGENET.mean, "std": IMAGENET.std, "num_groups": 2, "word_vector_size": 12, "channels": 8,
        "head_units": 16, "tap_pooling": "published",
        "strides": (8, 16, 32),
    } | choices  # fmt: skip
    backbone, _ = build_backbone("resnet18", strides=choices["strides"])
    model = make_msrn(backbone, LABELS, 64, head=head, name="msrn", **choices)
    model.build((None, None, None, 3))
    model.semantics.adjacency.assign(graph.adjacency())
    model.semantics.word_vectors.assign(graph.word_vectors)
    return model


def small_graph(vectors=True):
    targets = np.random.default_rng(1).integers(0, 2, (50, len(LABELS)))
    graph = LabelGraph.from_targets(LABELS, targets)
    word_vectors = np.random.default_rng(2).standard_normal((len(LABELS), 12)).astype("float32")
    return LabelGraph(graph.labels, graph.counts, graph.cooccurrence, 50, word_vectors if vectors else None)


@pytest.fixture(scope="module")
def small_state():
    """A published state of its own: random numbers under the published names and shapes of a small network."""
    rng = np.random.default_rng(3)
    return {
        name: rng.uniform(0.1, 0.2, value.shape).astype(value.dtype)
        for name, value in published_state(small_model()).items()
    }


@pytest.fixture
def label_graph(tmp_path):
    path = str(tmp_path / "label_graph.npz")
    small_graph().save(path)
    return path


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".pth.tar"])
@pytest.mark.parametrize("head", ["mlp", "elementwise"])
def test_there_and_back_keeps_every_bit(small_state, tmp_path, ending, head):
    state = small_state | published_state(small_model(head))
    state |= {name: small_state[name] for name in small_state if state[name].shape == small_state[name].shape}
    path = str(tmp_path / f"checkpoint{ending}")
    write_tensors(state, path)
    model, report = model_from_published(TensorFile(path, "checkpoint"), small_graph(), head, image_size=64)
    back = published_state(model)
    assert set(back) == set(state)
    for name in report.used:
        np.testing.assert_array_equal(back[name], state[name], err_msg=name)
    assert {name for name in back if back[name].any()} == set(report.used)


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"train_word_vectors": True}, "holds no word vectors, and this model has learned its own"),
        ({"attention": CosineAttention()}, "attends channel by channel, and this model by cosines"),
    ],
    ids=["word vectors", "attention"],
)
def test_what_the_published_file_has_no_place_for_is_refused_by_its_name(choices, reason):
    with pytest.raises(UserError, match=reason):
        published_state(small_model(**choices))


def test_a_large_kernel_goes_over_in_blocks(small_state, tmp_path, monkeypatch):
    import msrn_tf.layers.blockwise_dense as dense
    import msrn_tf.models.published_weights as weights
    import msrn_tf.tensor_files as files

    for module in (dense, weights, files):
        monkeypatch.setattr(module, "BLOCK_NUMBERS", 1000)
    for ending in (".safetensors", ".npz", ".pth.tar"):
        path = str(tmp_path / f"checkpoint{ending}")
        try:
            write_tensors(small_state, path)
        except pytest.skip.Exception:
            continue
        model, _ = model_from_published(TensorFile(path, "checkpoint"), small_graph(), image_size=64)
        for name, variable in published_variables(model).items():
            np.testing.assert_array_equal(to_published(name, np.asarray(variable)), small_state[name], err_msg=name)
    assert len(model.head.hidden._blocks()) > 1
    model.save(str(tmp_path / "model.keras"))
    restored = load_model(str(tmp_path / "model.keras"))
    np.testing.assert_array_equal(restored.head.hidden.kernel, model.head.hidden.kernel)


def test_the_command_imports_and_writes_back(small_state, label_graph, tmp_path):
    checkpoint, output, back = (str(tmp_path / name) for name in ("c.safetensors", "model.keras", "back.safetensors"))
    extra = {"ProjectMs.0.weight": np.zeros(3, np.float32), "surprise": np.zeros(3, np.float32)}
    write_tensors(small_state | extra, checkpoint, prefix="module.")
    arguments = [f"--checkpoint={checkpoint}", f"--label_graph={label_graph}", "--image_size=64"]
    run = command("msrn_tf.import_checkpoint", *arguments, f"--output={output}")
    assert run.returncode == 0, run.stderr
    assert "used: resnet_101 (" in run.stdout and "fc2 (2)" in run.stdout
    assert "ProjectMs.0.weight" in run.stdout and "not known: surprise" in run.stdout and "missing: none" in run.stdout
    model = load_model(output)
    assert model.labels == tuple(LABELS) and model.image_size == 64
    run = command("msrn_tf.import_checkpoint", f"--model={output}", f"--to_torch={back}")
    assert run.returncode == 0, run.stderr
    written = load_file(back)
    assert set(written) == set(small_state)
    for name in published_variables(model):
        np.testing.assert_array_equal(written[name], small_state[name], err_msg=name)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"strides": (32,)}, "strides 8, 16 and 32, and this model at 32"),
        ({"strides": (16, 32)}, "this model at 16 and 32"),
        ({"num_groups": 0}, "this model has none"),
        ({"tap_pooling": "none"}, "pools every feature map"),
        ({"tap_pooling": "auto"}, "pools every feature map"),
        ({"encoder": "gcn"}, "has no `encoder`=gcn"),
        ({"mean": (127.5,) * 3}, "normalises pixels by ImageNet's"),
    ],
    ids=str,
)
def test_what_the_published_code_cannot_load_is_not_written(tmp_path, choices, words):
    model, path = small_model(**choices), str(tmp_path / "model.keras")
    model.save(path)
    with pytest.raises(UserError, match=words):
        main(ImportConfig(model=path, to_torch=str(tmp_path / "back.safetensors")))
    assert os.listdir(tmp_path) == ["model.keras"]


def test_a_file_that_cannot_be_written_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(state, path):
        open(path, "w").close()
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    path = str(tmp_path / "model.keras")
    small_model().save(path)
    with pytest.raises(UserError, match=r"--to_torch=.*cannot be written \(No space left on device\)"):
        main(ImportConfig(model=path, to_torch=str(tmp_path / "back.safetensors")))
    assert os.listdir(tmp_path) == ["model.keras"]


def test_constants_of_the_published_code_and_what_it_has_no_place_for_are_told(tmp_path, capsys):
    model, path = small_model(), str(tmp_path / "model.keras")
    model.thresholds = (0.25,) * 5
    model.save(path)
    main(ImportConfig(model=path, to_torch=str(tmp_path / "back.safetensors")))
    said = capsys.readouterr().out
    for words in ("channels 8 (512)", "hidden units 16 (2048)", "word vector 12 (300)", "ResNet 8 (33)", "calibration"):
        assert words in said


def test_a_small_checkpoint_whose_shapes_ask_for_a_large_model_is_refused(small_state, tmp_path):
    large = {"fc1.bias": np.zeros(10**6, np.float32), "label_embed.layers.1.W": np.zeros((1, 10**6), np.float32)}
    write_tensors(small_state | large, str(tmp_path / "c.safetensors"))
    with pytest.raises(UserError, match="its shapes do not fit together"):
        model_from_published(TensorFile(str(tmp_path / "c.safetensors"), "checkpoint"), small_graph(), image_size=64)


def test_a_tensor_that_repeats_what_is_stored_is_not_unpacked(tmp_path):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    torch.save({"fc1.bias": torch.zeros(1).expand(10**9)}, tmp_path / "c.pth")
    with pytest.raises(UserError, match="would unpack to 4,000 MB"):
        TensorFile(str(tmp_path / "c.pth"), "checkpoint")


def test_bad_checkpoints_are_refused_in_a_sentence(small_state, label_graph, tmp_path):
    def attempt(state, *words, cut=0, graph=label_graph, name="c.safetensors"):
        path = tmp_path / name
        if state is not None:
            write_tensors(state, str(path))
        if cut:
            path.write_bytes(path.read_bytes()[:-cut])
        config = ImportConfig(checkpoint=str(path), label_graph=graph, output=str(tmp_path / "model.keras"))
        with pytest.raises(UserError) as refusal:
            main(config)
        assert all(word in str(refusal.value) for word in words)
        assert not [file for file in os.listdir(tmp_path) if "model.keras" in file]

    damaged = dict(small_state)
    damaged["fc1.bias"] = np.full_like(damaged["fc1.bias"], np.nan)
    attempt(damaged, "fc1.bias", "NaN")
    attempt({name: small_state[name] for name in small_state if name != "ProjectM.1.bias"}, "lacks", "ProjectM.1.bias")
    damaged["fc1.bias"] = np.array(["x"] * len(damaged["fc1.bias"]))
    attempt(damaged, "fc1.bias holds <U1", "real numbers", name="c.npz")
    short = {"ProjectM.1.bias": small_state["ProjectM.1.bias"][1:]}
    attempt(small_state | short, "ProjectM.1.bias has shape [7]", "needs [8]")
    attempt(small_state, "is not a complete .safetensors file", cut=100)
    attempt(small_state, "is not a complete .npz file", cut=100, name="c.npz")
    attempt({"a": np.zeros(3, np.float32)}, "is not a published checkpoint")
    graph = str(tmp_path / "other.npz")
    LabelGraph.from_targets(["a", "b"], np.eye(2)).save(graph)
    attempt(small_state, "has no word vectors", graph=graph)
    LabelGraph(("a", "b"), np.ones(2), np.zeros((2, 2)), 2, np.zeros((2, 12))).save(graph)
    attempt(small_state, "5 labels", "2", graph=graph)
    attempt(None, "no such file", name="missing.pth.tar")


def test_numbers_that_changed_within_a_file_are_found_by_its_checksum(tmp_path):
    path = tmp_path / "c.npz"
    np.savez(path, a=np.zeros(1000, np.float32), b=np.ones(1000, np.float32))
    content = bytearray(path.read_bytes())
    content[content.index(np.float32(1).tobytes() * 10) + 400] ^= 1
    path.write_bytes(content)
    tensors = TensorFile(str(path), "checkpoint")
    np.testing.assert_array_equal(tensors.read("a"), np.zeros(1000))
    for read in (tensors.read, lambda name: list(tensors.blocks(name))):
        with pytest.raises(UserError, match="b cannot be read; the file is damaged there"):
            read("b")


def test_a_file_of_tensors_of_random_bytes_is_read_or_refused(tmp_path, rng):
    state = {"a": np.ones((2, 3), np.float32), "module.b": np.zeros(4, np.int64)}
    save_file(state, tmp_path / "c.safetensors")
    np.savez_compressed(tmp_path / "c.npz", **state)
    for path in (tmp_path / "c.safetensors", tmp_path / "c.npz"):
        whole = path.read_bytes()
        for index in range(200):
            content = bytearray(whole)
            for place in rng.integers(0, len(content), 2):
                content[place] = rng.integers(0, 256)
            path.write_bytes(content[: rng.integers(1, len(content))] if index % 4 == 0 else content)
            try:
                tensors = TensorFile(str(path), "checkpoint")
                for name in tensors:
                    assert tensors.read(name).dtype.kind in "fiu"
            except UserError as error:
                assert str(error).startswith("`checkpoint`=")


def test_bfloat16_is_read_from_safetensors(tmp_path):
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    header = {"a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}
    text = json.dumps(header).encode()
    upper_halves = (value.view(np.uint32) >> 16).astype(np.uint16)
    (tmp_path / "c.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + upper_halves.tobytes())
    tensors = TensorFile(str(tmp_path / "c.safetensors"), "checkpoint")
    np.testing.assert_array_equal(tensors.read("a"), value)
    np.testing.assert_array_equal(np.concatenate([block for _, block in tensors.blocks("a")]), value)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ({}, "--checkpoint is missing"),
        ({"checkpoint": "c.npz", "output": "model.h5"}, "must end in .keras"),
        ({"checkpoint": "c.npz", "output": "nowhere/model.keras"}, "its folder does not exist"),
        ({"to_torch": "x.safetensors"}, "go together"),
        ({"model": "model.keras", "to_torch": "x.pth"}, "must end in .safetensors"),
        ({"model": "model.keras", "to_torch": "x.safetensors", "output": "y.keras"}, "leave out"),
        ({"model": "missing.keras", "to_torch": "x.safetensors"}, "no such file"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, word):
    with pytest.raises(UserError, match=word):
        main(ImportConfig(**flags))


def test_graphs_and_labels_come_together(tmp_path, label_graph):
    (tmp_path / "twice.txt").write_text("a\na\n")
    for flags, word in (
        ({}, "one of the two"),
        ({"graph_pickle": "g.pkl"}, "--labels is missing"),
        ({"graph_pickle": "g.pkl", "labels": "missing.txt"}, "cannot be read"),
        ({"graph_pickle": "g.pkl", "labels": str(tmp_path / "twice.txt")}, "one twice"),
        ({"label_graph": label_graph, "labels": "x.txt"}, "names its labels itself"),
    ):
        with pytest.raises(UserError, match=word):
            read_label_graph(ImportConfig(**flags))


class Malice:
    """What an untrusted pickle may hold: to load it would run the command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def test_a_malicious_pickle_is_refused_and_does_not_run(label_graph, tmp_path):
    evil, trace = str(tmp_path / "evil.pkl"), tmp_path / "ran"
    for content in (Malice(trace), {"adj": Malice(trace), "nums": np.ones(5)}, [np.ones(3), eval]):
        with open(evil, "wb") as file:
            pickle.dump(content, file)
        with pytest.raises(UserError, match=r"is not a pickle of NumPy arrays only \(it names"):
            read_array_pickle(evil, "graph_pickle")
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(LABELS))
    run = command(
        "msrn_tf.import_checkpoint", f"--checkpoint={evil}.npz", f"--graph_pickle={evil}", f"--labels={labels}",
        f"--output={tmp_path / 'model.keras'}",
    )  # fmt: skip
    assert_refused(run, "evil.pkl")
    assert not trace.exists()


def test_a_malicious_checkpoint_is_refused_and_does_not_run(tmp_path):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    trace = tmp_path / "ran"
    for old in (False, True):
        path = str(tmp_path / "evil.pth.tar")
        torch.save({"state_dict": {"W": Malice(trace)}}, path, _use_new_zipfile_serialization=not old)
        with pytest.raises(UserError, match="it could run commands"):
            TensorFile(path, "checkpoint")
    np.savez(tmp_path / "evil.npz", W=np.array([Malice(trace)], dtype=object))
    with pytest.raises(UserError, match="holds Python objects"):
        TensorFile(str(tmp_path / "evil.npz"), "checkpoint")
    assert not trace.exists()


def test_torch_files_of_older_forms_and_cut_ones(tmp_path):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    path, value = str(tmp_path / "old.pth.tar"), torch.arange(6.0).reshape(2, 3)
    state = {"module.a": value, "b": value.to(torch.bfloat16), "h": value.half()}
    torch.save({"state_dict": state, "best_score": np.float32(3)}, path, _use_new_zipfile_serialization=False)
    tensors = TensorFile(path, "checkpoint")
    for name in ("a", "b", "h"):
        np.testing.assert_array_equal(tensors[name].read(), value.numpy())
    assert tensors.notes == {} or tensors.notes["best_score"] == 3
    for new in (True, False):
        torch.save(state, path, _use_new_zipfile_serialization=new)
        with open(path, "rb") as file:
            content = file.read()
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        with pytest.raises(UserError, match="is not a complete PyTorch file"):
            TensorFile(path, "checkpoint")


def test_torch_files_are_read_without_torch_as_torch_reads_them(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    values = torch.arange(24.0).reshape(2, 3, 4)
    state = {
        "whole": values, "turned": values.transpose(0, 2), "part": values[1, :, 1:3], "empty": torch.zeros(0, 3),
        "number": torch.tensor(2.5), "trained": torch.nn.Parameter(values), "long": torch.arange(3),
        "many": torch.arange(2.0 * 2**24).reshape(8, -1),
    }  # fmt: skip
    content = {"state_dict": state, "epoch": 3, "best_score": np.float64(94.5), "optimizer": {"state": {0: values}}}
    for new in (True, False):
        for protocol in (2, 4):
            path = str(tmp_path / f"{new}{protocol}.pth")
            torch.save(content, path, _use_new_zipfile_serialization=new, pickle_protocol=protocol)
            with monkeypatch.context() as without:
                without.setitem(sys.modules, "torch", None)
                tensors = TensorFile(path, "checkpoint")
                assert tensors.notes == {"epoch": 3, "best_score": 94.5} and set(tensors) == set(state)
                found = {name: tensors.read(name) for name in tensors}
                blocks = [block for _, block in tensors.blocks("many")]
            for name, array in found.items():
                expected = state[name].detach().numpy()
                np.testing.assert_array_equal(array, expected, strict=True)
            assert len(blocks) == 2
            np.testing.assert_array_equal(np.concatenate(blocks), state["many"])


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x80\x02.", id="no value"),
        pytest.param(b"\x80\x02R.", id="no call"),
        pytest.param(b"\x80\x02}u.", id="no mark"),
        pytest.param(b"\x80\x02(K\x01u.", id="no dict"),
        pytest.param(b"\x80\x02h\x07.", id="nothing remembered"),
        pytest.param(b"\x80\x02K\x01Q.", id="no storage"),
        pytest.param(b"\x80\x02]q\x00h\x00a.", id="a list in itself"),
    ],
)
def test_damaged_programs_in_torch_files_are_refused(tmp_path, program):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", program)
    with pytest.raises(UserError, match=r"is not a complete PyTorch file|holds a list|which is not a tensor"):
        TensorFile(str(tmp_path / "a.pth"), "checkpoint")


def test_a_tensor_beyond_what_is_stored_of_it_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    path = str(tmp_path / "a.pth")
    torch.save({"a": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (program,) = (name for name in members if name.endswith("data.pkl"))
    for old, new in ((b"K\x04\x85", b"K\x05\x85"), (b"K\x04t", b"K\x40t")):  # its shape; the storage's size
        assert members[program].count(old) == 1
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content.replace(old, new) if name == program else content)
        with pytest.raises(UserError, match=r"larger than what is stored|is not there, or cut"):
            TensorFile(path, "checkpoint")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_published_pickles_are_read_at_every_protocol(tmp_path, protocol):
    graph = small_graph()
    for name, content in (
        ("graph", {"adj": graph.cooccurrence.astype(float), "nums": graph.counts}),
        ("vectors", graph.word_vectors),
    ):
        with open(tmp_path / name, "wb") as file:
            pickle.dump(content, file, protocol=protocol)
    found = read_graph_pickle(str(tmp_path / "graph"), LABELS)
    np.testing.assert_array_equal(found.adjacency(), graph.adjacency())
    np.testing.assert_array_equal(read_word_vector_pickle(str(tmp_path / "vectors"), LABELS), graph.word_vectors)


def test_pickles_written_by_python_2_are_read(tmp_path):
    # Protocol 2 as Python 2 writes it: strings are byte strings (U), also those that hold an array's numbers.
    content = (
        b"\x80\x02}q\x01U\x04numsq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b"
        b"\x87Rq\x05(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02i8K\x00K\x01\x87Rq\x07(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff"
        b"\xff\xff\xffK\x00tb\x89U\x10\x03\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00tbs."
    )
    (tmp_path / "old.pkl").write_bytes(content)
    found = read_array_pickle(str(tmp_path / "old.pkl"), "graph_pickle")
    np.testing.assert_array_equal(found["nums"], [3, 5])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"adj": np.zeros((4, 4)), "nums": np.ones(5)}, "adj has shape"),
        ({"adj": np.zeros((5, 5)), "nums": np.full(5, np.nan)}, "nums holds NaN"),
        ({"adj": np.zeros((5, 5)), "nums": ["a", "b"]}, "nums is not an array of numbers"),
        (np.zeros(5), "is not a published graph"),
        ({"adj": np.full((5, 5), -1), "nums": np.ones(5)}, "those are not counts"),
    ],
)
def test_graphs_that_do_not_fit_are_refused(tmp_path, content, words):
    with open(tmp_path / "graph.pkl", "wb") as file:
        pickle.dump(content, file)
    with pytest.raises(UserError, match=words):
        read_graph_pickle(str(tmp_path / "graph.pkl"), LABELS)


def test_random_bytes_are_no_pickle(tmp_path, rng):
    path = str(tmp_path / "x.pkl")
    whole = pickle.dumps({"adj": np.zeros((5, 5)), "nums": np.ones(5)})
    for index in range(300):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(0, 256)
        with open(path, "wb") as file:
            file.write(content[: rng.integers(1, len(content))] if index % 2 else content)
        try:
            read_graph_pickle(path, LABELS)
        except UserError as error:
            assert str(error).startswith("`graph_pickle`=")


def test_text_is_encoded_only_as_arrays_need_it(tmp_path):
    class Encoded:
        def __reduce__(self):
            return (codecs.encode, ("uryyb", "rot13"))

    with open(tmp_path / "x.pkl", "wb") as file:
        pickle.dump(Encoded(), file)
    with pytest.raises(UserError, match="rot13"):
        read_array_pickle(str(tmp_path / "x.pkl"), "graph_pickle")
