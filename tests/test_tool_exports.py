"""What single forms of tools say beyond lists of labels: annotators who differ, states, splits; and damaged ones."""

import io
import json
import tarfile

import pytest
from forms import encoded, write_csv, write_json, write_lines
from PIL import Image

from msrn_tf.data.readers import open_dataset, read_split
from msrn_tf.errors import UserError


def write_photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16)).save(path)


def targets_of(folder, dataset="auto"):
    """Photo → dict of label → target, of all splits."""
    reader = open_dataset(dataset, str(folder))
    return {
        example.image_id: dict(zip(reader.labels, example.target.tolist(), strict=True))
        for split in reader.splits
        for example in reader.read(split)
    }


def test_annotators_of_label_studio_who_agree_decide_and_the_rest_is_unknown(tmp_path, capsys):
    def annotation(*labels, skipped=False):
        results = [{"type": "choices", "value": {"choices": list(labels)}}] if labels else []
        return {"result": results, "was_cancelled": skipped}

    box = {"type": "rectanglelabels", "value": {"x": 1, "rectanglelabels": ["fish"]}}
    tasks = [
        {"data": {"image": "a.jpg"}, "annotations": [annotation("cat", "dog"), annotation("cat")]},
        {"data": {"image": "b.jpg"}, "annotations": [annotation("dog"), annotation("cat", skipped=True)]},
        {"data": {"image": "c.jpg"}, "annotations": [annotation()]},
        {"data": {"image": "d.jpg"}, "annotations": [annotation("cat", skipped=True)]},
        {"data": {"image": "e.jpg"}, "annotations": [{"result": [box]}]},
    ]
    write_json(tmp_path / "project-1.json", tasks)
    assert targets_of(tmp_path) == {
        "a.jpg": {"cat": 1, "dog": -1, "fish": 0},
        "b.jpg": {"cat": 0, "dog": 1, "fish": 0},
        "c.jpg": {"cat": 0, "dog": 0, "fish": 0},
        "e.jpg": {"cat": 0, "dog": 0, "fish": 1},
    }
    assert "1 photos" in capsys.readouterr().err


def test_rows_of_label_studios_csv_and_json_min_are_annotations(tmp_path):
    rows = [
        (1, 1, "cat", "x/a.jpg", 2.0),
        (2, 2, '{"choices": ["cat", "dog"]}', "x/a.jpg", 2.0),
        (3, 1, "", "x/b.jpg", 1),
    ]
    write_csv(tmp_path / "out.csv", [("annotation_id", "annotator", "choice", "image", "lead_time"), *rows])
    wanted = {"x/a.jpg": {"cat": 1, "dog": -1}, "x/b.jpg": {"cat": 0, "dog": 0}}
    assert targets_of(tmp_path) == wanted
    (tmp_path / "out.csv").unlink()
    entries = [
        {"image": "x/a.jpg", "annotation_id": 1, "annotator": 1, "choice": "cat"},
        {"image": "x/a.jpg", "annotation_id": 2, "annotator": 2, "choice": {"choices": ["cat", "dog"]}},
        {"image": "x/b.jpg", "annotation_id": 3, "annotator": 1},
    ]
    write_json(tmp_path / "out.json", entries)
    assert targets_of(tmp_path) == wanted


def test_cvats_tags_boxes_and_labels_that_no_photo_shows(tmp_path):
    names = "<label><name>ox</name></label><label><name>cat</name></label>"
    start = f"<annotations><meta><job><labels>{names}</labels></job></meta>"
    images = '<image name="sub/a b.png"><tag label="cat"/><box label="dog"/></image><image name="c.png"></image>'
    (tmp_path / "annotations.xml").write_text(f"{start}{images}</annotations>")
    assert targets_of(tmp_path) == {
        "sub/a b.png": {"ox": 0, "cat": 1, "dog": 1},
        "c.png": {"ox": 0, "cat": 0, "dog": 0},
    }
    (tmp_path / "annotations.xml").write_text('<annotations><track label="cat"/></annotations>')
    with pytest.raises(UserError, match="tracks of a video"):
        targets_of(tmp_path)


