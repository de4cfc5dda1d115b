"""Names of labels, files and splits are other people's text: at no border does it steer, run, share a file or end a
command."""

import csv
import io
import json
import os
import re
import sys

import numpy as np
import pytest
from PIL import Image
from rich.table import Table as RichTable
from serving import small_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from msrn_tf import evaluate, predict, terminal
from msrn_tf.data.demo import draw_example
from msrn_tf.errors import UserError, printable
from msrn_tf.label_graph import LabelGraph
from msrn_tf.models.factory import load_model, save_model
from msrn_tf.predictions import csv_text
from msrn_tf.progress import ProgressBar
from msrn_tf.training.run_log import RunLog
from msrn_tf.visualization.audit_page import audit_page
from msrn_tf.visualization.captions import shortened
from msrn_tf.visualization.heatmap_files import HeatmapFiles
from msrn_tf.visualization.html import document, escape

STRANGE = ("[/]", "[red]x[/red]", "\x1b[31mred\x1b]0;title\x07", "=cmd|' /C calc'!A0", "hot\nred \u2028\u202e")
HARMFUL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]")  # a line break alone ends a line


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    model = small_model(32)
    model.labels = STRANGE
    path = str(tmp_path_factory.mktemp("model") / "model.keras")
    save_model(model, path)
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "[bold]\x1b[2J"
    folder.mkdir()
    for number, name in enumerate(("=1+1.jpg", "[x].jpg", "line\nbreak.jpg")):
        (folder / name).write_bytes(draw_example("test", number).image_bytes)
    return folder


@pytest.mark.parametrize(
    "choices", [{}, *(pytest.param({form: True}, marks=pytest.mark.slow) for form in ("json", "csv"))], ids=str
)
def test_predict_writes_no_text_that_steers_a_terminal(model_path, photos, tmp_path, capsys, choices):
    config = predict.PredictionConfig(
        model=model_path, heatmaps=str(tmp_path / "maps"), sheet=str(tmp_path / "sheet.png"), **choices
    )
    predict.main([str(photos)], config)
    said = capsys.readouterr()
    assert not HARMFUL.search(said.out + said.err)
    if choices.get("json"):  # programs get the names as they are
        assert sorted(json.loads(said.out.splitlines()[0])["labels"]) == sorted(STRANGE)
    elif not choices:
        assert "[red]x[/red]" in said.out and "[/]" in said.out and r"hot\nred" in said.out and "=1+1.jpg" in said.out


def test_csv_holds_no_formulas(model_path, photos, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    predict.main(["=1+1.jpg", "line\nbreak.jpg"], predict.PredictionConfig(model=model_path, csv=True))
    head, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    assert head[2:] == [
        "[/]", "[red]x[/red]", r"\x1b[31mred\x1b]0;title\x07", "'=cmd|' /C calc'!A0", r"hot\nred \u2028\u202e"
    ]  # fmt: skip
    assert [row[0] for row in rows] == ["'=1+1.jpg", r"line\nbreak.jpg"]
    for row in rows:
        assert row[1][:1] not in ("=", "+", "-", "@") and all(0 <= float(score) <= 1 for score in row[2:])
        assert "=cmd|' " not in row[1].replace("\\|", "")  # a label's own | does not separate


@pytest.mark.parametrize(
    ("text", "cell"),
    [("sky", "sky"), ("-5", "'-5"), ("+1", "'+1"), ("@x", "'@x"), (" =x", "' =x"), ("\t=x", r"\t=x"), ("\r=x", r"\r=x"),
     ("＝x", "'＝x"), ("a=b", "a=b"), ("t-shirt", "t-shirt")],
)  # fmt: skip
def test_cells_that_a_spreadsheet_would_compute_become_text(text, cell):
    assert csv_text(text) == cell


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_evaluate_and_bars_print_strange_labels_as_they_are(capsys, monkeypatch):
    names = {"AP": dict.fromkeys(STRANGE, 50.0), "positives": dict.fromkeys(STRANGE, 3), "mAP": 50.0, "num_images": 4}
    figures = dict.fromkeys([f"{name}{end}" for name in evaluate.FIGURES for end in ("", "_top3")], 1.0)
    others = ("coverage_error", "label_ranking_average_precision", "label_ranking_loss", "hamming_loss",
              "expected_calibration_error", "classwise_calibration_error")  # fmt: skip
    evaluate.print_metrics(names | figures | dict.fromkeys(others, 1.0) | {"protocol": {"[/x]": "\x1b[2J"}})
    said = capsys.readouterr().out
    assert not HARMFUL.search(said) and all(printable(label) in said for label in STRANGE)

    monkeypatch.setattr(sys, "stderr", Screen())
    with ProgressBar("writing [/red]\x1b]0;x\x07", 2) as bar:
        bar.update(1, "[/]")
    assert "\x1b]0" not in (drawn := sys.stderr.getvalue()) and "writing [/red]" in drawn


def test_a_bar_on_the_terminal_leaves_what_goes_to_a_file_alone(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Screen())
    with ProgressBar("predicting", 2) as bar:
        bar.update(1)
        print('{"photo": "a.jpg"}')
    assert capsys.readouterr().out == '{"photo": "a.jpg"}\n' and "predicting" in sys.stderr.getvalue()


def test_a_table_in_a_file_has_its_cells_whole(capsys):
    names = [f"2026-07-14_holiday_in_the_mountains_{'with_everybody_' * 8}{number}.jpg" for number in range(2)]
    table = terminal.Table("photo", "present")
    for name in names:
        table.add_row(name, "mountain, person")
    terminal.print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[3:5]] == [["│", name, "│", "mountain,", "person", "│"] for name in names]


