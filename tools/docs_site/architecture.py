"""Draws docs/images/architecture.svg and architecture-dark.svg, the diagram of the network, from one description.

python -m tools.docs_site.architecture
"""

import dataclasses
import html
import pathlib

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "docs" / "images"
WIDTH, HEIGHT = 980, 520
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


@dataclasses.dataclass(frozen=True)
class Palette:
    """Colours of one drawing: `fills` and `edges` of boxes by their kind."""

    page: str
    text: str
    small: str
    line: str
    fills: dict[str, str]
    edges: dict[str, str]


PALETTES = {
    "architecture.svg": Palette(
        "#ffffff", "#1b2126", "#4c5a64", "#5b6b76",
        {"data": "#eef1f4", "image": "#dcebf7", "label": "#fbe9d3", "both": "#dff1e6"},
        {"data": "#9aa7b1", "image": "#4f8fc0", "label": "#c98a3a", "both": "#4c9a6c"},
    ),
    "architecture-dark.svg": Palette(
        "#1e2129", "#eceff3", "#b4bfca", "#9aa7b3",
        {"data": "#2c313b", "image": "#1d3a52", "label": "#4a3618", "both": "#1d4430"},
        {"data": "#6d7a86", "image": "#6fb0e0", "label": "#e0a65a", "both": "#6cc492"},
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Box:
    """A step or a value: its corner and size, what kind it is, its name, and smaller lines below that."""

    x: int
    y: int
    width: int
    height: int
    kind: str
    name: str
    lines: tuple[str, ...] = ()


ROWS = ((270, 8), (342, 16), (414, 32))
"""Top and stride of each."""

BOXES = (
    Box(20, 30, 150, 62, "data", "Label graph", ("counted on the", "training split")),
    Box(20, 112, 150, 62, "data", "Word vectors", ("GloVe, random", "or learnt  [C, 300]")),
    Box(210, 71, 150, 62, "label", "Graph attention", ("two layers", "(or convolution)")),
    Box(400, 30, 170, 62, "label", "Label semantics E", ("one vector a label", "[C, D]")),
    Box(400, 112, 170, 62, "label", "DiffPool", ("groups of labels", "assignment S  [C, m]")),
    Box(610, 112, 170, 62, "label", "Group semantics G", ("one vector a group", "[m, D]")),
    Box(20, 332, 110, 74, "data", "Photo", ("pixels 0–255",)),
    Box(160, 262, 110, 214, "image", "Backbone", ("feature maps at", "strides 8, 16, 32")),
    *(Box(310, y, 170, 54, "image", f"Project, stride {stride}", ("1×1, pool, 1×1  →  D",)) for y, stride in ROWS),
    *(Box(540, y, 170, 54, "both", "Semantic attention", ("C + m vectors, N positions",)) for y, _ in ROWS),
    Box(742, 262, 118, 214, "both", "Concatenate", ("[C + m, 3·D]",)),
    Box(884, 310, 86, 118, "both", "Head", ("mlp or", "elementwise", "→ C logits")),
)  # fmt: skip
ARROWS = (
    "M170 61 H190 V92 H210",
    "M170 143 H190 V112 H210",
    "M360 102 H380 V61 H400",
    "M485 92 V112",
    "M570 143 H610",
    "M130 369 H160",
    *(f"M270 {y + 27} H310" for y, _ in ROWS),
    *(f"M480 {y + 27} H540" for y, _ in ROWS),
    *(f"M710 {y + 27} H742" for y, _ in ROWS),
    "M860 369 H884",
    "M570 61 H812 V216 H625 V258",
    "M485 174 V194 H927 V310",
)
JOINS = ("M695 174 V216",)
FRAME = (528, 258, 194, 222)
"""Around the boxes of attention: what comes from labels goes to each of them."""
NOTES = (
    (636, 236, "E and G: the same for every photo"),
    (828, 188, "S, for the small head"),
)
LEGEND = {
    "label": "from labels alone: constants of a trained model",
    "image": "from the photo",
    "both": "from both",
}


def svg(palette: Palette) -> str:
    """The drawing in some colours."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{FONT}" role="img">',
        "<title>The network: label and group semantics attend to feature maps at three strides</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{palette.line}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="{palette.page}"/>',
    ]
    line = f'fill="none" stroke="{palette.line}" stroke-width="1.6"'
    parts += [f'<path d="{path}" {line} marker-end="url(#head)"/>' for path in ARROWS]
    parts += [f'<path d="{path}" {line}/>' for path in JOINS]
    x, y, width, height = FRAME
    parts.append(
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="9" fill="none" stroke="{palette.edges["both"]}" '
        'stroke-dasharray="4 4"/>'
    )
    for box in BOXES:
        parts += _box(box, palette)
    for x, y, words in NOTES:
        parts.append(_text(x, y, words, 12, palette.small, anchor="start"))
    x = 20
    for kind, words in LEGEND.items():
        colours = f'fill="{palette.fills[kind]}" stroke="{palette.edges[kind]}"'
        parts.append(f'<rect x="{x}" y="494" width="13" height="13" rx="3" {colours}/>')
        parts.append(_text(x + 20, 505, words, 12, palette.small, anchor="start"))
        x += 45 + 7 * len(words)
    return "\n".join([*parts, "</svg>", ""])


def _box(box, palette):
    middle = box.x + box.width / 2
    yield (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="7" '
        f'fill="{palette.fills[box.kind]}" stroke="{palette.edges[box.kind]}" stroke-width="1.4"/>'
    )
    top = box.y + (box.height - 16 * len(box.lines)) / 2 + 5
    yield _text(middle, top, box.name, 14, palette.text, weight="600")
    for number, line in enumerate(box.lines, 1):
        yield _text(middle, top + 16 * number, line, 12, palette.small)


def _text(x, y, words, size, colour, anchor="middle", weight="400"):
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}">'
        f"{html.escape(words)}</text>"
    )


if __name__ == "__main__":
    for name, palette in PALETTES.items():
        (FOLDER / name).write_text(svg(palette), encoding="utf-8")
