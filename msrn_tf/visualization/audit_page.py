"""`audit.html`: what is in a data set as one page without scripts or addresses, for light and dark screens."""

import io
import json
import os
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from msrn_tf.errors import printable
from msrn_tf.files import replacing
from msrn_tf.label_graph import LabelGraph
from msrn_tf.visualization.html import data_uri, document, escape

LISTED = 20
ROWS_A_TABLE = 20
STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#222;--line:#ccc;--warn:#b00020}
@media(prefers-color-scheme:dark){:root{--paper:#16181c;--ink:#ddd;--line:#444;--warn:#ff8a80}}
body{font:16px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;
background:var(--paper);color:var(--ink)}
table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid var(--line);vertical-align:top}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}th{text-align:left}.none{color:var(--warn)}
div{display:flex;flex-wrap:wrap;align-items:flex-start;gap:0 2rem;overflow-x:auto}img{max-width:100%}
"""
LIGHT, DARK = {"ink": "#222", "paper": "#fff"}, {"ink": "#ddd", "paper": "#16181c"}
INKED = ("text.color", "xtick.color", "ytick.color", "axes.edgecolor", "axes.labelcolor")


def write_audit(output: str, name: str, report: dict[str, Any], graph: LabelGraph, threshold: float) -> None:
    """Writes `audit.json`, `audit.html` and `near_duplicates.txt` to a folder; see `audit_page`."""
    files = {
        "audit.json": json.dumps(report, indent=2),
        "audit.html": audit_page(name, report, graph, threshold),
        "near_duplicates.txt": "".join(f"{name}\n" for name in report["training_photos_like_others"]),
    }
    for file_name, text in files.items():
        with replacing(os.path.join(output, file_name)) as file:
            file.write(text)


def audit_page(name: str, report: dict[str, Any], graph: LabelGraph, threshold: float) -> str:
    """The page's HTML.

    Args:
        name: the data set's.
        report: of `data.audit.audit`.
        graph: `LabelGraph` of the training split.
        threshold: P(j | i) from which labels are neighbours.
    """
    splits = report["splits"]
    rows = ["images", "rejected", "without_a_label", "labels_an_image", "shortest_side", "longest_side"]
    summary = _table(
        ["", *splits], [[row.replace("_", " "), *(split[row] for split in splits.values())] for row in rows]
    )
    counts = [[label, *(_count(split, label) for split in splits.values())] for label in graph.labels]
    rejected = [[item["split"], item["image"], item["reason"]] for item in report["rejected"]]
    same = [[_names(group)] for group in report["duplicates"]]
    findings = [[item["finding"], item["mend"]] for item in report["findings"]]
    alike = [[_names(pair)] for pair in report["near_duplicates"]]
    shared = [[" and ".join(overlap["splits"]), overlap["images"]] for overlap in report["overlaps"]]
    parts = [
        f"<h1>{escape(name)}</h1>", f"<div>{summary}</div>",
        "<h2>What a person should look at</h2>" if findings else "",
        _listed(["what", "what mends it"], findings, len(findings)),
        f"<h2>Rejected: {len(rejected)}</h2>",
        _listed(["split", "image", "reason"], rejected, len(rejected)) or "<p>No file was rejected.</p>",
        f"<h2>Same bytes: {report['num_duplicates']} groups, {report['duplicates_across_splits']} across splits</h2>",
        _listed(["images"], same, report["num_duplicates"]) or "<p>No two files are the same.</p>",
        f"<h2>Photos that look alike: {report['num_near_duplicates']} pairs, {report['near_duplicates_across_splits']} "
        "across splits</h2>",
        _listed(["images"], alike, report["num_near_duplicates"]) or "<p>No two photos look alike.</p>",
        f"<h2>Splits that share photos: {len(shared)}</h2>" if shared else "",
        _listed(["splits", "photos"], shared, len(shared)),
        "<h2>Labels</h2><p>Number of images that show each label; unknown ones in brackets.</p>",
        f"<div>{''.join(_table(['label', *splits], part, mark_zeros=True) for part in _parts(counts))}</div>",
        "<h2>Which labels occur together</h2><p>P(column | row), from the training split.</p>",
        _picture(_draw_cooccurrence, "co-occurrence of labels", graph),
        f"<h2>The label graph</h2><p>{escape(graph.describe(threshold))}</p>",
        _picture(_draw_graph, "label graph", graph, threshold),
    ]  # fmt: skip
    return document(f"Audit of {name}", "".join(parts), STYLE)


def _count(split, label):
    unknown = split["unknown"][label]
    return f"{split['present'][label]}{f' ({unknown})' if unknown else ''}"


def _names(group):
    return ", ".join(f"{photo['image']} ({', '.join(photo['splits'])})" for photo in group)


def _parts(rows):
    return [rows[start : start + ROWS_A_TABLE] for start in range(0, len(rows), ROWS_A_TABLE)]


def _listed(head, rows, count):
    """The first rows as a table, and how many of `count` there are besides; empty where there is none."""
    of_all = f", of {count} in all" if count > len(rows) else ""
    more = f"<p>{len(rows) - LISTED} more are in audit.json{of_all}.</p>" if len(rows) > LISTED else ""
    return f"<div>{_table(head, rows[:LISTED])}</div>{more}" if rows else ""


def _table(head, rows, mark_zeros=False):
    # A column is one of numbers by its first cell.
    kinds = ["number" if str(cell)[:1].isdigit() else "" for cell in rows[0]]

    def line(cells, tag):
        return "<tr>" + "".join(cell(tag, str(text), kind) for text, kind in zip(cells, kinds, strict=True)) + "</tr>"

    def cell(tag, text, kind):
        kind += " none" if mark_zeros and text.split()[:1] == ["0"] else ""
        return f'<{tag} class="{kind}">{escape(text)}</{tag}>'

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def _draw_cooccurrence(figure, graph):
    count = len(graph.labels)
    figure.set_size_inches([np.clip(3 + 0.2 * count, 5, 11)] * 2)
    axes = figure.subplots()
    probability = graph.cooccurrence / np.maximum(graph.counts, 1)[:, None]
    image = axes.imshow(probability, vmin=0, vmax=1, cmap="viridis")
    names = {"labels": [printable(label) for label in graph.labels], "fontsize": 8 if count <= 40 else 6}
    axes.set_xticks(range(count), rotation=90, parse_math=False, **names)
    axes.set_yticks(range(count), parse_math=False, **names)
    figure.colorbar(image, shrink=0.6)


def _draw_graph(figure, graph, threshold):
    figure.set_size_inches([np.clip(5 + 0.1 * len(graph.labels), 5, 11)] * 2)
    axes = figure.subplots()
    angles = 2 * np.pi * np.arange(len(graph.labels)) / len(graph.labels)
    places = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for source, target in np.argwhere(graph.edges(threshold)):
        arrow = {"arrowstyle": "->", "alpha": 0.6, "color": "tab:blue", "shrinkA": 8, "shrinkB": 8}
        axes.annotate("", places[target], places[source], arrowprops=arrow)
    axes.scatter(*places.T, s=20 + 200 * graph.counts / max(1, graph.counts.max()), color="tab:orange", zorder=3)
    for label, (x, y), angle in zip(graph.labels, places * 1.08, np.degrees(angles), strict=True):
        flipped = 90 < angle < 270
        axes.text(
            x, y, printable(label), fontsize=8, rotation=angle + 180 * flipped, rotation_mode="anchor", va="center",
            ha="right" if flipped else "left", parse_math=False,
        )  # fmt: skip
    axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
    axes.axis("off")


def _picture(draw, description, *arguments):
    """What `draw(figure, *arguments)` draws, for a light screen and for a dark one."""
    light, dark = (_drawn(draw, theme, arguments) for theme in (LIGHT, DARK))
    return (
        f'<div><picture><source media="(prefers-color-scheme:dark)" srcset="{dark}">'
        f'<img alt="{description}" src="{light}"></picture></div>'
    )


def _drawn(draw, theme, arguments):
    inks: dict[Any, str] = dict.fromkeys(INKED, theme["ink"])
    with matplotlib.rc_context(inks):
        figure = Figure(facecolor=theme["paper"])
        draw(figure, *arguments)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    return data_uri(file.getvalue(), "png")
