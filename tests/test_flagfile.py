"""Flagfiles as editors of many systems write them, and what a run is recognised by."""

import codecs
import dataclasses

import pytest
from running import assert_refused, command

from msrn_tf.command_line import option
from msrn_tf.errors import UserError
from msrn_tf.flagfile import changed_flags, expanded, flagfile_text


@dataclasses.dataclass(frozen=True)
class Choices:
    """Choices"""

    colour: str = option("red", "a colour")
    size: int = option(3, "a size")
    where: str = option("", "a place", may_change=True)


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode("utf-16"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        lambda text: text.encode("utf-32"),
    ],
)
def test_a_flagfile_is_read_in_the_encodings_that_editors_write(tmp_path, encode):
    (tmp_path / "inner.cfg").write_bytes(encode("--size=5\n"))
    path = tmp_path / "a.cfg"
    path.write_bytes(encode(f"--colour=grün\n# a comment\n\n// another\n--flagfile={tmp_path}/inner.cfg\n--x"))
    assert expanded(["main", "--a", f"--flagfile={path}", "--b", "--", "--flagfile=no"]) == [
        "main", "--a", "--colour=grün", "--size=5", "--x", "--b", "--", "--flagfile=no",
    ]  # fmt: skip
    assert expanded(["--flagfile", str(path), "word"]) == ["--colour=grün", "--size=5", "--x", "word"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"--colour=caf\xe9\n", "line 1, in Windows.*café"), (b"\xff\xfe-", "utf-16"), (None, "names itself")],
)
def test_a_flagfile_that_is_no_text_or_names_itself_is_refused(tmp_path, content, words):
    path = tmp_path / "a.cfg"
    path.write_bytes(f"--flagfile={path}".encode() if content is None else content)
    with pytest.raises(UserError, match=f"--flagfile=.*a.cfg: .*{words}"):
        expanded([f"--flagfile={path}"])


def test_a_flagfile_finds_another_beside_it_then_in_the_working_directory(tmp_path, monkeypatch):
    for name, text in {
        "configs/a.cfg": "--flagfile=inner/b.cfg\n--flagfile=c.cfg\n--flagfile=d.cfg",
        "configs/inner/b.cfg": "--flagfile=../c.cfg\n--b",
        "configs/c.cfg": "--c=beside",
        "elsewhere/c.cfg": "--c=here",
        "elsewhere/d.cfg": "--d=here",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path / "elsewhere")
    for path in ("../configs/a.cfg", str(tmp_path / "configs" / "a.cfg")):
        assert expanded([f"--flagfile={path}"]) == ["--c=beside", "--b", "--c=beside", "--d=here"]
    (tmp_path / "configs" / "inner" / "b.cfg").write_text("--flagfile=../inner/../a.cfg")
    with pytest.raises(UserError, match=r"a\.cfg: names itself"):
        expanded(["--flagfile=../configs/a.cfg"])


@pytest.mark.parametrize("name", ["demo.cfg", "configs/demo.cfg"])
def test_flagfiles_of_the_package_are_found_by_name_from_anywhere_after_those_on_disk(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    found = expanded([f"--flagfile={name}"])
    assert "--dataset=demo" in found and "--backbone=resnet_tiny" in found  # of configs/data and configs/recipes
    (tmp_path / "configs").mkdir()
    for path in (tmp_path / "demo.cfg", tmp_path / "configs" / "demo.cfg"):
        path.write_text("--mine")
    assert expanded([f"--flagfile={name}"]) == ["--mine"]


def test_a_flagfile_on_a_disk_may_name_those_of_the_package(tmp_path):
    (tmp_path / "mine.cfg").write_text("--flagfile=configs/recipes/published.cfg\n--epochs=3")
    assert "--decay_vectors" in expanded([f"--flagfile={tmp_path}/mine.cfg"])
    with pytest.raises(UserError, match=r"--flagfile=configs/nosuch\.cfg: cannot be read"):
        expanded(["--flagfile=configs/nosuch.cfg"])


def test_a_command_reads_a_flagfile_with_a_byte_order_mark_and_refuses_a_missing_one(tmp_path):
    (tmp_path / "a.cfg").write_bytes(codecs.BOM_UTF8 + b"--dataset=nosuch\n--model=m\n")
    assert_refused(command("msrn_tf.train", "--flagfile=a.cfg", "--workdir=w", cwd=tmp_path), "--model")
    assert_refused(command("msrn_tf.train", "--flagfile=b.cfg", "--workdir=w", cwd=tmp_path), "--flagfile=b.cfg")


def test_a_run_goes_on_with_its_flags_and_with_flags_that_are_newer_than_it_at_their_defaults(tmp_path):
    path = tmp_path / "flags.cfg"
    path.write_bytes(codecs.BOM_UTF8 + flagfile_text(Choices(size=4)).replace("\n", "\r\n").encode())
    assert changed_flags(path, Choices(size=4, where="here")) == []
    assert changed_flags(path, Choices()) == [("size", "4", "3")]
    path.write_text("--size=4\n")
    assert changed_flags(path, Choices(size=4)) == []
    assert changed_flags(path, Choices("blue", 4)) == [("colour", "red", "blue")]


def test_a_run_whose_choice_is_a_blank_goes_on(tmp_path):
    path = tmp_path / "flags.cfg"
    path.write_text(flagfile_text(Choices(colour=" ")))
    assert changed_flags(path, Choices(colour=" ")) == []
    assert changed_flags(path, Choices(colour="")) == [("colour", " ", "")]
