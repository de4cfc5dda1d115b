"""From encoded bytes to upright RGB pixels: one definition for training, evaluation, prediction and serving.

Photos become what Pillow shows after `ImageOps.exif_transpose` and `convert("RGB")`, within two grey levels: of a
moving picture the first frame, alpha is dropped, palettes and CMYK are resolved, 16 bits become the upper 8. JPEG, PNG,
GIF and usual BMP are decoded by TensorFlow's operations, so that this can be part of a served model; the others by
Pillow (`pillow_decoding`), which a served model leaves out. What a header says of the size is checked first.
"""

from collections.abc import Callable

import tensorflow as tf

from msrn_tf.choices import MAX_PIXELS
from msrn_tf.data.pillow_decoding import TOO_MANY_PIXELS, pixels_by_pillow
from msrn_tf.type_names import Tensor

SERVED_FORMATS = ("JPEG", "PNG", "GIF", "BMP")
JPEG_EXIF = "Exif\0\0"
HEADER_BYTES = 72

_PNG, _GIF, _BMP, _OTHER = range(4)
_BLUE_GREEN_RED = (0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0)  # the masks of a BMP, as TensorFlow takes its bytes
_ORIENTATION_TAG = 0x0112
_EXIF_SEARCH_BYTES = 1 << 16  # the largest segment of a JPEG
_TIFF_BYTES = 1 << 12  # the directory with the orientation lies at its start


def decode(encoded: Tensor, max_pixels: int = MAX_PIXELS, as_served: bool = False) -> Tensor:
    """Upright RGB uint8 `[height, width, 3]` of a photo's bytes.

    `as_served`: only `SERVED_FORMATS`, by TensorFlow's operations alone.

    Raises:
        tf.errors.InvalidArgumentError: the bytes are no photo of a known format, are cut short, or have more than
            `max_pixels` pixels (which is found before they are decoded).
    """
    return decode_crop(encoded, None, max_pixels, as_served)


def decode_crop(
    encoded: Tensor,
    choose_box: Callable[[Tensor, Tensor], Tensor] | None,
    max_pixels: int = MAX_PIXELS,
    as_served: bool = False,
) -> Tensor:
    """A crop of the upright photo; of a JPEG, only the crop is decoded.

    Args:
        encoded: string scalar.
        choose_box: function of the upright (height, width) → int32 `[top, left, height, width]`; None: everything.
        max_pixels: int.
        as_served: as `decode`.
    """
    start = tf.strings.substr(encoded, 0, _EXIF_SEARCH_BYTES)
    without_exif = tf.strings.regex_replace(start, JPEG_EXIF, "", replace_global=False)
    is_plain = tf.io.is_jpeg(encoded) & (tf.strings.length(without_exif) == tf.strings.length(start))
    return tf.ensure_shape(
        tf.cond(
            is_plain,
            lambda: _decode_plain_jpeg(encoded, choose_box, max_pixels),
            _apart(
                lambda: tf.cond(
                    tf.io.is_jpeg(encoded),
                    lambda: _decode_turned_jpeg(encoded, start, choose_box, max_pixels),
                    lambda: _decode_other(encoded, choose_box, max_pixels, as_served),
                )
            ),
        ),
        [None, None, 3],
    )


def resize(image: Tensor, image_size: int, antialias: bool = True) -> Tensor:
    """Warps uint8 `[height, width, 3]` to uint8 `[image_size, image_size, 3]`, bilinear, as published.

    With `antialias` a shrunken image equals Pillow's; without it is twice as fast.
    """
    image = tf.image.resize(image, (image_size, image_size), "bilinear", antialias=antialias)
    return tf.cast(image + 0.5, tf.uint8)  # rounds; a mean of pixels is never beyond their range


def training_resize(image: Tensor, image_size: int) -> Tensor:
    """As `resize`, but without antialiasing for photos that are at most a quarter larger: it takes half the time.

    docs/results_appendix.md has what it would cost beyond that.
    """
    is_much_larger = 4 * tf.reduce_max(tf.shape(image)[:2]) > 5 * image_size
    return tf.cond(
        is_much_larger, lambda: resize(image, image_size), lambda: resize(image, image_size, antialias=False)
    )


def evaluation_pixels(
    encoded: Tensor, image_size: int, max_pixels: int = MAX_PIXELS, as_served: bool = False
) -> Tensor:
    """What a model sees of a photo outside training: uint8 `[image_size, image_size, 3]`."""
    return resize(decode(encoded, max_pixels, as_served), image_size)


def _decode_plain_jpeg(encoded, choose_box, max_pixels):
    size = _checked(tf.image.extract_jpeg_shape(encoded)[:2], max_pixels)
    if choose_box is None:
        # The accurate DCT equals Pillow's (libjpeg-turbo's default); the faster one differs by a few grey levels.
        with _after(size):
            return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    return tf.image.decode_and_crop_jpeg(encoded, choose_box(size[0], size[1]), channels=3)


