"""Every data set's reader, on real files where they are there, on small ones in the real format elsewhere."""

import codecs
import collections
import csv
import io
import json
import os
import tarfile
import types

import numpy as np
import pytest
import tensorflow as tf
from mutations import readings_of_mutations
from PIL import Image

from msrn_tf.data.examples import Example, Examples
from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.preparation import finish
from msrn_tf.data.readers import find_form, open_dataset, read_split
from msrn_tf.data.readers.coco import open_coco_json
from msrn_tf.data.readers.label_folders import LabelFolders
from msrn_tf.data.readers.nuswide import NusWideTable, open_nuswide
from msrn_tf.data.readers.table import open_table
from msrn_tf.data.readers.voc import VOC
from msrn_tf.data.splits import DEFAULT_FRACTIONS, stratified_splits
from msrn_tf.errors import UserError
from msrn_tf.label_graph import LabelGraph
from msrn_tf.training.graph_setup import in_order


def write_photo(path, colour="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), colour).save(path)


def published(shared, name):
    with np.load(shared / "label_graphs" / f"{name}.npz") as file:
        return dict(file)


# VOC


def test_counts_and_cooccurrences_of_voc_are_the_published_ones(shared):
    """Entry by entry, but for the three of 5,011 photos that are missing here; they show a bicycle and a person, a car
    and a person, and a car.

    (So the published graph counts objects that are not difficult, as ours does.)
    """
    reader = open_dataset("voc2007", str(shared / "voc2007"))
    examples = reader.read("trainval")
    assert len(examples) == 5008
    ours = LabelGraph.from_targets(reader.labels, examples.targets)
    theirs = published(shared, "voc2007")
    assert list(ours.labels) == theirs["labels"].tolist()
    missing = np.zeros((3, len(ours.labels)), int)
    for row, shown in enumerate((["bicycle", "person"], ["car", "person"], ["car"])):
        missing[row, [ours.labels.index(label) for label in shown]] = 1
    both = missing.T @ missing
    np.testing.assert_array_equal(theirs["nums"], ours.counts + np.diag(both))
    np.testing.assert_array_equal(theirs["adj"], ours.cooccurrence + both - np.diag(np.diag(both)))


def write_voc(root, objects="<object><name>dog</name><difficult>0</difficult></object>", year=2007):
    voc = root / "VOCdevkit" / f"VOC{year}"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (voc / folder).mkdir(parents=True, exist_ok=True)
    write_photo(voc / "JPEGImages" / "000001.jpg")
    (voc / "Annotations" / "000001.xml").write_text(f"<annotation>{objects}</annotation>")
    (voc / "ImageSets" / "Main" / "train.txt").write_text("000001\n")
    (voc / "ImageSets" / "Main" / "dog_train.txt").write_text("000001  1\n")
    return voc


def test_difficult_objects_are_unknown_unless_an_easy_one_is_there(tmp_path):
    objects = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult></object>"
        for name, difficult in [("dog", 1), ("dog", 0), ("cat", 0), ("cat", 1), ("car", 1)]
    )
    reader = VOC(str(write_voc(tmp_path, objects)))
    assert reader.splits == ["train"]
    target = dict(zip(reader.labels, reader.read("train")[0].target.tolist(), strict=True))
    assert (target.pop("dog"), target.pop("cat"), target.pop("car")) == (1, 1, -1)
    assert set(target.values()) == {0}


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (lambda voc: (voc / "JPEGImages" / "000001.jpg").unlink(), "000001.jpg"),
        (lambda voc: (voc / "Annotations" / "000001.xml").unlink(), "000001.xml"),
        (lambda voc: (voc / "Annotations" / "000001.xml").write_text("<annotation>"), "not well-formed"),
        (
            lambda voc: (voc / "Annotations" / "000001.xml").write_text("<a><object><name>yeti</name></object></a>"),
            "yeti",
        ),
        (lambda voc: (voc / "ImageSets" / "Main" / "train.txt").write_text("\n"), "names no image"),
        (lambda voc: (voc / "ImageSets" / "Main" / "train.txt").unlink(), "train.txt"),
    ],
)
def test_a_damaged_devkit_is_named(tmp_path, damage, names):
    voc = write_voc(tmp_path)
    damage(voc)
    with pytest.raises(UserError, match=names):
        read_split(VOC(str(tmp_path)), "train")


def test_voc_2012_lies_as_2007_does(tmp_path):
    write_voc(tmp_path, year=2012)
    for folder in (tmp_path, tmp_path / "VOCdevkit", tmp_path / "VOCdevkit" / "VOC2012"):
        assert find_form(str(folder)) == "voc2012"
    reader = open_dataset("voc2012", str(tmp_path))
    assert [reader.labels[i] for i in np.flatnonzero(read_split(reader, "train")[0].target)] == ["dog"]
    with pytest.raises(UserError, match="VOC2007/JPEGImages"):
        open_dataset("voc2007", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "folder"), [("nosuch", "."), ("voc2007", ""), ("voc2007", "missing"), ("voc2007", ".")]
)
def test_a_missing_data_set_is_named(tmp_path, name, folder):
    with pytest.raises(UserError, match="`data"):
        open_dataset(name, folder and str(tmp_path / folder))


# COCO


