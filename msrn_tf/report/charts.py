"""Charts as inline SVG: they take the page's colours, light or dark, and their text can be selected."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from msrn_tf.visualization.html import escape

CURVE_POINTS = 60


def _path(xs, ys):
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))


def _svg(width, height, body, description, css=""):
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" class="{css}" aria-label="{escape(description)}">'
        f"<title>{escape(description)}</title>{body}</svg>"
    )


class Axes:
    """A plot area from 0 to 1 and from 0 to `top`, gridlines at quarters, and tick labels."""

    def __init__(self, width: int = 420, height: int = 290, left: int = 58, bottom: int = 44, top: float = 1.0):
        self.width, self.height, self.left, self.bottom, self.top = width, height, left, bottom, top

    def x(self, value: Any) -> np.ndarray:
        """Across, in pixels, of 0 to 1."""
        return self.left + np.asarray(value) * (self.width - self.left - 12)

    def y(self, value: Any) -> np.ndarray:
        """Down, in pixels, of 0 to `top`."""
        return self.height - self.bottom - np.asarray(value) / self.top * (self.height - self.bottom - 12)

    def frame(self, x_title: str, y_title: str) -> str:
        """Ticks, grid and titles of the axes, as SVG."""
        parts = []
        for tick in np.arange(0, self.top + 0.01, 0.25):
            y = float(self.y(tick))
            parts.append(f'<line class="grid" x1="{self.left}" x2="{self.width - 12}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{self.left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        for tick in np.linspace(0, 1, 5):
            x, y = float(self.x(tick)), self.height - self.bottom + 17
            parts.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{tick:g}</text>')
        middle = (self.left + self.width - 12) / 2
        parts.append(f'<text x="{middle:.0f}" y="{self.height - 4}" text-anchor="middle">{x_title}</text>')
        centre = (self.height - self.bottom) / 2 + 6
        parts.append(f'<text text-anchor="middle" transform="translate(12 {centre:.0f}) rotate(-90)">'
                     f"{y_title}</text>")  # fmt: skip
        return "".join(parts)

    def line(self, xs: Any, ys: Any, css: str) -> str:
        """A line through points, as SVG; `css`: its class."""
        return f'<path class="line {css}" d="{_path(self.x(xs), self.y(ys))}"/>'


def line_chart(series: Sequence[tuple[Any, Any, str]], x_title: str, y_title: str, description: str) -> str:
    """Curves over [0, 1]: `series` is a list of (xs, ys, css class)."""
    top = max(1.0, max(float(np.max(ys)) for _, ys, _ in series))
    axes = Axes(top=np.ceil(top * 4) / 4)
    body = axes.frame(x_title, y_title) + "".join(axes.line(xs, ys, css) for xs, ys, css in series)
    return _svg(axes.width, axes.height, body, description)


def reliability_chart(series: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, str]], description: str) -> str:
    """Share present by mean score, against the diagonal.

    Args:
        series: list of (mean scores, shares, counts, css class); bins without a decision are left out.
    """
    axes = Axes(height=330)
    parts = [axes.frame("score", "share that is present"), axes.line([0, 1], [0, 1], "diagonal")]
    for mean, share, counts, css in series:
        there = counts > 0
        parts.append(axes.line(mean[there], share[there], css))
        for m, s, n in zip(mean[there], share[there], counts[there], strict=True):
            parts.append(f'<circle class="dot {css}" cx="{float(axes.x(m)):.1f}" cy="{float(axes.y(s)):.1f}" r="3.5">'
                         f"<title>{n} decisions at {m:.3f}: {s:.3f} present</title></circle>")  # fmt: skip
    return _svg(axes.width, axes.height, "".join(parts), description)


def precision_recall_spark(
    precision: np.ndarray, recall: np.ndarray, operating_point: tuple[float, float] | None, description: str
) -> str:
    """A small precision-recall curve with a dot where the threshold puts the label; None: without one."""
    size, margin = 100, 5

    def place(x, y):
        return margin + np.asarray(x) * (size - 2 * margin), size - margin - np.asarray(y) * (size - 2 * margin)

    keep = np.unique(np.searchsorted(recall, np.linspace(0, 1, CURVE_POINTS) - 1e-9).clip(0, len(recall) - 1))
    xs, ys = place(np.append(0, recall[keep]), np.append(precision[0], precision[keep]))
    body = f'<rect class="plot" x="{margin}" y="{margin}" width="{size - 2 * margin}" height="{size - 2 * margin}"/>'
    base = size - margin
    body += f'<path class="area" d="{_path(xs, ys)}L{xs[-1]:.1f},{base}L{xs[0]:.1f},{base}Z"/>'
    body += f'<path class="line model" d="{_path(xs, ys)}"/>'
    if operating_point:
        x, y = place(*operating_point)
        body += f'<circle class="dot model" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>'
    return _svg(size, size, body, description, "spark")


def label_graph_chart(labels: Sequence[str], weights: np.ndarray, groups: np.ndarray, counts: Sequence[float]) -> str:
    """Labels on a circle in the colours of their groups, edges as wide as one attends to the other.

    Args:
        labels: C names.
        weights: `[C, C]`, how much row attends to column.
        groups: int `[C]`.
        counts: `[C]`, for the size of the dots.
    """
    count = len(labels)
    radius = max(150.0, count * 8.2)
    longest = max(len(label) for label in labels) * 7.4
    size = 2 * (radius + longest + 24)
    centre = size / 2
    # Labels of one group lie side by side.
    order = sorted(range(count), key=lambda c: (groups[c], labels[c]))
    angles = {c: 2 * np.pi * (place + 0.5) / count for place, c in enumerate(order)}
    points = {c: (centre + radius * np.cos(a), centre + radius * np.sin(a)) for c, a in angles.items()}
    parts = []
    for i, j in np.argwhere((weights > 1e-3) & ~np.eye(count, dtype=bool)):
        (x0, y0), (x1, y1) = points[i], points[j]
        parts.append(
            f'<path class="edge" stroke-width="{0.8 + 5 * weights[i, j]:.2f}" '
            f'd="M{x0:.1f},{y0:.1f}Q{centre:.1f},{centre:.1f} {x1:.1f},{y1:.1f}">'
            f"<title>{escape(labels[i])} attends to {escape(labels[j])}: {weights[i, j]:.2f}</title></path>"
        )
    for c, (x, y) in points.items():
        degrees = np.degrees(angles[c])
        flipped = 90 < degrees < 270
        reach = radius + 14
        tx, ty = centre + reach * np.cos(angles[c]), centre + reach * np.sin(angles[c])
        dot = 4 + 7 * np.sqrt(counts[c] / max(1, np.max(counts)))
        parts.append(f'<circle class="node g{groups[c] % 8}" cx="{x:.1f}" cy="{y:.1f}" r="{dot:.1f}"/>')
        parts.append(
            f'<text class="name" x="{tx:.1f}" y="{ty:.1f}" text-anchor="{"end" if flipped else "start"}" '
            f'dominant-baseline="middle" transform="rotate({degrees + 180 * flipped:.1f} {tx:.1f} {ty:.1f})">'
            f"{escape(labels[c])}</text>"
        )
    return _svg(f"{size:.0f}", f"{size:.0f}", "".join(parts), "label graph", "graph")