def write_annotation(path, filename, *objects):
    path.parent.mkdir(parents=True, exist_ok=True)
    items = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax>"
        "<ymax>16</ymax></bndbox></object>"
        for name, difficult in objects
    )
    size = "<size><width>20</width><height>16</height></size>"
    path.write_text(f"<annotation><filename>{filename}</filename>{size}{items}</annotation>")


def test_voc_files_of_own_classes_beside_photos_of_any_suffix_and_names_with_blanks(tmp_path):
    """As labelImg and Roboflow write them; `filename` may be of another time."""
    for split, name, named, objects in (
        ("train", "my cat 1.PNG", "my cat 1.PNG", [("siamese cat", 0), ("mouse", 1)]),
        ("train", "b.jpeg", "old name.jpg", [("mouse", 1), ("mouse", 0)]),
        ("valid", "c.JPG", "c.JPG", []),
    ):
        write_photo(tmp_path / split / name)
        write_annotation(tmp_path / split / f"{name.rsplit('.', 1)[0]}.xml", named, *objects)
    reader = open_dataset("auto", str(tmp_path))
    assert reader.splits == ["train", "valid"]
    assert targets_of(tmp_path, "voc") == {
        "train/my cat 1.PNG": {"mouse": -1, "siamese cat": 1},
        "train/b.jpeg": {"mouse": 1, "siamese cat": 0},
        "valid/c.JPG": {"mouse": 0, "siamese cat": 0},
    }
    example = next(e for e in read_split(reader, "train") if e.image_id.endswith("PNG"))
    places = reader.places(example, 4)
    assert sorted(places) == ["mouse", "siamese cat"] and places["mouse"].tolist() == [[True, True, False, False]] * 4


def test_lists_of_voc_say_the_splits_of_own_classes_and_may_share_photos(tmp_path, capsys):
    for name in ("1", "2"):
        write_photo(tmp_path / "JPEGImages" / f"{name}.png")
        write_annotation(tmp_path / "Annotations" / f"{name}.xml", f"{name}.png", ("yeti", 0))
    main = tmp_path / "ImageSets" / "Main"
    main.mkdir(parents=True)
    for split, text in {"train": "1\n", "val": "2\n", "trainval": "1\n2\n", "yeti_train": "1  1\n"}.items():
        (main / f"{split}.txt").write_text(text)
    reader = open_dataset("voc", str(tmp_path))
    assert reader.splits == ["train", "trainval", "val"]
    assert [e.image_id for e in read_split(reader, "trainval")] == ["JPEGImages/1.png", "JPEGImages/2.png"]
    assert "photos are in more than one split" in capsys.readouterr().err


def test_entities_that_stand_for_gigabytes_are_not_unfolded(tmp_path):
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    text = f'<!DOCTYPE a [<!ENTITY l0 "ha">{levels}]><annotation><object><name>&l11;</name></object></annotation>'
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(UserError, match="is not well-formed XML"):
        targets_of(tmp_path, "voc")


@pytest.mark.parametrize(
    ("photo", "label", "names"),
    [
        ("images/a.jpg", "labels/a.txt", "classes.txt"),
        ("images/train/a.jpg", "labels/train/a.txt", "data.yaml"),
        ("obj/a.jpg", "obj/a.txt", "obj.names"),
        ("a.jpg", "labels/a.txt", "classes.txt"),
    ],
)
def test_yolo_folders_lie_in_several_ways(tmp_path, photo, label, names):
    write_photo(tmp_path / photo)
    (tmp_path / label).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / label).write_text("1 0.5 0.5 0.1 0.1\n1 0.1 0.1 0.1 0.1 0.2 0.3\n")
    text = "names: {0: ox, 1: 'red hat'}\npath: ../somewhere\ntrain: images/train\nval: images/train\n"
    (tmp_path / names).write_text(text if names == "data.yaml" else "ox\nred hat\n")
    assert targets_of(tmp_path) == {photo: {"ox": 0, "red hat": 1}}


