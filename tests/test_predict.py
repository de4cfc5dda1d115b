"""Prediction: which photos are found, what is written for them, and what becomes of those that cannot be read."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from serving import LABELS, small_model

from msrn_tf import predict
from msrn_tf.data.demo import draw_example
from msrn_tf.data.photo_batches import decoded_batches, why_unreadable
from msrn_tf.data.photos import find_photos
from msrn_tf.errors import UserError
from msrn_tf.models.factory import save_model
from msrn_tf.visualization.captions import font, shortened


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("model") / "model.keras")
    save_model(small_model(32), path)
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "b.jpg", "deep/a.jpg", "deep/c.jpeg")):
        (tmp_path / "photos" / name).write_bytes(draw_example("test", number).image_bytes)
    (tmp_path / "photos" / "b.txt").write_text("no photo")
    return tmp_path / "photos"


def names(paths, folder):
    return [str(path).removeprefix(f"{folder}/") for path in paths]


def test_folders_patterns_and_lists_are_followed_and_no_photo_comes_twice(folder):
    assert names(find_photos([str(folder)]), folder) == ["a.jpg", "b.jpg", "deep/a.jpg", "deep/c.jpeg"]
    assert names(find_photos([f"{folder}/*.jpg"]), folder) == ["a.jpg", "b.jpg"]
    assert names(find_photos([f"{folder}/**/a.*"]), folder) == ["a.jpg", "deep/a.jpg"]
    assert names(find_photos([f"{folder}/d*"]), folder) == ["deep/a.jpg", "deep/c.jpeg"]
    listed = f"{folder}/b.jpg\n\nmissing.jpg\r\n{folder}/a.jpg\n".encode()
    assert names(find_photos(["-", f"{folder}/a.jpg"], io.BytesIO(listed)), folder) == ["b.jpg", "missing.jpg", "a.jpg"]
    for wrong in (["nowhere/*.jpg"], ["nowhere.jpg"], [], ["-"]):
        with pytest.raises(UserError):
            find_photos(wrong)
    odd = folder / "odd[1].jpg"
    odd.write_bytes(b"x")
    assert find_photos([str(odd)]) == [str(odd)]  # a name that is there is no pattern


def test_photos_that_cannot_be_decoded_leave_their_neighbours_in_order(folder):
    paths = [f"{folder}/{name}" for name in ("a.jpg", "b.txt", "b.jpg", "gone.jpg", "deep/a.jpg")]
    batches = list(decoded_batches(paths, 32, 2))
    assert [indices.tolist() for indices, _ in batches] == [[0, 2], [4]]
    assert [images.shape for _, images in batches] == [(2, 32, 32, 3), (1, 32, 32, 3)]
    assert "not one of" in why_unreadable(paths[1]) and why_unreadable(paths[3]) == "no such file"


def run_predict(arguments, path, **choices):
    return predict.main(arguments, predict.PredictionConfig(model=path, batch_size=3, **choices))


def test_json_lines_come_for_all_photos_and_unreadable_ones_end_with_status_1(folder, path, capsys):
    with pytest.raises(SystemExit) as ended:
        run_predict([str(folder), f"{folder}/b.txt"], path, json=True, top_k=2)
    assert ended.value.code == predict.UNREADABLE_STATUS == 1
    said = capsys.readouterr()
    *rows, refused = [json.loads(line) for line in said.out.splitlines()]
    assert names([row["photo"] for row in rows], folder) == ["a.jpg", "b.jpg", "deep/a.jpg", "deep/c.jpeg"]
    assert all(len(row["labels"]) == 2 for row in rows)
    assert refused["photo"] == f"{folder}/b.txt" and refused["labels"] == refused["scores"] == refused["present"] == []
    assert refused["reason"].startswith("is not one of JPEG")
    assert said.err.count("error: ") == 1 and "b.txt: is not a photo that can be decoded" in said.err


def test_csv_has_the_score_of_every_label(folder, path, capsys):
    run_predict([f"{folder}/*.jpg"], path, csv=True)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == ["photo", "present", *LABELS] and len(rows) == 2
    for row in rows:
        present = {label for label in LABELS if float(row[label]) >= 0.5}
        assert set(filter(None, row["present"].split("|"))) == present
    with pytest.raises(UserError, match="--csv"):
        run_predict([str(folder)], path, csv=True, json=True)


def test_heatmaps_by_label_scale_and_group_and_same_names_are_kept_apart(folder, path, tmp_path, capsys):
    for by in ("label", "scale", "group"):
        target = tmp_path / by
        run_predict([str(folder)], path, json=True, heatmaps=str(target), heatmaps_by=by)
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        written = [file for row in rows for file in row["heatmaps"]]
        assert len(set(written)) == len(written) == len(list(target.iterdir()))
        assert any("a~2_" in file for file in written)
        with Image.open(written[0]) as picture:
            assert (picture.width > 3 * picture.height) == (
                by == "scale"
            )  # the photo, then a picture for each of two scales
        if by == "group":
            assert all("group1" in file for file in written)


def test_the_sheet_shows_every_photo(folder, path, tmp_path, capsys):
    run_predict([str(folder)], path, sheet=str(tmp_path / "sheet.png"))
    with Image.open(tmp_path / "sheet.png") as sheet:
        # Four cells of 220 pixels in a row, each with a picture that is no plain paper.
        assert 4 * 220 < sheet.width < 4 * 240
        cells = np.array_split(np.asarray(sheet)[: sheet.height - 40], 4, axis=1)
        assert all(cell.std() > 10 for cell in cells)
    assert "sheet of 4 photos" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"--sheet=.*sheet\.nothing: its ending names no picture"):
        run_predict([str(folder)], "no model is looked for", sheet=str(tmp_path / "sheet.nothing"))
    with pytest.raises(UserError, match="--sheet"):
        run_predict([str(folder)], path, sheet="nowhere/sheet.png")


def test_captions_are_cut_where_they_end():
    assert shortened("person", 12, 200) == "person"
    cut = shortened("person 0.99, bicycle 0.98, motorbike", 12, 100)
    assert cut.endswith("…") and font(12).getlength(cut) <= 100


def test_a_baseline_without_attention_is_told_so(folder, tmp_path):
    path = str(tmp_path / "gap.keras")
    save_model(small_model(32, model="gap"), path)
    with pytest.raises(UserError, match="has no heat-maps"):
        run_predict([str(folder)], path, heatmaps=str(tmp_path / "maps"))


def test_a_model_without_groups_has_no_heatmaps_of_groups(folder, tmp_path):
    path = str(tmp_path / "model.keras")
    save_model(small_model(32, pool_ratio=0.0), path)
    with pytest.raises(UserError, match=r"--heatmaps_by=group: .* has no groups"):
        run_predict([str(folder)], path, heatmaps=str(tmp_path / "maps"), heatmaps_by="group")
