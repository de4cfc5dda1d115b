"""Every encoding of a photo becomes what Pillow shows, or is refused with a reason."""

import io
import struct

import numpy as np
import pillow_heif
import pytest
import tensorflow as tf
from fuzz_decoders import STARTS, fuzz
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutated
from PIL import Image, ImageOps

from msrn_tf.data import pillow_decoding
from msrn_tf.data.decoding import decode, decode_crop
from msrn_tf.data.examples import Example
from msrn_tf.data.pipeline import why_not_decoded

pillow_heif.register_heif_opener()  # Pillow then reads and writes HEIC, as it does where the program runs
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


def on_screen(gif, screen, place):
    """A GIF whose (first) picture lies at a place of a screen of another size."""
    start = gif.index(b",", 13 + 3 * 2 ** ((gif[10] & 7) + 1))
    gif = patched(gif, 6, struct.pack("<2H", *screen))
    return patched(gif, start + 1, struct.pack("<2H", *place))


def bmp_of_16_bits(image):
    """5 bits a colour, as `BI_RGB` of 16 bits has them."""
    red, green, blue = np.asarray(image)[::-1].astype(np.uint16).transpose(2, 0, 1) >> 3
    rows = (red << 10 | green << 5 | blue).astype("<u2").tobytes()
    return bmp_header(image.size, 16, 0, b"") + rows


def bmp_with_other_masks(image):
    """32 bits a pixel, of which the lowest 8 are not used; masks say so (`BI_BITFIELDS`)."""
    rows = np.dstack([np.zeros(image.size[::-1], np.uint8), np.asarray(image)[::-1, :, ::-1]]).tobytes()
    return bmp_header(image.size, 32, 3, struct.pack("<3I", 0xFF000000, 0xFF0000, 0xFF00)) + rows


def bmp_header(size, bits, compression, masks):
    start, pixels = 54 + len(masks), size[0] * size[1] * bits // 8
    return struct.pack("<2s4I", b"BM", start + pixels, 0, start, 40) + struct.pack(
        "<2i2H6I", *size, 1, bits, compression, pixels, 2835, 2835, 0, 0
    ) + masks  # fmt: skip


def patched(content, place, *numbers):
    """`content` with bytes set at a place: what a header says of the size."""
    new = b"".join(numbers)
    return content[:place] + new + content[place + len(new) :]


PHOTO = photo()
GRADIENT = Image.linear_gradient("L").resize(PHOTO.size)
FRAMES = [PHOTO, PHOTO.rotate(30), PHOTO.rotate(60)]
PARTIAL = encoded(PHOTO.quantize(64), "GIF")
ANIMATED_GIF = encoded(FRAMES[0].quantize(64), "GIF", save_all=True, append_images=[f.quantize(64) for f in FRAMES[1:]])
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
    "animated gif": ANIMATED_GIF,
    "gif with a transparent colour": encoded(PHOTO.quantize(64), "GIF", transparency=5),
    "interlaced gif": encoded(PHOTO.quantize(64), "GIF", interlace=1),
    "gif of a part of its screen": on_screen(PARTIAL, (200, 150), (30, 20)),
    "gif of a transparent part": on_screen(encoded(PHOTO.quantize(64), "GIF", transparency=5), (200, 150), (30, 20)),
    "gif beyond its screen": on_screen(PARTIAL, (100, 90), (7, 3)),
    "gif whose screen is larger and whose later frames are smaller": on_screen(ANIMATED_GIF, (170, 130), (0, 9)),
    "webp": encoded(PHOTO, "WEBP", quality=90),
    "lossless webp": encoded(PHOTO, "WEBP", lossless=True),
    "webp with alpha": encoded(with_alpha(PHOTO, GRADIENT), "WEBP", lossless=True),
    **{
        f"animated webp, {mode}, lossless {lossless}": encoded(
            FRAMES[0].convert(mode), "WEBP", save_all=True, append_images=FRAMES[1:], lossless=lossless
        )
        for mode in ("RGB", "RGBA")
        for lossless in (True, False)
    },
    "webp turned by exif": encoded(PHOTO, "WEBP", lossless=True, exif=exif(8)),
    "bmp": encoded(PHOTO, "BMP"),
    "bmp with alpha": encoded(with_alpha(PHOTO, GRADIENT), "BMP"),
    "bmp with a palette": encoded(PHOTO.quantize(64), "BMP"),
    "one-bit bmp": encoded(PHOTO.convert("1"), "BMP"),
    "bmp of 16 bits": bmp_of_16_bits(PHOTO),
    "bmp of red, green and blue in another order": bmp_with_other_masks(PHOTO),
    "tiff": encoded(PHOTO, "TIFF"),
    "tiff of cmyk": encoded(PHOTO.convert("CMYK"), "TIFF"),
    **{f"tiff, {way}": encoded(PHOTO, "TIFF", compression=way) for way in ("tiff_lzw", "tiff_adobe_deflate", "jpeg")},
    "tiff turned by a tag": encoded(PHOTO, "TIFF", tiffinfo={0x0112: 6}),
    "avif": encoded(PHOTO, "AVIF", quality=90),
    "avif turned by exif": encoded(PHOTO, "AVIF", exif=exif(8)),
    "heic": encoded(PHOTO, "HEIF", quality=90),
    "heic turned by exif": encoded(PHOTO, "HEIF", exif=exif(8)),
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


