"""Tables: what is found out from their columns and fields, what is said of it, and what is refused."""

import json

import pyarrow
import pyarrow.parquet
import pytest
from forms import write_csv, write_json, write_lines
from PIL import Image

from msrn_tf.data.form_options import FormOptions
from msrn_tf.data.readers import open_dataset, read_split
from msrn_tf.errors import UserError


def write_photo(path, size=(20, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def opened(folder, dataset="table", **options):
    return open_dataset(dataset, str(folder), form=FormOptions(**options))


def targets_of(reader):
    """Photo → dict of label → target, of all splits."""
    return {
        example.image_id: dict(zip(reader.labels, example.target.tolist(), strict=True))
        for split in reader.splits
        for example in reader.read(split)
    }


def splits_of(reader):
    return {example.image_id: split for split in reader.splits for example in reader.read(split)}


CHEXPERT = [
    ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", "Edema", "Pneumonia"),
    ("a.jpg", "Female", 68, "Frontal", "AP", "1.0", "", ""),
    ("b.jpg", "Male", 1, "Lateral", "", "", "-1.0", "0.0"),
    ("c.jpg", "Male", 60, "Frontal", "PA", "", "1.0", "-1.0"),
]


def test_chexperts_columns_are_labels_of_1_0_and_minus_1_and_blanks_are_unknown(tmp_path, capsys):
    write_csv(tmp_path / "train.csv", CHEXPERT)
    reader = opened(tmp_path)
    assert targets_of(reader) == {
        "a.jpg": {"No Finding": 1, "Edema": -1, "Pneumonia": -1},
        "b.jpg": {"No Finding": -1, "Edema": -1, "Pneumonia": 0},
        "c.jpg": {"No Finding": -1, "Edema": 1, "Pneumonia": -1},
    }
    said = capsys.readouterr().err
    assert (
        "read as    a column for each label, image in 'Path', −1 = unknown, blank = unknown: 3 labels (No Finding, "
        "Edema, Pneumonia)" in said
    )
    assert "columns that are not read: Sex, Age, Frontal/Lateral, AP/PA" in said


@pytest.mark.parametrize(
    ("options", "edema"),
    [
        ({"uncertain": "present"}, [-1, 1, 1]),
        ({"uncertain": "absent"}, [-1, 0, 1]),
        ({"uncertain": "present", "blanks": "absent"}, [0, 1, 1]),
        ({"blanks": "absent"}, [0, -1, 1]),
    ],
)
def test_flags_say_what_uncertain_and_blank_are(tmp_path, options, edema):
    write_csv(tmp_path / "train.csv", CHEXPERT)
    found = targets_of(opened(tmp_path, **options))
    assert [found[name]["Edema"] for name in ("a.jpg", "b.jpg", "c.jpg")] == edema


def test_minus_1_without_a_0_is_absent_and_beside_blanks_nobody_can_tell(tmp_path, capsys):
    """CelebA's table has 1 and −1."""
    write_csv(tmp_path / "list.csv", [("image_id", "Smiling", "Young"), ("1.jpg", -1, 1), ("2.jpg", 1, 1)])
    assert targets_of(opened(tmp_path)) == {"1.jpg": {"Smiling": 0, "Young": 1}, "2.jpg": {"Smiling": 1, "Young": 1}}
    assert "−1 = absent" in capsys.readouterr().err
    write_csv(tmp_path / "list.csv", [("image_id", "Smiling", "Young"), ("1.jpg", -1, ""), ("2.jpg", 1, 1)])
    with pytest.raises(UserError, match="has 1, -1 and blanks, and no 0: say what -1 means with `uncertain`=unknown"):
        opened(tmp_path)
    assert targets_of(opened(tmp_path, uncertain="absent"))["1.jpg"] == {"Smiling": 0, "Young": -1}


@pytest.mark.parametrize(
    "fields",
    [
        ("1", "0", "1"),
        ("True", "False", "True"),
        ("yes", "no", "yes"),
        ("x", "", "x"),
        ("1.0", "0.0", "1"),
        ("Y", "n", "y"),
    ],
)
def test_a_column_a_label_may_say_present_and_absent_in_many_ways(tmp_path, fields):
    write_csv(
        tmp_path / "list.csv", [("image", "cat", "dog", "ox"), ("a.jpg", *fields), ("b.jpg", *fields[1:], fields[1])]
    )
    assert targets_of(opened(tmp_path)) == {
        "a.jpg": {"cat": 1, "dog": 0, "ox": 1},
        "b.jpg": {"cat": 0, "dog": 1, "ox": 0},
    }


def test_a_column_that_is_a_labels_but_for_one_field_is_refused_and_not_left_out(tmp_path):
    rows = [(f"{n}.jpg", n % 2, "2" if n == 5 else n % 2) for n in range(40)]
    write_csv(tmp_path / "list.csv", [("image", "cat", "dog"), *rows])
    with pytest.raises(UserError, match="column 'dog' has '2' where others are 1, 0 or -1"):
        opened(tmp_path)
    assert opened(tmp_path, label_columns="cat").labels == ("cat",)


def test_no_finding_is_none_of_the_labels(tmp_path, capsys):
    rows = [("Image Index", "Finding Labels", "Patient ID"), ("1.png", "Edema|Mass", 1), ("2.png", "No Finding", 2)]
    write_csv(tmp_path / "Data_Entry.csv", rows)
    reader = opened(tmp_path)
    assert targets_of(reader) == {"1.png": {"Edema": 1, "Mass": 1}, "2.png": {"Edema": 0, "Mass": 0}}
    said = capsys.readouterr().err
    assert "'No Finding' read as none of them" in said
    assert "hint       --group_column='Patient ID' keeps photos of one 'Patient ID' in one split" in said
    write_csv(tmp_path / "Data_Entry.csv", [*rows, ("3.png", "No Finding|Mass", 3)])  # then it is a label
    assert opened(tmp_path).labels == ("Edema", "Mass", "No Finding")


def test_photos_of_one_group_are_never_in_two_splits(tmp_path, capsys):
    rows = [(f"{n}.png", "a|b" if n % 3 else "c", f"patient {n % 50}") for n in range(400)]
    write_csv(tmp_path / "list.csv", [("image", "labels", "patient"), *rows])
    splits = splits_of(opened(tmp_path, group_column="patient"))
    of_group = {(group, splits[name]) for name, _, group in rows}
    assert len(of_group) == 50 and {split for _, split in of_group} == {"train", "val", "test"}
    apart = splits_of(opened(tmp_path))
    assert len({(group, apart[name]) for name, _, group in rows}) > 60  # without it they are
    write_csv(
        tmp_path / "list.csv",
        [("image", "labels", "patient", "split"), ("1.png", "a", 7, "train"), ("2.png", "a", 7, "val")],
    )
    opened(tmp_path, group_column="patient")
    assert "groups are in more than one split: 7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("column", "values", "splits"),
    [
        ("is_valid", ("True", "False"), ("val", "train")),
        ("is_valid", ("0", "1"), ("train", "val")),
        ("is_valid", ("1.0", "0.0"), ("val", "train")),
        ("is_valid", ("1.0", ""), ("val", "train")),
        ("split", ("unassigned", "test"), ("train", "test")),
        ("ml_use", ("UNASSIGNED", "TEST"), ("train", "TEST")),
        ("subset", ("train", "test"), ("train", "test")),
        ("set", ("Valid", "train"), ("Valid", "train")),
    ],
)
def test_columns_of_splits_are_found(tmp_path, column, values, splits):
    write_csv(tmp_path / "list.csv", [("image", "tags", column), ("a.jpg", "x", values[0]), ("b.jpg", "y", values[1])])
    assert splits_of(opened(tmp_path)) == dict(zip(("a.jpg", "b.jpg"), splits, strict=True))


def test_a_set_of_colours_is_no_split_unless_a_flag_says_so(tmp_path, capsys):
    write_csv(tmp_path / "list.csv", [("image", "tags", "set"), ("a.jpg", "x", "red"), ("b.jpg", "y", "blue")])
    assert set(opened(tmp_path).splits) <= {"train", "val", "test"}
    assert "columns that are not read: set" in capsys.readouterr().err
    assert opened(tmp_path, split_column="set").splits == ["blue", "red"]


def test_a_split_of_another_name_is_read_for_val_and_that_is_said(tmp_path, capsys):
    write_photo(tmp_path / "a.jpg")
    write_csv(tmp_path / "valid.csv", [("image", "labels", "split"), ("a.jpg", "x", "validation")])
    assert len(read_split(opened(tmp_path), "val")) == 1
    assert "split      'validation' is read as 'val'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        (("a", "b", "labels"), [("1.jpg", "2.jpg", "x")], "columns 'a' and 'b' both name photos; .* `image_column`"),
        (("image", "filename", "labels"), [("1.jpg", "2.jpg", "x")], "'image' and 'filename' both name photos"),
        (("image", "cat", "genre", "dog"), [("1.jpg", 1, "cat|dog", 0)], "labels in 'genre', and columns for cat, dog"),
        (("image", "weight"), [("1.jpg", 3.5)], "no column holds labels .* `label_columns`"),
        (("x", "labels"), [("1", "cat")], "none of x, labels names photos; say which with `image_column`"),
    ],
)
def test_a_table_that_can_be_read_in_two_ways_is_refused_with_the_flag_that_decides(tmp_path, header, rows, words):
    write_csv(tmp_path / "list.csv", [header, *rows])
    with pytest.raises(UserError, match=words):
        opened(tmp_path)


