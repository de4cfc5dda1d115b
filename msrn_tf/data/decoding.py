"""From encoded bytes to upright RGB pixels: one definition for training, evaluation, prediction and serving.

JPEG, PNG, GIF and WebP (first frame) and BMP become what Pillow shows after `ImageOps.exif_transpose` and
`convert("RGB")`, within two grey levels: alpha is dropped, palettes and CMYK are resolved, 16 bits become the upper 8.
Everything is a TensorFlow operation, so that it can be part of a served model.
"""

import tensorflow as tf

FORMATS = ("PNG", "GIF", "BMP", "WebP")  # besides JPEG
UNKNOWN_FORMAT = len(FORMATS)
JPEG_EXIF = "Exif\0\0"
MAX_PIXELS = 100_000_000
HEADER_BYTES = 64

_ORIENTATION_TAG = 0x0112
_EXIF_SEARCH_BYTES = 1 << 16  # the largest segment of a JPEG
_TIFF_BYTES = 1 << 12  # the directory with the orientation lies at its start


def decode(encoded, max_pixels=MAX_PIXELS, formats=FORMATS):
    """Upright RGB uint8 `[height, width, 3]` of a photo's bytes.

    `formats`: those that are known besides JPEG, the first ones of `FORMATS`.

    Raises:
        tf.errors.InvalidArgumentError: the bytes are no photo of a known format, are cut short, or have more than
            `max_pixels` pixels (which is found before they are decoded).
    """
    return decode_crop(encoded, None, max_pixels, formats)


