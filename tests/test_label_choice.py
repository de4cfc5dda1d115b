"""Which labels are read: cleaned, doubtful ones named, chosen by a person, counted, or in a model's order."""

import codecs
import json
import re

import numpy as np
import pytest

from msrn_tf.data.label_policies import UNLISTED
from msrn_tf.data.readers import open_dataset, read_split
from msrn_tf.errors import UserError
from msrn_tf.text import clean_label

TABLE = "image,labels,split\n1.jpg,cat|dog,train\n2.jpg,cat|?ox,train\n3.jpg,cat,train\n4.jpg,ox|dog,val\n"


@pytest.fixture
def table(tmp_path):
    """A function: a folder with a table, and the photos that it names as empty files."""

    def write(text=TABLE, encoding="utf-8"):
        (tmp_path / "list.csv").write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        for number in range(1, 10):
            (tmp_path / f"{number}.jpg").touch()
        return str(tmp_path)

    return write


@pytest.mark.parametrize(
    "label",
    ["caf\u00e9 bar", "cafe\u0301 bar", "caf\u00e9\u00a0bar", " caf\u00e9\u3000bar\t", "\ufeffcaf\u00e9 \u200bbar",
     "caf\u00e9  bar\u200e", "ca\u00adf\u00e9\u202fbar"],
)  # fmt: skip
def test_labels_that_look_the_same_are_the_same(table, label):
    reader = open_dataset("csv", table(f"image,labels,split\n1.jpg,{label}|x,train\n2.jpg,caf\u00e9 bar,val\n"))
    assert reader.labels == ("caf\u00e9 bar", "x")
    assert reader.read("train").targets.tolist() == [[1, 1]]
    assert reader.read("val").targets.tolist() == [[1, 0]]


def test_letters_that_words_differ_by_are_kept():
    for label in ("نامه\u200cای", "👩\u200d🚀", "क\u094d\u200dष", "a-b", "ß", "Ⅳ"):
        assert clean_label(label) == label


@pytest.mark.parametrize("bad", ["a\nb", "a\u2028b", "a\u2029b", "a\0b", "a\x1b[31mb", "a\x85b", "a\tb"])
@pytest.mark.parametrize("dataset", ["csv", "nuswide", "coco_json", "folder", "prepared"])
def test_a_label_with_a_line_break_or_a_control_character_is_refused_by_every_reader(tmp_path, bad, dataset):

    if dataset == "csv":
        (tmp_path / "a.csv").write_text(f'image,labels\n1.jpg,"{bad}|c"\n')
    elif dataset == "nuswide":
        (tmp_path / "a.csv").write_text(f'filepath,label,split_name\n1.jpg,"[{bad!a}]",train\n')
    elif dataset == "coco_json":
        content = {
            "images": [{"id": 1, "file_name": "a.jpg"}],
            "annotations": [],
            "categories": [{"id": 1, "name": bad}],
        }
        (tmp_path / "train.json").write_text(json.dumps(content))
    elif dataset == "folder":
        if "\0" in bad:
            pytest.skip("no folder can be called so")
        (tmp_path / bad).mkdir()
        (tmp_path / bad / "1.jpg").touch()
    else:
        (tmp_path / "dataset.json").write_text(json.dumps({"labels": [bad], "splits": {}}))
    with pytest.raises(UserError, match=r"label .* holds a (line break|control character)") as refusal:
        open_dataset(dataset, str(tmp_path))
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("Cat|cat", "differ only by case, blanks or hyphens .*'Cat' and 'cat'"),
        ("ice cream|ice_cream|x", "'ice cream' and 'ice_cream'"),
        ("T-shirt|t shirt", "'T-shirt' and 't shirt'"),
        ("Ａ|a", "differ only by case"),
        ("cat|dog|cat;dog", "made of other labels .*'cat;dog'"),
        ("cat|dog;bird", "are one label each: 'dog;bird'"),
        ("cat|dog/bird", "are one label each: 'dog/bird'"),
        ("cat|dog|cat dog", "made of other labels .*'cat dog'"),
    ],
)
def test_labels_that_may_be_meant_to_be_one_or_several_are_named(table, capsys, labels, words):
    open_dataset("csv", table(f"image,labels\n1.jpg,{labels}\n"))

    assert re.search(f"^warning: .*{words}", capsys.readouterr().err, re.MULTILINE)


def test_ordinary_labels_give_no_warning(table, capsys):
    open_dataset("csv", table("image,labels,split\n1.jpg,hot dog|dog|traffic light,train\n2.jpg,?hot dog|cat,val\n"))
    assert "warning" not in capsys.readouterr().err


def test_named_labels_are_read_in_their_order_and_others_left_out(table, tmp_path):
    folder = table()
    reader = open_dataset("csv", folder, "ox, cat")
    assert reader.labels == ("ox", "cat") and reader.splits == ["train", "val"]
    assert reader.read("train").targets.tolist() == [[0, 1], [-1, 1], [0, 1]]
    for content in (b"ox\ncat\n", codecs.BOM_UTF8 + b"ox\r\ncat", "ox\ncat\n".encode("utf-16")):
        (tmp_path / "labels.txt").write_bytes(content)
        assert open_dataset("csv", folder, str(tmp_path / "labels.txt")).labels == ("ox", "cat")