def test_flags_name_the_columns(tmp_path):
    header = ("a", "b", "one", "two", "labels", "part")
    write_csv(
        tmp_path / "list.csv", [header, ("1.jpg", "2.jpg", 1, 0, "p;q", "left"), ("3.jpg", "4.jpg", 0, 1, "q", "right")]
    )
    reader = opened(tmp_path, image_column="B", label_columns="one, two", split_column="part")
    assert reader.splits == ["left", "right"]
    assert targets_of(reader) == {"2.jpg": {"one": 1, "two": 0}, "4.jpg": {"one": 0, "two": 1}}
    assert opened(tmp_path, image_column="a", label_columns="labels").labels == ("p", "q")
    for option, words in (
        ("image_column", "no column 'z' .`image_column`"),
        ("label_columns", "no column 'z' .`label_col"),
    ):
        with pytest.raises(UserError, match=words):
            opened(tmp_path, **{"image_column": "a", option: "z"})
    with pytest.raises(UserError, match="column 'part' of `label_columns` holds 'left', 'right', which is not a state"):
        opened(tmp_path, image_column="a", label_columns="one,part")


@pytest.mark.parametrize("option", ["image_column", "table", "uncertain"])
def test_flags_of_tables_are_refused_by_forms_that_are_none(tmp_path, option):
    value = "absent" if option == "uncertain" else "x"
    with pytest.raises(UserError, match=f"`{option}`={value}: applies to tables, and `dataset`=folder reads no table"):
        opened(tmp_path, "folder", **{option: value})


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        (["haze primary", "clear primary conventional_mine"], ("clear", "conventional_mine", "haze", "primary")),
        (["7 12 3", "12"], ("12", "3", "7")),
    ],
)
def test_blanks_separate_labels_where_nothing_else_can_be_meant(tmp_path, capsys, fields, labels):
    write_csv(tmp_path / "list.csv", [("image_name", "labels"), *((f"{n}.jpg", f) for n, f in enumerate(fields))])
    assert opened(tmp_path).labels == labels
    assert f"separated by blanks, as in '{fields[0]}'" in capsys.readouterr().err


