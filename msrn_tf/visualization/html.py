"""Pages without scripts or addresses: what the audit of a data set and the report on a model have in common."""

import base64
import html
import io

from PIL import Image

from msrn_tf.errors import printable


def escape(text: str) -> str:
    """Text as HTML. Control characters and marks of writing direction are shown, not obeyed."""
    return html.escape(printable(text))


def document(title: str, body: str, style: str) -> str:
    """A whole page. `body` and `style` are HTML and CSS; `title` is text."""
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>'
        f"<body>{body}</body></html>"
    )


def photo_uri(photo: Image.Image, quality: int = 78) -> str:
    """A `PIL.Image` as the address of an image within the page, a JPEG."""
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality, optimize=True)
    return data_uri(file.getvalue(), "jpeg")


def data_uri(content: bytes, kind: str) -> str:
    """An image's bytes as its address within the page; `kind` as in `image/kind`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