def test_a_split_of_yolo_without_any_file_of_boxes_is_left_out_and_lists_of_photos_are_read(tmp_path, capsys):
    for name in ("a", "b", "c"):
        write_photo(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "train.txt").write_text("./images/a.jpg\n./images/b.jpg\n")
    (tmp_path / "test.txt").write_text("/elsewhere/images/c.jpg\n")
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: train.txt\ntest: test.txt\n")
    assert targets_of(tmp_path, "yolo") == {"images/a.jpg": {"cat": 1}, "images/b.jpg": {"cat": 0}}
    assert "test, in which no photo has a file of boxes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("boxes", "description", "words"),
    [
        ("7 0.5 0.5 0.1 0.1", "names: [cat]", "has class '7', and there are 1"),
        ("cat 0.5 0.5 0.1 0.1", "names: [cat]", "is not a class and box of YOLO"),
        ("0 0.5 0.5 0.1 0.1", "names: {1: cat}", "names are not numbered from 0"),
        ("0 0.5 0.5 0.1 0.1", "names: !!python/object/apply:os.abort []", "holds no data.yaml"),
        ("0 0.5 0.5 0.1 0.1", "names: [cat]\ntrain: nowhere", "train is 'nowhere', in which there is no photo"),
    ],
)
def test_a_damaged_yolo_folder_is_one_sentence(tmp_path, boxes, description, words):
    write_photo(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(boxes)
    (tmp_path / "data.yaml").write_text(description)
    with pytest.raises(UserError, match=words):
        targets_of(tmp_path, "yolo")


def test_fiftyones_targets_are_numbers_names_objects_or_lists_of_these(tmp_path, capsys):
    labels = {"a": 1, "b": ["cat", {"label": "dog", "confidence": 0.9}], "c": None, "d": [], "e": "cat"}
    write_json(tmp_path / "labels.json", {"classes": ["cat", "dog"], "labels": labels})
    for name in "abcde":
        write_photo(tmp_path / "data" / f"{name}.png")
    assert targets_of(tmp_path) == {
        "data/a.png": {"cat": 0, "dog": 1},
        "data/b.png": {"cat": 1, "dog": 1},
        "data/d.png": {"cat": 0, "dog": 0},
        "data/e.png": {"cat": 1, "dog": 0},
    }
    assert "left out   1 photos" in capsys.readouterr().err


def test_manifests_of_one_class_of_boxes_and_of_jobs_that_failed(tmp_path, capsys):
    single = {"class-name": "Echo Dot", "type": "groundtruth/image-classification", "confidence": 0.95}
    boxes = {"class-map": {"0": "cat", "1": "dog"}, "type": "groundtruth/object-detection"}
    write_lines(
        tmp_path / "output.manifest",
        [
            {"source-ref": "s3://b/a.jpg", "job": 0, "job-metadata": single},
            {
                "source-ref": "s3://b/b.jpg",
                "bb": {"annotations": [{"class_id": 1}, {"class_id": 1}]},
                "bb-metadata": boxes,
            },
            {"source-ref": "s3://b/c.jpg", "job-metadata": {"failure-reason": "timeout"}},
        ],
    )
    assert targets_of(tmp_path) == {"b/a.jpg": {"Echo Dot": 1, "dog": 0}, "b/b.jpg": {"Echo Dot": 0, "dog": 1}}
    assert "1 photos" in capsys.readouterr().err


def test_vertex_and_azure_files_of_one_label_a_photo_and_photos_without_a_use(tmp_path):
    write_csv(tmp_path / "v" / "import.csv", [("gs://b/a.jpg", "cat"), ("UNASSIGNED", "gs://b/b.jpg", "dog", "cat")])
    assert targets_of(tmp_path / "v") == {"b/a.jpg": {"cat": 1, "dog": 0}, "b/b.jpg": {"cat": 1, "dog": 1}}
    entry = {"imageGcsUri": "gs://b/a.jpg", "classificationAnnotation": {"displayName": "cat"}}
    write_lines(tmp_path / "j" / "import.jsonl", [entry])
    assert targets_of(tmp_path / "j") == {"b/a.jpg": {"cat": 1}}
    write_lines(tmp_path / "a" / "train.jsonl", [{"image_url": "AmlDatastore://store/a.jpg", "label": "cat"}])
    assert targets_of(tmp_path / "a") == {"store/a.jpg": {"cat": 1}}
    write_csv(tmp_path / "v" / "import.csv", [("LEARNING", "gs://b/a.jpg", "cat")])
    with pytest.raises(UserError, match="has the use 'LEARNING'; write training, validation, test or nothing"):
        targets_of(tmp_path / "v", "vertex")


def test_open_images_labels_that_were_not_looked_at_or_are_disputed_are_unknown(tmp_path, capsys):
    rows = [
        ("1a", "verification", "/m/1", 1),
        ("1a", "crowdsource-verification", "/m/2", 0),
        ("2b", "verification", "/m/1", 1),
        ("2b", "crowdsource-verification", "/m/1", 0),
        ("2b", "machine", "/m/2", 0.7),
        ("3c", "verification", "/m/2", 1),
        ("9z", "verification", "/m/3", 1),
    ]
    write_csv(tmp_path / "train-labels.csv", [("ImageID", "Source", "LabelName", "Confidence"), *rows])
    write_csv(
        tmp_path / "oidv7-class-descriptions.csv", [("LabelName", "DisplayName"), ("/m/1", "Cat"), ("/m/2", "Dog, big")]
    )
    for name in ("1a", "2b", "3c"):
        write_photo(tmp_path / "train" / f"{name}.jpg")
    assert targets_of(tmp_path) == {
        "train/1a.jpg": {"Cat": 1, "Dog, big": 0, "/m/3": -1},
        "train/2b.jpg": {"Cat": -1, "Dog, big": -1, "/m/3": -1},
        "train/3c.jpg": {"Cat": -1, "Dog, big": 1, "/m/3": -1},
    }
    said = capsys.readouterr().err
    assert "left out   1 photos" in said and "does not name 1, as /m/3" in said


def test_celebas_tables_are_read_as_its_lists_are(tmp_path):
    write_csv(tmp_path / "list_attr_celeba.csv", [("image_id", "Smiling", "Young"), ("1.jpg", -1, 1), ("2.jpg", 1, -1)])
    write_csv(tmp_path / "list_eval_partition.csv", [("image_id", "partition"), ("1.jpg", 0), ("2.jpg", 2)])
    reader = open_dataset("auto", str(tmp_path))
    assert reader.splits == ["test", "train"]
    assert targets_of(tmp_path) == {"1.jpg": {"Smiling": 0, "Young": 1}, "2.jpg": {"Smiling": 1, "Young": 0}}
    (tmp_path / "list_attr_celeba.csv").unlink()
    (tmp_path / "list_attr_celeba.txt").write_text("3\nSmiling\n1.jpg 1\n2.jpg -1\n")
    with pytest.raises(UserError, match="declares 3 photos and has 2"):
        targets_of(tmp_path)


def test_paddleclas_lists_of_class_numbers_and_without_names(tmp_path, capsys):
    (tmp_path / "train_list.txt").write_text("a.jpg 1\nmy photo.jpg 0\n")
    (tmp_path / "label_list.txt").write_text("cat\nbig dog\n")
    assert targets_of(tmp_path) == {"a.jpg": {"cat": 0, "big dog": 1}, "my photo.jpg": {"cat": 1, "big dog": 0}}
    (tmp_path / "label_list.txt").write_text("cat\n")
    with pytest.raises(UserError, match="has 2 labels, and the file of their names 1"):
        targets_of(tmp_path)
    (tmp_path / "label_list.txt").unlink()
    (tmp_path / "train_list.txt").write_text("a.jpg\t0,1\nb.jpg\t1,1\n")
    assert targets_of(tmp_path) == {"a.jpg": {"label 0": 0, "label 1": 1}, "b.jpg": {"label 0": 1, "label 1": 1}}
    assert "no label_list.txt names the labels" in capsys.readouterr().err


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))


