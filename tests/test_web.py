"""The page, in a headless Chromium: it answers as `export.ondevice` does, asks nobody, works offline."""

import base64
import contextlib
import functools
import http.server
import io
import json
import os
import pathlib
import shutil
import threading
import types
import urllib.parse
import urllib.request
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from browser import find_chromium, running_browser
from PIL import Image
from serving import small_model

from export import tflite, web
from export.device_classifier import DeviceClassifier
from export.quantization.metadata import with_metadata
from export.quantization.model_object import read_model, unpacks_weights
from export.web_page import litert_js
from export.web_page.folder import BUILD_FILE, page_files, script, write_folder
from msrn_tf.errors import UserError
from msrn_tf.predictions import Prediction, print_csv_of

FOLDER = pathlib.Path(__file__).parent
LAYOUT, CONTRAST = ((FOLDER / name).read_text(encoding="utf-8") for name in ("report_layout.js", "web_contrast.js"))
COLOURS = ("red", "green", "blue")
TOLERANCE = 0.01
OF_CHROMIUM = (".googleapis.com", ".duckduckgo.com", ".google.com", ".gvt1.com", ".gstatic.com")
"""Where Chromium itself looks for updates and its start page, through its proxy."""
READY = "document.getElementById('facts')?.hidden === false"
STRANGE = '=<b>"red", x'


# ---- What is tested with


@pytest.fixture(scope="module")
def chromium():
    return find_chromium()


@pytest.fixture(scope="module")
def litert():
    """LiteRT.js from npm."""
    if not shutil.which("npm"):
        pytest.skip("npm is missing, which fetches LiteRT.js (nodejs.org)")
    return litert_js.litert_files()


def colour_model(labels=COLOURS, thresholds=(0.5, 0.6, 0.7)):
    """A .tflite whose answers are known: how much of a colour there is in the brightest part of a photo, and where."""

    def look(image):
        pixels = tf.cast(image, tf.float32) / 255
        parts = tf.nn.avg_pool2d(pixels, 8, 8, "VALID")  # [1, 8, 8, 3]
        return {"scores": tf.reduce_max(parts, axis=(1, 2)), "attention": tf.transpose(parts, (0, 3, 1, 2))}

    module = tf.Module()
    module.look = tf.function(look, input_signature=[tf.TensorSpec((1, 64, 64, 3), tf.uint8, "image")])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.look.get_concrete_function()], module)
    described = types.SimpleNamespace(labels=labels, thresholds=thresholds, image_size=64, name="colours")
    return with_metadata(converter.convert(), described, "colours", with_attention=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Name → path of a .tflite: `colours`, and a real export with heat-maps."""
    folder = tmp_path_factory.mktemp("models")
    contents = {"colours": colour_model(), "msrn": tflite.tflite_bytes(small_model(64), "dynamic", (), True)}
    for name, content in contents.items():
        (folder / f"{name}.tflite").write_bytes(content)
    return {name: folder / f"{name}.tflite" for name in contents}


@pytest.fixture(scope="module")
def site(models, litert, tmp_path_factory):
    """A folder with the page of each model, some folders down."""
    root = tmp_path_factory.mktemp("site")
    for name, path in models.items():
        write_folder(str(root / "some" / "where" / name), page_files(path.read_bytes(), "What <is> in it?", litert))
    return root


class Host(http.server.SimpleHTTPRequestHandler):
    """A static host; as a proxy it answers nothing. `asked` has every request."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path.startswith("/"):
            return super().do_GET()
        return self.send_error(502)

    def do_CONNECT(self):
        self.server.asked.append(self.path)
        self.send_error(502)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def hosting(folder):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Host, directory=str(folder))) as server:
        server.asked, server.address = [], f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def host(site):
    with hosting(site) as server:
        yield server


@pytest.fixture(scope="module")
def elsewhere():
    """The proxy of the browser, which goes there with all that is not this machine's."""
    with hosting(FOLDER) as server:
        yield server


