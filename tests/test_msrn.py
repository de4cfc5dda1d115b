"""`msrn`: every command by one name."""

import subprocess
import sys

import pytest
from running import ROOT, assert_refused, command
from test_structure import COMMANDS as MODULES

from msrn_tf.__main__ import COMMANDS, command_meant, what_it_does

LIGHT = """
import sys
sys.argv = ["msrn", *{arguments}]
from msrn_tf.__main__ import main
main()
assert not {{"tensorflow", "keras", "numpy"}} & set(sys.modules)
"""


def msrn(*arguments):
    """Runs `msrn` and looks at what it imported."""
    return subprocess.run(
        [sys.executable, "-c", LIGHT.format(arguments=list(arguments))], cwd=ROOT, capture_output=True, text=True
    )


def test_every_command_has_its_own_name():
    assert set(COMMANDS.values()) == MODULES
    assert all(module.split(".")[1] == name for name, module in COMMANDS.items())


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_alone_it_lists_the_commands_and_imports_nothing_heavy(arguments):
    run = msrn(*arguments)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    for name in COMMANDS:
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert len(line.split()) > 3
    assert all(len(line) <= 112 for line in lines)


def test_what_is_no_command_is_one_sentence():
    assert_refused(msrn("wrong"), "wrong: no such command; msrn --help lists them")
    assert_refused(msrn("pre\x1bdict"), r"pre\x1bdict: no such command; did you mean predict?")
    assert_refused(msrn("--workdir=x"), "--workdir=x: no such command")
    assert msrn("--version").stdout.startswith("msrn 0.")


def test_a_command_runs_as_its_module_does_and_calls_itself_by_its_name():
    assert command_meant("check-labels") == "check_labels"
    run = command("msrn_tf", "client", "--help")
    assert run.stdout.splitlines()[0].startswith("msrn client [--flagfile=FILE]")
    assert command("export.client", "--help").stdout.splitlines()[0].startswith("python -m export.client ")
    assert run.stdout.splitlines()[1:] == command("export.client", "--help").stdout.splitlines()[1:]
    assert_refused(command("msrn_tf", "client", "--no_such_flag"), "no_such_flag")


def test_what_a_command_does_is_its_docstrings_first_sentence():
    assert what_it_does("msrn_tf.predict") == "prints the labels of photos, and draws where the model looked"