def _decode_turned_jpeg(encoded, start, choose_box, max_pixels):
    orientation = exif_orientation(start, JPEG_EXIF)

    def stored_box(height, width):
        upright = tf.where(orientation >= 5, [width, height], [height, width])
        return _stored_box(choose_box(upright[0], upright[1]), upright, orientation)

    image = _decode_plain_jpeg(encoded, stored_box if choose_box else None, max_pixels)
    return _turn_upright(image, orientation)


def _decode_other(encoded, choose_box, max_pixels, as_served):
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 0, HEADER_BYTES), tf.uint8), tf.int32)
    head = tf.pad(head, [[0, HEADER_BYTES - tf.shape(head)[0]]])

    def starts(text, at=0):
        return tf.reduce_all(head[at : at + len(text)] == tf.constant(list(text), tf.int32))

    known = [starts(b"\x89PNG\r\n\x1a\n"), starts(b"GIF8"), starts(b"BM") & _is_usual_bmp(head)]
    image = tf.switch_case(
        tf.argmax(tf.stack([*known, True]), output_type=tf.int32),
        [
            lambda: _decode_png(encoded, head, max_pixels),
            lambda: _decode_gif(encoded, max_pixels),
            lambda: _decode_bmp(encoded, head, max_pixels),
            lambda: _refused(starts(b"BM")) if as_served else _decode_by_pillow(encoded, max_pixels),
        ],
    )
    if choose_box is None:
        return image
    box = choose_box(tf.shape(image)[0], tf.shape(image)[1])
    return tf.slice(image, [box[0], box[1], 0], [box[2], box[3], 3])


def _decode_png(encoded, head, max_pixels):
    with _after(_checked(tf.stack([_big(head, 20, 4), _big(head, 16, 4)]), max_pixels)):
        image = tf.io.decode_png(encoded, channels=3)
    return _turn_upright(image, exif_orientation(encoded, "eXIf"))


def _decode_bmp(encoded, head, max_pixels):
    with _after(_checked(tf.stack([tf.abs(_little(head, 22, 4)), _little(head, 18, 4)]), max_pixels)):
        return tf.io.decode_image(tf.identity(encoded), channels=3, expand_animations=False)


def _is_usual_bmp(head):
    """Whether TensorFlow's operation is right about a BMP: 24 or 32 bits in the usual order.

    It would take indices into a palette for grey values, and looks at neither compression nor masks.
    """
    bits, compression, masks = _little(head, 28, 2), _little(head, 30, 4), head[54:66]
    usual = (compression == 0) | ((compression == 3) & tf.reduce_all(masks == tf.constant(_BLUE_GREEN_RED)))
    return (_little(head, 14, 4) >= 40) & ((bits == 24) | (bits == 32)) & usual


def _decode_by_pillow(encoded, max_pixels):
    pixels, reason = tf.numpy_function(pixels_by_pillow, [encoded, max_pixels], [tf.uint8, tf.string], stateful=False)
    with _after(tf.debugging.Assert(tf.strings.length(reason) == 0, [reason])):
        return tf.ensure_shape(tf.identity(pixels), [None, None, 3])


def _refused(is_bmp):
    reason = tf.where(
        is_bmp,
        "is a BMP with a palette, compression or other than 24 or 32 bits a pixel",
        f"is not one of {', '.join(SERVED_FORMATS)}",
    )
    with _after(tf.debugging.Assert(False, [reason])):
        return tf.zeros([1, 1, 3], tf.uint8)


def _after(check):
    """What is made inside comes after a check, which outside of a graph has been made already."""
    return tf.control_dependencies([check] if check is not None else [])


def _decode_gif(encoded, max_pixels):
    """The first frame, on its screen.

    TensorFlow's operation makes the screen as small as the largest frame, leaves transparent pixels black, and unpacks
    all frames. It is given the first one alone, as a picture of its own without transparency.
    """
    data = tf.io.decode_raw(encoded, tf.uint8)
    size = tf.size(data)

    def byte(at):
        return tf.cast(tf.gather(data, tf.minimum(at, size - 1)), tf.int32)

    def word(at):
        return byte(at) + 256 * byte(at + 1)

    def table_bytes(at):
        """Of the colours that the byte there announces."""
        flags = byte(at)
        return tf.where(flags >= 128, 3 * 2 ** ((flags & 7) + 1), 0)

    def after_blocks(at):
        """Where a chain of blocks ends, each of which begins with its length, the last one 0."""
        end = tf.while_loop(
            lambda at: (at < size) & (byte(at) > 0), lambda at: [at + byte(at) + 1], [at], parallel_iterations=1
        )[0]
        return end + 1

    def after_extension(at, fill):
        is_control = (byte(at + 1) == 0xF9) & (byte(at + 2) >= 4)
        fill = tf.where(is_control & (byte(at + 3) % 2 == 1), byte(at + 6), fill)
        return [after_blocks(at + 2), fill]

    tables = 13 + table_bytes(10)
    start, fill = tf.while_loop(
        lambda at, _fill: (at < size) & (byte(at) == 0x21), after_extension, [tables, 0], parallel_iterations=1
    )
    with _after(tf.debugging.Assert((start + 10 < size) & (byte(start) == 0x2C), ["is a GIF without a picture"])):
        left, top, width, height = (word(start + at) for at in (1, 3, 5, 7))
    screen = tf.stack([tf.maximum(word(8), top + height), tf.maximum(word(6), left + width)])
    colours = tf.where(table_bytes(start + 9) > 0, start + 10, 13) + 3 * fill
    pixels = start + 10 + table_bytes(start + 9)
    with _after(_checked(screen, max_pixels)):
        sides = tf.strings.substr(encoded, start + 5, 4)
        alone = tf.strings.join(
            [
                tf.strings.substr(encoded, 0, 6), sides, tf.strings.substr(encoded, 10, tables - 10),
                b",\0\0\0\0", tf.strings.substr(encoded, start + 5, after_blocks(pixels + 1) - start - 5), b";",
            ]
        )  # fmt: skip
        image = tf.io.decode_image(alone, channels=3, expand_animations=False)
        around = [[top, screen[0] - top - height], [left, screen[1] - left - width], [0, 0]]
        is_picture = tf.pad(tf.ones([height, width, 1], tf.bool), around)
        colour = tf.cast(tf.stack([byte(colours + n) for n in range(3)]), tf.uint8)
        return tf.where(is_picture, tf.pad(image, around), colour)