@pytest.fixture(scope="module")
def browser(chromium, elsewhere):
    flags = (
        f"--proxy-server={elsewhere.address}", "--disable-background-networking", "--disable-component-update",
        "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    )  # fmt: skip
    with running_browser(chromium, *flags) as running:
        yield running


def open_page(browser, address, width=1000, scheme="light"):
    browser.open(address, width, scheme=scheme)
    browser.until(f"crossOriginIsolated && {READY}")


@pytest.fixture
def colours(browser, host):
    """The page of `colours`, ready."""
    open_page(browser, f"{host.address}/some/where/colours/")
    yield browser
    assert complaints(browser) == []


@pytest.fixture
def msrn(browser, host):
    """The page of `msrn`, ready."""
    open_page(browser, f"{host.address}/some/where/msrn/")
    yield browser
    assert complaints(browser) == []


def complaints(browser):
    """Errors in the console, but for warnings of a machine without a graphics card."""
    found = []
    for event in browser.events:
        entry = event["params"].get("entry") or {"level": event["params"].get("type", "error")}
        if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            found += [event] if entry["level"] == "error" else []
    return found


def drop(browser, *paths):
    """Drops files on the page and waits for their answers or sentences."""
    before = browser.evaluate("document.querySelectorAll('.card').length")
    browser.drop(paths)
    browser.until(
        f"document.querySelectorAll('.card').length === {before + len(paths)} && !document.querySelector('[aria-busy]')"
    )


def results(browser):
    """What the page saves as JSON."""
    return saved(browser, "save-json", json.loads)


def saved(browser, button, read=str):
    browser.evaluate(
        "window.savedText = new Promise((done) => { const make = URL.createObjectURL; URL.createObjectURL = (blob) =>"
        " { URL.createObjectURL = make; blob.text().then(done); return make(blob); }; });"
        "0"
    )
    text = browser.evaluate(f"document.getElementById('{button}').click(); window.savedText")
    return read(text)


def picture(path, colour_of, size=(96, 64), **options):
    """Writes a photo: `colour_of(x, y)`, x and y from 0 to 1, gives RGB for each pixel."""
    width, height = size
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    values = np.stack(np.broadcast_arrays(*colour_of(x, y)), axis=-1)
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(path, **options)
    return path


def in_corner(channel, right, low):
    """Grey with a square of one colour in a corner."""

    def colour_of(x, y):
        inside = ((x > 0.6) if right else (x < 0.4)) & ((y > 0.6) if low else (y < 0.4))
        return [np.where(inside, 255 * (c == channel), 40) for c in range(3)]

    return colour_of


def waves(x, y):
    """Detail of all sizes in every channel."""
    return [
        127 + 120 * np.sin(frequency * x * x + phase) * np.cos(31 * y * y)
        for frequency, phase in ((9, 0), (60, 1), (200, 2))
    ]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos in every form that browsers read alike."""
    folder = tmp_path_factory.mktemp("photos")
    turned = Image.Exif()
    turned[0x0112] = 6  # of a camera held upright
    rng = np.random.default_rng(0)
    picture(folder / "upright.jpg", waves, (320, 200), quality=90, exif=turned)
    picture(folder / "large.jpg", waves, (2400, 1601), quality=95, subsampling=0)
    picture(folder / "subsampled.jpg", waves, (333, 500), quality=60, subsampling=2, progressive=True)
    picture(folder / "small.png", waves, (20, 31))
    picture(folder / "lossless.webp", waves, (150, 150), lossless=True)
    Image.fromarray(rng.integers(0, 256, (90, 120), np.uint8)).save(folder / "grey.png")
    Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8)).quantize(64).save(folder / "palette.gif")
    return sorted(folder.iterdir())


# ---- What the command writes


def test_the_page_names_no_other_address(litert):
    files = page_files(colour_model(), "x", litert)
    own = {name: content.decode() for name, content in files.items() if "/" not in name and name != "model.tflite"}
    for name, text in own.items():
        addresses = [word for word in text.replace('"', " ").split() if "://" in word]
        assert {
            address for address in addresses if "localhost" not in address and "www.w3.org" not in address
        } == set(), name


def test_one_policy_is_in_the_page_and_sent_by_the_service_worker(litert):
    files = page_files(b"", "x", litert)
    policy = files["index.html"].decode().split('Content-Security-Policy" content="')[1].split('"')[0]
    assert policy in files["service_worker.js"].decode()
    assert "default-src 'none'" in policy and "http" not in policy and "unsafe-inline" not in policy


def test_another_model_or_title_makes_another_version(litert):
    versions = {page_files(model, title, litert)[BUILD_FILE] for model in (b"1", b"2") for title in ("a", "b")}
    assert len(versions) == 4 and page_files(b"1", "a", litert)[BUILD_FILE] in versions


def test_the_command_writes_a_page_in_place_of_an_earlier_one(models, litert, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(web, "litert_files", lambda: litert)
    for title in ("first", "</script>"):
        web.main(web.WebConfig(str(models["colours"]), str(tmp_path / "page"), title))
    assert '"title": "</script>"' in (tmp_path / "page" / BUILD_FILE).read_text()
    assert (tmp_path / "page" / "model.tflite").read_bytes() == models["colours"].read_bytes()
    assert os.listdir(tmp_path) == ["page"]
    said = capsys.readouterr()
    assert "3 labels, heat-maps" in said.out and "warning" not in said.err


@pytest.mark.parametrize(("mode", "slow"), [("none", False), ("int8", False), ("dynamic", True), ("float16", True)])
def test_a_model_that_browsers_are_slow_with_is_told_from_one_that_they_are_not(mode, slow):
    content = tflite.tflite_bytes(small_model(64), mode, [np.zeros((1, 64, 64, 3), np.uint8)])
    assert unpacks_weights(read_model(content)) == slow


def test_the_command_warns_of_a_model_that_browsers_are_slow_with(models, litert, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(web, "litert_files", lambda: litert)
    web.main(web.WebConfig(str(models["msrn"]), str(tmp_path / "page")))
    assert "computes in float32 with packed weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("none", "--tflite is missing"),
        ("no file", "no such file"),
        ("no metadata", "it has no metadata, is cut short or damaged"),
        ("cut", "it has no metadata, is cut short or damaged"),
        ("other folder", "is a folder of something else"),
        ("no npm", "npm is missing"),
        ("no text", r"--title=caf\\udce9: is no Unicode text"),
    ],
)
def test_what_cannot_be_a_page_is_said_in_a_sentence(fault, words, models, tmp_path, monkeypatch):
    path, output = tmp_path / "model.tflite", tmp_path / "page"
    whole = models["colours"].read_bytes()
    if fault != "no file":
        path.write_bytes({"no metadata": whole[: whole.index(b"PK\3\4")], "cut": whole[:-50]}.get(fault, whole))
    if fault == "other folder":
        output.mkdir()
        (output / "thesis.txt").touch()
        monkeypatch.setattr(web, "litert_files", dict)
    if fault == "no npm":
        monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=words):
        title = "caf\udce9" if fault == "no text" else "x"
        web.main(web.WebConfig("" if fault == "none" else str(path), str(output), title))
    assert not output.exists() or os.listdir(output) == ["thesis.txt"]


def test_a_folder_that_is_no_page_or_has_more_in_it_is_left_alone(tmp_path):
    files = {BUILD_FILE: script({}).encode(), "index.html": b"new", "litert/a.js": b""}
    page = tmp_path / "page"
    page.mkdir()
    (page / BUILD_FILE).write_text("module.exports = {};\n")
    (page / "index.html").write_text("own")
    with pytest.raises(UserError, match="is a folder of something else"):
        write_folder(str(page), files)
    (page / BUILD_FILE).write_bytes(files[BUILD_FILE])
    (page / ".git").mkdir()
    with pytest.raises(UserError, match=r"has '\.git', which is not of a page and would be deleted; move it away"):
        write_folder(str(page), files)
    assert (page / "index.html").read_text() == "own"
    (page / ".git").rmdir()
    write_folder(str(page), files)
    assert (page / "index.html").read_text() == "new" and os.listdir(tmp_path) == ["page"]


def test_another_archive_than_the_pinned_one_is_refused(litert):
    package = litert_js.PACKAGES[1]
    archive = litert_js.fetched(package)
    assert list(litert_js.unpacked(package, archive)) == ["wasm-utils.js"]
    with pytest.raises(UserError, match="another @litertjs/wasm-utils"):
        litert_js.unpacked(package, archive + b"\0")


def test_a_package_that_npm_cannot_get_is_said_in_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "npm").write_text("#!/bin/sh\necho 'npm error code E404' >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UserError, match=r"could not get @litertjs/core .*E404"):
        litert_js.litert_files()


# ---- What a person sees


def test_real_photos_get_the_labels_and_scores_of_the_device(msrn, models, shared):
    folder = shared / "voc2007" / "VOCdevkit" / "VOC2007" / "JPEGImages"
    paths = sorted(folder.iterdir())[:3]
    drop(msrn, *paths)
    assert_as_on_the_device(results(msrn), models["msrn"], paths)


def test_photos_of_every_form_get_the_labels_and_scores_of_the_device(msrn, models, photos):
    drop(msrn, *photos)
    assert_as_on_the_device(results(msrn), models["msrn"], photos)


def assert_as_on_the_device(answers, model, paths):
    classifier = DeviceClassifier(str(model))
    assert [answer["photo"] for answer in answers] == [path.name for path in paths]
    for answer, path in zip(answers, paths, strict=True):
        expected = Prediction.of(path.name, classifier.classify(str(path)))
        found = dict(zip(answer["labels"], answer["scores"], strict=True))
        differences = {label: abs(found[label] - score) for label, score in expected.score_of.items()}
        assert max(differences.values()) < TOLERANCE, (path, differences)
        assert answer["scores"] == sorted(answer["scores"], reverse=True)
        sure = {label for label, score in expected.score_of.items() if abs(score - 0.5) > TOLERANCE}
        assert sure & set(answer["present"]) == sure & set(expected.present)
        assert set(answer["milliseconds"]) == {"decode", "resize", "run"}


def test_pixels_are_pillows(colours, host, site, photos, models):
    """To the bit where decoders agree: the resizing is Pillow's, and JPEG is decoded by the same library."""
    classifier = DeviceClassifier(str(models["colours"]))
    shutil.copytree(photos[0].parent, site / "photos", dirs_exist_ok=True)
    for path in photos:
        encoded = colours.evaluate(f"""(async () => {{
            const {{ readPhoto }} = await import("{host.address}/some/where/colours/pixels.js");
            const file = await (await fetch("{host.address}/photos/{path.name}")).blob();
            const {{ pixels }} = await readPhoto(file, 64);
            return btoa(String.fromCharCode(...pixels));
        }})()""")
        found = np.frombuffer(base64.b64decode(encoded), np.uint8).reshape(64, 64, 3)
        difference = np.abs(found.astype(int) - classifier.pixels(str(path)))
        assert difference.max() <= 1, path


@pytest.mark.parametrize("corner", [(0, False, True), (2, True, False)], ids=["red, lower left", "blue, upper right"])
def test_a_heat_map_is_where_the_object_is(colours, tmp_path, corner):
    channel, right, low = corner
    drop(colours, picture(tmp_path / "corner.png", in_corner(*corner)))
    pixels = "[...document.querySelector('.card canvas').getContext('2d').getImageData(0, 0, 96, 64).data]"
    bare = np.array(colours.evaluate(pixels)).reshape(64, 96, 4)
    assert (bare[..., :3] == np.asarray(Image.open(tmp_path / "corner.png"))).all()
    point_at(colours, COLOURS[channel])
    changed = np.abs(np.array(colours.evaluate(pixels)).reshape(64, 96, 4) - bare).sum(axis=-1)
    columns, rows = slice(60, 96) if right else slice(0, 36), slice(40, 64) if low else slice(0, 24)
    inside = changed[rows, columns].mean()
    changed[rows, columns] = 0
    assert inside > 50 and inside > 2 * changed.mean()
    place = f"{COLOURS[channel]}: brightest at the {'bottom' if low else 'top'} {'right' if right else 'left'}"
    assert colours.evaluate("document.querySelector('.caption').textContent") == place
    assert colours.evaluate("document.querySelector('canvas').getAttribute('aria-label')").endswith(
        place.split(": ")[1]
    )
    colours.send("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    assert (np.array(colours.evaluate(pixels)).reshape(64, 96, 4) == bare).all()


def point_at(browser, label):
    box = browser.evaluate(
        f"(() => {{ const row = [...document.querySelectorAll('.labels button')].find((one) => "
        f"one.querySelector('.name').textContent === '{label}'); row.scrollIntoView({{ block: 'center' }});"
        "const { x, y } = row.getBoundingClientRect(); return [x + 20, y + 15]; })()"
    )
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])


