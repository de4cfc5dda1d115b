"""The forms that tools write: the same photos in each of them are the same examples, found out without a flag."""

import collections
import pathlib

import numpy as np
import pytest
from forms import FORMS, LABELS, SPLITS, encoded, forty_photos
from hypothesis import Phase, given, settings
from mutations import mutated

from msrn_tf.data.readers import find_form, open_dataset, read_split
from msrn_tf.errors import UserError


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
    file = folder / path
    outcomes = collections.Counter()

    @settings(max_examples=number, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(mutated(file.read_bytes()))
    def attempt(content):
        file.write_bytes(content)
        for form in ("auto", dataset):
            try:
                reader = open_dataset(form, str(folder))
                for split in reader.splits:
                    assert set(np.unique(reader.read(split).targets)) <= {-1, 0, 1}
                outcomes["read"] += 1
            except UserError as error:
                assert len(str(error).splitlines()) == 1
                outcomes["refused"] += 1

    attempt()
    return outcomes


@pytest.mark.parametrize("name", FORMS)
def test_mutations_of_every_form_are_read_or_refused_in_a_sentence(tmp_path, name):
    outcomes = try_mutations(tmp_path, name, 25)
    assert outcomes.total() >= 50


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_a_thousand_mutations_of_every_form_are_read_or_refused_in_a_sentence(tmp_path, name):
    outcomes = try_mutations(tmp_path, name, 1000)
    assert outcomes.total() >= 2000 and min(outcomes["read"], outcomes["refused"]) > 5