def test_coco_photos_have_the_labels_of_the_annotation_file_in_the_published_order(shared):
    folder = shared / "coco2017"
    reader = open_dataset("coco2017", str(folder))
    assert list(reader.labels) == published(shared, "coco2014")["labels"].tolist()
    examples = read_split(reader, "train")
    assert len(examples) == 316
    content = json.loads((folder / "annotations" / "instances_train2017.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert list(reader.labels) != [names[key] for key in sorted(names)]  # the order of ids is another one
    expected = {image["file_name"]: set() for image in content["images"]}
    files = {image["id"]: image["file_name"] for image in content["images"]}
    for annotation in content["annotations"]:
        expected[files[annotation["image_id"]]].add(names[annotation["category_id"]])
    for example in examples:
        assert {reader.labels[i] for i in np.flatnonzero(example.target)} == expected[example.image_id]
    with_labels = read_split(reader, "train", drop_unlabelled=True)
    assert len(with_labels) == sum(bool(labels) for labels in expected.values())


def coco_file(**changes):
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "categories": [{"id": 7, "name": "zebra"}, {"id": 3, "name": "ant"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7}, {"id": 2, "image_id": 1, "category_id": 3}],
    }
    return content | changes


def test_coco_2014_lies_as_it_is_unpacked_and_images_without_objects_show_nothing(tmp_path):
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        path = tmp_path / "annotations" / f"instances_{split}2014.json"
        path.write_text(json.dumps(coco_file()))
        for name in "ab":
            write_photo(tmp_path / f"{split}2014" / f"{name}.jpg")
    assert find_form(str(tmp_path)) == "coco2014"
    reader = open_dataset("coco2014", str(tmp_path))
    assert reader.labels == ("ant", "zebra") and reader.splits == ["train", "val"]
    examples = read_split(reader, "val")
    assert examples.targets.tolist() == [[1, 1], [0, 0]]
    assert examples[0].image_path == str(tmp_path / "val2014" / "a.jpg")
    assert read_split(reader, "val", drop_unlabelled=True).targets.tolist() == [[1, 1]]


@pytest.mark.parametrize("layout", ["train.json", "annotations/instances_train.json", "train/_annotations.coco.json"])
def test_any_file_in_cocos_format_is_read(tmp_path, layout):
    path = tmp_path / layout
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(coco_file()))
    for name in "ab":
        write_photo(tmp_path / "train" / f"{name}.jpg")
    reader = open_coco_json(str(tmp_path))
    assert reader.labels == ("ant", "zebra") and reader.splits == ["train"]
    assert read_split(reader, "train").targets.tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not a JSON"),
        ("[]", "no list 'images'"),
        (coco_file(images={}), "no list 'images'"),
        (coco_file(images=[]), "names no image"),
        (coco_file(categories=[]), "no categories"),
        (coco_file(annotations=[{"image_id": 9, "category_id": 7}]), "image 9"),
        (coco_file(annotations=[{"image_id": 1, "category_id": 8}]), "category 8"),
        (coco_file(annotations=[None]), "image_id"),
        (coco_file(images=[{"id": 1}]), "file_name"),
        (coco_file(images=[{"id": 1, "file_name": "\ud800.jpg"}]), "file_name"),
        (coco_file(images=[{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.jpg"}]), "two images"),
        (coco_file(images=[{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]), "two images"),
    ],
)
def test_a_damaged_coco_file_is_one_sentence(tmp_path, content, words):
    (tmp_path / "train.json").write_text(content if isinstance(content, str) else json.dumps(content))
    write_photo(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=words):
        open_coco_json(str(tmp_path)).read("train")


# NUS-WIDE


def test_the_nuswide_table_holds_the_published_labels(shared):
    reader = open_nuswide(str(shared / "nuswide"))
    # The published order is one of its own (neither by name nor that of this list): graphs are taken over by name.
    theirs = published(shared, "nuswide")["labels"].tolist()
    assert set(reader.labels) == set(theirs) and len(theirs) == 81
    assert list(reader.labels) == sorted(theirs) != theirs
    graph = LabelGraph.load(str(shared / "label_graphs" / "nuswide.npz"))
    ours = in_order(graph, reader.labels, "nuswide.npz")
    assert ours.labels == reader.labels
    assert dict(zip(theirs, graph.counts, strict=True)) == dict(zip(ours.labels, ours.counts, strict=True))
    with open(shared / "nuswide" / "nus_wid_data.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    examples = {example.image_id: example for split in reader.splits for example in reader.read(split)}
    assert sum(len(reader.read(split)) for split in reader.splits) == len(rows) == 15000
    for row in rows[::500]:
        named = {name.strip(" '\"") for name in row["label"].strip("[]").split(",")} - {""}
        assert {reader.labels[i] for i in np.flatnonzero(examples[row["filepath"]].target)} == named


def write_nuswide(folder):
    concepts, truth = ["airport", "animal", "sky"], {"airport": "010", "animal": "100", "sky": "011"}
    for path, text in {
        "ConceptsList/Concepts81.txt": "\n".join(concepts),
        "ImageList/TrainImagelist.txt": "actor\\0001_1.jpg\nactor\\0002_2.jpg\nzoo\\0003_3.jpg\n",
        "ImageList/TestImagelist.txt": "zoo\\0004_4.jpg\n",
        **{f"Groundtruth/TrainTestLabels/Labels_{c}_Train.txt": "\n".join(v) for c, v in truth.items()},
        **{f"Groundtruth/TrainTestLabels/Labels_{c}_Test.txt": "1\n" for c in concepts},
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for name in ("actor/0001_1", "actor/0002_2", "zoo/0003_3", "zoo/0004_4"):
        write_photo(folder / "Flickr" / f"{name}.jpg")


def test_the_official_nuswide_lists_are_read(tmp_path):
    write_nuswide(tmp_path)
    reader = open_nuswide(str(tmp_path))
    assert reader.labels == ("airport", "animal", "sky")
    examples = read_split(reader, "train")
    assert examples.targets.tolist() == [[0, 1, 0], [1, 0, 1], [0, 0, 1]]
    assert examples[2].image_path.endswith("Flickr/zoo/0003_3.jpg")
    assert read_split(reader, "test").targets.tolist() == [[1, 1, 1]]
    (tmp_path / "Groundtruth" / "TrainTestLabels" / "Labels_sky_Train.txt").write_text("1\n0\n")
    with pytest.raises(UserError, match=r"Labels_sky_Train.txt: must hold 3 lines"):
        reader.read("train")


# Folders, Apparel, tables


def test_apparel_has_the_published_labels_and_a_split_by_content_that_never_changes(shared):
    reader = open_dataset("apparel", str(shared / "apparel"))
    assert list(reader.labels) == published(shared, "apparel")["labels"].tolist()
    train, test = (read_split(reader, split) for split in ("train", "test"))
    assert len(train) + len(test) == 169 and not {e.image_id for e in train} & {e.image_id for e in test}
    assert all(example.target.sum() == 2 for example in (*train, *test))
    example = next(e for e in (*train, *test) if e.image_id == "black_dress/black_dress_01.jpg")
    assert [reader.labels[i] for i in np.flatnonzero(example.target)] == ["black", "dress"]


def test_folders_of_photos_are_split_by_folder_by_list_or_by_content(tmp_path):
    for number in range(40):
        write_photo(tmp_path / "whole" / ("cat+big hat" if number % 2 else "dog") / f"{number}.png", (number, 0, 0))
    reader = LabelFolders(str(tmp_path / "whole"))
    assert reader.labels == ("big hat", "cat", "dog")
    found = {split: {e.image_id for e in reader.read(split)} for split in reader.splits}
    assert sum(map(len, found.values())) == 40 and len(found["train"]) > 20
    (tmp_path / "whole" / "train.txt").write_text("dog/0.png\n")
    listed = LabelFolders(str(tmp_path / "whole"))
    assert listed.splits == ["train"] and listed.read("train").targets.tolist() == [[0, 0, 1]]
    (tmp_path / "whole" / "train.txt").write_text("0.png\n")
    with pytest.raises(UserError, match=r"0\.png: is not in a folder named by labels"):
        LabelFolders(str(tmp_path / "whole")).read("train")
    (tmp_path / "whole" / "train.txt").write_bytes(b"dog/\xff.png\n")
    with pytest.raises(UserError, match=r"train\.txt: is not a text file in UTF-8 \(line 1, in Windows.*'dog/ÿ.png'"):
        LabelFolders(str(tmp_path / "whole")).read("train")
    write_photo(tmp_path / "parts" / "train" / "cat_hat" / "1.png")
    write_photo(tmp_path / "parts" / "val" / "hat" / "1.png")
    parts = LabelFolders(str(tmp_path / "parts"))
    assert sorted(parts.splits) == ["train", "val"] and parts.read("val").targets.tolist() == [[0, 1]]


def test_a_folder_of_trains_is_no_split(tmp_path):
    write_photo(tmp_path / "train" / "1.png")
    write_photo(tmp_path / "bus" / "1.png")
    assert LabelFolders(str(tmp_path)).labels == ("bus", "train")


def sets_of_labels(count, seed=0):
    """Photos with one common label in two, one in ten, and one in fifty."""
    rng = np.random.default_rng(seed)
    rates = {"common": 0.5, "seldom": 0.1, "rare": 0.02}
    return [{label for label, rate in rates.items() if rng.random() < rate} for _ in range(count)]


def test_an_automatic_split_divides_every_label_in_the_same_shares():
    sets = sets_of_labels(2000)
    splits = stratified_splits([str(n).encode() for n in range(2000)], sets, DEFAULT_FRACTIONS)
    assert collections.Counter(splits) == {"train": 1600, "val": 200, "test": 200}
    for label in ("common", "seldom", "rare"):
        total = sum(label in labels for labels in sets)
        for split, share in DEFAULT_FRACTIONS.items():
            found = sum(label in labels and its == split for labels, its in zip(sets, splits, strict=True))
            assert abs(found - share * total) <= 1.5, (label, split)


def test_a_label_of_one_photo_is_in_the_training_split_whatever_the_photos_are_called():
    for seed in range(20):
        sets = [{"a"}] * 30 + [{"a", "once"}] + [set()] * 9
        splits = stratified_splits([f"{seed}/{n}".encode() for n in range(40)], sets, DEFAULT_FRACTIONS)
        assert splits[30] == "train"
        assert collections.Counter(splits) == {"train": 32, "val": 4, "test": 4}


def test_an_automatic_split_is_a_function_of_content_not_of_order_and_equal_photos_stay_together():
    contents = [str(n % 150).encode() for n in range(200)]
    sets = [sets_of_labels(150)[n % 150] for n in range(200)]
    splits = stratified_splits(contents, sets, DEFAULT_FRACTIONS)
    order = np.random.default_rng(1).permutation(200)
    again = stratified_splits([contents[n] for n in order], [sets[n] for n in order], DEFAULT_FRACTIONS)
    assert again == [splits[n] for n in order]
    assert splits[:50] == splits[150:]
    other = stratified_splits([content + b"!" for content in contents], sets, DEFAULT_FRACTIONS)
    assert other != splits


def test_iterative_stratification_by_hand():
    """Two halves of four photos: the rarer label b is placed first, one photo a half; then a fills what is left."""
    contents, sets = [b"1", b"2", b"3", b"4"], [{"a", "b"}, {"a", "b"}, {"a"}, {"a"}]
    for salt in range(10):
        keyed = [content + bytes([salt]) for content in contents]
        splits = stratified_splits(keyed, sets, {"left": 0.5, "right": 0.5})
        assert sorted(splits[:2]) == sorted(splits[2:]) == ["left", "right"]


def test_a_table_has_present_absent_and_unknown_labels(tmp_path):
    (tmp_path / "photos.csv").write_text(
        "image,labels,split\na.jpg,cat|? dog,train\nsub/b.jpg,,train\nc.jpg, dog | cat ,val\n"
    )
    for name in ("a.jpg", "sub/b.jpg", "c.jpg"):
        write_photo(tmp_path / name)
    reader = open_table(str(tmp_path), FormOptions())
    assert reader.labels == ("cat", "dog") and reader.splits == ["train", "val"]
    assert read_split(reader, "train").targets.tolist() == [[1, -1], [0, 0]]
    assert read_split(reader, "val").targets.tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("rows", "warning"),
    [
        (["a.jpg,cat|dog", "b.jpg,dog"], None),
        (["a.jpg,cat;dog", "b.jpg,dog"], "separated by ';', as in 'cat;dog'"),
        (['a.jpg,"cat,dog"', "b.jpg,dog"], "separated by ',', as in 'cat,dog'"),
        (['a.jpg,"cat, dog"', "b.jpg,dog"], "separated by ',', as in 'cat, dog'"),
        (["a.jpg,\"['cat', 'dog']\"", "b.jpg,['dog']"], None),
        (['a.jpg,"[""cat"", ""dog""]"', "b.jpg,dog"], None),
        (["a.jpg,\"('cat', 'dog')\"", "b.jpg,\"{'dog'}\""], None),
    ],
)
@pytest.mark.parametrize("delimiter", ",;\t")
def test_labels_are_separated_by_what_the_table_has_and_a_word_is_said_of_it(
    tmp_path, capsys, rows, warning, delimiter
):
    if delimiter == ";" and warning and "';'" in warning:
        rows = [rows[0].replace("cat;dog", '"cat;dog"'), *rows[1:]]
    rows = [row.replace(",", delimiter, 1) for row in ["image,labels", *rows]]
    (tmp_path / "photos.csv").write_text("\n".join(rows))
    reader = open_table(str(tmp_path), FormOptions())
    examples = {e.image_id: e.target.tolist() for split in reader.splits for e in reader.read(split)}
    assert reader.labels == ("cat", "dog") and examples == {"a.jpg": [1, 1], "b.jpg": [0, 1]}
    said = capsys.readouterr().err
    assert said.startswith("read as    labels in 'labels'") and (warning or "2 labels (cat, dog)") in said


def test_labels_with_blanks_are_refused_where_their_words_are_labels_and_named_elsewhere(tmp_path, capsys):
    path = tmp_path / "photos.csv"
    for rows in (["cat dog", "dog", "cat"], ["blue dress", "red dress", "red shirt", "blue shirt"]):
        path.write_text("image,labels\n" + "".join(f"{n}.jpg,{row}\n" for n, row in enumerate(rows)))
        with pytest.raises(UserError, match=rf"separated by blanks, as in '{rows[0]}'; separate them by \|"):
            open_table(str(tmp_path), FormOptions())
    path.write_text("image,labels\na.jpg,traffic light\nb.jpg,hot dog\nc.jpg,dog\n")
    assert open_table(str(tmp_path), FormOptions()).labels == ("dog", "hot dog", "traffic light")
    assert "labels with blanks are one label each: 'hot dog', 'traffic light'" in capsys.readouterr().err
    path.write_text("image,labels\na.jpg,red dress|\nb.jpg,blue dress\nc.jpg,red shirt\nd.jpg,blue shirt\n")
    assert len(open_table(str(tmp_path), FormOptions()).labels) == 4 and "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,labels,labels\na.jpg,cat,dog\n", "two columns labels"),
        ("image,Image,labels\na.jpg,b.jpg,dog\n", "two columns image"),
        ("image,labels,split\np1.jpg,red,blue\np2.jpg,blue,train\n", "has 'blue' as a split, which is a label"),
        ("image,labels,split\np1.jpg,red,train\np2.jpg,blue,Train\n", "differ only by case, Train and train"),
        ("image,labels,split\np0.jpg,red,train\n./p0.jpg,red,test\n", "names p0.jpg twice"),
        ("image,labels,split\na\\p0.jpg,red,train\na//p0.jpg,red,test\n", "names a/p0.jpg twice"),
        ("image,labels,split\nx/../e\u0301.jpg,red,train\n\u00e9.jpg,red,test\n", "twice"),
        ('image,labels\na.jpg,"[cat, dog]"\n', "is not a list of names in quotes"),
        ("image,labels\na.jpg,['cat' 'dog']\n", "is not a list of names in quotes"),
        ('image,labels\na.jpg,"[0, 1]"\n', "is not a list of names in quotes"),
        ('image,labels\na.jpg,"0,1,1"\nb.jpg,"1,0,0"\n', "write the names"),
        ("image,labels\na.jpg,0 1 1\nb.jpg,1 0 0\n", "write the names"),
        ('image,labels\na.jpg,"cat\nb.jpg,dog\n', "cannot be read as a table .a quotation mark is not closed"),
        ("image,labels,split\na.jpg,cat\n", "line 2: has 2 fields"),
        (b"image,labels\na.jpg,caf\xe9\n", "line 2, in Windows' encoding of Western Europe: 'a.jpg,café'"),
    ],
)
def test_a_table_that_may_mean_something_else_is_refused_for_what_it_is(tmp_path, text, words):
    (tmp_path / "photos.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=words):
        open_table(str(tmp_path), FormOptions())


def test_columns_and_splits_that_are_unusual_are_named(tmp_path, capsys):
    (tmp_path / "photos.csv").write_text("Image , Labels,Split,weather\na.jpg,cat,train,sun\nb.jpg,dog,blue,rain\n")
    assert open_table(str(tmp_path), FormOptions()).splits == ["blue", "train"]
    said = capsys.readouterr().err
    assert "columns that are not read: weather" in said and "a split 'blue' of 1 photos; is it a label?" in said


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode("utf-16"),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.encode("utf-32"),
    ],
)
@pytest.mark.parametrize("dataset", ["csv", "nuswide table", "nuswide", "coco_json", "folder", "voc2007"])
def test_every_reader_reads_the_encodings_that_editors_write(tmp_path, dataset, encode):
    def recode(path):
        path.write_bytes(encode(path.read_text()))

    if dataset == "csv":
        write_table(tmp_path)
        recode(tmp_path / "list.csv")
    elif dataset == "nuswide table":
        write_nuswide_table(tmp_path)
        recode(tmp_path / "list.csv")
    elif dataset == "nuswide":
        write_nuswide(tmp_path)
        for path in tmp_path.glob("**/*.txt"):
            recode(path)
    elif dataset == "coco_json":
        write_coco(tmp_path)
        recode(tmp_path / "train.json")
    elif dataset == "folder":
        write_folders(tmp_path)
        recode(tmp_path / "train.txt")
    else:
        voc = write_voc(tmp_path)
        recode(voc / "ImageSets" / "Main" / "train.txt")
        xml = (voc / "Annotations" / "000001.xml").read_text()
        (voc / "Annotations" / "000001.xml").write_bytes(codecs.BOM_UTF8 + xml.encode())
    reader = open_dataset(dataset.split()[0], str(tmp_path))
    expected = {
        "csv": ("cat", "dog"), "nuswide table": ("person", "sky", "sun"), "nuswide": ("airport", "animal", "sky"),
        "coco_json": ("ant", "zebra"), "folder": ("cat", "dog", "hat"),
    }  # fmt: skip
    assert reader.labels == expected.get(dataset, reader.labels)
    assert reader.read("train").targets.sum() > 0


