"""Photos that TensorFlow's operations do not decode, or not safely: WebP, TIFF, AVIF, HEIC and unusual BMP, by Pillow.

`tf.io.decode_webp` of TensorFlow 2.21 writes past its memory at moving pictures without an alpha channel.
"""

import contextlib
import functools
import io
import warnings
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

BY_PILLOW = ("WebP", "TIFF", "AVIF", "HEIC")
TOO_MANY_PIXELS = "has no pixels, or too many pixels:"
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


def open_photo(path: str | IO[bytes]) -> Image.Image:
    """A photo's file as people see it: RGB `PIL.Image`, upright. Raises what Pillow does where it is none."""
    with Image.open(path, formats=("JPEG", "PNG", "GIF", *readable_formats())) as image:
        return Image.fromarray(_upright_rgb(image))


def pixels_by_pillow(encoded: bytes, max_pixels: int) -> tuple[np.ndarray, bytes]:
    """Upright RGB of a photo's bytes.

    Returns:
        `(pixels, reason)`: uint8 `[height, width, 3]` and `b""`, or one black pixel and why there are no others.
    """
    nothing = np.zeros((1, 1, 3), np.uint8)
    try:
        stored = _webp_size(encoded)
        if stored and not 0 < stored[0] * stored[1] <= max_pixels:
            return nothing, f"{TOO_MANY_PIXELS} {stored[0] * stored[1]}".encode()
        with Image.open(io.BytesIO(encoded), formats=readable_formats()) as image:
            pixels = image.width * image.height
            if not 0 < pixels <= max_pixels:
                return nothing, f"{TOO_MANY_PIXELS} {pixels}".encode()
            return _upright_rgb(image), b""
    except UnidentifiedImageError:
        return nothing, _why_unknown(encoded).encode()
    except Exception as error:  # a decoder of untrusted bytes: anything may come out
        reason = " ".join(str(error).split()) or type(error).__name__
        return nothing, f"cannot be decoded ({reason})".encode(errors="replace")


def _upright_rgb(image):
    image.load()
    with contextlib.suppress(Exception):  # tags that are none turn nothing
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # Pillow would clip what is above 255
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError("it has 32 bits a pixel, whose range is not known")
    return np.array(image.convert("RGB"))


def _webp_size(encoded):
    """Width and height of a WebP's canvas where it has one, which Pillow would make room for as it opens the file."""
    if encoded[:4] == b"RIFF" and encoded[8:16] == b"WEBPVP8X":
        return [1 + int.from_bytes(encoded[at : at + 3], "little") for at in (24, 27)]
    return None


def _why_unknown(encoded):
    """Why none of Pillow's decoders took a photo: its first bytes name a format all the same, or do not."""
    brand = encoded[8:12] if encoded[4:8] == b"ftyp" else b""
    if brand in _HEIC_BRANDS and "HEIF" not in readable_formats():
        return "is HEIC; pip install pillow-heif reads it"
    if brand in _AVIF_BRANDS and "AVIF" not in readable_formats():
        return "is AVIF, which this Pillow does not read"
    starts = {b"BM": "BMP", b"RIFF": "WebP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
    starts |= {encoded[:12]: name for name, known in (("HEIC", _HEIC_BRANDS), ("AVIF", _AVIF_BRANDS)) if brand in known}
    name = next((name for start, name in starts.items() if encoded.startswith(start)), None)
    return f"cannot be decoded as {name}" if name else f"is not one of JPEG, PNG, GIF, BMP, {', '.join(BY_PILLOW)}"


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that it may open here: any others' decoders never see untrusted bytes."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of metadata; what matters is raised
    Image.init()
    optional = [name for name, feature in (("WEBP", "webp"), ("AVIF", "avif")) if features.check(feature)]
    with contextlib.suppress(ImportError):  # a plug-in that few need
        import pillow_heif

        pillow_heif.register_heif_opener()
        optional.append("HEIF")
    return ("BMP", "TIFF", *optional)
