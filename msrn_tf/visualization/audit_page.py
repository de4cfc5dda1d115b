"""`audit.html`: what is in a data set as one page without scripts or addresses."""

import numpy as np
from matplotlib.figure import Figure

from msrn_tf.visualization.html import document, escape, figure_tag, table

LISTED = 50
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "background:#fff;color:#222}table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;"
    "border-bottom:1px solid #ccc}td:first-child,th:first-child,td.text{text-align:left}img{max-width:100%}"
    "div{overflow-x:auto}"
)


def audit_page(name, report, graph, threshold):
    """The page's HTML.

    Args:
        name: the data set's.
        report: of `data.audit.audit`.
        graph: `LabelGraph` of the training split.
        threshold: P(j | i) from which labels are neighbours.
    """
    splits = report["splits"]
    rows = ["images", "rejected", "without_a_label", "labels_an_image", "shortest_side", "longest_side"]
    summary = table(
        ["", *splits], [[row.replace("_", " "), *(split[row] for split in splits.values())] for row in rows]
    )
    counts = table(
        ["label", *splits],
        [[label, *(_count(split, label) for split in splits.values())] for label in graph.labels],
    )
    rejected = [[item["split"], item["image"], item["reason"]] for item in report["rejected"][:LISTED]]
    same = [[", ".join(f"{image['image']} ({image['split']})" for image in group)] for group in report["duplicates"]]
    parts = [
        f"<h1>{escape(name)}</h1>", summary,
        "<h2>Labels</h2><p>Images that show a label; in brackets those where nobody knows.</p>", counts,
        "<h2>Which labels occur together</h2><p>P(column | row), from the training split.</p>",
        figure_tag(_draw_cooccurrence(graph), "co-occurrence of labels"),
        f"<h2>The label graph</h2><p>{escape(graph.describe(threshold))}</p>",
        figure_tag(_draw_graph(graph, threshold), "label graph"),
        f"<h2>Rejected: {len(report['rejected'])}</h2>",
        table(["split", "image", "reason"], rejected) if rejected else "<p>No file was rejected.</p>",
        f"<h2>Same bytes: {report['num_duplicates']} groups, {report['duplicates_across_splits']} across splits</h2>",
        table(["images"], same[:LISTED]) if same else "<p>No two files are the same.</p>",
    ]  # fmt: skip
    return document(f"Audit of {name}", "".join(parts), STYLE)


def _count(split, label):
    unknown = split["unknown"][label]
    return f"{split['present'][label]}{f' ({unknown})' if unknown else ''}"


def _draw_cooccurrence(graph):
    size = min(16.0, 3 + 0.22 * len(graph.labels))
    figure = Figure((size, size), layout="constrained")
    axes = figure.subplots()
    probability = graph.cooccurrence / np.maximum(graph.counts, 1)[:, None]
    image = axes.imshow(probability, vmin=0, vmax=1, cmap="viridis")
    places = range(len(graph.labels))
    axes.set_xticks(places, graph.labels, rotation=90, fontsize=7)
    axes.set_yticks(places, graph.labels, fontsize=7)
    figure.colorbar(image, shrink=0.6)
    return figure


def _draw_graph(graph, threshold):
    size = min(14.0, 5 + 0.1 * len(graph.labels))
    figure = Figure((size, size), layout="constrained")
    axes = figure.subplots()
    angles = 2 * np.pi * np.arange(len(graph.labels)) / len(graph.labels)
    places = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for source, target in np.argwhere(graph.edges(threshold)):
        arrow = {"arrowstyle": "->", "alpha": 0.5, "color": "tab:blue", "shrinkA": 8, "shrinkB": 8}
        axes.annotate("", places[target], places[source], arrowprops=arrow)
    axes.scatter(*places.T, s=20 + 200 * graph.counts / max(1, graph.counts.max()), color="tab:orange", zorder=3)
    for label, (x, y), angle in zip(graph.labels, places * 1.08, np.degrees(angles), strict=True):
        flipped = 90 < angle < 270
        axes.text(
            x, y, label, fontsize=8, rotation=angle + 180 * flipped, rotation_mode="anchor", va="center",
            ha="right" if flipped else "left",
        )  # fmt: skip
    axes.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal")
    axes.axis("off")
    return figure
