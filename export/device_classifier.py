"""A multi-label .tflite of `export.tflite` on a device: labels and scores of photos.

One file to copy: it needs `pip install ai-edge-litert pillow numpy` and nothing else of this project.

    classifier = DeviceClassifier("model.tflite")
    for label, score, is_present in classifier.classify("photo.jpg"):
        print(label, score, is_present)
"""

import contextlib
import io
import os
import time
import zipfile
from typing import BinaryIO

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

with contextlib.suppress(ImportError):  # HEIC, as phones take photos: pip install pillow-heif
    import pillow_heif

    pillow_heif.register_heif_opener()


LABELS_FILE, THRESHOLDS_FILE = "labels.txt", "thresholds.txt"
PHOTO_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "HEIF")
LARGEST_TEXT = 2**24
LARGEST_SIZE = 8192


class DeviceClassifier:
    """A .tflite, ready to run.

    Args:
        path: file that `export.tflite` wrote.
        num_threads: int.
        content: bytes of the file, where they are at hand.

    Attributes:
        labels: names, in the order of scores. `thresholds`: the score from which each is present.
        image_size: int, pixels.
        seconds: dict of stage (`read`, `run`) → seconds that the last photo took.

    Raises:
        ValueError: the file is no .tflite, is damaged in any way, or lacks what this class needs.
    """

    def __init__(self, path: str, num_threads: int = 2, content: bytes | None = None):
        if content is None:
            with open(path, "rb") as file:
                content = file.read()
        if content[4:8] != b"TFL3":
            raise ValueError(f"{path}: is not a .tflite (its bytes 4 to 8 are not TFL3)")
        self.labels, self.thresholds = read_labels(path, content)
        try:
            self._interpreter = Interpreter(model_content=content, num_threads=num_threads)
            (self._input, *others) = self._interpreter.get_input_details()
            shape = tuple(self._input["shape"])
            if others or not _is_photo(shape) or self._input["dtype"] != np.uint8:
                raise ValueError("it does not take one uint8 RGB photo; export it with export.tflite")
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{path}: cannot be run ({' '.join(str(error).split())[:200]})") from error
        self.image_size = int(shape[1])
        outputs = self._interpreter.get_output_details()
        self._scores = next((output for output in outputs if len(output["shape"]) == 2), None)
        self._attention = next((output for output in outputs if len(output["shape"]) == 4), None)
        count = self._scores["shape"][1] if self._scores else 0
        if count != len(self.labels):
            raise ValueError(f"{path}: has {count} scores and {len(self.labels)} labels in its {LABELS_FILE}")
        self.seconds = {}

    @property
    def has_attention(self) -> bool:
        """Whether the model was exported with heat-maps."""
        return self._attention is not None

    def classify(self, photo: str | BinaryIO | Image.Image) -> list[tuple[str, float, bool]]:
        """`[(label, score, is present), …]`, best first, of a photo: path, file or `PIL.Image`."""
        scores = self.scores(self.pixels(photo))
        present = scores >= self.thresholds
        return [(self.labels[c], float(scores[c]), bool(present[c])) for c in np.argsort(-scores, kind="stable")]

    def pixels(self, photo: str | BinaryIO | Image.Image) -> np.ndarray:
        """uint8 `[size, size, 3]`: upright, RGB, warped to the model's size.

        Raises:
            ValueError: it is no photo that Pillow can read.
        """
        started = time.perf_counter()
        if isinstance(photo, (str, os.PathLike)) and not os.path.isfile(photo):  # a pipe would be waited for
            raise ValueError(f"{photo}: is not a photo that can be read (no such file, or not a regular file)")
        try:
            upright = _upright_rgb(photo if isinstance(photo, Image.Image) else _open(photo))
            resized = upright.resize((self.image_size, self.image_size), Image.Resampling.BILINEAR)
        except Exception as error:  # a decoder of untrusted bytes: anything may come out
            raise ValueError(f"{photo}: is not a photo that can be read ({error})") from error
        self.seconds["read"] = time.perf_counter() - started
        return np.asarray(resized)

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """float32 `[labels]` of uint8 `[size, size, 3]`."""
        started = time.perf_counter()
        self._interpreter.set_tensor(self._input["index"], pixels[None])
        self._interpreter.invoke()
        scores = self._output(self._scores)
        self.seconds["run"] = time.perf_counter() - started
        return scores

    def attention(self) -> np.ndarray:
        """float32 `[labels, h, w]` in [0, 1]: where the model looked in the photo it saw last."""
        return self._output(self._attention)

    def _output(self, details):
        values = self._interpreter.get_tensor(details["index"])[0]
        scale, zero_point = details["quantization"]
        return (values.astype(np.float32) - zero_point) * np.float32(scale) if scale else values


def _open(photo):
    """A photo of a file; Pillow's other formats, some of which start programs, never see untrusted bytes."""
    Image.init()
    return Image.open(photo, formats=[name for name in PHOTO_FORMATS if name in Image.OPEN])


def _upright_rgb(image):
    image.load()
    with contextlib.suppress(Exception):  # tags that are none turn nothing
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # Pillow would clip what is above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("it has 32 bits a pixel, whose range is not known")
    return image.convert("RGB")


def _is_photo(shape):
    return len(shape) == 4 and shape[0] == 1 and shape[3] == 3 and 1 <= shape[1] == shape[2] <= LARGEST_SIZE


def read_labels(path: str, content: bytes) -> tuple[list[str], np.ndarray]:
    """Labels, and thresholds as an array, from the ZIP that follows the model's bytes.

    Raises:
        ValueError: there is no such ZIP; it is not whole, packed in a way that is not known, or encrypted; or what it
            holds is no list of labels with a threshold each.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            lines, thresholds = (_lines(archive, name) for name in (LABELS_FILE, THRESHOLDS_FILE))
        thresholds = np.array(thresholds, np.float32)
    except Exception as error:  # an untrusted ZIP and its numbers: many kinds
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path}: holds no readable {LABELS_FILE} and {THRESHOLDS_FILE} ({reason}): it has no metadata, is cut "
            "short or damaged; export it again"
        ) from error
    if len(lines) != len(thresholds):
        raise ValueError(f"{path}: has {len(lines)} labels and {len(thresholds)} thresholds; export it again")
    if len(set(lines)) < len(lines) or not np.isfinite(thresholds).all():
        raise ValueError(f"{path}: has a label twice, or a threshold that is not a number; export it again")
    return lines, thresholds


def _lines(archive, name):
    """A text's lines; they end with line feeds alone, since a label may hold what Python takes for a line's end too."""
    if archive.getinfo(name).file_size > LARGEST_TEXT:
        raise ValueError(f"{name} would unpack to more than {LARGEST_TEXT} bytes")
    return archive.read(name).decode().removesuffix("\n").split("\n")
