"""`python -m export.tflite`: exports `model.keras` as a quantized .tflite that contains labels and thresholds."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from export.example_photos import example_photo
from export.quantization.calibration_photos import calibration_examples, calibration_photos
from export.quantization.modes import MODES
from msrn_tf import command_line
from msrn_tf.config import DataConfig, option
from msrn_tf.data.decoding import evaluation_pixels
from msrn_tf.errors import UserError, argument
from msrn_tf.evaluation.metrics import evaluate_scores
from msrn_tf.extras import needs
from msrn_tf.files import write_beside
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.factory import load_model
from msrn_tf.models.msrn import MSRN
from msrn_tf.progress import ProgressBar
from msrn_tf.quiet_import import captured_native_stderr
from msrn_tf.terminal import say

if TYPE_CHECKING:
    from export.device_classifier import DeviceClassifier

TOLERANCE = 1e-4
BATCH_SIZE = 16
FEW_PHOTOS = 50


@dataclasses.dataclass(frozen=True)
class TFLiteConfig:
    """Export"""

    model: str = option("", "model.keras written by msrn_tf.train", path="input")
    output: str = option("", "the .tflite to write", path="file")
    quantize: str = option("dynamic", "; ".join(f"{name}: {m.meaning}" for name, m in MODES.items()), choices=[*MODES])
    with_attention: bool = option(
        False, "add a second output with heat-maps, for export.ondevice and export.web; not for MediaPipe"
    )
    calibration: str = option(
        "",
        "photos to measure ranges on, for int8, int8_full and int16x8: a folder of photos, an output "
        "folder of msrn_tf.prepare, or a .tfrecord; empty: --calibration_split of --dataset",
        path="input",
    )
    calibration_split: str = option("val", "split of the data set or prepared folder to take these photos from")
    calibration_images: int = option(200, "photos to calibrate on", low=1)
    seed: int = option(0, "seed for choosing these photos", low=0)


def main(data: DataConfig, config: TFLiteConfig) -> None:
    """Exports as configured."""
    for flag in ("model", "output"):
        if not getattr(config, flag):
            raise UserError(f"--{flag} is missing: give the model.keras and the .tflite to write")
    with needs("tflite"):
        from export.device_classifier import DeviceClassifier
        from export.quantization import conversion, metadata  # noqa: F401  before anything is computed
    with argument("model"):
        model = load_model(config.model)
    mode = MODES[config.quantize]
    check(model, config)
    if mode.warning:
        say(f"warning: {mode.warning}")
    photos, targets = read_photos(model, data, config)
    # Without targets it is the drawn photo, which says nothing of what the device will see.
    content = tflite_bytes(model, config.quantize, photos if targets is not None else (), config.with_attention)
    with captured_native_stderr():
        classifier = DeviceClassifier(config.output, content=content)
    differences = Differences.measured(model, classifier, photos, targets)
    if config.quantize == "none" and differences.largest > TOLERANCE:
        raise UserError(
            f"--model={config.model}: the export's scores differ by {differences.largest:.1e}; it was discarded"
        )
    write_beside(config.output, content)
    say(differences.sentence())
    say(f"written to {config.output}: {config.quantize}, {len(model.labels)} labels, {model.image_size} pixels, "
        f"{len(content) / 1e6:.2f} MB; its float32 weights take {4 * model_weights(model) / 1e6:.2f} MB")  # fmt: skip


def check(model: MultiLabelClassifier, config: TFLiteConfig) -> None:
    """Refuses what cannot be exported."""
    if config.with_attention and not model.explains:
        raise UserError(f"--with_attention: {config.model} is a {model.name} model, which has no heat-maps")
    if broken := [label for label in model.labels if "\n" in label or "\r" in label]:
        raise UserError(
            f"--model={config.model}: its label {broken[0]!r} has a line break, and a .tflite lists one label a "
            "line; rename the label in the data set, and train again"
        )
    if config.with_attention and config.quantize == "int8_full":
        raise UserError("--with_attention: heat-maps need float operations; use --quantize=int8 with it")


def read_photos(
    model: MultiLabelClassifier, data: DataConfig, config: TFLiteConfig
) -> tuple[list[np.ndarray], np.ndarray | None]:
    """`(photos, targets)`: what to calibrate on and to compare on; a drawn photo where nothing is calibrated."""
    if not MODES[config.quantize].calibrated and not config.calibration:
        return [evaluation_pixels(example_photo(model.image_size), model.image_size)[None].numpy()], None
    examples = calibration_examples(
        config.calibration, data, config.calibration_split, model.labels, config.calibration_images, config.seed
    )
    if len(examples) < min(FEW_PHOTOS, config.calibration_images):
        say(f"warning: --calibration has {len(examples)} photos only; a few hundred give better ranges")
    return calibration_photos(examples, model.image_size, data.max_pixels), examples.targets


def tflite_bytes(
    model: MultiLabelClassifier, mode: str, photos: Sequence[np.ndarray] = (), with_attention: bool = False
) -> bytes:
    """The whole .tflite, with metadata."""
    with needs("tflite"):
        from export.quantization.conversion import convert
        from export.quantization.metadata import with_metadata
    paper = f" ({model.reference})" if model.reference else ""
    description = (
        f"{model.name}, multi-label image classification with {len(model.labels)} labels{paper}; {MODES[mode].meaning}"
    )
    return with_metadata(convert(model, mode, photos, with_attention), model, description, with_attention)


@dataclasses.dataclass(frozen=True)
class Differences:
    """How far a .tflite's scores are from the trained model's, on some photos; mAP of both where these have labels."""

    largest: float
    mean: float
    num_photos: int
    mean_precisions: tuple | None = None

    @classmethod
    def measured(
        cls,
        model: MultiLabelClassifier,
        classifier: "DeviceClassifier",
        photos: Sequence[np.ndarray],
        targets: np.ndarray | None = None,
    ) -> Self:
        """Of a classifier against the model that it was made of. `targets`: int8 `[photos, C]`, where there are any."""
        expected, found = [], []
        with ProgressBar("comparing", len(photos), "photos") as bar:
            for start in range(0, len(photos), BATCH_SIZE):
                batch = np.concatenate(photos[start : start + BATCH_SIZE])
                expected += [*model.probabilities(batch)]
                found += [classifier.scores(pixels) for pixels in batch]
                bar.update(len(found))
        difference = np.abs(np.array(found) - np.array(expected))
        precisions = None
        if targets is not None and (targets == 1).any():
            both = (
                evaluate_scores(scores, targets, model.labels)["mAP"]
                for scores in (np.array(expected), np.array(found))
            )
            precisions = tuple(both)
        return cls(float(difference.max()), float(difference.mean()), len(photos), precisions)

    def sentence(self) -> str:
        """For a person."""
        text = f"scores differ by at most {self.largest:.1e}, on average {self.mean:.1e}, on {self.num_photos} photos"
        if self.mean_precisions:
            before, after = self.mean_precisions
            text += f"; mAP on them {after:.2f} where the model has {before:.2f}"
        return text


def model_weights(model: MultiLabelClassifier) -> int:
    """Numbers in a model's weights, without those over the label graph, which an export leaves out."""
    left_out = {v.path for v in model.semantics.variables} if isinstance(model, MSRN) else set()
    return sum(int(np.prod(v.shape)) for v in model.variables if v.path not in left_out)


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(DataConfig,), extra_flags=TFLiteConfig)
