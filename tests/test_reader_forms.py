"""The forms that tools write: the same photos in each of them are the same examples, found out without a flag."""

import collections
import os
import pathlib

import pytest
from forms import FORMS, LABELS, SPLITS, encoded, forty_photos
from mutations import readings_of_mutations

from msrn_tf.data.readers import find_form, open_dataset, read_split


def content_of(example):
    return example.image_bytes or pathlib.Path(example.image_path).read_bytes()


@pytest.mark.parametrize("name", FORMS)
def test_the_same_photos_in_every_form_are_the_same_examples(tmp_path, name):
    write, dataset, _ = FORMS[name]
    photos = forty_photos()
    write(tmp_path, photos)
    assert find_form(str(tmp_path)) == dataset
    reader = open_dataset("auto", str(tmp_path))
    assert tuple(label.replace("_", " ") for label in reader.labels) == LABELS
    for split in SPLITS:
        examples = read_split(reader, split)
        found = {content_of(example): example.target.tolist() for example in examples}
        wanted = {encoded(n): [int(label in ls) for label in LABELS] for n, ls, its in photos if its == split}
        assert found == wanted and len(examples) == len(wanted)
        assert sorted(pathlib.PurePath(e.image_id).stem for e in examples) == [
            n[:-4] for n, _, s in photos if s == split
        ]


def try_mutations(folder, name, number):
    """Reads mutations of a form's file; how many were read, and how many refused in a sentence."""
    write, dataset, path = FORMS[name]
    write(folder, forty_photos())
    return readings_of_mutations(folder, path, ("auto", dataset), number)


@pytest.mark.parametrize("name", FORMS)
def test_mutations_of_every_form_are_read_or_refused_in_a_sentence(tmp_path, name):
    outcomes = try_mutations(tmp_path, name, 25)
    assert outcomes.total() >= 50


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_a_thousand_mutations_of_every_form_are_read_or_refused_in_a_sentence(tmp_path, name):
    outcomes = try_mutations(tmp_path, name, 1000)
    assert outcomes.total() >= 2000 and min(outcomes["read"], outcomes["refused"]) > 5


def test_a_folder_is_listed_a_few_times_however_many_forms_are_looked_for(tmp_path, monkeypatch):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.jpg").write_bytes(b"")
    listed, scandir = collections.Counter(), os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.update([os.fspath(path)]) or scandir(path))
    assert find_form(str(tmp_path)) == "folder"
    assert max(listed.values()) <= 3  # for files of labels, for folders named by labels, for annotations at any depth
