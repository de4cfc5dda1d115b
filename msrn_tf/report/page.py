"""`report.html`: one page, without scripts and without an address, about a model on a split."""

import pathlib
from collections.abc import Callable
from typing import Any

from msrn_tf.choices import MAX_PIXELS
from msrn_tf.evaluation.faithfulness import FaithfulnessCurves
from msrn_tf.evaluation.measurement import Measurement
from msrn_tf.models.semantics import SemanticsEncoder
from msrn_tf.report import findings, sections
from msrn_tf.report.photos import PhotoShelf
from msrn_tf.type_names import Progress
from msrn_tf.visualization.html import document, escape

SUSPECTS = 12


def report_page(
    measurement: Measurement,
    metrics: dict[str, Any],
    *,
    name: str,
    photos_by_label: int = 2,
    faithfulness: tuple[FaithfulnessCurves, dict[str, tuple[int, int]]] | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int], Progress] | None = None,
) -> str:
    """The page's HTML.

    Args:
        measurement: `Measurement`.
        metrics: its metrics, with `intervals` and `comparison` where they were computed.
        name: the model's, for the title.
        photos_by_label: int, best and worst photos of each label.
        faithfulness: `(FaithfulnessCurves, pointing)` or None.
        max_pixels: larger photos are refused.
        progress: function of a number of photos, called with them first and giving a callback for those done.
    """
    model = measurement.model
    shown = [c for c, label in enumerate(model.labels) if metrics["AP"][label] is not None]
    chosen = {c: findings.best_and_worst(measurement, c, photos_by_label) for c in shown}
    invented, overlooked = findings.suspects(measurement, SUSPECTS)
    needed = [f for parts in chosen.values() for part in parts for f in part] + invented + overlooked
    done = progress(len({finding.image for finding in needed})) if progress else None
    shelf = PhotoShelf(model, measurement.examples, needed, max_pixels, done)

    parts = [("labels", "Labels", "Average precision by label", sections.average_precision(metrics))]
    if "comparison" in metrics:
        parts.insert(0, ("baseline", "Baseline", "Against the baseline", sections.comparison(metrics)))
    parts += [
        (
            "disagreements",
            "Failures",
            "Failures worth a look",
            sections.disagreements(measurement, shelf, invented, overlooked),
        ),
        ("curves", "Precision, recall", "Precision and recall", sections.precision_recall(measurement)),
        ("calibration", "Calibration", "Are the scores probabilities?", sections.calibration(measurement)),
        ("confusions", "Confusions", "What is named in place of what", sections.confusions(measurement)),
    ]
    if isinstance(model.semantics, SemanticsEncoder):
        parts.append(
            (
                "graph",
                "Label graph",
                "The label graph and its groups",
                sections.label_graph(model, metrics["positives"]),
            )
        )
    parts.append(("photos", "Photos", "Best and worst photos", sections.photos_by_label(measurement, shelf, chosen)))
    if faithfulness:
        parts.append(
            ("heatmaps", "Heat-maps", "Do the heat-maps tell the truth?", sections.heatmap_checks(*faithfulness))
        )
    parts.append(("metrics", "Figures", "Every figure", sections.all_metrics(metrics)))

    links = "".join(f'<a href="#{anchor}">{short}</a>' for anchor, short, _, _ in parts)
    body = "".join(f'<section id="{anchor}"><h2>{title}</h2>{content}</section>' for anchor, _, title, content in parts)
    kind = f"{model.name} · {model.count_params():,} parameters · {model.image_size}×{model.image_size} pixels"
    return document(
        f"{name}: report",
        f'<header><p class="kind">{escape(kind)}</p><h1>{escape(name)}</h1>{sections.headline(metrics)}'
        f"</header><nav>{links}</nav><main>{body}</main>",
        pathlib.Path(__file__).with_name("style.css").read_text(encoding="utf-8"),
    )
