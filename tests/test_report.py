"""The report: whole, without an address, escaped; in a browser nothing overlaps, overflows, complains or asks."""

import pathlib
import re

import numpy as np
import pytest
from browser import find_chromium, running_browser
from serving import small_model

from msrn_tf.data.demo import DEMO_LABELS, draw_example
from msrn_tf.data.examples import Examples
from msrn_tf.evaluation.bootstrap import metric_intervals, paired_comparison
from msrn_tf.evaluation.faithfulness import FaithfulnessCurves
from msrn_tf.evaluation.measurement import Measurement, Protocol, metrics_of
from msrn_tf.models.calibration import Calibration
from msrn_tf.report import findings, sections
from msrn_tf.report.page import report_page

LAYOUT, CONTRAST = (
    (pathlib.Path(__file__).parent / f"report_{name}.js").read_text(encoding="utf-8") for name in ("layout", "contrast")
)
SECTIONS = (
    "Against the baseline", "Average precision by label", "Failures worth a look", "Precision and recall",
    "Are the scores probabilities?", "What is named in place of what", "The label graph and its groups",
    "Best and worst photos", "Do the heat-maps tell the truth?", "Pointing game", "Every figure",
)  # fmt: skip
STRANGE = '<script>alert("x")</script> & more'


@pytest.fixture(scope="module")
def measurement():
    """A model that half knows its labels, on 40 photos; one label has a strange name, one no present photo."""
    model = small_model(32)
    model.labels = ("a label with quite a long name", STRANGE, "boat", "tree", "cat")
    model.calibration = Calibration([0.5] * 5, [0.1] * 5, "demo", "val")
    rng = np.random.default_rng(0)
    targets = (rng.random((40, 5)) < 0.4).astype(np.int8)
    targets[:, 4], targets[::9, 0] = 0, -1
    logits = 2.0 * targets - 1 + rng.normal(size=targets.shape)
    examples = Examples.of((draw_example("test", number) for number in range(40)), len(DEMO_LABELS))
    scores, thresholds = np.asarray(model.calibrated(logits)), np.full(5, 0.5)
    metrics = metrics_of(model, scores, targets, thresholds, Protocol("demo", "test"))
    metrics["intervals"] = metric_intervals(scores, targets, model.labels, thresholds, 50)
    noise = rng.random(scores.shape)
    metrics["comparison"] = paired_comparison(scores, noise, targets, model.labels, 50)
    return Measurement(model, examples, logits, scores, targets, thresholds, metrics)


@pytest.fixture(scope="module")
def page(measurement):
    curve = np.linspace(1, 0, 5)
    curves = {order: curve**power for order, power in (("heat-map", 3), ("shuffled", 1), ("random pixels", 1))}
    wins = {"shuffled": 0.9, "random pixels": 0.8}
    checked = FaithfulnessCurves(np.linspace(0, 1, 5), curves, curves, 7, wins, wins), {"boat": (3, 4)}
    return report_page(
        measurement, measurement.metrics, name="small on demo:test", photos_by_label=1, faithfulness=checked
    )


def test_the_page_has_its_sections_and_no_script_or_address(page, measurement):
    for words in SECTIONS:
        assert words in page
    assert "<script" not in page and "@import" not in page
    assert not re.search(r"""(src|href)=["'](?!data:image/|#)|url\(|https?:""", page)
    assert "&lt;script&gt;alert" in page  # the label's name, as text
    assert "No photo shows cat" in page
    assert f"{measurement.metrics['mAP']:.1f}</dd>" in page
    assert "fitted to demo:val" in page and "calibrated on demo:val" in page


def test_a_model_without_attention_gets_a_page_without_maps(measurement):
    model = small_model(32, model="gap")
    model.labels = measurement.model.labels
    plain = Measurement(**{**vars(measurement), "model": model})
    page = report_page(
        plain, {k: v for k, v in plain.metrics.items() if k != "comparison"}, name="gap", photos_by_label=1
    )
    assert "label graph" not in page and "heat-maps" not in page and "Best and worst photos" in page


def test_a_model_without_groups_has_a_label_graph_of_one_colour(measurement):
    model = small_model(32, pool_ratio=0.0)
    drawn = sections.label_graph(model, dict.fromkeys(model.labels, 3))
    assert drawn.count('class="node g0"') == len(model.labels) and "group" not in drawn.replace('class="groups"', "")


def test_confusions_count_photos_in_which_one_is_missed_and_another_invented(measurement):
    scores, targets = (
        np.array([[0.1, 0.9], [0.2, 0.8], [0.9, 0.9], [0.1, 0.9]]),
        np.array([[1, 0], [1, 1], [1, 0], [1, -1]]),
    )
    one = Measurement(**{**vars(measurement), "scores": scores, "targets": targets, "thresholds": np.array([0.5, 0.5])})
    assert findings.confusions(one).tolist() == [[0, 1], [0, 0]]


def test_suspects_are_the_surest_disagreements_and_a_photo_comes_once(measurement):
    scores = np.array([[0.6, 0.95], [0.99, 0.98], [0.01, 0.7], [0.3, 0.6]])
    targets = np.array([[0, 0], [1, 0], [1, 1], [1, -1]])
    one = Measurement(**{**vars(measurement), "scores": scores, "targets": targets, "thresholds": np.array([0.5, 0.5])})
    invented, overlooked = findings.suspects(one, 5)
    assert [(f.image, f.label) for f in invented] == [(1, 1), (0, 1)]
    assert [(f.image, f.label) for f in overlooked] == [(2, 0), (3, 0)]


def test_best_and_worst_photos_are_not_shown_twice(measurement):
    best, worst = findings.best_and_worst(measurement, 2, 1000)
    assert worst == [] and [f.score for f in best] == sorted((f.score for f in best), reverse=True)
    best, worst = findings.best_and_worst(measurement, 2, 2)
    assert len(best) == len(worst) == 2 and worst[0].score <= worst[1].score <= best[1].score <= best[0].score


def test_in_a_browser_nothing_overlaps_overflows_complains_or_asks(page, tmp_path):
    chromium = find_chromium()
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    with running_browser(chromium) as browser:
        backgrounds = set()
        windows = [(1280, "light"), (1280, "dark"), (820, "light"), (390, "light"), (390, "dark"), (320, "light")]
        for width, scheme in windows:
            browser.open(file.as_uri(), width, scheme=scheme)
            assert browser.evaluate(LAYOUT) == [], f"{width} pixels, {scheme}"
            assert browser.evaluate(CONTRAST) >= 4.5, f"{width} pixels, {scheme}"  # WCAG 2.1, level AA
            backgrounds.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
            asked = [
                e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"
            ]
            assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
            said = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
            assert [event for event in browser.events if event["method"] in said] == []
            assert len(browser.screenshot()) > 10_000
        assert len(backgrounds) == 2  # light and dark are two pages
        # Everything folded is open in the strictest window too.
        browser.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        assert browser.evaluate(LAYOUT) == []