def large_tiff():
    """The directory of a small TIFF says other sides (tags 256 and 257, a number each)."""
    content = encoded(Image.new("L", (10, 10)), "TIFF")
    for tag in (256, 257):
        place = content.index(struct.pack("<2HI", tag, 4, 1)) + 8
        content = patched(content, place, struct.pack("<I", 50000))
    return content


ANIMATED_WEBP = READABLE["animated webp, RGB, lossless True"]
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
    "picture of 50000 x 50000 in a small gif": (
        on_screen(
            patched(READABLE["gif"], READABLE["gif"].index(b",", 13 + 3 * 128) + 5, LITTLE, LITTLE), (9, 9), (0, 0)
        ),
        "too many pixels: 2500000000",
    ),
    "gif without a picture": (READABLE["gif"][: 13 + 3 * 128] + b"!\xfe\x03abc\0;", "GIF without a picture"),
    "webp of 50000 x 50000": (patched(ANIMATED_WEBP, 24, LITTLE, b"\0", LITTLE, b"\0"), "too many pixels"),
    "tiff of 50000 x 50000": (large_tiff(), "2500000000 pixels"),
    "tiff of numbers": (encoded(GRADIENT.convert("F"), "TIFF"), "32 bits a pixel"),
    "cut webp": (READABLE["webp"][:500], "cannot be decoded"),
    "cut tiff": (READABLE["tiff, tiff_lzw"][:900], "cannot be decoded"),
    "heic without a picture": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "cannot be decoded as HEIC"),
    "cut heic": (READABLE["heic"][:700], "cannot be decoded"),
    "heic larger than allowed": (encoded(Image.new("RGB", (400, 300)), "HEIF"), "too many pixels: 120000"),
    "eps": (encoded(PHOTO, "EPS"), "not one of JPEG"),  # Pillow would start another program for it
    "cut jpeg": (READABLE["baseline"][:900], "Invalid JPEG"),
    "cut png": (READABLE["png"][:300], "Invalid PNG"),
    "nothing": (b"", "not one of JPEG"),
    "text": (b"a text file called .jpg", "not one of JPEG"),
    "50000 x 50000": (BOMB, "too many pixels"),
    "larger than allowed": (encoded(Image.new("RGB", (400, 300)), "JPEG"), "too many pixels: 120000"),
}


def test_heic_without_its_plug_in_is_refused_by_the_name_of_what_reads_it(monkeypatch):
    monkeypatch.setattr(pillow_decoding, "readable_formats", lambda: ("BMP", "TIFF", "WEBP", "AVIF"))
    _, reason = pillow_decoding.pixels_by_pillow(READABLE["heic"], 10**8)
    assert reason == b"is HEIC; pip install pillow-heif reads it"


def test_heic_is_upright_as_its_photo_was():
    """Its decoder turns it by a property of the file, and takes the EXIF tag away: a second turn would be wrong."""
    pixels = DECODE(READABLE["heic turned by exif"], 10**8).numpy().astype(int)
    expected = np.asarray(PHOTO.transpose(Image.Transpose.ROTATE_90)).astype(int)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).mean() < 10  # colours at half the resolution


@pytest.mark.parametrize("function", [DECODE, CROP], ids=["photo", "crop"])
def test_no_photo_is_decoded_before_its_size_is_checked(function):
    """In a graph, what does not wait for a check may run beside it."""
    library = function.get_concrete_function().graph.as_graph_def().library
    decoders = set()
    for body in library.function:
        nodes = {node.name: node for node in body.node_def}
        for node in body.node_def:
            if node.op.startswith("Decode") and node.op != "DecodeRaw":
                decoders.add(node.op)
                assert any("Assert" in name for name in before(node, nodes)), f"{node.op} in {body.signature.name}"
    assert decoders >= {"DecodeJpeg" if function is DECODE else "DecodeAndCropJpeg", "DecodePng"}


def before(node, nodes):
    """Names of the operations that a node waits for."""
    found, waiting = set(), [node.name]
    while waiting:
        for name in nodes[waiting.pop()].input:
            name = name.lstrip("^").split(":")[0]
            if name in nodes and name not in found:
                found.add(name)
                waiting.append(name)
    return found


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
@given(
    mutations_of(
        "png",
        "palette",
        "gif",
        "animated gif",
        *(name for name in READABLE if name.startswith(("webp", "animated", "bmp", "tiff", "avif", "interlaced gif"))),
    )
)
def test_mutations_of_other_photos_are_each_decoded_or_refused(content):
    decode_or_refuse(content)


@pytest.mark.parametrize(
    ("name", "count"), [("webp", 100), *(pytest.param(name, 1000, marks=pytest.mark.slow) for name in STARTS)]
)
def test_damaged_photos_end_no_process(name, count, tmp_path):
    """A process of its own takes them: what writes past its memory ends it. `fuzz_decoders.py` sends more."""
    outcomes = fuzz(name, count, 1, tmp_path)
    assert set(outcomes) == {"decoded", "refused"} and sum(outcomes.values()) == count