@pytest.mark.parametrize("separator", ["\\", "/./", "//"])
@pytest.mark.parametrize("dataset", ["csv", "nuswide", "coco_json", "folder"])
def test_paths_of_other_systems_are_found_and_named_alike(tmp_path, dataset, separator):
    write_photo(tmp_path / "cat" / "1.png")
    name = separator.join(("cat", "1.png"))
    if dataset == "csv":
        (tmp_path / "a.csv").write_text(f"image,labels,split\n{name},cat,train\n")
    elif dataset == "nuswide":
        (tmp_path / "a.csv").write_text(f"filepath,label,split_name\n{name},['cat'],train\n")
    elif dataset == "coco_json":
        content = coco_file(images=[{"id": 1, "file_name": name}])
        (tmp_path / "train.json").write_text(json.dumps(content))
    else:
        (tmp_path / "train.txt").write_text(f"{name}\n")
    examples = read_split(open_dataset(dataset, str(tmp_path)), "train")
    assert [example.image_id for example in examples] == ["cat/1.png"]


@pytest.mark.parametrize("dataset", ["csv", "nuswide", "coco_json", "folder", "voc2007"])
def test_a_photo_that_a_list_names_twice_is_refused_by_every_reader(tmp_path, dataset):
    if dataset == "csv":
        (tmp_path / "a.csv").write_text("image,labels,split\na.png,cat,train\n./a.png,cat,val\n")
    elif dataset == "nuswide":
        (tmp_path / "a.csv").write_text("filepath,label,split_name\na.png,['cat'],train\n./a.png,['cat'],test\n")
    elif dataset == "coco_json":
        (tmp_path / "train.json").write_text(
            json.dumps(coco_file(images=[{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": ".\\a.png"}]))
        )
    elif dataset == "folder":
        write_folders(tmp_path)
        (tmp_path / "train.txt").write_text("cat/2.png\ncat\\2.png\n")
    else:
        voc = write_voc(tmp_path)
        (voc / "ImageSets" / "Main" / "train.txt").write_text("000001\n000001 1\n")
    with pytest.raises(UserError, match=r"twice|two images"):
        open_dataset(dataset, str(tmp_path)).read("train")


def test_lists_of_splits_that_share_photos_are_named(tmp_path, capsys):
    write_folders(tmp_path)
    (tmp_path / "val.txt").write_text("./cat/2.png\n")
    LabelFolders(str(tmp_path)).read("val")
    assert "photos are in more than one split: 1 in train and val" in capsys.readouterr().err
    write_nuswide(tmp_path / "n")
    (tmp_path / "n/ImageList/TestImagelist.txt").write_text("zoo\\0003_3.jpg\n")
    open_nuswide(str(tmp_path / "n"))
    assert "photos are in more than one split: 1 in train and test" in capsys.readouterr().err


def test_empty_and_hidden_folders_and_those_of_systems_are_no_labels(tmp_path, capsys):
    for name in ("cat/1.png", "dog/2.png", ".git/3.png", "__MACOSX/4.png", "@eaDir/5.png", "cat/._1.png"):
        write_photo(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.me").touch()
    write_photo(tmp_path / "loose.png")
    write_photo(tmp_path / "cat" / "deeper" / "6.png")
    reader = LabelFolders(str(tmp_path))
    assert reader.labels == ("cat", "dog")
    assert sum(len(reader.read(split)) for split in reader.splits if reader._names(split)) == 2
    said = capsys.readouterr().err
    assert "folder without a photo 2" in said and "photo in no label's folder 1 (loose.png)" in said
    assert "folder in a label's folder 1 (deeper)" in said and ".me 1 (read.me)" in said
    write_photo(tmp_path / "parts" / "train" / "cat" / "1.png")
    write_photo(tmp_path / "parts" / "test" / "@eaDir" / "1.png")
    assert LabelFolders(str(tmp_path / "parts")).splits == ["train"]
    with pytest.raises(UserError, match="holds no folder named by labels"):
        LabelFolders(str(tmp_path / "empty"))


# COCO's exports by tools


def test_other_json_files_beside_annotations_are_left_out_and_named(tmp_path, capsys):
    write_coco(tmp_path)
    captions = {"images": [], "annotations": [{"id": 1, "image_id": 1, "caption": "a cat"}]}
    for name, content in {
        "captions.json": captions,
        "predictions.json": [{"image_id": 1, "category_id": 7, "score": 0.5}],
        "package.json": {"name": "x", "dependencies": {}},
        "person_keypoints_train2017.json": coco_file(),
        "panoptic.json": coco_file(annotations=[{"image_id": 1, "segments_info": []}]),
    }.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "binary.json").write_bytes(b"\xff\x00\xfe")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "train.json").write_text("{}")
    assert open_coco_json(str(tmp_path)).splits == ["train"]
    said = capsys.readouterr().err
    for words in (
        "captions.json (no list 'categories')",
        "predictions.json (not an object)",
        "package.json (no list",
        "keypoints_train2017.json (another task",
        "panoptic.json (panoptic)",
        "binary.json (not a text)",
    ):
        assert words in said


def test_two_files_of_one_split_are_refused(tmp_path):
    write_coco(tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(coco_file()))
    with pytest.raises(UserError, match="is of split 'train', and so is"):
        open_coco_json(str(tmp_path))


@pytest.mark.parametrize("root", ["animals", "ant"])
def test_a_root_category_without_annotations_is_no_label(tmp_path, root):
    """As Roboflow writes it; now and then a class has its name."""
    categories = [
        {"id": 0, "name": root, "supercategory": "none"},
        {"id": 3, "name": "ant", "supercategory": root},
        {"id": 7, "name": "zebra", "supercategory": root},
    ]
    (tmp_path / "train.json").write_text(json.dumps(coco_file(categories=categories)))
    write_photo(tmp_path / "a.jpg")
    reader = open_coco_json(str(tmp_path))
    assert reader.labels == ("ant", "zebra")
    assert reader.read("train").targets.tolist() == [[1, 1], [0, 0]]


def test_a_category_that_is_annotated_is_a_label_whatever_is_below_it(tmp_path):
    categories = [
        {"id": 3, "name": "ant", "supercategory": "none"},
        {"id": 7, "name": "zebra", "supercategory": "ant"},
    ]
    (tmp_path / "train.json").write_text(json.dumps(coco_file(categories=categories)))
    assert open_coco_json(str(tmp_path)).labels == ("ant", "zebra")


def test_a_category_that_a_splits_file_does_not_list_is_unknown_there(tmp_path, capsys):
    write_coco(tmp_path)
    fewer = coco_file(categories=[{"id": 7, "name": "zebra"}], annotations=[{"image_id": 1, "category_id": 7}])
    (tmp_path / "val.json").write_text(json.dumps(fewer))
    (tmp_path / "val").mkdir()
    reader = open_coco_json(str(tmp_path))
    assert reader.labels == ("ant", "zebra")
    assert reader.read("val").targets.tolist() == [[-1, 1], [-1, 0]]
    assert reader.read("train").targets.tolist() == [[1, 1], [0, 0]]
    assert "does not list ant: unknown in split val" in capsys.readouterr().err


@pytest.mark.parametrize("dataset", ["coco_json", "folder", "nuswide"])
def test_a_label_spelt_in_two_forms_of_unicode_is_one_in_every_split(tmp_path, dataset):
    forms = {"train": "cafe\u0301", "val": "caf\u00e9"}
    if dataset == "nuswide":
        rows = (f"{split}.png,\"['{label}', 'x']\",{split}\n" for split, label in forms.items())
        (tmp_path / "a.csv").write_text("filepath,label,split_name\n" + "".join(rows))
    for split, label in forms.items():
        if dataset == "coco_json":
            categories = [{"id": 7, "name": label}, {"id": 3, "name": "x"}]
            (tmp_path / f"{split}.json").write_text(json.dumps(coco_file(categories=categories)))
            (tmp_path / split).mkdir()
        elif dataset == "folder":
            write_photo(tmp_path / f"{label}_x" / f"{split}.png")
            (tmp_path / f"{split}.txt").write_text(f"{forms['val']}_x/{split}.png\n")
    reader = open_dataset(dataset, str(tmp_path))
    assert reader.labels == ("caf\u00e9", "x")
    for split in forms:
        assert reader.read(split).targets[0].tolist() == [1, 1]
    if dataset == "folder":
        read_split(reader, "train")  # the disk's name, in the other form, is found


@pytest.mark.parametrize("box", ["", "<bndbox><xmin>1</xmin></bndbox>", "<bndbox><xmin>a</xmin></bndbox>"])
def test_an_object_without_a_box_is_named_where_boxes_are_asked_for(tmp_path, box):
    write_voc(tmp_path, f"<size><width>20</width><height>16</height></size><object><name>dog</name>{box}</object>")
    reader = VOC(str(tmp_path))
    with pytest.raises(UserError, match=r"000001\.xml: has no size, or an object without"):
        reader.places(reader.read("train")[0], 8)


def test_boxes_are_those_of_a_photos_own_annotation_where_splits_have_photos_of_one_name(tmp_path):
    for split, left in (("train", 1), ("val", 11)):
        write_photo(tmp_path / split / "1.jpg")
        (tmp_path / split / "1.xml").write_text(
            "<annotation><size><width>20</width><height>16</height></size><object><name>dog</name><bndbox>"
            f"<xmin>{left}</xmin><ymin>1</ymin><xmax>{left + 9}</xmax><ymax>16</ymax></bndbox></object></annotation>"
        )
    reader = open_dataset("voc", str(tmp_path), labels="dog")
    for split, columns in (("train", [True, False]), ("val", [False, True])):
        (example,) = reader.read(split)
        assert reader.places(example, 2)["dog"].tolist() == [columns] * 2


@pytest.mark.parametrize("mark", ["maybe", "2", "-1"])
def test_a_mark_of_difficulty_that_is_none_is_refused(tmp_path, mark):
    write_voc(tmp_path, f"<object><name>dog</name><difficult>{mark}</difficult></object>")
    with pytest.raises(UserError, match=f"difficult = '{mark}'"):
        VOC(str(tmp_path)).read("train")


@pytest.mark.parametrize("dataset", ["csv", "folder", "voc2007", "coco_json"])
def test_a_list_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path, dataset):
    if dataset == "csv":
        path = tmp_path / "a.csv"
    elif dataset == "folder":
        write_folders(tmp_path)
        path = tmp_path / "train.txt"
    elif dataset == "coco_json":
        path = tmp_path / "train.json"
    else:
        path = write_voc(tmp_path) / "Annotations" / "000001.xml"
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(UserError):
        open_dataset(dataset, str(tmp_path)).read("train")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "first line must name"),
        ("name,label\na,b\n", "first line must name"),
        ("image,labels\n,cat\n", "line 2"),
        ("image,labels\na.jpg,cat,dog\n", "line 2"),
        ("image,labels\na.jpg,?\n", "stands alone"),
        ("image,labels\na.jpg,cat|? cat\n", "both cat and [?]cat"),
        ("image,labels\na.jpg,cat\na.jpg,dog\n", "a.jpg twice"),
        ("image,labels\na.jpg,\n", "names no label"),
    ],
)
def test_a_damaged_table_is_one_sentence(tmp_path, text, words):
    (tmp_path / "photos.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        open_table(str(tmp_path), FormOptions())


# TensorFlow Datasets


def test_a_set_of_tensorflow_datasets_is_read_with_its_encoded_bytes():
    tfds = pytest.importorskip("tensorflow_datasets")
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")

    def two_photos(builder, split, decoders, **_):
        assert split == "train" and isinstance(decoders["image"], type(tfds.decode.SkipDecoding()))
        photos = [
            {"image": stream.getvalue(), "image/filename": f"{n}.jpg", "objects": {"label": [n, 4]}} for n in (2, 3)
        ]
        return tf.data.Dataset.from_generator(
            lambda: iter(photos),
            output_signature={
                "image": tf.TensorSpec([], tf.string),
                "image/filename": tf.TensorSpec([], tf.string),
                "objects": {"label": tf.TensorSpec([None], tf.int64)},
            },
        )

    with tfds.testing.mock_data(as_dataset_fn=two_photos):
        reader = open_dataset("tfds:voc/2007", "")
        examples = reader.read("train")
    assert [np.flatnonzero(example.target).tolist() for example in examples] == [[2, 4], [3, 4]]
    assert reader.labels[4] == "bottle" and examples[0].image_id == "2.jpg"
    assert examples[0].image_bytes == stream.getvalue()
    with tfds.testing.mock_data(num_examples=2):  # TFDS' own made-up examples of a set with one `label`
        examples = open_dataset("tfds:cifar10", "").read("train")
    assert [int(example.target.sum()) for example in examples] == [1, 1]
    Image.open(io.BytesIO(examples[0].image_bytes)).verify()


@pytest.fixture
def tfds_reader(monkeypatch):
    """A function: the reader of a set with some features, and of some values of its labels."""
    tfds = pytest.importorskip("tensorflow_datasets")
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")

    def make(name, features, items=()):
        class Rows:
            def as_numpy_iterator(self):
                return ({"image": stream.getvalue(), **item} for item in items)

        features = tfds.features.FeaturesDict({"image": tfds.features.Image(), **features(tfds.features)})
        info = types.SimpleNamespace(features=features, splits={"train": None})
        builder = types.SimpleNamespace(name=name, info=info, data_dir="", as_dataset=lambda **_: Rows())
        monkeypatch.setattr(tfds, "builder", lambda *_, **__: builder)
        return open_dataset(f"tfds:{name}", "")

    return make


def test_a_class_of_minus_one_is_no_label_of_tensorflow_datasets(tfds_reader):
    reader = tfds_reader(
        "x",
        lambda f: {"label": f.ClassLabel(names=["cat", "dog"])},
        [{"label": np.int64(1)}, {"label": np.int64(-1)}, {"label": np.int64(0)}],
    )
    assert reader.read("train").targets.tolist() == [[0, 1], [-1, -1], [1, 0]]
    several = tfds_reader(
        "x",
        lambda f: {"labels": f.Sequence(f.ClassLabel(names=["cat", "dog"]))},
        [{"labels": np.array(values, np.int64)} for values in ([0, 1], [], [1, -1])],
    )
    assert several.read("train").targets.tolist() == [[1, 1], [0, 0], [0, 1]]
    beyond = tfds_reader("x", lambda f: {"label": f.ClassLabel(names=["cat", "dog"])}, [{"label": np.int64(2)}])
    with pytest.raises(UserError, match=r"label = \[2\], which is not one of its classes"):
        beyond.read("train")


def test_numbers_for_each_label_and_states_of_each_label_of_tensorflow_datasets(tfds_reader):
    hot = tfds_reader(
        "x", lambda f: {"labels": f.Tensor(shape=(3,), dtype=np.int64)}, [{"labels": np.array([1, 0, -1])}]
    )
    assert hot.labels == ("label 0", "label 1", "label 2")
    assert hot.read("train").targets.tolist() == [[1, 0, -1]]
    ranks = tfds_reader("x", lambda f: {"labels": f.Tensor(shape=(3,), dtype=np.int64)}, [{"labels": np.arange(3)}])
    with pytest.raises(UserError, match="is not a 0 or 1 for each label"):
        ranks.read("train")

    def states(f):
        return {"label": f.Sequence(f.ClassLabel(names=["uncertain", "positive", "negative", "unmentioned"]))}

    chest = tfds_reader("chexpert", states, [{"label": np.array([1, 2, 0, 3] + [2] * 10)}])
    assert len(chest.labels) == 14 and chest.labels[0] == "No Finding" and chest.labels[13] == "Support Devices"
    assert chest.read("train").targets.tolist() == [[1, 0, -1, -1] + [0] * 10]
    with pytest.raises(UserError, match="none of objects/label, labels, label"):
        tfds_reader("y", states)  # nobody knows how many


@pytest.mark.parametrize(
    "features",
    [
        lambda f: {"label": f.Scalar(np.int64)},
        lambda f: {"label": f.Text()},
        lambda f: {"label": f.ClassLabel()},
        lambda f: {"labels": f.Sequence(f.Text())},
        lambda f: {"labels": f.Sequence(f.Scalar(np.int64))},
        lambda f: {"label": f.LabeledImage(labels=3)},
        lambda f: {"image": f.Sequence(f.Image()), "label": f.ClassLabel(num_classes=2)},
        lambda f: {},
    ],
)
def test_a_set_of_tensorflow_datasets_without_names_of_labels_is_refused(tfds_reader, features):
    with pytest.raises(UserError, match="`dataset`=tfds:x: has no"):
        tfds_reader("x", features)


def test_a_set_that_tensorflow_datasets_does_not_know_or_has_not_prepared_is_named(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(UserError, match="TFDS does not know it"):
        open_dataset("tfds:no_such_set", "")
    with pytest.raises(UserError, match="tfds build cifar10"):
        open_dataset("tfds:cifar10", str(tmp_path)).read("train")


# A thousand mutations of each annotation format


def write_table(folder):
    (folder / "list.csv").write_text("image,labels,split\na.jpg,cat|?dog,train\nb.jpg,dog,train\n")


def write_nuswide_table(folder):
    (folder / "list.csv").write_text(
        "filepath,label,split_name\na.jpg,['person'],train\nb.jpg,\"['sky', 'sun']\",train\n"
    )


def write_coco(folder):
    (folder / "train").mkdir()
    (folder / "train.json").write_text(json.dumps(coco_file()))


def write_folders(folder):
    for name in ("cat_hat/1.png", "cat/2.png", "dog/3.png"):
        write_photo(folder / name)
    (folder / "train.txt").write_text("cat_hat/1.png\ncat/2.png\ndog/3.png\n")


def write_prepared(folder):
    example = Example("a.jpg", np.array([1, -1], np.int8))
    note = {"rows": [[0, 0, "", 8, 8]], "rejected": [], "next": 1}
    (folder / "train-00000.tfrecord").write_bytes(b"a record")
    finish(str(folder), ["cat", "dog"], {"train": Examples.of([example], 2)}, {"train": [note]})


TRUTH = "Groundtruth/TrainTestLabels/Labels_animal_Train.txt"
FORMATS = {
    "VOC's annotation": ("voc2007", write_voc, "VOCdevkit/VOC2007/Annotations/000001.xml"),
    "VOC's list": ("voc2007", write_voc, "VOCdevkit/VOC2007/ImageSets/Main/train.txt"),
    "COCO's": ("coco_json", write_coco, "train.json"),
    "a table": ("csv", write_table, "list.csv"),
    "NUS-WIDE's table": ("nuswide", write_nuswide_table, "list.csv"),
    "NUS-WIDE's concepts": ("nuswide", write_nuswide, "ConceptsList/Concepts81.txt"),
    "NUS-WIDE's list": ("nuswide", write_nuswide, "ImageList/TrainImagelist.txt"),
    "NUS-WIDE's truth": ("nuswide", write_nuswide, TRUTH),
    "a list of folders' photos": ("folder", write_folders, "train.txt"),
    "prepared data": ("prepared", write_prepared, "dataset.json"),
    "an index of prepared data": ("prepared", write_prepared, "train.target.npy"),
}


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FORMATS)
def test_mutations_of_an_annotation_are_each_read_or_refused(tmp_path, name, count):
    dataset, write, path = FORMATS[name]
    write(tmp_path)
    outcomes = readings_of_mutations(tmp_path, path, [dataset], count)
    assert min(outcomes["read"], outcomes["refused"]) > count / 200 and outcomes.total() >= count


def test_a_list_that_is_code_is_not_run(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("filepath,label,split_name\na.jpg,\"__import__('os').abort()\",train\n")
    with pytest.raises(UserError, match="not a list of labels"):
        NusWideTable(str(tmp_path), str(path))


def write_yolo(folder, train, val):
    """Two photos of a cat, in `images`; `data.yaml` names the places of splits."""
    (folder / "labels").mkdir()
    for name in "ab":
        write_photo(folder / "images" / f"{name}.jpg")
        (folder / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (folder / "data.yaml").write_text(f"names: [cat]\ntrain: {train}\nval: {val}\n")


def test_splits_of_yolo_that_name_one_folder_both_have_its_photos(tmp_path, capsys):
    write_yolo(tmp_path, "images", "images")
    reader = open_dataset("auto", str(tmp_path))
    assert reader.splits == ["train", "val"]
    for split in reader.splits:
        examples = read_split(reader, split)
        assert examples.ids == ["images/a.jpg", "images/b.jpg"] and examples.targets.tolist() == [[1], [1]]
    assert "data.yaml: photos are in more than one split: 2 in train and val" in capsys.readouterr().err


def test_a_split_of_yolo_in_a_folder_within_anothers_keeps_its_photos_to_itself(tmp_path):
    write_yolo(tmp_path, "images", "images/val")
    (tmp_path / "images" / "val").mkdir()
    (tmp_path / "images" / "b.jpg").rename(tmp_path / "images" / "val" / "b.jpg")
    (tmp_path / "labels" / "val").mkdir()
    (tmp_path / "labels" / "b.txt").rename(tmp_path / "labels" / "val" / "b.txt")
    reader = open_dataset("yolo", str(tmp_path))
    assert {split: read_split(reader, split).ids for split in reader.splits} == {
        "train": ["images/a.jpg"],
        "val": ["images/val/b.jpg"],
    }


def test_photos_that_a_list_of_yolo_names_are_not_of_the_folder_around_them(tmp_path):
    write_yolo(tmp_path, "images", "val.txt")
    (tmp_path / "val.txt").write_text("./images/b.jpg\n")
    reader = open_dataset("yolo", str(tmp_path))
    found = {split: read_split(reader, split).ids for split in reader.splits}
    assert found == {"train": ["images/a.jpg"], "val": ["images/b.jpg"]}


def test_a_photo_elsewhere_that_a_list_of_yolo_names_is_missing_and_shows_not_nothing(tmp_path):
    (tmp_path / "here").mkdir()
    write_yolo(tmp_path / "here", "train.txt", "images/b.jpg")
    write_photo(tmp_path / "elsewhere" / "x.jpg")
    (tmp_path / "here" / "train.txt").write_text(f"images/a.jpg\n{tmp_path}/elsewhere/x.jpg\n")
    (tmp_path / "here" / "data.yaml").write_text("names: [cat]\ntrain: train.txt\nval: images\n")
    with pytest.raises(UserError, match=r"elsewhere/x\.jpg: is missing, but split 'train' names it"):
        read_split(open_dataset("yolo", str(tmp_path / "here")), "train")


@pytest.mark.parametrize("line", ["./images/gone.jpg", "/elsewhere/images/gone.jpg"])
def test_a_photo_that_a_list_of_yolo_names_and_is_not_there_is_named(tmp_path, line):
    write_yolo(tmp_path, "train.txt", "val.txt")
    (tmp_path / "labels" / "gone.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "train.txt").write_text(f"images/a.jpg\n{line}\n")
    (tmp_path / "val.txt").write_text("images/b.jpg\n")
    reader = open_dataset("yolo", str(tmp_path))
    assert read_split(reader, "val").ids == ["images/b.jpg"]
    missing = f"^{tmp_path}/images/gone.jpg: is missing, but split 'train' names it .1 of 2 are missing"
    with pytest.raises(UserError, match=missing):
        read_split(reader, "train")


def test_a_member_of_a_tar_file_that_unpacks_to_more_than_the_file_is_refused_before_it_is_read(tmp_path):
    """GNU's sparse members are zeros but for what is stored of them."""
    item = tarfile.TarInfo("a.jpg")
    item.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(item.tobuf(tarfile.GNU_FORMAT))
    head[386:410] = b"%011o\0" % 0 * 2  # nothing is stored, from byte 0 on
    head[483:495] = b"%011o\0" % (1 << 30)
    head[148:156] = b"%06o\0 " % sum(head[:148] + b" " * 8 + head[156:])
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        labels = tarfile.TarInfo("a.cls")
        labels.size = 1
        archive.addfile(labels, io.BytesIO(b"1"))
        archive.fileobj.write(head)
    with pytest.raises(UserError, match=r"a\.tar: is smaller than what it says to hold, up to a\.jpg; make it again"):
        open_dataset("webdataset", str(tmp_path))
