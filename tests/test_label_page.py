"""The page that takes decisions: nothing in it is markup of others; in a browser keys decide and a file is saved."""

import base64
import hashlib
import pathlib
import re
import time

import numpy as np
import pytest
from browser import find_chromium, running_browser
from PIL import Image

from msrn_tf.data.corrections import Decision, read_decisions
from msrn_tf.visualization.html import photo_uri
from msrn_tf.visualization.label_page import Question, label_page

LAYOUT = (pathlib.Path(__file__).parent / "report_layout.js").read_text(encoding="utf-8")
HOSTILE = '</script><img src=x onerror="alert(1)"><!--'
QUESTIONS = [
    Question("one.jpg", "dog", 1, 0.012),
    Question("one.jpg", "potted plant", 0, 0.98),
    Question(HOSTILE, 'a, "b" & <i>c</i>', 0, 0.9),
    Question("two.jpg", "👩\u200d🚀", 1, 0.25),
]
BEFORE = [Decision("zero.jpg", "cat", None, 1, 0), Decision('a,"b".jpg', "ox", 1, -1, 0)]


@pytest.fixture(scope="module")
def page():
    photos = {
        q.photo: photo_uri(Image.new("RGB", (60 + 40 * n, 80), (50 * n, 90, 120))) for n, q in enumerate(QUESTIONS)
    }
    return label_page(f"csv:{HOSTILE}", QUESTIONS, photos, BEFORE)


def test_text_of_others_is_no_markup_and_no_address_is_named(page):
    assert HOSTILE not in page and 'onerror="' not in page and "<i>c" not in page
    assert page.count("<script") == page.count("</script>") == 2 and page.count("<img") == 1
    without_photos = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", without_photos)


def test_the_policy_allows_this_script_this_style_and_photos_within_the_page(page):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    style, script = (
        re.search(r"<style>(.*?)</style>", page, re.S)[1],
        page.rpartition("<script>")[2].split("</script>")[0],
    )
    for name, text in (("style-src", style), ("script-src", script)):
        assert parts[name] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert parts == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"} | {
        name: parts[name] for name in ("style-src", "script-src")
    }
    assert page.index("Content-Security-Policy") < page.index("<style>")


@pytest.fixture
def opened(page, tmp_path):
    """A browser with the page in a file, whose downloads come into `tmp_path / "saved"`."""
    chromium = find_chromium()
    file = tmp_path / "page.html"
    file.write_text(page, encoding="utf-8")
    with running_browser(chromium) as browser:
        browser.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "saved"))
        browser.open(file.as_uri(), 1280)
        yield browser


def press(browser, *keys):
    for key in keys:
        for kind in ("keyDown", "keyUp"):
            browser.send("Input.dispatchKeyEvent", type=kind, key=key)


def shown(browser, *names):
    return [browser.evaluate(f"document.getElementById('{name}').textContent") for name in names]


def contrast(browser, text, ground):
    """Of the colour of one element's text with another's background (WCAG 2.1)."""
    levels = []
    for selector, part in ((text, "color"), (ground, "backgroundColor")):
        colour = browser.evaluate(f"getComputedStyle(document.querySelector('{selector}')).{part}")
        values = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
        levels.append(0.05 + np.dot([0.2126, 0.7152, 0.0722], linear))
    return max(levels) / min(levels)


def complaints(browser):
    said = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    asked = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    outside = [url for url in asked if not url.startswith(("data:", "file:", "blob:"))]
    return [event for event in browser.events if event["method"] in said] + outside


def saved(folder, rows):
    """The decisions of the file that the browser writes."""
    path = folder / "saved" / "corrections.csv"
    for _ in range(400):
        if path.exists() and path.read_text(encoding="utf-8").count("\n") >= rows:
            return [(d.photo, d.label, d.annotated, d.decision) for d in read_decisions(str(path))]
        time.sleep(0.05)
    raise AssertionError("nothing was saved")


def test_keys_decide_and_the_saved_file_is_read_back(opened, tmp_path):
    assert shown(opened, "label", "annotated", "score", "suggestion", "decision") == [
        "dog", "present", "0.012", "absent", "not yet",
    ]  # fmt: skip
    press(opened, "a")
    assert shown(opened, "label") == ["potted plant"]
    press(opened, "p", "u", "ArrowLeft", "ArrowLeft")
    assert shown(opened, "label", "decision") == ["potted plant", "present"]
    press(opened, "Backspace", "n")
    assert shown(opened, "label") == ["👩\\u200d🚀"]  # what cannot be seen is shown
    press(opened, "P", "ArrowRight")
    assert "question 4 of 4, 3 decided, 2 decided before" in shown(opened, "progress")[0]
    press(opened, "n")
    assert shown(opened, "label") == ["potted plant"]
    press(opened, "a", "Backspace")  # undone at once, the decision before goes
    assert shown(opened, "label", "decision") == ["potted plant", "not yet"]
    press(opened, "s")
    before = [("zero.jpg", "cat", None, 1), ('a,"b".jpg', "ox", 1, -1)]
    assert saved(tmp_path, 6) == [
        *before,
        ("one.jpg", "dog", 1, 0), (HOSTILE, 'a, "b" & <i>c</i>', 0, -1), ("two.jpg", "👩\u200d🚀", 1, 1),
    ]  # fmt: skip
    assert complaints(opened) == []
    # What was decided is there when the page is opened again, at the first question that is open.
    for _ in range(40):  # a busy browser stores it a moment later
        opened.open((tmp_path / "page.html").as_uri(), 1280)
        if shown(opened, "label") == ["potted plant"]:
            break
    assert shown(opened, "label", "progress") == ["potted plant", "question 2 of 4, 3 decided, 2 decided before"]


def test_buttons_do_what_keys_do_and_modified_keys_are_the_browsers(opened):
    opened.evaluate("document.querySelector('[data-state=unknown]').click()")
    opened.evaluate("document.getElementById('previous').click()")
    assert shown(opened, "label", "decision") == ["dog", "unknown"]
    pressed = "[...document.querySelectorAll('[aria-pressed=true]')].map((one) => one.dataset.state)"
    assert opened.evaluate(pressed) == ["unknown"]
    opened.send("Input.dispatchKeyEvent", type="keyDown", key="a", modifiers=2)
    assert shown(opened, "decision") == ["unknown"]


def test_it_can_be_read_on_every_screen(opened, tmp_path):
    for width, scheme in ((1280, "light"), (1280, "dark"), (820, "light"), (390, "dark"), (320, "light")):
        opened.open((tmp_path / "page.html").as_uri(), width, scheme=scheme)
        press(opened, "ArrowRight", "ArrowRight")
        assert opened.evaluate(LAYOUT) == [], f"{width} pixels, {scheme}"
        for text, ground in (("dt", "body"), ("h2", "body"), ("#save", "#save")):
            assert contrast(opened, text, ground) >= 4.5, (text, scheme)  # level AA
        opened.evaluate("document.querySelector('[data-state=absent]').click()")
        press(opened, "ArrowLeft")
        assert contrast(opened, "[aria-pressed=true]", "[aria-pressed=true]") >= 4.5, scheme
        assert opened.evaluate("document.getElementById('photo').naturalWidth") > 0
        assert complaints(opened) == []


def test_a_list_without_suspects_is_a_page_too(tmp_path):
    page = label_page("demo:train", [], {}, BEFORE)
    assert '"questions": []' in page