def test_a_flag_says_what_separates_labels(tmp_path):
    write_csv(
        tmp_path / "list.csv", [("image", "labels"), ("1.jpg", "red dress"), ("2.jpg", "red"), ("3.jpg", "dress")]
    )
    with pytest.raises(UserError, match="or give `label_separator`=blank"):
        opened(tmp_path)
    assert opened(tmp_path, label_separator="blank").labels == ("dress", "red")
    assert opened(tmp_path, label_separator="none").labels == ("dress", "red", "red dress")
    write_csv(tmp_path / "list.csv", [("image", "labels"), ("1.jpg", "red/blue")])
    assert opened(tmp_path, label_separator="/").labels == ("blue", "red")


def test_text_in_another_encoding_is_refused_until_a_flag_names_it(tmp_path):
    (tmp_path / "list.csv").write_bytes("image,labels\na.jpg,größe\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"line 2.*'a.jpg,größe'.*or give `table_encoding`=cp1252"):
        opened(tmp_path)
    assert opened(tmp_path, table_encoding="cp1252").labels == ("größe",)
    with pytest.raises(UserError, match="`table_encoding`=klingon: no such encoding"):
        opened(tmp_path, table_encoding="klingon")
    (tmp_path / "list.csv").write_bytes("image,labels\na.jpg,猫\n".encode("shift_jis"))
    assert opened(tmp_path, table_encoding="shift_jis").labels == ("猫",)


def test_tables_with_a_row_a_box_are_read_as_the_labels_of_a_photos_boxes(tmp_path):
    header = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")
    rows = [("a.jpg", 9, 9, name, 1, 1, 2, 2) for name in ("cat", "dog", "cat")] + [("b.jpg", 9, 9, "dog", 1, 1, 2, 2)]
    write_csv(tmp_path / "_annotations.csv", [header, *rows])
    assert targets_of(opened(tmp_path)) == {"a.jpg": {"cat": 1, "dog": 1}, "b.jpg": {"cat": 0, "dog": 1}}


def test_json_of_objects_and_of_photos_and_their_labels_are_tables(tmp_path):
    wanted = {"a.jpg": {"cat": 1, "dog": 1}, "b.jpg": {"cat": 0, "dog": 0}}
    for content in (
        [{"file_name": "a.jpg", "labels": ["cat", "dog"]}, {"file_name": "b.jpg", "labels": []}],
        {"a.jpg": ["cat", "dog"], "b.jpg": []},
        {"a.jpg": {"cat": True, "dog": True}, "b.jpg": {"cat": False, "dog": False}},
    ):
        write_json(tmp_path / "photos.json", content)
        assert targets_of(opened(tmp_path, "auto")) == wanted
    (tmp_path / "photos.json").unlink()
    write_lines(
        tmp_path / "photos.jsonl",
        [{"image": "a.jpg", "labels": {"cat": 1, "dog": 1}}, {"image": "b.jpg", "labels": {"cat": 0, "dog": 0}}],
    )
    assert targets_of(opened(tmp_path)) == wanted


def test_parquet_has_lists_and_a_column_a_label(tmp_path):
    path = tmp_path / "photos.parquet"
    table = pyarrow.table({"image": ["a.jpg", "b.jpg"], "labels": [["cat", "traffic light"], None]})
    pyarrow.parquet.write_table(table, path)
    assert targets_of(opened(tmp_path)) == {
        "a.jpg": {"cat": 1, "traffic light": 1},
        "b.jpg": {"cat": 0, "traffic light": 0},
    }
    table = pyarrow.table({"image": ["a.jpg", "b.jpg"], "cat": pyarrow.array([1.0, None]), "dog": [0, -1]})
    pyarrow.parquet.write_table(table, path)
    assert targets_of(opened(tmp_path)) == {"a.jpg": {"cat": 1, "dog": 0}, "b.jpg": {"cat": -1, "dog": -1}}


@pytest.mark.parametrize("kind", [pyarrow.float64(), pyarrow.float32()])
def test_labels_that_are_numbers_with_gaps_keep_all_of_their_digits(tmp_path, kind):
    numbers = pyarrow.array([1234567, 1234568, None, 0.1], kind)
    table = pyarrow.table({"image": ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], "label": numbers, "split": ["train"] * 4})
    pyarrow.parquet.write_table(table, tmp_path / "list.parquet")
    shown = {photo: [k for k, v in marks.items() if v] for photo, marks in targets_of(opened(tmp_path)).items()}
    assert shown == {"a.jpg": ["1234567"], "b.jpg": ["1234568"], "c.jpg": [], "d.jpg": ["0.1"]}