def decode_crop(encoded, choose_box, max_pixels=MAX_PIXELS, formats=FORMATS):
    """A crop of the upright photo; of a JPEG, only the crop is decoded.

    Args:
        encoded: string scalar.
        choose_box: function of the upright (height, width) → int32 `[top, left, height, width]`; None: everything.
        max_pixels: int.
        formats: as `decode`.
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
                    lambda: _decode_other(encoded, choose_box, max_pixels, formats),
                )
            ),
        ),
        [None, None, 3],
    )


def resize(image, image_size, antialias=True):
    """Warps uint8 `[height, width, 3]` to uint8 `[image_size, image_size, 3]`, bilinear, as published.

    With `antialias` a shrunken image equals Pillow's; without it is twice as fast.
    """
    image = tf.image.resize(image, (image_size, image_size), "bilinear", antialias=antialias)
    return tf.cast(image + 0.5, tf.uint8)  # rounds; a mean of pixels is never beyond their range


def evaluation_pixels(encoded, image_size, max_pixels=MAX_PIXELS, formats=FORMATS):
    """What a model sees of a photo outside training: uint8 `[image_size, image_size, 3]`."""
    return resize(decode(encoded, max_pixels, formats), image_size)


def photo_format(head):
    """Index into `FORMATS`, or `UNKNOWN_FORMAT`, from the first bytes, int32 `[HEADER_BYTES]`."""

    def starts(text, at=0):
        return tf.reduce_all(head[at : at + len(text)] == tf.constant(list(text), tf.int32))

    found = [
        starts(b"\x89PNG\r\n\x1a\n"),
        starts(b"GIF8"),
        starts(b"BM"),
        starts(b"RIFF") & starts(b"WEBP", 8),
        True,
    ]
    return tf.argmax(tf.stack(found), output_type=tf.int32)


def _decode_plain_jpeg(encoded, choose_box, max_pixels):
    size = _checked(tf.image.extract_jpeg_shape(encoded)[:2], max_pixels)
    if choose_box is None:
        # The accurate DCT equals Pillow's (libjpeg-turbo's default); the faster one differs by a few grey levels.
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    return tf.image.decode_and_crop_jpeg(encoded, choose_box(size[0], size[1]), channels=3)


def _decode_turned_jpeg(encoded, start, choose_box, max_pixels):
    orientation = exif_orientation(start, JPEG_EXIF)

    def stored_box(height, width):
        upright = tf.where(orientation >= 5, [width, height], [height, width])
        return _stored_box(choose_box(upright[0], upright[1]), upright, orientation)

    image = _decode_plain_jpeg(encoded, stored_box if choose_box else None, max_pixels)
    return _turn_upright(image, orientation)


def _decode_other(encoded, choose_box, max_pixels, formats):
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 0, HEADER_BYTES), tf.uint8), tf.int32)
    head = tf.pad(head, [[0, HEADER_BYTES - tf.shape(head)[0]]])
    kind = photo_format(head)
    known = tf.debugging.Assert(kind < len(formats), [f"is none of JPEG, {', '.join(formats)}"])
    with tf.control_dependencies([known] if known is not None else []):
        size = _checked(_stored_size(head, kind), max_pixels, _decoded_frames(encoded, kind))
    with tf.control_dependencies([size]):
        image = tf.switch_case(
            tf.identity(kind),
            [
                lambda: tf.io.decode_png(encoded, channels=3),
                lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
                lambda: _decode_bmp(encoded, head),
                lambda: tf.image.decode_webp(encoded)[0, :, :, :3],
            ][: len(formats)],
        )
    image = _turn_upright(
        image,
        tf.switch_case(
            kind,
            [
                lambda: exif_orientation(encoded, "eXIf"),
                lambda: 1,
                lambda: 1,
                lambda: exif_orientation(encoded, "EXIF", skipped=4),  # the chunk's length
            ][: len(formats)],
        ),
    )
    if choose_box is None:
        return image
    box = choose_box(tf.shape(image)[0], tf.shape(image)[1])
    return tf.slice(image, [box[0], box[1], 0], [box[2], box[3], 3])


def _decode_bmp(encoded, head):
    # TensorFlow would take the indices into a palette for grey values.
    with tf.control_dependencies([tf.debugging.Assert(head[28] >= 24, ["is a BMP with a palette"])]):
        return tf.io.decode_image(tf.identity(encoded), channels=3, expand_animations=False)


def _apart(function):
    """A branch that is seldom taken, as one operation: written out, its operations cost time without being run."""
    return tf.function(function, experimental_attributes={"_noinline": True}, autograph=False)


def _decoded_frames(encoded, kind):
    """How many pictures are decoded to get at the first one: of a WebP, all (its chunks `ANMF`)."""
    is_webp = kind == FORMATS.index("WebP")
    return tf.cond(is_webp, lambda: tf.maximum(1, tf.size(tf.strings.split(encoded, "ANMF")) - 1), lambda: 1)


def _checked(size, max_pixels, frames=1):
    """`size`, int32 `[2]`, where its product, `frames` times, is within bounds."""
    pixels = tf.reduce_prod(tf.cast(size, tf.int64)) * tf.cast(frames, tf.int64)
    check = tf.debugging.Assert((pixels > 0) & (pixels <= max_pixels), ["has no pixels, or too many pixels:", pixels])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(size)


def exif_orientation(encoded, marker, skipped=0):
    """The EXIF tag of that name, int32 of 1 to 8; 1 where there is none. (CIPA DC-008, TIFF 6.0.)

    Args:
        encoded: string scalar.
        marker: bytes after which the TIFF header comes.
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


def _stored_size(head, kind):
    """Height and width as the header says, int32 `[2]`."""

    def little(at, size):
        return tf.reduce_sum(head[at : at + size] * [256**power for power in range(size)])

    def big(at, size):
        return tf.reduce_sum(head[at : at + size] * [256**power for power in reversed(range(size))])

    def webp():
        lossy = (little(28, 2) & 0x3FFF, little(26, 2) & 0x3FFF)
        bits = little(21, 4)
        lossless = (tf.bitwise.right_shift(bits, 14) & 0x3FFF) + 1, (bits & 0x3FFF) + 1
        extended = little(27, 3) + 1, little(24, 3) + 1
        which = tf.where(head[15] == ord("X"), 2, tf.where(head[15] == ord("L"), 1, 0))
        return tf.gather(tf.stack([tf.stack(size) for size in (lossy, lossless, extended)]), which)

    return tf.switch_case(
        kind,
        [
            lambda: tf.stack([big(20, 4), big(16, 4)]),
            lambda: tf.stack([little(8, 2), little(6, 2)]),
            lambda: tf.stack([tf.abs(little(22, 4)), little(18, 4)]),
            webp,
        ],
    )


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
