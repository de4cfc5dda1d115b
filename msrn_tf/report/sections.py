"""The sections of the report, each from a measurement to HTML."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from msrn_tf.evaluation.calibration_error import expected_calibration_error, reliability, sigmoid
from msrn_tf.evaluation.faithfulness import FaithfulnessCurves
from msrn_tf.evaluation.measurement import Measurement
from msrn_tf.evaluation.metrics import precision_recall_curve, ratio
from msrn_tf.models.msrn import MSRN
from msrn_tf.report import charts, findings
from msrn_tf.report.findings import Finding
from msrn_tf.report.photos import PhotoShelf
from msrn_tf.visualization.html import escape

MOST_PAIRS = 14
MOST_IN_MATRIX = 40


def headline(metrics: dict[str, Any]) -> str:
    """The figures that people ask for first, with their intervals."""
    intervals = metrics.get("intervals", {})

    def tile(name, value, under, css=""):
        return f'<div class="tile {css}"><dt>{name}</dt><dd>{value}</dd><p>{under}</p></div>'

    def percent(name, title, note):
        ends = intervals.get(name)
        under = f"{ends[0]:.1f}–{ends[1]:.1f} (95&thinsp;%)" if ends else note
        value = metrics[name]
        return tile(title, "–" if value is None else f"{value:.1f}", under, "first" if name == "mAP" else "")

    tiles = [
        percent("mAP", "mAP", "mean over labels"),
        percent("CF1", "CF1", "mean over labels, at thresholds"),
        percent("OF1", "OF1", "all decisions, at thresholds"),
        tile("calibration error", f"{metrics['expected_calibration_error']:.3f}", "0 is perfect"),
        tile("ranking precision", f"{100 * metrics['label_ranking_average_precision']:.1f}", "mean over photos"),
        tile("photos", f"{metrics['num_images']:,}".replace(",", "&thinsp;"), f"{len(metrics['AP'])} labels"),
    ]
    protocol = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in metrics["protocol"].items())
    return f'<dl class="tiles">{"".join(tiles)}</dl><dl class="protocol">{protocol}</dl>'


def signed(value: float) -> str:
    """`+1.2`, `−1.2`, `0.0`: with a true minus, and without a sign where rounding leaves nothing."""
    text = f"{value:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def comparison(metrics: dict[str, Any]) -> str:
    """The difference to the baseline by label, as intervals around 0."""
    found = metrics["comparison"]
    reach = max(1.0, *(max(abs(value) for value in row) for row in found["AP_difference"].values()))

    def place(value):
        return 50 + 50 * value / reach

    def row(name, difference, low, high, css=""):
        sure = "gain" if low > 0 else "loss" if high < 0 else ""
        return (
            f'<div class="bar {css}"><span title="{escape(name)}">{escape(name)}</span><div class="track centred">'
            f'<i class="range {sure}" style="left:{place(low):.2f}%;width:{place(high) - place(low):.2f}%"></i>'
            f'<i class="point {sure}" style="left:{place(difference):.2f}%"></i></div>'
            f"<b>{signed(difference)}</b><small>{signed(low)} to {signed(high)}</small></div>"
        )

    low, high = found["interval"]
    rows = [row("mAP", found["mAP_difference"], low, high, "total")]
    ordered = sorted(found["AP_difference"].items(), key=lambda item: -item[1][0])
    rows += [row(label, *values) for label, values in ordered]
    return (
        f"<p>Average precision, this model minus the baseline (mAP {found['baseline']:.2f}), on the same photos; the "
        "bands are 95&thinsp;% intervals of a paired bootstrap. Coloured where the difference is significant.</p>"
        f'<div class="bars">{"".join(rows)}</div>'
    )


def average_precision(metrics: dict[str, Any]) -> str:
    """AP by label, best first, with intervals and counts."""
    intervals = metrics.get("intervals", {}).get("AP", {})
    known = {label: value for label, value in metrics["AP"].items() if value is not None}
    rows = []
    for label, value in sorted(known.items(), key=lambda item: -item[1]):
        ends = intervals.get(label)
        band = f'<i class="range" style="left:{ends[0]:.2f}%;width:{ends[1] - ends[0]:.2f}%"></i>' if ends else ""
        rows.append(
            f'<div class="bar"><span title="{escape(label)}">{escape(label)}</span><div class="track">'
            f'<i class="fill" style="width:{value:.2f}%"></i>{band}</div>'
            f"<b>{value:.1f}</b><small>{metrics['positives'][label]} photos</small></div>"
        )
    without = [label for label, value in metrics["AP"].items() if value is None]
    note = f"<p>No photo shows {escape(', '.join(without))}: no average precision.</p>" if without else ""
    return f'<div class="bars">{"".join(rows)}</div>{note}'


def precision_recall(measurement: Measurement) -> str:
    """A small curve for each label, the worst label first."""
    cells = []
    values = measurement.metrics["AP"]
    labels = measurement.model.labels
    for c in sorted((c for c in range(len(labels)) if values[labels[c]] is not None), key=lambda c: values[labels[c]]):
        scores, targets = measurement.scores[:, c], measurement.targets[:, c]
        precision, recall, distinct = precision_recall_curve(scores, targets)
        named = np.flatnonzero(distinct >= measurement.thresholds[c])
        point = (recall[named[-1]], precision[named[-1]]) if len(named) else None
        text = f"{point[1]:.0%} precise, {point[0]:.0%} found" if point else "never named"
        chart = charts.precision_recall_spark(precision, recall, point, f"{labels[c]}: {text} at its threshold")
        cells.append(
            f"<figure>{chart}"
            f"<figcaption><b>{escape(labels[c])}</b> {values[labels[c]]:.1f}<br><small>threshold "
            f"{measurement.thresholds[c]:.2f}: {text}</small></figcaption></figure>"
        )
    return (
        "<p>Precision (up) by recall (right); the dot is where the label's threshold puts it. Hardest label first.</p>"
        f'<div class="sparks">{"".join(cells)}</div>'
    )


def calibration(measurement: Measurement) -> str:
    """Reliability of the scores, and of the raw ones where the model is calibrated."""
    series = [(*reliability(measurement.scores, measurement.targets), "model")]
    rows = [("model", "scores as they are given", measurement.scores)]
    if not measurement.model.calibration.is_identity:
        raw = sigmoid(measurement.logits)
        series.insert(0, (*reliability(raw, measurement.targets), "other"))
        rows.append(("other", "sigmoid of the logits, before calibration", raw))
    legend = "".join(
        f'<li class="{css}">{text}: expected calibration error '
        f"<b>{expected_calibration_error(scores, measurement.targets):.4f}</b></li>"
        for css, text, scores in rows
    )
    chart = charts.reliability_chart(series, "share of labels that are present, by score")
    return (
        "<p>Of all labels with a score near 0.8, 80&thinsp;% should be present: a calibrated model follows the "
        f'diagonal.</p><div class="pair"><figure>{chart}</figure><ul class="legend">{legend}</ul></div>'
    )


def label_graph(model: MSRN, positives: dict[str, int]) -> str:
    """The label graph as the model weighs it, and the groups that it pools labels into."""
    assignment = np.asarray(model.semantics().assignment)
    weights = np.asarray(model.semantics.neighbour_weights())
    has_groups = assignment.shape[1] > 0
    groups = assignment.argmax(axis=1) if has_groups else np.zeros(len(assignment), int)
    chart = charts.label_graph_chart(model.labels, weights, groups, [positives[label] for label in model.labels])
    cards = []
    for group in range(assignment.shape[1]):
        members = sorted(np.flatnonzero(groups == group), key=lambda c: -assignment[c, group])
        chips = "".join(
            f"<li>{escape(model.labels[c])} <small>{assignment[c, group]:.2f}</small></li>" for c in members
        )
        cards.append(
            f'<div class="group g{group % 8}"><h4>group {group + 1}</h4><ul>{chips or "<li>–</li>"}</ul></div>'
        )
    colours = " A label's colour is the group it leans to most, and the number is how much." if has_groups else ""
    edges = int(((weights > 1e-3) & ~np.eye(len(weights), dtype=bool)).sum())
    return (
        f"<p>Edges ({edges}) join labels that occur together; the wider, the more one takes from the other in the "
        f"first graph layer.{colours}</p>"
        f'<div class="pair wide"><figure class="scroll">{chart}</figure>'
        f'<div class="groups">{"".join(cards)}</div></div>'
    )


def confusions(measurement: Measurement) -> str:
    """What is named in place of what."""
    labels = measurement.model.labels
    counts = findings.confusions(measurement)
    missed = ((measurement.targets == 1) & (measurement.scores < measurement.thresholds)).sum(axis=0)
    pairs = [(counts[i, j], i, j) for i, j in np.argwhere(counts > 0)]
    pairs.sort(key=lambda pair: -pair[0])
    if not pairs:
        return "<p>No photo in which one label is missed has another that is wrongly named.</p>"
    largest = pairs[0][0]
    rows = [
        f'<div class="bar words"><span>{escape(labels[j])} <em>in place of</em> {escape(labels[i])}</span>'
        f'<div class="track"><i class="fill" style="width:{100 * n / largest:.1f}%"></i></div>'
        f"<b>{n}</b><small>of {missed[i]} missed</small></div>"
        for n, i, j in pairs[:MOST_PAIRS]
    ]
    matrix = _confusion_matrix(labels, counts) if len(labels) <= MOST_IN_MATRIX else ""
    return (
        "<p>Photos in which one label is missed and another is named that is not there.</p>"
        f'<div class="bars">{"".join(rows)}</div>{matrix}'
    )


def _confusion_matrix(labels, counts):
    def cell(n):
        share = n / max(1, counts.max())
        return f'<td style="--heat:{share:.2f}">{n or ""}</td>'

    involved = np.flatnonzero(counts.any(axis=0) | counts.any(axis=1))
    head = "".join(f"<th><span>{escape(labels[j])}</span></th>" for j in involved)
    body = "".join(
        f"<tr><th>{escape(labels[i])}</th>{''.join(cell(int(counts[i, j])) for j in involved)}</tr>" for i in involved
    )
    return (
        '<details><summary>As a matrix: missed (row), named instead (column)</summary><div class="scroll">'
        f'<table class="matrix"><tr><td></td>{head}</tr>{body}</table></div></details>'
    )


def _photo(shelf, finding, examples, caption):
    pictures = [("photo", shelf.photo(finding.image)), *shelf.heatmaps(finding)]
    cells = "".join(
        f'<span><img decoding="async" alt="{escape(name)}" src="{uri}"><small>{name}</small></span>'
        for name, uri in pictures
    )
    name = escape(examples[finding.image].image_id)
    return f'<figure class="strip"><div>{cells}</div><figcaption>{caption} <small>{name}</small></figcaption></figure>'


def photos_by_label(measurement: Measurement, shelf: PhotoShelf, chosen: dict[int, list[list[Finding]]]) -> str:
    """Best and worst photos of each label with heat-maps; `chosen` is label → (best, worst)."""
    labels, values, parts = measurement.model.labels, measurement.metrics["AP"], []
    for c in sorted(chosen, key=lambda c: values[labels[c]] if values[labels[c]] is not None else 101):
        blocks = []
        for title, found in zip(("surest", "least sure, though it is there"), chosen[c], strict=True):
            strips = "".join(
                _photo(shelf, f, measurement.examples, f"<b>{f.score:.3f}</b>"
                       + ("" if f.score >= measurement.thresholds[c] else " missed"))
                for f in found
            )  # fmt: skip
            blocks.append(f"<h4>{title}</h4><div class='strips'>{strips}</div>" if strips else "")
        parts.append(
            f"<details{'' if parts else ' open'}><summary>{escape(labels[c])} <small>AP {values[labels[c]]:.1f}, "
            f"threshold {measurement.thresholds[c]:.2f}</small></summary>{''.join(blocks)}</details>"
        )
    maps = "Beside a photo: what spoke for the label, a map for each stride. " if measurement.model.explains else ""
    return f"<p>{maps}Hardest label first.</p>" + "".join(parts)


def disagreements(
    measurement: Measurement, shelf: PhotoShelf, invented: Sequence[Finding], overlooked: Sequence[Finding]
) -> str:
    """Where model and annotation disagree most: likely wrong annotations first."""

    def card(finding):
        label = escape(measurement.model.labels[finding.label])
        said = "annotated, not seen" if finding.present else "not annotated"
        pictures = [shelf.photo(finding.image), shelf.heatmap(finding)]
        images = "".join(f'<img decoding="async" alt="{label}" src="{uri}">' for uri in pictures if uri)
        return (
            f'<figure class="card"><div>{images}</div><figcaption><b>{label}</b> {finding.score:.3f}, {said}<br>'
            f"<small>{escape(measurement.examples[finding.image].image_id)}</small></figcaption></figure>"
        )

    parts = []
    for title, found in (("Named, and not annotated", invented), ("Annotated, and not seen", overlooked)):
        if found:
            parts.append(f'<h3>{title}</h3><div class="cards">{"".join(map(card, found))}</div>')
    return (
        "<p>The model is sure and the annotation says otherwise. Look here first for wrong annotations; what is not "
        "one is the model's clearest failure.</p>" + "".join(parts)
    )


def heatmap_checks(curves: FaithfulnessCurves, pointing: dict[str, tuple[int, int]]) -> str:
    """Deletion and insertion curves, their areas, and the pointing game where objects' places are known."""
    css = dict(zip(curves.deletion, ("model", "other", "random"), strict=True))
    areas = curves.areas()
    figures = []
    for title, by_order, x_title in (
        ("Deletion: lower is better", curves.deletion, "share of the pixels blurred"),
        ("Insertion: higher is better", curves.insertion, "share of the pixels restored"),
    ):
        series = [(curves.fractions, curve, css[order]) for order, curve in by_order.items()]
        chart = charts.line_chart(series, x_title, "score left", title)
        figures.append(f"<figure><figcaption>{title}</figcaption>{chart}</figure>")
    wins = {order: f"; the heat-map is better in {curves.deletion_wins[order]:.0%} and "
            f"{curves.insertion_wins[order]:.0%} of the cases" for order in curves.deletion_wins}  # fmt: skip
    legend = "".join(
        f'<li class="{css[order]}">{order}: areas <b>{areas["deletion"][order]:.3f}</b> and '
        f"<b>{areas['insertion'][order]:.3f}</b>{wins.get(order, '')}</li>"
        for order in curves.deletion
    )
    text = ""
    if pointing:
        hits, count = (sum(values) for values in zip(*pointing.values(), strict=True))
        by_label = ", ".join(f"{escape(label)} {h}/{n}" for label, (h, n) in sorted(pointing.items()))
        text = (
            f"<p>Pointing game: the map's highest point lies on an object of the label in "
            f"<b>{ratio(hits, count):.1%}</b> of {count} cases ({by_label}).</p>"
        )
    return (
        "<p>Pixels of the photo are blurred, or those of a blurred one restored, in the order of the heat-map; the "
        "label's score must fall and rise faster than in orders that do not depend on the photo: the same map with its "
        f"places shuffled, and single pixels at random. Mean over {curves.num_pairs} labels found in photos.</p>"
        f'<div class="pair">{"".join(figures)}</div><ul class="legend">{legend}</ul>{text}'
    )