def _apart(function):
    """A branch that is seldom taken, as one operation: written out, its operations cost time without being run."""
    return tf.function(function, experimental_attributes={"_noinline": True}, autograph=False)


def _little(head, at, size):
    return tf.reduce_sum(head[at : at + size] * [256**power for power in range(size)])


def _big(head, at, size):
    return tf.reduce_sum(head[at : at + size] * [256**power for power in reversed(range(size))])


def _checked(size, max_pixels):
    """`size`, int32 `[2]`, where its product is within bounds."""
    pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    is_sound = tf.reduce_all(size > 0) & (pixels <= tf.cast(max_pixels, tf.int64))
    with _after(tf.debugging.Assert(is_sound, [TOO_MANY_PIXELS, pixels])):
        return tf.identity(size)


def exif_orientation(encoded: Tensor, marker: str | bytes, skipped: int = 0) -> Tensor:
    """The EXIF tag of that name, int32 of 1 to 8; 1 where there is none. (CIPA DC-008, TIFF 6.0.)

    Args:
        encoded: string scalar.
        marker: str | bytes after which the TIFF header comes.
        skipped: int, bytes between the marker and the header.
    """
    parts = tf.strings.split(encoded, marker, 1)
    return tf.cond(tf.shape(parts)[0] > 1, lambda: _tiff_orientation(parts[1], skipped), lambda: 1)


def _tiff_orientation(encoded, skipped):
    data = tf.io.decode_raw(tf.strings.substr(encoded, 0, _TIFF_BYTES), tf.uint8)
    data = tf.pad(tf.cast(data, tf.int32), [[0, 2 * _TIFF_BYTES - tf.shape(data)[0]]])[skipped:]
    is_little = data[0] == ord("I")

    def number(at, size):
        digits = data[at : at + size]
        digits = tf.where(is_little, tf.reverse(digits, [0]), digits)
        return tf.reduce_sum(digits * 256 ** tf.range(size - 1, -1, -1))

    start = number(4, 4)
    is_tiff = (data[0] == data[1]) & (is_little | (data[0] == ord("M"))) & (number(2, 2) == 42)
    start = tf.where(is_tiff & (start >= 8) & (start < _TIFF_BYTES), start, _TIFF_BYTES)
    count = tf.minimum(number(start, 2), (_TIFF_BYTES - start) // 12)
    entries = tf.reshape(data[start + 2 : start + 2 + 12 * count], [-1, 12])
    pairs = tf.where(is_little, entries[:, 1::2] * 256 + entries[:, ::2], entries[:, ::2] * 256 + entries[:, 1::2])
    values = tf.boolean_mask(pairs[:, 4], pairs[:, 0] == _ORIENTATION_TAG)
    value = tf.concat([values, [1]], 0)[0]
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _stored_box(box, upright, orientation):
    """A box of the upright photo, in the coordinates of the photo as it is stored."""
    top, left, height, width = tf.unstack(box)
    below, right = upright[0] - top - height, upright[1] - left - width
    boxes = [
        (top, left, height, width),
        (top, right, height, width),
        (below, right, height, width),
        (below, left, height, width),
        (left, top, width, height),
        (right, top, width, height),
        (right, below, width, height),
        (left, below, width, height),
    ]
    return tf.gather(tf.stack([tf.stack(one) for one in boxes]), orientation - 1)


def _turn_upright(image, orientation):
    def transpose(picture):
        return tf.transpose(picture, [1, 0, 2])

    return tf.switch_case(
        orientation - 1,
        [
            lambda: image,
            lambda: image[:, ::-1],
            lambda: image[::-1, ::-1],
            lambda: image[::-1],
            lambda: transpose(image),
            lambda: transpose(image)[:, ::-1],
            lambda: transpose(image)[::-1, ::-1],
            lambda: transpose(image)[::-1],
        ],
    )
