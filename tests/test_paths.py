"""Names of files and folders on the command line: `~`, and places that cannot be written to, alike in every command."""

import ast
import os
import pathlib
import subprocess
import tempfile

import pytest
from running import ROOT, assert_refused, command

from msrn_tf.errors import UserError, file_error
from msrn_tf.files import check_output, replacing, write_beside

SOURCES = [path for folder in ("msrn_tf", "export", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
ABOUT_PATHS = ("file", "folder", ".keras", ".tflite")
NO_PATHS = {"calibration_split", "model_name", "dataset", "workers", "poll_seconds", "backbone"}


def options():
    """(module, name, help, keywords) of every option of every command."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call):
                called = node.value.func
                if (getattr(called, "id", "") or getattr(called, "attr", "")) == "option":
                    keywords = {keyword.arg: keyword.value for keyword in node.value.keywords}
                    yield path, node.target.id, ast.unparse(node.value.args[1]), ast.unparse(node.annotation), keywords


def test_every_option_that_names_a_file_or_a_folder_says_so():
    found = list(options())
    assert len(found) > 80
    forgotten = [
        (str(path.relative_to(ROOT)), name)
        for path, name, help_, kind, keywords in found
        if "str" in kind and any(word in help_ for word in ABOUT_PATHS)
        if "path" not in keywords and "choices" not in keywords and name not in NO_PATHS
    ]
    assert forgotten == []


def commands_that_write():
    modules = {}
    for path, name, _, _, keywords in options():
        if "path" in keywords and ast.literal_eval(keywords["path"]) != "input" and "benchmarks" not in path.parts:
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            modules.setdefault("msrn_tf.train" if module == "msrn_tf.config" else module, []).append(name)
    return [(module, name) for module, names in modules.items() for name in names]


@pytest.mark.parametrize(("module", "flag"), commands_that_write())
def test_a_place_below_a_file_or_in_a_read_only_file_system_is_refused_before_anything_else(module, flag, tmp_path):
    (tmp_path / "text").write_text("a file")
    for place in (tmp_path / "text" / "below", "/proc/nothing"):
        assert_refused(command(module, f"--{flag}={place}", cwd=tmp_path), f"--{flag}={place}")
    assert os.listdir(tmp_path) == ["text"]


def test_a_tilde_is_the_home_folder_wherever_a_path_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert_refused(command("msrn_tf.evaluate", "--model=~/model.keras", cwd=tmp_path), f"{tmp_path}/model.keras")
    (tmp_path / "flags.cfg").write_text("--data_dir=~/photos\n--dataset=csv\n--workdir=~/run\n")
    assert_refused(command("msrn_tf.train", "--flagfile=flags.cfg", cwd=tmp_path), f"--data_dir={tmp_path}/photos")
    assert_refused(command("export.client", "--ca_certificate=~nobody.here/x", "x"), "--ca_certificate=~nobody.here/x")
    assert os.listdir(tmp_path) == ["flags.cfg"]


def test_what_can_be_written_is_accepted_and_nothing_is_left_of_the_try(tmp_path):
    check_output("output", str(tmp_path / "new.json"))
    check_output("heatmaps", str(tmp_path / "new" / "deeper"), folder=True)
    check_output("output", "/dev/stdout")
    assert os.listdir(tmp_path) == []


def test_a_file_below_dev_is_a_file_and_not_a_device():
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no folder below /dev to write in")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        with pytest.raises(UserError, match="its folder does not exist"):
            check_output("output", f"{folder}/missing/x.json")
        write_beside(f"{folder}/x.json", "before")
        with pytest.raises(ZeroDivisionError), replacing(f"{folder}/x.json") as file:
            file.write(str(1 / 0))
        assert pathlib.Path(folder, "x.json").read_text() == "before" and os.listdir(folder) == ["x.json"]


def test_a_commands_own_stream_is_written_to_where_it_leads_to_a_file(tmp_path):
    with (tmp_path / "log").open("w") as log:
        write_beside(f"/dev/fd/{log.fileno()}", "text")
        assert os.path.samestat(os.fstat(log.fileno()), os.stat(log.name)) and os.listdir(tmp_path) == ["log"]
    assert (tmp_path / "log").read_text() == "text"


@pytest.mark.parametrize(
    ("path", "folder", "words"),
    [
        ("", False, "is a folder"),
        ("missing/x.json", False, "its folder does not exist"),
        ("n" * 300, False, "name too long"),
        ("text", True, "is not a folder"),
        ("loop/x", False, "symbolic links"),
    ],
)
def test_what_cannot_be_written_is_said_at_the_start(tmp_path, path, folder, words):
    (tmp_path / "text").write_text("a file")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=f"^`output`=.*{words}"):
        check_output("output", str(tmp_path / path), folder)


def test_a_full_place_is_said_and_the_file_before_is_whole(tmp_path):
    with pytest.raises(UserError, match="/dev/full: cannot be written"):
        write_beside("/dev/full", "text")
    assert pathlib.Path("/dev/full").is_char_device()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path]).returncode:
        pytest.skip("no right to mount a small file system")
    try:
        result = tmp_path / "result.json"
        write_beside(str(result), "before")
        with pytest.raises(UserError, match=f"{result}: cannot be written"):
            write_beside(str(result), "x" * 200_000)
        assert result.read_text() == "before" and os.listdir(tmp_path) == ["result.json"]
        (tmp_path / "rest").write_bytes(b"x" * 60_000)
        with pytest.raises(UserError, match="No space left"):
            check_output("output", str(tmp_path / "other.json"))
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_errors_of_a_file_system_are_one_sentence_and_others_are_none(tmp_path):
    tf = pytest.importorskip("tensorflow")
    (tmp_path / "text").write_text("a file")
    with pytest.raises(OSError) as python:
        (tmp_path / "text" / "x").read_text()
    with pytest.raises(tf.errors.OpError) as tensorflow:
        tf.io.write_file(str(tmp_path / "text" / "x" / "y"), "z")
    for error in (python.value, tensorflow.value):
        assert file_error(error).startswith(f"{tmp_path}/text") and "ot a directory" in file_error(error)
    assert file_error(ValueError("No such file or directory")) is None
    with pytest.raises(tf.errors.InvalidArgumentError) as wrong:
        tf.reshape([1, 2], [3])
    assert file_error(wrong.value) is None