def all_metrics(metrics: dict[str, Any]) -> str:
    """Every figure with what it means."""
    rows = [
        ("mAP", "mean over labels of the non-interpolated average precision, percent"),
        ("mAP_11point", "the same with VOC 2007's eleven recall points"),
        ("CP", "precision, mean over labels"), ("CR", "recall, mean over labels"),
        ("CF1", "harmonic mean of CP and CR"), ("OP", "precision over all decisions"),
        ("OR", "recall over all decisions"), ("OF1", "harmonic mean of OP and OR"),
        ("CF1_top3", "CF1 where only a photo's three best labels may be named"),
        ("OF1_top3", "OF1 where only a photo's three best labels may be named"),
        ("coverage_error", "how far down a photo's ranking its labels reach"),
        ("label_ranking_average_precision", "of labels ranked as high as a present one, the share that is present"),
        ("label_ranking_loss", "share of present and absent labels that are ranked the wrong way"),
        ("hamming_loss", "share of wrong decisions"),
        ("expected_calibration_error", "mean distance of score and frequency, 15 bins, all labels together"),
        ("classwise_calibration_error", "the same by label, mean over labels"),
    ]  # fmt: skip
    body = "".join(
        f"<tr><th>{name.replace('_', ' ')}</th><td>{'–' if metrics[name] is None else f'{metrics[name]:.4g}'}</td>"
        f"<td class='text'>{text}</td></tr>"
        for name, text in rows
    )
    return f'<div class="scroll"><table class="figures">{body}</table></div>'
