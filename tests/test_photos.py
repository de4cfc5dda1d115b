"""Which files are a person's photos, whatever lies beside them, and how lists from elsewhere name them."""

import errno
import io
import os
import socket
import unicodedata
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from test_decoding import PHOTO, READABLE, as_pillow_shows, encoded

from export.client import SENT_AS_THEY_ARE, read_photo
from export.device_classifier import DeviceClassifier
from msrn_tf import storage
from msrn_tf.data.photo_batches import decoded_batches, evaluation_photo, why_unreadable
from msrn_tf.data.photos import find_photos, is_ignored_name, photos_in, walk, why_not_a_photo_file
from msrn_tf.errors import UserError

JPEG = READABLE["baseline"]


def write(folder, *names):
    for name in names:
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(JPEG)


def found(folder, *arguments, listed=None):
    paths = find_photos([f"{folder}/{argument}" for argument in arguments] or [str(folder)], listed)
    return [path.removeprefix(f"{folder}/") for path in paths]


def test_what_systems_put_beside_photos_is_none(tmp_path):
    write(
        tmp_path, "a.jpg", "._a.jpg", "__MACOSX/a.jpg", "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", ".thumbs/b.jpg",
        "cats/b.jpg", "cats/@eaDir/b.jpg", "cats/.picasaoriginals/b.jpg", "#recycle/c.jpg",
    )  # fmt: skip
    os.mkdir(tmp_path / "empty")
    assert found(tmp_path) == ["a.jpg", "cats/b.jpg"]
    assert found(tmp_path, "**/*.jpg") == ["a.jpg", "cats/b.jpg"]
    assert [folders for _, folders, _ in walk(str(tmp_path))] == [["cats", "empty"], [], []]
    assert is_ignored_name("@eaDir") and is_ignored_name(".git") and not is_ignored_name("cats")
    with pytest.raises(UserError, match="no photo found"):
        find_photos([str(tmp_path / "empty")])


def test_what_is_no_regular_file_is_no_photo_and_is_never_opened(tmp_path, capsys):
    write(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    os.symlink("/dev/zero", tmp_path / "zero.jpg")
    os.symlink("nowhere", tmp_path / "broken.jpg")
    os.mkdir(tmp_path / "folder.jpg")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "socket.jpg"))
        assert found(tmp_path) == ["a.jpg"]
        assert "left out   4 files that are not photos by their names (not a regular file 4)" in capsys.readouterr().err
        assert found(tmp_path, "*.jpg") == ["a.jpg"]
        for name, kind in (("pipe.jpg", "a named pipe"), ("zero.jpg", "a device"), ("socket.jpg", "a socket")):
            with pytest.raises(UserError, match=f"{name}: cannot be read as a photo .{kind}, not a regular file"):
                found(tmp_path, name)
            assert kind in why_unreadable(str(tmp_path / name))
    names = ["pipe.jpg", "a.jpg", "zero.jpg", "folder.jpg", "broken.jpg"]
    listed = io.BytesIO("\n".join(f"{tmp_path}/{name}" for name in names).encode())
    paths = find_photos(["-"], listed)
    assert len(paths) == 5  # each is answered with its reason
    assert [indices.tolist() for indices, _ in decoded_batches(paths, 8, 2)] == [[1]]
    assert list(decoded_batches(paths[2:], 8, 2)) == []
    assert read_photo(paths[0]) == read_photo(paths[2]) == read_photo(paths[3]) == read_photo(paths[4]) == b""
    for path in paths[:1] + paths[2:]:
        with pytest.raises(ValueError, match="not a photo that can be read"):
            device(8).pixels(path)


def test_a_file_that_is_larger_than_any_photo_is_not_read(tmp_path):
    with open(tmp_path / "large.jpg", "wb") as file:
        file.write(JPEG)
        file.truncate(50 << 30)  # without blocks on the disk
    assert why_not_a_photo_file(str(tmp_path / "large.jpg")).startswith("53.7 GB, more than the 1 GiB")
    assert list(decoded_batches(find_photos([str(tmp_path)]), 8, 2)) == []


def test_links_that_go_round_end_and_linked_folders_are_looked_through_once(tmp_path):
    write(tmp_path, "photos/a.jpg", "elsewhere/b.jpg")
    for number in range(3):
        os.symlink(tmp_path / "photos", tmp_path / "photos" / f"loop{number}")
    os.symlink(tmp_path / "elsewhere", tmp_path / "photos" / "linked")
    assert found(tmp_path, "photos") == ["photos/a.jpg", "photos/linked/b.jpg"]
    assert found(tmp_path, "photos/**/*.jpg") == ["photos/a.jpg", "photos/linked/b.jpg"]
    assert found(tmp_path, "*/**/b.jpg") == ["elsewhere/b.jpg", "photos/linked/b.jpg"]