@pytest.mark.parametrize(
    ("suffix", "content", "labels"),
    [
        ("json", json.dumps({"labels": ["cat", "red hat"]}), {"cat", "red hat"}),
        ("json", json.dumps({"cat": 1, "dog": 0}), {"cat"}),
        ("json", json.dumps({"label": "cat", "width": 20}), {"cat"}),
        ("txt", "cat|red hat\n", {"cat", "red hat"}),
        ("cls", "1", {"label 1"}),
    ],
)
def test_members_of_tar_files_name_labels_in_several_ways(tmp_path, suffix, content, labels):
    write_tar(tmp_path / "train-0.tar", {"x/0001.jpg": encoded("p01.jpg"), f"x/0001.{suffix}": content.encode()})
    assert {label for label, value in targets_of(tmp_path)["x/0001.jpg"].items() if value == 1} == labels


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a.jpg": b"x", "b.json": b"[]"}, "a.jpg has no .json, .txt, .cls beside it"),
        ({"a.jpg": b"x", "a.png": b"x", "a.json": b"[]"}, "holds two photos a"),
        ({"a.jpg": b"x", "a.json": b"[" * 100_000}, "its .json is not valid JSON"),
        ({"a.jpg": b"x", "a.json": b" " * (2 << 20)}, "a.json has 2 MB, too many for labels"),
        ({"a.jpg": b"x", "a.json": b'{"caption": "a cat"}'}, "its .json has none of labels"),
        ({"a.json": b"[]"}, "names no photo"),
    ],
)
def test_a_tar_file_that_is_none_of_labelled_photos_is_one_sentence(tmp_path, members, words):
    write_tar(tmp_path / "a.tar", members)
    with pytest.raises(UserError, match=words):
        targets_of(tmp_path, "webdataset")


