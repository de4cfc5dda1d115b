"""Every encoding of a photo becomes what Pillow shows, or is refused with a reason."""

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutated
from PIL import Image, ImageOps

from msrn_tf.data.decoding import decode, decode_crop
from msrn_tf.data.example import Example
from msrn_tf.data.pipeline import why_not_decoded

CROP = tf.function(
    lambda content: decode_crop(content, lambda h, w: tf.stack([h // 5, w // 4, h // 2, w // 3])),
    input_signature=[tf.TensorSpec([], tf.string)],
)
DECODE = tf.function(decode, input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)])


def photo():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (12, 16, 3), "uint8")).resize((160, 120), Image.Resampling.BICUBIC)


def encoded(image, format, **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def with_alpha(image, alpha):
    image = image.copy()
    image.putalpha(alpha)
    return image


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def big_endian_exif(orientation):
    return b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0\0\0\0\0\0"


PHOTO = photo()
GRADIENT = Image.linear_gradient("L").resize(PHOTO.size)
FRAMES = [PHOTO, PHOTO.rotate(30), PHOTO.rotate(60)]
READABLE = {
    "baseline": encoded(PHOTO, "JPEG", quality=90),
    "progressive": encoded(PHOTO, "JPEG", quality=90, progressive=True),
    "without subsampling": encoded(PHOTO, "JPEG", subsampling=0),
    "cmyk": encoded(PHOTO.convert("CMYK"), "JPEG", quality=95),
    "grey jpeg": encoded(PHOTO.convert("L"), "JPEG"),
    "png": encoded(PHOTO, "PNG"),
    "grey png": encoded(PHOTO.convert("L"), "PNG"),
    "16-bit colour": tf.io.encode_png(np.asarray(PHOTO).astype(np.uint16) * 257).numpy(),
    "one bit": encoded(PHOTO.convert("1"), "PNG"),
    "palette": encoded(PHOTO.quantize(64), "PNG"),
    "palette with a transparent colour": encoded(PHOTO.quantize(64), "PNG", transparency=3),
    "alpha": encoded(with_alpha(PHOTO, GRADIENT), "PNG"),
    "grey with alpha": encoded(with_alpha(PHOTO.convert("L"), 128), "PNG"),
    "png turned by exif": encoded(PHOTO, "PNG", exif=exif(6)),
    "gif": encoded(PHOTO.quantize(128), "GIF"),
    "animated gif": encoded(
        FRAMES[0].quantize(64), "GIF", save_all=True, append_images=[f.quantize(64) for f in FRAMES[1:]]
    ),
    "webp": encoded(PHOTO, "WEBP", quality=90),
    "lossless webp": encoded(PHOTO, "WEBP", lossless=True),
    "webp with alpha": encoded(with_alpha(PHOTO, GRADIENT), "WEBP", lossless=True),
    "animated webp": encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:], lossless=True),
    "webp turned by exif": encoded(PHOTO, "WEBP", lossless=True, exif=exif(8)),
    "bmp": encoded(PHOTO, "BMP"),
    "bmp with alpha": encoded(with_alpha(PHOTO, GRADIENT), "BMP"),
    **{f"exif {n}": encoded(PHOTO, "JPEG", quality=90, exif=exif(n)) for n in range(1, 9)},
    "big-endian exif": encoded(PHOTO, "JPEG", quality=90, exif=big_endian_exif(6)),
    "an orientation of 9": encoded(PHOTO, "JPEG", quality=90, exif=exif(9)),
}


def as_pillow_shows(content):
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)


@pytest.mark.parametrize("name", READABLE)
def test_a_photo_is_what_pillow_shows_upright(name):
    expected = as_pillow_shows(READABLE[name])
    pixels = DECODE(READABLE[name], 10**8).numpy().astype(int)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).max() <= 2


def test_16_bits_become_the_upper_8():
    """Pillow clips such greys to 255 instead, which would show a white picture."""
    grey = np.asarray(PHOTO.convert("L"))
    pixels = DECODE(encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"), 10**8)
    np.testing.assert_array_equal(pixels, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("name", ["png", "lossless webp", *(f"exif {n}" for n in range(1, 9))])
def test_a_crop_is_cut_from_the_upright_photo(name):
    expected = as_pillow_shows(READABLE[name])
    height, width = expected.shape[:2]
    top, left, rows, columns = height // 5, width // 4, height // 2, width // 3
    difference = CROP(READABLE[name]).numpy().astype(int) - expected[top : top + rows, left : left + columns]
    # A JPEG's crop has other neighbours to smooth its colours with at the very edge, and the faster transform.
    assert np.abs(difference).mean() < 2
    assert np.abs(difference[2:-2, 2:-2]).mean() < 1.5


def patched(content, place, *numbers):
    """`content` with bytes set at a place: what a header says of the size."""
    new = b"".join(numbers)
    return content[:place] + new + content[place + len(new) :]


BIG, LITTLE = (50000).to_bytes(2, "big"), (50000).to_bytes(2, "little")
BOMB = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (50000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
REFUSED = {
    "jpeg of 50000 x 50000": (
        patched(READABLE["baseline"], READABLE["baseline"].index(b"\xff\xc0") + 5, BIG, BIG),
        "too many pixels: 2500000000",
    ),
    "gif of 50000 x 50000": (patched(READABLE["gif"], 6, LITTLE, LITTLE), "too many pixels: 2500000000"),
    "bmp of 50000 x 50000": (
        patched(READABLE["bmp"], 18, LITTLE, b"\0\0", LITTLE, b"\0\0"),
        "too many pixels: 2500000000",
    ),
    "webp of 50000 x 50000": (patched(READABLE["animated webp"], 24, LITTLE, b"\0", LITTLE, b"\0"), "too many pixels"),
    "many small pictures in a webp": (
        encoded(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(n) for n in range(1, 6)]),
        "too many pixels: 115200",
    ),
    "cut jpeg": (READABLE["baseline"][:900], "Invalid JPEG"),
    "cut png": (READABLE["png"][:300], "Invalid PNG"),
    "nothing": (b"", "none of JPEG"),
    "text": (b"a text file called .jpg", "none of JPEG"),
    "tiff": (encoded(PHOTO, "TIFF"), "none of JPEG"),
    "bmp with a palette": (encoded(PHOTO.quantize(64), "BMP"), "palette"),
    "50000 x 50000": (BOMB, "too many pixels"),
    "larger than allowed": (encoded(Image.new("RGB", (400, 300)), "JPEG"), "too many pixels: 120000"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_photo_is_refused_with_its_reason(name):
    content, words = REFUSED[name]
    reason = why_not_decoded(Example("x", np.zeros(1, np.int8), image_bytes=content), max_pixels=100_000)
    assert reason and words in reason and "node" not in reason


def decode_or_refuse(content):
    try:
        pixels = DECODE(content, 10**6)
    except tf.errors.InvalidArgumentError:
        return
    assert pixels.shape[2] == 3 and pixels.dtype == tf.uint8


def mutations_of(*names):
    return st.sampled_from(names).flatmap(lambda name: mutated(READABLE[name]))


@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(mutations_of("baseline", "progressive", "cmyk", "grey jpeg", "exif 6"))
def test_a_thousand_mutations_of_jpegs_are_each_decoded_or_refused(content):
    decode_or_refuse(content)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(mutations_of("png", "palette", "gif", "animated gif", "webp", "animated webp", "bmp"))
def test_mutations_of_other_photos_are_each_decoded_or_refused(content):
    decode_or_refuse(content)