@pytest.mark.parametrize(
    ("dataset", "labels", "words"),
    [
        ("demo", "grass,boot", "has no label boot; did you mean boat"),
        ("demo", "nosuch.txt", "`labels`=nosuch.txt: is not a file, and the data set has no label nosuch.txt"),
        ("demo", "sky,grass,sky", "names sky twice"),
        ("demo", ",", "names no label"),
        ("csv", "yak,emu", "has no label yak, emu"),
    ],
)
def test_labels_that_cannot_be_read_are_named(table, dataset, labels, words):
    with pytest.raises(UserError, match=words):
        open_dataset(dataset, "" if dataset == "demo" else table(), labels)


def test_a_named_label_that_no_photo_of_a_table_shows_is_absent_and_named(table, capsys):
    reader = open_dataset("csv", table(), "dog,yak")
    assert reader.read("val").targets.tolist() == [[1, 0]]
    assert "no photo of the data set shows yak" in capsys.readouterr().err


def test_rare_labels_are_left_out_and_named_with_their_counts(table, capsys):
    reader = open_dataset("csv", table(), min_photos=1)
    assert reader.labels == ("cat", "dog")  # nobody knows whether a photo of the training split shows an ox
    assert reader.read("train").targets.tolist() == [[1, 1], [1, 0], [1, 0]]
    assert reader.read("val").targets.tolist() == [[0, 1]]
    assert "labels of fewer than 1 photos in split train: ox (0)" in capsys.readouterr().err
    assert open_dataset("csv", table(), min_photos=3).labels == ("cat",)
    assert open_dataset("csv", table(), "ox,dog,cat", 1, "val").labels == ("ox", "dog")
    with pytest.raises(UserError, match="`min_photos`=4: no label has as many photos in split"):
        open_dataset("csv", table(), min_photos=4)


@pytest.mark.parametrize(("policy", "unlisted"), [("unknown", -1), ("suspect", UNLISTED)])
def test_chosen_and_frequent_labels_that_are_not_listed_mean_what_the_policy_says(table, policy, unlisted):
    reader = open_dataset("csv", table(), "ox, cat", unlisted=policy)
    assert reader.read("train").targets.tolist() == [[unlisted, 1], [-1, 1], [unlisted, 1]]
    reader = open_dataset("csv", table(), min_photos=1, unlisted=policy)
    assert reader.labels == ("cat", "dog")
    assert reader.read("train").targets.tolist() == [[1, 1], [1, unlisted], [1, unlisted]]
    assert reader.read("val").targets.tolist() == [[0, 1]]  # the policy is for the training split


def test_a_split_is_read_in_a_models_order_with_a_word_about_what_does_not_fit(table, capsys):
    reader = open_dataset("csv", table())
    examples = read_split(reader, "train", labels=("yak", "dog", "ca\u200bt"))
    assert examples.targets.tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 1]]  # a table names all that its photos show
    said = capsys.readouterr().err
    assert (
        "does not name count as absent in all of its photos: yak" in said and "the model lacks are left out: ox" in said
    )
    demo = open_dataset("demo", "")
    targets = read_split(demo, "val", labels=("yak", "sky")).targets.tolist()
    assert {row[0] for row in targets} == {-1} and {row[1] for row in targets} == {0, 1}
    assert "does not name are not measured: yak" in capsys.readouterr().err
    chosen = open_dataset("csv", table(), "dog")  # the others are not looked at
    assert read_split(chosen, "val", labels=("ox", "dog")).targets.tolist() == [[-1, 1]]
    with pytest.raises(UserError, match="has no label of the data set"):
        read_split(reader, "train", labels=("yak", "emu"))


def test_of_two_spellings_of_a_label_a_photo_shows_it_by_either(table):
    text = "image,labels,split\n1.jpg,caf\u00e9,train\n2.jpg,?cafe\u0301,train\n3.jpg,x,train\n"
    assert open_dataset("csv", table(text)).read("train").targets.tolist() == [[1, 0], [-1, 0], [0, 1]]
    with pytest.raises(UserError, match="line 2: has both"):
        open_dataset("csv", table(text.replace("1.jpg,", "1.jpg,?cafe\u0301|")))


@pytest.mark.parametrize("split", ["a/b", "..", "x\ny", "a\\b", "\u200b."])
def test_a_split_that_cannot_be_part_of_a_files_name_is_refused(table, split):
    with pytest.raises(UserError, match="has a split"):
        open_dataset("csv", table(f'image,labels,split\n1.jpg,cat,"{split}"\n'))


def test_targets_are_int8_whatever_was_chosen(table):
    for reader in (open_dataset("csv", table()), open_dataset("csv", table(), "dog")):
        assert reader.read("train").targets.dtype == np.int8