def test_two_stars_stand_for_any_folders_between(tmp_path, monkeypatch):
    write(tmp_path, "a.jpg", "cats/a.jpg", "cats/deep/b.jpg", "dogs/deep/c.jpg")
    assert found(tmp_path, "**") == found(tmp_path) == ["a.jpg", "cats/a.jpg", "cats/deep/b.jpg", "dogs/deep/c.jpg"]
    assert found(tmp_path, "**/deep") == ["cats/deep/b.jpg", "dogs/deep/c.jpg"]
    assert found(tmp_path, "**/deep/**/*.jpg") == ["cats/deep/b.jpg", "dogs/deep/c.jpg"]
    assert found(tmp_path, "c*/**/[ab].jpg") == ["cats/a.jpg", "cats/deep/b.jpg"]
    monkeypatch.chdir(tmp_path)
    assert find_photos(["**/a.jpg"]) == ["a.jpg", "cats/a.jpg"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_photos(["~/cats/*.jpg"]) == [f"{tmp_path}/cats/a.jpg"]


def test_files_of_other_kinds_are_counted(tmp_path, capsys):
    write(tmp_path, "a.jfif", "b.tif", "c.HEIC", "d.avif", "e.jpe", "f.psd", "g.psd", "h.cr2", "notes")
    assert found(tmp_path) == ["a.jfif", "b.tif", "c.HEIC", "d.avif", "e.jpe"]
    said = capsys.readouterr().err
    assert said == "left out   4 files that are not photos by their names (.psd 2, .cr2 1, without a suffix 1)\n"
    assert photos_in(str(tmp_path))[1][f"{tmp_path}/h.cr2"] == ".cr2"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"])
def test_lists_are_read_in_the_encodings_that_editors_write(encoding, tmp_path):
    write(tmp_path, "café.jpg", "b.jpg")
    text = f"{tmp_path}/café.jpg\r\n{tmp_path}/b.jpg\r\n"
    listed = io.BytesIO(text.encode(encoding))
    assert [os.path.basename(path) for path in find_photos(["-"], listed)] == ["café.jpg", "b.jpg"]


def test_lists_name_files_as_other_systems_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    write(tmp_path, "cats/a.jpg", b"caf\xe9.jpg", f"{decomposed}.jpg", "odd\\name.jpg")
    listed = io.BytesIO(f"cats\\a.jpg\ncafé.jpg\n{composed}.jpg\nodd\\name.jpg\ngone\\b.jpg\n".encode())
    expected = ["cats/a.jpg", os.fsdecode(b"caf\xe9.jpg"), f"{decomposed}.jpg", "odd\\name.jpg", "gone\\b.jpg"]
    assert find_photos(["-"], listed) == expected
    assert find_photos(["-"], io.BytesIO(b"caf\xe9.jpg\n")) == [os.fsdecode(b"caf\xe9.jpg")]
    with pytest.raises(UserError, match="list of photos"):
        find_photos(["-"], io.BytesIO("a.jpg".encode("utf-16")[:-1]))


def test_photos_whose_names_are_no_text_are_decoded(tmp_path):
    write(tmp_path, b"caf\xe9.jpg", "b.jpg")
    paths = find_photos([str(tmp_path)])
    assert [os.fsencode(os.path.basename(path)) for path in paths] == [b"b.jpg", b"caf\xe9.jpg"]
    assert [indices.tolist() for indices, _ in decoded_batches(paths, 8, 2)] == [[0, 1]]
    assert why_unreadable(paths[1] + "x") == "no such file"


@pytest.mark.parametrize("name", ["lossless webp", "animated webp, RGB, lossless True", "tiff", "bmp with a palette"])
def test_the_client_sends_what_servers_do_not_decode_as_png(name, tmp_path):
    (tmp_path / "photo").write_bytes(READABLE[name])
    sent = read_photo(str(tmp_path / "photo"))
    assert sent.startswith(b"\x89PNG")
    np.testing.assert_array_equal(as_pillow_shows(sent), as_pillow_shows(READABLE[name]))
    (tmp_path / "photo").write_bytes(JPEG)
    assert JPEG.startswith(SENT_AS_THEY_ARE) and read_photo(str(tmp_path / "photo")) == JPEG
    (tmp_path / "photo").write_bytes(b"text")
    assert read_photo(str(tmp_path / "photo")) == b"text"


def device(size):
    """What decodes photos in a `DeviceClassifier`, without its model."""
    classifier = object.__new__(DeviceClassifier)
    classifier.image_size, classifier.seconds = size, {}
    return classifier


@pytest.mark.parametrize("name", ["exif 6", "animated webp, RGB, lossless False", "tiff turned by a tag", "avif"])
def test_the_device_sees_upright_photos_of_every_format(name):
    expected = Image.fromarray(as_pillow_shows(READABLE[name]).astype(np.uint8)).resize((16, 16), 2)
    np.testing.assert_array_equal(device(16).pixels(io.BytesIO(READABLE[name])), np.asarray(expected))


def test_the_device_takes_the_upper_8_of_16_bits_and_opens_no_format_that_starts_programs():
    grey = np.asarray(PHOTO.convert("L"))
    content = encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG")
    expected = Image.fromarray(grey).convert("RGB").resize((16, 16), 2)
    np.testing.assert_array_equal(device(16).pixels(io.BytesIO(content)), np.asarray(expected))
    with pytest.raises(ValueError, match="not a photo that can be read"):
        device(16).pixels(io.BytesIO(encoded(PHOTO, "EPS")))


def test_a_failing_disk_is_no_reason_against_a_photo(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "b.jpg").write_bytes(b"none")
    assert evaluation_photo(str(tmp_path / "a.jpg"), 16)[1] == ""
    assert evaluation_photo(str(tmp_path / "b.jpg"), 16)[1] and evaluation_photo("nowhere.jpg", 16)[1] == "no such file"
    monkeypatch.setattr(storage, "status", mock.Mock(side_effect=OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"):
        evaluation_photo(str(tmp_path / "a.jpg"), 16)