BYTES, LISTS = pyarrow.array([b"a", b"b"]), pyarrow.array([["a.jpg"], ["b.jpg"]])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"image": BYTES}, "column 'image' holds binary, not text; name another with `image_column`"),
        ({"image": BYTES.cast(pyarrow.large_binary())}, "column 'image' holds large_binary, not text"),
        ({"image": LISTS}, "column 'image' holds list<.*>, not text; name another with `image_column`"),
        ({"split": LISTS}, "column 'split' holds list<.*>, not text; name another with `split_column`"),
        ({"who": BYTES}, "column 'who' holds binary, not text; name another with `group_column`"),
        ({"label": BYTES}, "column 'label' holds binary, not text; say which column holds labels"),
    ],
)
def test_columns_of_lists_or_bytes_where_text_is_to_be_are_refused(tmp_path, columns, words):
    table = pyarrow.table({"image": ["a.jpg", "b.jpg"], "label": ["cat", "ox"], "who": ["x", "y"]} | columns)
    pyarrow.parquet.write_table(table, tmp_path / "list.parquet")
    with pytest.raises(UserError, match=f"list.parquet: {words}"):
        opened(tmp_path, group_column="who")


def test_photos_in_a_parquet_file_without_names_are_called_by_their_rows(tmp_path):
    photos = [{"bytes": bytes([n]), "path": None} for n in range(3)]
    metadata = {
        "huggingface": json.dumps({"info": {"features": {"label": {"names": ["ox", "yak"], "_type": "ClassLabel"}}}})
    }
    table = pyarrow.table({"image": photos, "label": [0, 1, 1]}).replace_schema_metadata(metadata)
    pyarrow.parquet.write_table(table, tmp_path / "test.parquet")
    examples = opened(tmp_path).read("test")
    assert {e.image_id: (e.image_bytes, e.target.tolist()) for e in examples} == {
        "test/0": (b"\0", [1, 0]), "test/1": (b"\1", [0, 1]), "test/2": (b"\2", [0, 1]),
    }  # fmt: skip
    for number, words in (
        (2, "has class '2', and there are 2, from 0"),
        (-1, "has class -1, which stands for photos that"),
    ):
        table = pyarrow.table({"image": photos, "label": [0, 1, number]}).replace_schema_metadata(metadata)
        pyarrow.parquet.write_table(table, tmp_path / "test.parquet")
        with pytest.raises(UserError, match=words):
            opened(tmp_path)