def test_a_table_takes_text_alone_and_rich_by_itself_would_not():
    table = terminal.Table("[/]")
    table.add_row("[/]")
    terminal.print_table(table)
    plain = RichTable("[/]")
    plain.add_row("[/]")
    with pytest.raises(Exception, match="closing tag"):
        terminal.print_table(plain)


def test_no_heatmap_takes_anothers_file_and_any_name_can_be_one(tmp_path):
    picture = Image.new("RGB", (8, 8))
    files = HeatmapFiles(str(tmp_path / "maps"))
    names = [
        "a b",
        "a_b",
        "A_B",
        "\0",
        "../../x",
        "é" * 10_000,
        "é" * 10_001,
        "e\u0301",
        "é",
        "",
        ".",
        "con:",
        "[/]\x1b",
    ]
    written = files.save("one/a.jpg", dict.fromkeys(names, picture))
    written += files.save("two/a.png", {"a b": picture})
    written += files.save("a_a.jpg", {"b": picture})
    written += files.save("a~2.jpg", {"a b": picture})
    written += files.save("\0" + "x" * 10_000 + ".jpg", {"a": picture})
    found = [os.path.join(folder, name) for folder, _, inside in os.walk(tmp_path) for name in inside]
    assert sorted(found) == sorted(written) and len(found) == len(names) + 4
    assert len({name.casefold() for name in found}) == len(found)
    for path in found:
        name = os.path.basename(path)
        assert os.path.dirname(path) == str(tmp_path / "maps") and name.isprintable() and len(name.encode()) <= 143
    assert [os.path.basename(path) for path in written[:3]] == ["a_a_b.jpg", "a_a_b~2.jpg", "a_A_B~3.jpg"]


def test_heatmaps_of_servers_and_devices_are_kept_apart_too(tmp_path):
    paths = [tmp_path / folder / "photo.jpg" for folder in ("one", "two")]
    files = HeatmapFiles(str(tmp_path / "maps"))
    written = []
    for path in paths:
        path.parent.mkdir()
        Image.new("RGB", (8, 8)).save(path)
        written += files.write_combined(str(path), {"a b": np.ones((2, 2)), "a_b": np.zeros((2, 2))})
    assert len(set(written)) == 4 == len(list((tmp_path / "maps").iterdir()))


def test_heatmaps_that_cannot_be_written_are_refused_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"`heatmaps`=.*file: cannot be written \(File exists\)"):
        HeatmapFiles(str(tmp_path / "file"))
    files = HeatmapFiles(str(tmp_path / "maps"))
    (tmp_path / "maps" / "a_b.jpg").mkdir()
    with pytest.raises(UserError, match=r"`heatmaps`=.*maps: cannot be written"):
        files.save("a.jpg", {"b": Image.new("RGB", (8, 8))})


def test_the_audit_page_draws_and_escapes_strange_labels():
    labels = (*STRANGE, r"$\frac{$", "<b>&", "", "$a$ $b$")
    graph = LabelGraph.from_targets(labels, np.ones((3, len(labels))))
    report = {
        "splits": {"train": {"images": 3, "rejected": 1, "without_a_label": 0, "labels_an_image": 1.0,
                             "shortest_side": 1, "longest_side": 1, "present": dict.fromkeys(labels, 3),
                             "unknown": dict.fromkeys(labels, 0)}},
        "rejected": [{"split": "train", "image": "<i>\x1b[2J", "reason": "<script>"}],
        "duplicates": [], "num_duplicates": 0, "duplicates_across_splits": 0, "overlaps": [],
        "near_duplicates": [[{"image": name, "splits": ["train"]} for name in ("<i>a", "b\x1b[2J")]],
        "num_near_duplicates": 1, "near_duplicates_across_splits": 0,
        "findings": [{"finding": "\x1b[2J<i>", "mend": "<script>"}],
    }  # fmt: skip
    page = audit_page("<name>", report, graph, 0.4)
    assert not HARMFUL.search(page) and "<i>" not in page and "<b>&" not in page and "<script" not in page
    assert "&lt;b&gt;&amp;" in page and r"\x1b[2J" in page and "<h1>&lt;name&gt;</h1>" in page


def test_html_shows_what_it_must_not_obey():
    assert escape("<a b=\"x\" c='y'>&\u202e\0") == r"&lt;a b=&quot;x&quot; c=&#x27;y&#x27;&gt;&amp;\u202e\x00"
    assert "<title>&lt;/title&gt;</title>" in document("</title>", "", "")


def test_captions_are_on_one_line():
    assert shortened("hot\nred", 12, 500) == r"hot\nred"


def test_tensorboard_takes_strange_labels(tmp_path):
    log = RunLog(str(tmp_path))
    log.write({"epoch": 1, "step": 1, "AP": dict.fromkeys((*STRANGE, "caf\udce9"), 50.0)})
    log.write_predictions(1, (*STRANGE, "caf\udce9"), np.full((2, 6), 0.5), np.array([[1] * 6, [0] * 6]))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    tags = [tag for kind in ("scalars", "tensors") for tag in events.Tags()[kind]]
    for label in (*STRANGE, "caf\udce9"):
        assert f"AP/{printable(label)}" in tags
        assert any(tag.startswith(f"precision_recall/{printable(label)}") for tag in tags)


def test_a_model_keeps_strange_labels_as_they_are(model_path):
    assert load_model(model_path).labels == STRANGE