@pytest.mark.parametrize(
    "dataset", ["label_studio", "fiftyone", "mmpretrain", "azure", "rekognition", "vertex", "coco_json"]
)
def test_json_that_nests_without_end_or_holds_half_characters_is_refused(tmp_path, dataset):
    keys = (
        '"annotations": [], "data": {}, "result": 0, "classes": [], "labels": {"\\ud800": 0}, "data_list": [], '
        '"image_url": 1, "label": 2, "source-ref": 3, "imageGcsUri": 4, "images": [], "categories": []'
    )
    for tail in ("[" * 100_000, '"\\ud800"'):
        for start in ("[{", "{"):
            for suffix in ("json", "jsonl"):
                (tmp_path / f"train.{suffix}").write_text(f'{start}{keys}, "more": {tail}')
                with pytest.raises(UserError):
                    targets_of(tmp_path, dataset)
                (tmp_path / f"train.{suffix}").unlink()


@pytest.mark.parametrize(
    "dataset",
    ["label_studio", "fiftyone", "mmpretrain", "azure", "rekognition", "vertex", "cvat", "voc", "yolo", "celeba",
     "table", "open_images", "paddleclas", "huggingface", "webdataset"],
)  # fmt: skip
def test_a_folder_without_a_form_is_named_with_what_is_looked_for(tmp_path, dataset):
    with pytest.raises(UserError, match=f"`data_dir`={tmp_path}: (holds no|must hold)"):
        open_dataset(dataset, str(tmp_path))