def test_a_parquet_file_that_would_unpack_to_gigabytes_is_refused(tmp_path):
    table = pyarrow.table({"image": ["a" * (1 << 20)] * 600})
    pyarrow.parquet.write_table(table, tmp_path / "p.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(UserError, match="would unpack to"):
        opened(tmp_path)


# Several tables


def test_several_tables_that_are_no_splits_are_refused_until_a_flag_names_one(tmp_path):
    for name in ("train.csv", "sample_submission.csv"):
        write_csv(tmp_path / name, [("image", "labels"), ("a.jpg", name)])
    with pytest.raises(UserError, match=r"has 2: sample_submission.csv, train.csv; say which with `table`"):
        opened(tmp_path)
    assert opened(tmp_path, table="train.csv").labels == ("train.csv",)
    with pytest.raises(UserError, match=r"`table`=x.csv: .*x.csv is not a file"):
        opened(tmp_path, table="x.csv")


def test_a_single_file_of_another_split_than_train_is_that_split_and_others_are_divided(tmp_path, capsys):
    rows = [("image", "labels"), *((f"{n}.jpg", "x") for n in range(20))]
    write_csv(tmp_path / "test.csv", rows)
    assert opened(tmp_path).splits == ["test"]
    (tmp_path / "test.csv").rename(tmp_path / "train.csv")
    assert opened(tmp_path).splits == ["test", "train", "val"]
    assert "divided    20 photos without a split, by labels: train 16, val 2, test 2" in capsys.readouterr().err


def test_a_label_that_one_splits_table_does_not_list(tmp_path):
    write_csv(tmp_path / "train.csv", [("image", "cat", "dog"), ("a.jpg", 1, 0)])
    write_csv(tmp_path / "val.csv", [("image", "cat"), ("b.jpg", 1)])
    reader = opened(tmp_path)
    assert targets_of(reader) == {"a.jpg": {"cat": 1, "dog": 0}, "b.jpg": {"cat": 1, "dog": -1}}  # nobody looked
    write_csv(tmp_path / "train.csv", [("image", "labels"), ("a.jpg", "cat|dog")])
    write_csv(tmp_path / "val.csv", [("image", "labels"), ("b.jpg", "cat")])
    assert targets_of(opened(tmp_path))["b.jpg"] == {"cat": 1, "dog": 0}  # a list names all that a photo shows


# Where photos are


def photos_of(folder, names, splits=None, **options):
    rows = [(name, "x", split) for name, split in zip(names, splits or ["train"] * len(names), strict=True)]
    write_csv(folder / "list.csv", [("image", "labels", "split"), *rows])
    reader = opened(folder, **options)
    return [e.image_id for split in reader.splits for e in reader.read(split)]


@pytest.mark.parametrize(
    ("names", "on_disk"),
    [
        (["a.jpg", "b.jpg"], ["a.jpg", "b.jpg"]),
        (["a", "b"], ["jpg/a.jpg", "jpg/b.JPG"]),
        (["set-1.0/train/a.jpg", "set-1.0/val/a.jpg"], ["train/a.jpg", "val/a.jpg"]),
        (["a.png", "b.png"], ["images_001/images/a.png", "images_002/images/b.png"]),
        (["train/a.jpg", "val/a.jpg"], ["photos/train/a.jpg", "photos/val/a.jpg"]),
        (["s3://bucket/x/a%20b.jpg", "s3://bucket/x/c.jpg"], ["x/a b.jpg", "x/c.jpg"]),
        (["C:\\photos\\cats\\a.jpg", "C:\\photos\\dogs\\a.jpg"], ["cats/a.jpg", "dogs/a.jpg"]),
        (["https://example.org/p/a.jpg?size=9", "https://example.org/p/b.jpg"], ["images/a.jpg", "images/b.jpg"]),
        (["v1.2_a", "v1.2_b"], ["images/v1.2_a.jpg", "images/v1.2_b.jpg"]),
        (["cafe\u0301.jpg", "x.jpg"], ["images/caf\u00e9.jpg", "images/x.jpg"]),
    ],
)
def test_photos_are_found_where_they_are(tmp_path, names, on_disk):
    for path in [*on_disk, "other/z.jpg"]:
        write_photo(tmp_path / path)
    assert photos_of(tmp_path, names) == on_disk


def test_photos_of_one_name_are_told_apart_by_their_splits_folder_or_refused(tmp_path):
    for folder in ("train", "val"):
        write_photo(tmp_path / folder / "a.jpg")
        write_csv(tmp_path / f"{folder}.csv", [("image", "labels"), ("a.jpg", folder)])
    assert targets_of(opened(tmp_path)) == {"train/a.jpg": {"train": 1, "val": 0}, "val/a.jpg": {"train": 0, "val": 1}}
    for path in tmp_path.glob("*.csv"):
        path.unlink()
    with pytest.raises(UserError, match=r"'a.jpg' may be train/a.jpg or val/a.jpg; write the folder too"):
        photos_of(tmp_path, ["a.jpg"], ["other"])


def test_photos_that_lie_twice_are_refused_unless_one_is_where_the_list_says(tmp_path):
    for folder in ("full/cats", "small/cats"):
        write_photo(tmp_path / folder / "a.jpg")
    with pytest.raises(UserError, match=r"'cats/a.jpg' may be full/cats/a.jpg or small/cats/a.jpg"):
        photos_of(tmp_path, ["cats/a.jpg"])
    write_photo(tmp_path / "cats" / "a.jpg")
    assert photos_of(tmp_path, ["cats/a.jpg", "cats/b.jpg"]) == ["cats/a.jpg", "cats/b.jpg"]


def test_a_photo_that_is_missing_is_not_taken_from_another_folder(tmp_path):
    write_photo(tmp_path / "x" / "1.jpg")
    names = ["x/1.jpg", "y/1.jpg"]
    assert photos_of(tmp_path, names) == names
    with pytest.raises(UserError, match=r"y/1\.jpg: is missing"):
        read_split(opened(tmp_path), "train")
    write_photo(tmp_path / "y" / "2.jpg")
    assert photos_of(tmp_path, ["x/1.jpg", "y/1.jpg", "y/2.jpg"])[1] == "y/1.jpg"
    flat = tmp_path / "flat"
    write_photo(flat / "images" / "1.jpg")
    with pytest.raises(UserError, match=r"'x/1.jpg' and 'y/1.jpg' would both be images/1.jpg"):
        photos_of(flat, names)


def test_a_photo_beyond_the_sample_that_is_elsewhere_is_missing_and_not_guessed(tmp_path):
    names = [f"images/{n}.jpg" for n in range(1000)]
    for name in names[:-1]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    write_photo(tmp_path / "other" / "999.jpg")
    assert photos_of(tmp_path, names) == names


def test_what_is_read_and_where_photos_are_is_said(tmp_path, capsys):
    write_photo(tmp_path / "images" / "a.jpg")
    photos_of(tmp_path, ["old/a.jpg"])
    said = capsys.readouterr().err
    assert (
        "read as    labels in 'labels' (one label a photo, or lists), image in 'image', split in 'split': 1 labels (x)"
        in said
    )
    assert "'old/a.jpg' is images/a.jpg, and so on" in said


def test_a_form_that_is_not_there_or_not_alone_is_named(tmp_path):
    with pytest.raises(
        UserError, match="holds labels in no known format; name the format with `dataset`, one of apparel"
    ):
        opened(tmp_path, "auto")
    write_photo(tmp_path / "images" / "a.jpg")  # one folder is no label
    with pytest.raises(UserError, match="in no known format"):
        opened(tmp_path, "auto")
    (tmp_path / "train.manifest").write_text(json.dumps({"source-ref": "s3://b/a.jpg"}))
    (tmp_path / "annotations.xml").write_text("<annotations></annotations>")
    with pytest.raises(
        UserError, match=r"several formats of labels, cvat .annotations.xml. and rekognition .train.manifest"
    ):
        opened(tmp_path, "auto")
