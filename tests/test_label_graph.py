"""Counts, adjacency and word vectors against the published implementation's numbers and by hand."""

import collections
import gzip

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from mutations import mutated

from msrn_tf.errors import UserError
from msrn_tf.label_graph import LabelGraph, glove_word_vectors, normalized_adjacency
from msrn_tf.label_graph.word_vectors import label_words

TARGETS = np.array([[1, 1, 0], [1, 0, -1], [0, 1, 1], [1, 1, 1]], np.int8)


# The published NUS-WIDE graph keeps its diagonal and so has edges from labels to themselves: wrong, and not reproduced.
@pytest.mark.parametrize(("name", "graph"), [("voc", "voc2007"), ("coco", "coco2014"), ("apparel", "apparel")])
def test_adjacency_equals_the_published_one(shared, parity, name, graph):
    with np.load(shared / "label_graphs" / f"{graph}.npz") as file, np.load(parity / "adjacency.npz") as expected:
        ours = normalized_adjacency(file["nums"], file["adj"])
        np.testing.assert_allclose(ours, expected[f"{name}_adj"], atol=1e-6)


def test_counts_and_cooccurrence_leave_unknown_targets_out():
    graph = LabelGraph.from_targets("abc", TARGETS)
    assert graph.counts.tolist() == [3, 3, 2]
    assert graph.cooccurrence.tolist() == [[0, 2, 1], [2, 0, 2], [1, 2, 0]]
    assert graph.num_images == 4


def test_adjacency_of_a_small_graph_by_hand():
    # P(b|a) = 2/3, P(c|a) = 1/3, P(a|b) = P(c|b) = 2/3, P(a|c) = 1/2, P(b|c) = 1: edges a→b, b→a, b→c, c→a, c→b.
    graph = LabelGraph.from_targets("abc", TARGETS)
    assert graph.edges(0.4).astype(int).tolist() == [[0, 1, 0], [1, 0, 1], [1, 1, 0]]
    weights = np.array([[1, 0.125, 0], [0.125, 1, 0.25], [0.125, 0.125, 1]])
    scale = weights.sum(axis=1) ** -0.5
    np.testing.assert_allclose(graph.adjacency(0.4), weights.T * scale[:, None] * scale[None, :], atol=1e-6)


def test_a_label_that_never_occurs_has_no_edges():
    graph = LabelGraph.from_targets("ab", np.array([[1, 0], [1, 0]]))
    assert graph.isolated_labels() == ["a", "b"]
    assert np.isfinite(graph.adjacency()).all()


def test_file_round_trips_without_pickles(tmp_path):
    path = str(tmp_path / "label_graph.npz")
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    graph = LabelGraph.from_targets(["a b", "ü", "c"], TARGETS)
    LabelGraph(graph.labels, graph.counts, graph.cooccurrence, 4, vectors).save(path)
    loaded = LabelGraph.load(path)
    assert loaded.labels == ("a b", "ü", "c") and loaded.num_images == 4
    np.testing.assert_array_equal(loaded.cooccurrence, graph.cooccurrence)
    np.testing.assert_array_equal(loaded.word_vectors, vectors)
    assert [file.name for file in tmp_path.iterdir()] == ["label_graph.npz"]


def test_the_published_form_is_read_too(shared):
    graph = LabelGraph.load(str(shared / "label_graphs" / "voc2007.npz"))
    assert (graph.labels[0], graph.word_vectors.shape, int(graph.edges().sum())) == ("aeroplane", (20, 300), 6)
    assert len(graph.isolated_labels()) == 13


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_a_file_that_is_no_label_graph_is_named(tmp_path, content):
    path = tmp_path / "graph.npz"
    if content is None:
        np.savez(path, labels=np.array(["a"]))
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"graph\.npz"):
        LabelGraph.load(str(path))


def test_a_pickled_label_graph_is_refused(tmp_path):
    np.savez(tmp_path / "graph.npz", labels=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError):
        LabelGraph.load(str(tmp_path / "graph.npz"))


def test_words_of_labels():
    assert label_words("Traffic light") == label_words("traffic_light") == label_words("TrafficLight") == [
        "traffic", "light",
    ]  # fmt: skip


