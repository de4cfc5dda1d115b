"""Pictures side by side with words under them: overview sheets and strips of heat-maps."""

import functools
import os
from collections.abc import Sequence

import matplotlib
from PIL import Image, ImageDraw, ImageFont, ImageOps

from msrn_tf.errors import printable

INK, PAPER, FAINT = (28, 30, 33), (255, 255, 255), (120, 124, 130)
GAP = 8


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """matplotlib's own DejaVu Sans, which knows more letters than Pillow's built-in one."""
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def captioned_grid(
    cells: Sequence[tuple[Image.Image, Sequence[str]]], columns: int, cell_size: int, lines: int = 1
) -> Image.Image:
    """A grid of pictures, each fitted into a square, with lines of text below; a row is as high as its highest picture.

    Args:
        cells: list of (RGB `PIL.Image`, list of strings); the first line is dark, the others are fainter.
        columns: int.
        cell_size: int, pixels; a side of the square.
        lines: int, lines of text below each.
    """
    text_size = max(11, cell_size // 16)
    line_height = text_size + 4
    fitted = [ImageOps.contain(picture, (cell_size, cell_size), Image.Resampling.LANCZOS) for picture, _ in cells]
    rows = [range(start, min(start + columns, len(cells))) for start in range(0, len(cells), columns)]
    heights = [max(fitted[index].height for index in row) for row in rows]
    total = GAP + sum(height + lines * line_height + 2 * GAP for height in heights)
    sheet = Image.new("RGB", (columns * (cell_size + GAP) + GAP, total), PAPER)
    draw, y = ImageDraw.Draw(sheet), GAP
    for row, height in zip(rows, heights, strict=True):
        for column, index in enumerate(row):
            x, picture = GAP + column * (cell_size + GAP), fitted[index]
            sheet.paste(picture, (x + (cell_size - picture.width) // 2, y + (height - picture.height) // 2))
            for number, text in enumerate(cells[index][1][:lines]):
                place = (x, y + height + 4 + number * line_height)
                draw.text(
                    place, shortened(text, text_size, cell_size), fill=FAINT if number else INK, font=font(text_size)
                )
        y += height + lines * line_height + 2 * GAP
    return sheet


def shortened(text: str, text_size: int, width: int) -> str:
    """The text on one line, cut with an ellipsis where it is wider than `width` pixels."""
    text = printable(text)
    if font(text_size).getlength(text) <= width:
        return text
    while text and font(text_size).getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