def test_the_keyboard_alone_shows_a_heat_map_and_keeps_it(colours, tmp_path):
    drop(colours, picture(tmp_path / "corner.png", in_corner(1, True, True)))
    colours.evaluate("document.querySelector('.card .remove').focus()")
    press(colours, "Tab", 9)
    assert colours.evaluate("document.querySelector('.caption').textContent").startswith(
        "green: brightest at the bottom"
    )
    press(colours, "Enter", 13, "\r")
    assert colours.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    press(colours, "Tab", 9)
    press(colours, "Tab", 9)
    colours.evaluate("document.activeElement.blur()")
    assert colours.evaluate("document.querySelector('.caption').textContent").startswith("green")


def press(browser, key, code, text=""):
    browser.send("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, text=text)
    browser.send("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)


def test_each_label_has_its_threshold_until_the_slider_is_moved(colours, tmp_path):
    grey = picture(tmp_path / "grey.png", lambda x, y: [0 * x + level for level in (140, 141, 190)])
    drop(colours, grey)  # 0.549, 0.553 and 0.745, where 0.5, 0.6 and 0.7 are present
    assert results(colours)[0]["present"] == ["blue", "red"]
    colours.evaluate(
        "Object.assign(document.getElementById('threshold'), { value: 0.55 }).dispatchEvent(new Event('input')); 0"
    )
    assert results(colours)[0]["present"] == ["blue", "green"]
    assert colours.evaluate("document.querySelectorAll('.labels .present').length") == 2
    assert colours.evaluate("document.getElementById('threshold-text').textContent") == "0.55"
    colours.evaluate("document.getElementById('own-thresholds').click()")
    assert results(colours)[0]["present"] == ["blue", "red"]


def test_csv_is_that_of_the_command(colours, host, tmp_path, capsys):
    labels = [STRANGE, "a|b", "tab\there\u200e\u00a0"]
    photo = "@photo,\x1b[1m.png"
    scores = [0.9, 0.25, 0.75]
    print_csv_of([Prediction(photo, labels, scores, [labels[0], labels[2]])], labels)
    found = colours.evaluate(
        f'import("{host.address}/some/where/colours/results.js").then(({{ asCsv }}) => asCsv([{{ name: '
        f"{json.dumps(photo)}, scores: Float32Array.of(...{scores}) }}], {json.dumps(labels)}, [0.5, 0.5, 0.5]))"
    )
    assert found == capsys.readouterr().out


def test_photos_can_be_chosen_pasted_taken_and_removed(colours, photos):
    document = colours.send("DOM.getDocument")["root"]["nodeId"]
    field = colours.send("DOM.querySelector", nodeId=document, selector="#files")["nodeId"]
    colours.send("DOM.setFileInputFiles", files=[str(photos[0])], nodeId=field)
    colours.until("document.querySelectorAll('.card canvas').length === 1")
    colours.evaluate(
        "(async () => { const data = new DataTransfer(); const blob = await (await fetch('icon.svg')).blob();"
        "const picture = new OffscreenCanvas(9, 9); picture.getContext('2d').fillRect(0, 0, 9, 9);"
        "data.items.add(new File([await picture.convertToBlob()], 'pasted.png', { type: 'image/png' }));"
        "document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data })); })()"
    )
    colours.until("document.querySelectorAll('.card canvas').length === 2")
    colours.evaluate("document.getElementById('camera').click()")
    colours.until("document.getElementById('camera-video').videoWidth > 0")
    colours.evaluate("document.getElementById('camera-take').click()")
    colours.until("document.querySelectorAll('.card canvas').length === 3")
    assert [one["photo"] for one in results(colours)] == [photos[0].name, "pasted.png", "camera 1.png"]
    assert not colours.evaluate("document.getElementById('camera-dialog').open")
    colours.evaluate("document.querySelector('.card .remove').click()")
    assert [one["photo"] for one in results(colours)] == ["pasted.png", "camera 1.png"]
    colours.evaluate("document.getElementById('clear').click()")
    assert colours.evaluate("document.getElementById('tools').hidden")


def test_it_runs_in_threads_where_the_host_sends_no_headers(colours):
    facts = colours.evaluate("document.getElementById('facts').innerText")
    threads = min(8, os.cpu_count())
    assert f"WebAssembly, SIMD, {threads} thread" in facts and "3 labels, 64 × 64 pixels" in facts


def test_nothing_is_asked_of_another_address(colours, photos, elsewhere, host):
    drop(colours, *photos[:2])
    page = [event for event in colours.events if event["method"] == "Network.requestWillBeSent"]
    urls = {event["params"]["request"]["url"] for event in page}
    assert {
        url for url in urls if not url.startswith((f"{host.address}/some/where/colours/", "blob:", "data:"))
    } == set()
    assert [path for path in host.asked if not path.startswith(("/some/where/", "/photos/"))] == []
    hosts = {urllib.parse.urlsplit(url if "://" in url else f"//{url}").hostname for url in elsewhere.asked}
    assert {name for name in hosts if not name.endswith(OF_CHROMIUM)} == set()
    # And the page's policy would refuse it.
    assert colours.evaluate("fetch('http://example.org/').then(() => 'went', () => 'refused')") == "refused"
    colours.events.clear()


def test_it_works_without_a_network_after_the_first_load(browser, site, photos):
    with hosting(site) as server:
        address = f"{server.address}/some/where/colours/"
        open_page(browser, address)
        browser.until("document.getElementById('facts').innerText.includes('works without a network')")
    with pytest.raises(OSError):
        urllib.request.urlopen(address, timeout=5)
    open_page(browser, address)
    drop(browser, photos[0])
    assert len(results(browser)[0]["labels"]) == 3
    assert complaints(browser) == []


def test_a_new_version_takes_the_place_of_the_old_one(browser, litert, tmp_path):
    folder = str(tmp_path / "page")
    write_folder(folder, page_files(colour_model(), "old", litert))
    with hosting(tmp_path) as server:
        open_page(browser, f"{server.address}/page/")
        write_folder(folder, page_files(colour_model(("rot", "grün", "blau")), "new", litert))
        browser.open(f"{server.address}/page/", 1000)
        browser.until(f"document.title === 'new' && {READY}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_layout_holds_from_a_small_phone_to_a_desktop(browser, host, tmp_path, scheme):
    names = ["corner.png", "a photo with a name that is as long as names from some cameras and chats are.png"]
    paths = [picture(tmp_path / name, in_corner(0, False, True), (96, 140 - 60 * i)) for i, name in enumerate(names)]
    (tmp_path / "no photo.txt").write_text("no photo")
    backgrounds = set()
    for width in (1280, 768, 320):
        open_page(browser, f"{host.address}/some/where/colours/", width, scheme)
        assert browser.evaluate(LAYOUT) == [], f"{width} pixels, empty"
        drop(browser, *paths, tmp_path / "no photo.txt")
        browser.evaluate("document.querySelector('.labels button').click()")
        assert browser.evaluate(LAYOUT) == [], f"{width} pixels"
        assert browser.evaluate(CONTRAST) == [], f"{width} pixels"
        touchable = "[...document.querySelectorAll('button')].filter((one) => one.checkVisibility() && "
        assert browser.evaluate(f"{touchable} one.getBoundingClientRect().height < 24).length") == 0  # WCAG 2.2, 2.5.8
        assert len(browser.screenshot(whole=True)) > 10_000
        backgrounds.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 1


# ---- What is wrong


def sentences(browser):
    return browser.evaluate(
        "[...document.querySelectorAll('[role=alert]:not([hidden])')].map((one) => one.textContent)"
    )


def test_what_is_no_photo_is_said_and_the_others_are_looked_at(colours, tmp_path, photos):
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.7 no photo")
    (tmp_path / "vector.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    drop(colours, tmp_path / "letter.pdf", photos[0], tmp_path / "vector.svg")
    found = sentences(colours)
    assert len(found) == 2 and all("is not a photo that this browser can read" in one for one in found)
    assert [one["photo"] for one in results(colours)] == [photos[0].name]


def test_a_photo_of_50_megapixels_is_read_and_a_larger_one_refused(colours, tmp_path, models):
    Image.new("RGB", (8660, 5774), (200, 30, 30)).save(tmp_path / "large.jpg")
    Image.new("1", (10_100, 10_000)).save(tmp_path / "larger.png")
    drop(colours, tmp_path / "large.jpg", tmp_path / "larger.png")
    assert sentences(colours) == ["larger.png has 101.0 megapixels, more than the 100 that are read; make it smaller."]
    (answer,) = results(colours)
    assert abs(dict(zip(answer["labels"], answer["scores"], strict=True))["red"] - 200 / 255) < 0.01


def test_a_strip_that_is_longer_than_a_canvas_is_read_right_or_refused(colours, tmp_path):
    Image.new("RGB", (40_000, 40), (250, 250, 250)).save(tmp_path / "strip.png")
    drop(colours, tmp_path / "strip.png")
    assert sentences(colours) or min(results(colours)[0]["scores"]) > 0.95


def packed_anew(content, change):
    """The .tflite with another text for each of the files behind it."""
    stream = io.BytesIO(content[: content.index(b"PK\3\4")])
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if (text := change(name, old.read(name))) is not None:
                new.writestr(name, text)
    return stream.getvalue()


FAULTS = {
    "no.tflite": (lambda whole: b"no model at all", "is not a .tflite"),
    "bare.tflite": (lambda whole: whole[: whole.index(b"PK\3\4")], "it ends with no ZIP"),
    "cut.tflite": (lambda whole: whole[:-30], "is cut short or damaged; export it again"),
    "cut in two.tflite": (lambda whole: whole[: len(whole) // 2], "is cut short or damaged; export it again"),
    "no thresholds.tflite": (
        lambda whole: packed_anew(whole, lambda name, text: text if name == "labels.txt" else None),
        "there is no thresholds.txt in it",
    ),
    "a label more.tflite": (
        lambda whole: packed_anew(whole, lambda _, text: text + b"4\n"),
        "has 3 scores and 4 labels",
    ),
    "words.tflite": (
        lambda whole: packed_anew(whole, lambda name, text: text if name == "labels.txt" else b"a\nb\nc\n"),
        "a threshold that is not a number",
    ),
    "bits.tflite": (lambda whole: whole[:8] + bytes(300) + whole[308:], "cannot be run"),
}


def test_a_model_that_cannot_be_used_is_said_in_a_sentence_and_the_old_one_goes_on(colours, models, tmp_path, photos):
    whole = models["colours"].read_bytes()
    for name, (change, words) in FAULTS.items():
        (tmp_path / name).write_bytes(change(whole))
        colours.drop([tmp_path / name])
        colours.until(f"document.getElementById('fault').textContent.startsWith('{name} ')")
        (sentence,) = sentences(colours)
        assert words in sentence and sentence.endswith("."), sentence
        with pytest.raises(ValueError, match=r"tflite"):  # the command refuses it, too
            DeviceClassifier(str(tmp_path / name))
    drop(colours, photos[0])
    assert len(results(colours)[0]["labels"]) == 3


def test_another_model_looks_at_the_photos_anew(colours, tmp_path, photos):
    drop(colours, photos[0])
    content = packed_anew(colour_model(), lambda name, text: text if name != "labels.txt" else f"{STRANGE}\nb\nc\n")
    (tmp_path / "other.tflite").write_bytes(content)
    colours.drop([tmp_path / "other.tflite"])
    colours.until(f"document.querySelector('.labels')?.textContent.includes({json.dumps(STRANGE)})")
    assert sorted(results(colours)[0]["labels"]) == [STRANGE, "b", "c"]
    assert colours.evaluate("document.querySelector('#facts').innerText").count("other.tflite") == 1


@pytest.mark.parametrize(
    ("end", "kind"), [("model.close()", "closed"), ("model.worker.terminate(); model.worker.onerror(fault)", "notRun")]
)
def test_a_photo_that_comes_when_its_model_has_gone_is_told_so(colours, host, end, kind):
    found = colours.evaluate(f"""(async () => {{
        const {{ Model }} = await import("{host.address}/some/where/colours/model.js");
        const [model, fault] = [new Model(() => {{}}), {{ message: "gone", preventDefault() {{}} }}];
        {end};
        const late = new Promise((resolve) => setTimeout(resolve, 3000, "no answer"));
        return Promise.race([model.look(new Blob()).catch(({{ kind }}) => kind), late]);
    }})()""")
    assert found == kind


def test_a_photo_is_looked_at_by_the_model_that_came_while_its_header_was_read(colours, tmp_path, photos):
    colours.evaluate("""window.gate = new Promise((open) => (window.openGate = open));
        const Plain = Image;
        window.Image = function () {
            const image = new Plain();
            const set = (call) => image.addEventListener("load", () => gate.then(call));
            return Object.defineProperty(image, "onload", { set });
        }; 0""")
    (tmp_path / "other.tflite").write_bytes(colour_model(("a", "b", "c")))
    colours.drop([photos[0]])
    colours.until("document.querySelector('[aria-busy]') !== null")
    colours.drop([tmp_path / "other.tflite"])
    colours.until("document.getElementById('facts').innerText.includes('other.tflite')")
    colours.evaluate("openGate()")
    colours.until("!document.querySelector('[aria-busy]')", 30)
    assert sorted(results(colours)[0]["labels"]) == ["a", "b", "c"]


def test_a_model_that_the_host_lacks_is_said_in_a_sentence(browser, site, tmp_path):
    shutil.copytree(site / "some" / "where" / "colours", tmp_path / "page", ignore=shutil.ignore_patterns("*.tflite"))
    with hosting(tmp_path) as server:
        browser.open(f"{server.address}/page/", 1000)
        browser.until("crossOriginIsolated && document.getElementById('fault')?.hidden === false")
        assert sentences(browser) == [
            "model.tflite could not be loaded (status 404); check that it is in the page’s folder, and load the page "
            "again."
        ]
