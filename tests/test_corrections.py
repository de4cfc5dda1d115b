"""A person's decisions on labels: read beside the data, above every policy, refused where they do not fit."""

import ast
import csv
import pathlib

import numpy as np
import pytest
from running import ROOT

from msrn_tf.data.corrections import Corrections, Decision, corrections_text, read_decisions
from msrn_tf.data.examples import Example, Examples
from msrn_tf.data.label_policies import UNLISTED, Relabelled
from msrn_tf.data.readers import open_dataset, read_split
from msrn_tf.data.targets import CompressedTargets
from msrn_tf.errors import UserError

TABLE = "image,labels,split\na.jpg,cat|dog,train\nb.jpg,cat|?ox,train\nc.jpg,,train\nd.jpg,ox,val\n"
TRAIN = [[1, 1, 0], [1, 0, -1], [0, 0, 0]]


@pytest.fixture
def data(tmp_path):
    """A function of the text of a file of corrections: (folder of a data set, path of the file)."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "list.csv").write_text(TABLE)
    for name in "abcd":
        (folder / f"{name}.jpg").touch()

    def write(text, encoding="utf-8"):
        path = tmp_path / "decisions.csv"
        path.write_bytes(text.encode(encoding))
        return str(folder), str(path)

    return write


def train_targets(folder, path, **choices):
    return read_split(open_dataset("csv", folder, corrections=path, **choices), "train").targets.tolist()


GOOD = "photo,label,annotated,decision\na.jpg,dog,present,absent\nb.jpg,dog,absent,present\nb.jpg,ox,unknown,present\n"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "photo,label,decision\na.jpg,dog,absent\nb.jpg,dog,present\nb.jpg,ox,present\n",
        GOOD.replace(",", ";").replace("\n", "\r\n"),
        "decision,score,label,photo\nABSENT,.1,dog,a.jpg\n,.2,cat,a.jpg\npresent ,.9,dog,b.jpg\npresent,1,ox,b.jpg\n",
    ],
    ids=["as the page saves it", "without what was annotated", "a spreadsheet's", "other columns and an open row"],
)
def test_decisions_change_these_targets_and_no_others(data, text):
    assert train_targets(*data(text)) == [[1, 0, 0], [1, 1, 1], [0, 0, 0]]


def test_the_files_of_the_data_set_stay_as_they_are(data):
    folder, path = data(GOOD)
    train_targets(folder, path)
    assert (pathlib.Path(folder) / "list.csv").read_text() == TABLE
    assert sorted(p.name for p in pathlib.Path(folder).iterdir()) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "list.csv"]


def test_chosen_and_frequent_labels_are_those_of_the_corrected_data(data):
    folder, path = data(GOOD)
    reader = open_dataset("csv", folder, min_photos=2, corrections=path)
    assert reader.labels == ("cat",)
    assert train_targets(folder, path, labels="dog,cat") == [[0, 1], [1, 1], [0, 0]]


@pytest.mark.parametrize(("policy", "unlisted"), [("unknown", -1), ("suspect", UNLISTED)])
def test_what_a_person_found_absent_is_absent_under_every_policy(data, policy, unlisted):
    folder, path = data(GOOD + "c.jpg,cat,absent,absent\n")
    reader = open_dataset("csv", folder, corrections=path, unlisted=policy)
    assert reader.read("train").targets.tolist() == [[1, 0, unlisted], [1, 1, 1], [0, unlisted, unlisted]]
    assert reader.read("val").targets.tolist() == [[0, 0, 1]]  # the policy is for the training split


def test_decisions_on_one_split_are_read_with_another_that_has_the_same_photos_or_none_of_them(data):
    folder, path = data("photo,label,decision\na.jpg,dog,absent\n")
    assert open_dataset("csv", folder, corrections=path).read("val").targets.tolist() == [[0, 0, 1]]


def test_a_file_that_was_applied_when_the_data_were_prepared_may_be_given_again(data):
    folder, path = data(GOOD)
    text = TABLE.replace("cat|dog", "cat").replace("cat|?ox", "cat|dog|ox")
    (pathlib.Path(folder) / "list.csv").write_text(text)
    assert train_targets(folder, path) == [[1, 0, 0], [1, 1, 1], [0, 0, 0]]


REFUSED = {
    "other photos": ("photo,label,decision\na.jpg,dog,absent\nz.jpg,cat,absent\n", ["line 3", "z.jpg", "1 of 2"]),
    "other labels": ("photo,label,decision\na.jpg,dogs,absent\n", ["line 2", "no label dogs", "did you mean dog?"]),
    "contradiction": (
        "photo,label,decision\na.jpg,dog,absent\nb.jpg,dog,absent\na.jpg,dog,present\n",
        ["lines 2 and 4", "dog in a.jpg is absent and present", "leave one"],
    ),
    "other data": (
        "photo,label,annotated,decision\na.jpg,ox,present,unknown\n",
        ["line 2", "annotated present", "says absent now"],
    ),
    "no decisions": ("photo,label,annotated,score,suggestion\na.jpg,ox,absent,.9,present\n", ["decision", "once each"]),
    "a word": ("photo,label,decision\na.jpg,dog,yes\n", ["line 2", "'yes'", "present, absent, unknown"]),
    "a field": ("photo,label,decision\na.jpg,dog,absent,1\n", ["line 2", "4 fields, not 3"]),
    "a quote": ('photo,label,decision\n"a.jpg,dog,absent\n', ["cannot be read as a CSV file", "line 2"]),
    "nothing": ("", ["first line"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_does_not_fit_is_refused_in_one_sentence(data, case):
    text, words = REFUSED[case]
    folder, path = data(text)
    with pytest.raises(UserError) as error:
        train_targets(folder, path)
    assert str(error.value).startswith(path) and "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_a_missing_file_is_refused_by_name(data):
    folder, path = data(GOOD)
    with pytest.raises(UserError, match=r"^.*gone\.csv: cannot be read"):
        train_targets(folder, path + "gone.csv")


def test_names_that_no_table_would_hold_are_found_again():
    names = ["plain", 'a "quoted", one', "two\nlines", "caf\udce9.jpg", "\u202egnp.gpj", "=1+1"]
    examples = Examples.of((Example(name, np.array([0, 1], np.int8)) for name in names), 2)
    reader = fake_reader(examples)
    decisions = [
        Decision(str_, "dog", 1, 0, 0) for str_ in (name.encode("unicode_escape").decode() for name in names[2:5])
    ]
    decisions += [Decision(name, "dog", 1, -1, 0) for name in (*names[:2], names[5])]
    assert with_decisions(reader, decisions).targets[:, 1].tolist() == [-1, -1, 0, 0, 0, -1]


def test_compressed_targets_change_as_those_of_a_table_do(rng, monkeypatch):
    monkeypatch.setattr("msrn_tf.data.corrections.CHUNK", 7)
    targets = rng.integers(-1, 2, (40, 9)).astype(np.int8)
    rows = (Example(str(n), target) for n, target in enumerate(targets))
    dense = Examples.of(rows, 9)
    compressed = dense.with_targets(CompressedTargets.from_dense(targets))
    places = {(int(rng.integers(40)), int(rng.integers(9))) for _ in range(25)}
    decisions = [Decision(str(row), f"l{column}", None, int(rng.integers(-1, 2)), 0) for row, column in sorted(places)]
    expected = targets.copy()
    for decision in decisions:
        expected[int(decision.photo), int(decision.label[1:])] = decision.decision
    for examples in (dense, compressed):
        found = with_decisions(fake_reader(examples, [f"l{n}" for n in range(9)]), decisions)
        np.testing.assert_array_equal(found.targets, expected)
        assert (found.compressed_default is None) == (examples.compressed_default is None)


def fake_reader(examples, labels=("cat", "dog")):
    class Fake:
        splits = ("train",)

        def read(self, split):
            return examples

    Fake.labels = labels
    return Fake()


def with_decisions(reader, decisions, path=None):
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".csv", encoding="utf-8") as file:
        file.write(corrections_text(decisions))
        file.flush()
        assert [(d.photo, d.label, d.decision) for d in read_decisions(file.name)] == [
            (d.photo, d.label, d.decision) for d in decisions
        ]
        return Relabelled(reader, Corrections(file.name, reader.labels)).read("train")


def test_every_command_that_reads_a_data_set_by_flags_reads_it_with_the_corrections():
    calls = []
    for path in [*ROOT.glob("msrn_tf/**/*.py"), *ROOT.glob("export/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "open_dataset":
                calls.append((path.stem, {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}))
    (where, given), *more = calls  # all others ask `DataConfig.open`
    assert where == "config" and not more
    assert given["corrections"] == "self.corrections" and given["form"] == "self.form"


def test_the_text_of_decisions_is_a_table_that_others_read():
    text = corrections_text([Decision('a,"b"', "dog", None, 1, 0), Decision("c", "cat", -1, 0, 0)])
    assert list(csv.reader(text.splitlines())) == [
        ["photo", "label", "annotated", "decision"], ['a,"b"', "dog", "", "present"], ["c", "cat", "unknown", "absent"],
    ]  # fmt: skip
