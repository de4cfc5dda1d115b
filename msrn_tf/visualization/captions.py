"""Pictures side by side with words under them: overview sheets and strips of heat-maps."""

import functools
import os

import matplotlib
from PIL import Image, ImageDraw, ImageFont, ImageOps

INK, PAPER, FAINT = (28, 30, 33), (255, 255, 255), (120, 124, 130)
GAP = 8


@functools.cache
def font(size):
    """matplotlib's own DejaVu Sans, which knows more letters than Pillow's built-in one."""
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def captioned_grid(cells, columns, cell_size, lines=1):
    """A grid of pictures, each fitted into a square, with lines of text below it.

    Args:
        cells: list of (RGB `PIL.Image`, list of strings); the first line is dark, the others are fainter.
        columns: int.
        cell_size: int, pixels; a side of the square.
        lines: int, lines of text below each.
    """
    text_size = max(11, cell_size // 16)
    height = cell_size + lines * (text_size + 4) + GAP
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * (cell_size + GAP) + GAP, rows * (height + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (picture, texts) in enumerate(cells):
        x, y = GAP + index % columns * (cell_size + GAP), GAP + index // columns * (height + GAP)
        fitted = ImageOps.contain(picture, (cell_size, cell_size), Image.Resampling.LANCZOS)
        sheet.paste(fitted, (x + (cell_size - fitted.width) // 2, y + (cell_size - fitted.height) // 2))
        for number, text in enumerate(texts[:lines]):
            draw.text(
                (x, y + cell_size + 4 + number * (text_size + 4)), shortened(text, text_size, cell_size),
                fill=FAINT if number else INK, font=font(text_size),
            )  # fmt: skip
    return sheet


def shortened(text, text_size, width):
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    if font(text_size).getlength(text) <= width:
        return text
    while text and font(text_size).getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
