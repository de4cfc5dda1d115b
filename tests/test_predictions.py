"""The one form of what is found in photos, and commands whose output nobody reads to its end."""

import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from running import ROOT

from msrn_tf.predictions import Prediction, print_csv_of, print_json_of, print_table_of

SUN = Prediction.of("a/sun.jpg", [("sun", np.float32(0.9), True), ("sea", 0.12345678, False)])
FOG = Prediction.of(
    "fog.jpg", [("sea", 0.4, False), ("sun", 0.1, False)], milliseconds={"read": 1.25, "run": 30.0}, heatmaps=["m.jpg"]
)


def test_a_prediction_keeps_labels_best_first_and_six_decimals():
    assert SUN.labels == ["sun", "sea"] and SUN.scores == [0.9, 0.123457] and SUN.present == ["sun"]
    assert SUN.score_of == {"sun": 0.9, "sea": 0.123457}
    assert SUN.explained == ["sun"] and FOG.explained == ["sea"]  # the best one, where none is present


def test_json_has_what_is_known_in_one_order(capsys):
    print_json_of([SUN, FOG], top_k=1)
    sun, fog = capsys.readouterr().out.splitlines()
    assert sun == '{"photo": "a/sun.jpg", "labels": ["sun"], "scores": [0.9], "present": ["sun"]}'
    assert json.loads(fog)["milliseconds"] == {"read": 1.25, "run": 30.0}
    assert [*json.loads(fog)] == ["photo", "labels", "scores", "present", "milliseconds", "heatmaps"]


def test_the_table_marks_present_labels_and_has_times_where_they_were_measured(capsys):
    print_table_of([SUN], top_k=2)
    assert "*sun 0.900  sea 0.123" in (table := capsys.readouterr().out) and " ms" not in table
    print_table_of([FOG], top_k=1)
    assert "sea 0.400" in (table := capsys.readouterr().out) and "sun" not in table
    assert all(text in table for text in ("read ms", "run ms", "1.2", "30.0"))
    print_table_of([], top_k=5)
    assert "best 5 labels" in capsys.readouterr().out


def test_csv_has_columns_in_the_order_that_is_given(capsys):
    print_csv_of([SUN, FOG], ["sea", "sun"])
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["photo", "present", "sea", "sun"]
    assert rows[1:] == [["a/sun.jpg", "sun", "0.123457", "0.9"], ["fog.jpg", "", "0.4", "0.1"]]


PROGRAM = """
import sys
from msrn_tf import command_line
from msrn_tf.predictions import Prediction, {printer}

def main(arguments):
    many = [Prediction.of("photo.jpg", [(f"label{{n}}", 0.5, True) for n in range(50)])] * 4000
    {printer}(many, {argument})
    {last}

command_line.run(main, usage="", positional="WORD")
"""


@pytest.mark.parametrize("last", ["", "sys.exit(2)"])
@pytest.mark.parametrize(
    ("printer", "argument"),
    [("print_json_of", "9"), ("print_table_of", "9"), ("print_csv_of", "[f'label{n}' for n in range(50)]")],
)
def test_a_command_ends_without_a_word_when_nobody_reads_on(printer, argument, last):
    code = PROGRAM.format(printer=printer, argument=argument, last=last)
    # Unbuffered, Python takes a part for the whole where a large piece of text cannot be written.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True,
        env=environment,
    )  # fmt: skip
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141


def test_other_pipes_that_break_are_told():
    code = "from msrn_tf import command_line\ndef main(_):\n    raise BrokenPipeError(32, 'a socket')\n"
    code += "command_line.run(main, usage='', positional='WORD')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 1 and "BrokenPipeError" in run.stderr