def test_multi_word_labels_are_averaged_and_missing_words_are_named(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("traffic 1 0\nlight 0 1\ndog 2 2\n")
    vectors, missing = glove_word_vectors(str(path), ["traffic light", "dog", "dog xyzzy", "xyzzy"])
    np.testing.assert_allclose(vectors[:3], [[0.5, 0.5], [2, 2], [2, 2]])
    assert missing == {"dog xyzzy": ["xyzzy"], "xyzzy": ["xyzzy"]}
    np.testing.assert_allclose(vectors[3], vectors[:3].mean(axis=0))
    assert np.abs(vectors).sum(axis=1).min() > 0


def vectors_of(path, content, labels):
    """Each label's vector as a list, or "mean" where words of it are missing."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    vectors, missing = glove_word_vectors(str(path), labels)
    return [
        missing.get(label) if label in missing else vector.tolist()
        for label, vector in zip(labels, vectors, strict=True)
    ]


def test_words_of_any_script_are_whole_and_missing_ones_are_named(tmp_path):
    path = tmp_path / "vectors.txt"
    content = "caf 9 9\ncafé 1 2\nbr 9 9\ncke 9 9\nbrücke 3 4\n狗 5 6\nсобака 7 8\nहिन्दी 1 1\n"
    labels = ["café", "cafe\u0301", "Brücke", "狗", "СОБАКА", "हिन्दी"]
    assert vectors_of(path, content, labels) == [[1, 2], [1, 2], [3, 4], [5, 6], [7, 8], [1, 1]]
    assert vectors_of(path, "caf 9 9\ndog 1 2\n", ["café", "dog"]) == [["café"], [1, 2]]


def test_words_are_found_in_any_case_the_labels_own_first(tmp_path):
    path = tmp_path / "vectors.txt"
    assert vectors_of(path, "DOG 1 2\nCat 3 4\n", ["dog", "cat"]) == [[1, 2], [3, 4]]
    assert vectors_of(path, "DOG 1 2\ndog 5 6\n", ["Dog"]) == [[5, 6]]
    assert vectors_of(path, "dog 5 6\nDog 1 2\n", ["Dog"]) == [[1, 2]]
    assert vectors_of(path, "#dog 1 2\ndog. 3 4\ndog 5 6\n", ["Dog"]) == [[5, 6]]


@pytest.mark.parametrize("entry", ["ice_cream", "ice-cream", "ice cream", "Ice_Cream", "ice\u00a0cream"])
def test_an_entry_for_several_words_comes_before_their_mean(tmp_path, entry):
    content = f"ice 1 0\n{entry} 5 6\ncream 0 1\nred 3 0\n"
    labels = ["ice cream", "red_ice_cream", "cream"]
    assert vectors_of(tmp_path / "v.txt", content, labels) == [[5, 6], [4, 3], [0, 1]]
    assert vectors_of(tmp_path / "v.txt", "t-shirt 1 2\nt 9 9\nshirt 9 9\n", ["T-shirt"]) == [[1, 2]]


def test_entries_with_blanks_of_their_own_do_not_end_the_reading(tmp_path):
    """As in glove.840B.300d.txt: `. . .` and `at name@domain.com` are words there."""
    content = ", 1 1\n. . . 2 2\nat name@domain.com 3 3\nat 4 4\n"
    assert vectors_of(tmp_path / "v.txt", content, ["at"]) == [[4, 4]]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: b"2 3\n" + text.encode(),
        lambda text: text.replace(" ", "\t").encode(),
        lambda text: text.replace("\n", " \r\n").encode(),
        lambda text: gzip.compress(b"2 3\n" + text.encode()),
        lambda text: gzip.compress(b"\xef\xbb\xbf" + text.encode()),
    ],
)
def test_word_vectors_are_read_in_the_forms_that_are_in_circulation(tmp_path, encode):
    content = encode("katze 1 2 3\nhund 4 5 6\n")
    assert vectors_of(tmp_path / "v", content, ["Katze", "Hund"]) == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04glove", "ZIP archive; unpack it"),
        (gzip.compress(b"dog 1 2\ncat 1 2\n" * 99)[:-20], "cannot be read"),
        (b"dog 1 nan\n", "line 1 is not a word and 2 numbers"),
        (b"0 " * (1 << 20), "line 1 is not"),
        (b"\x00\x01\x02", "line 1 is not"),
        (b"word,v1\ndog,1\n", "line 1 is not"),
    ],
    ids=["zip", "cut gzip", "nan", "one long line", "binary", "commas"],
)
def test_a_file_that_is_no_text_of_word_vectors_is_named_for_what_it_is(tmp_path, content, words):
    with pytest.raises(UserError, match=words):
        vectors_of(tmp_path / "v", content, ["dog", "cat"])


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_thousand_mutations_of_word_vectors_are_each_read_or_refused(tmp_path, pack):
    path = tmp_path / "v"
    outcomes = collections.Counter()

    @settings(max_examples=1000, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(mutated(pack(b"3 2\ndog 0.1 0.2\nice_cream 1 2\ncat -1e-3 4\n")))
    def attempt(content):
        path.write_bytes(content)
        try:
            vectors, _ = glove_word_vectors(str(path), ["dog", "ice cream"])
            assert vectors.shape[0] == 2 and np.isfinite(vectors).all()
            outcomes["read"] += 1
        except UserError as error:
            assert len(str(error).splitlines()) == 1
            outcomes["refused"] += 1

    attempt()
    assert min(outcomes["read"], outcomes["refused"]) > 5


def test_the_labels_of_a_graph_are_compared_as_those_of_data_are(tmp_path):
    def save(labels):
        count = len(labels)
        np.savez(tmp_path / "g.npz", labels=labels, counts=np.ones(count), cooccurrence=np.zeros((count, count)))
        return str(tmp_path / "g.npz")

    assert LabelGraph.load(save(np.array(["cafe\u0301", " a\u00a0b "]))).labels == ("café", "a b")
    for labels in (np.array(["a", "a\u200b"]), np.array(["a\nb"]), np.array([1, 2]), np.array(["a", "\u200b"])):
        with pytest.raises(UserError, match=r"`label_graph`=.*g\.npz"):
            LabelGraph.load(save(labels))


@pytest.mark.parametrize("text", ["", "dog a b\n", "dog 1 2\ncat 1\n", "zebra 1 2\n"])
def test_a_bad_word_vector_file_is_refused(tmp_path, text):
    path = tmp_path / "glove.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=r"glove\.txt"):
        glove_word_vectors(str(path), ["dog", "cat"])
