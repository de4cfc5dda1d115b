"""`python -m export.ondevice`: prints the labels of photos by a .tflite, without TensorFlow, as on a device.

Photos are files, folders or patterns such as 'PHOTOS/**/*.jpg'; - reads paths from standard input, one a line.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msrn_tf import command_line, storage
from msrn_tf.command_line import option
from msrn_tf.data.photos import find_photos
from msrn_tf.errors import UNREADABLE_STATUS, UserError, argument
from msrn_tf.extras import needs
from msrn_tf.predictions import Prediction, print_csv_of, print_json_of, print_table_of
from msrn_tf.progress import ProgressBar
from msrn_tf.quiet_import import captured_native_stderr
from msrn_tf.terminal import say
from msrn_tf.visualization.heatmap_files import HeatmapFiles

if TYPE_CHECKING:
    from export.device_classifier import DeviceClassifier

STAGES = ("read", "run")


@dataclasses.dataclass(frozen=True)
class OnDeviceConfig:
    """On the device"""

    model: str = option("", "a .tflite from export.tflite", path="input")
    threads: int = option(2, "threads of the interpreter", low=1)
    top_k: int = option(5, "labels to print per photo", low=1)
    json: bool = option(False, "print a JSON line per photo instead of a table")
    csv: bool = option(False, "print CSV instead of a table: a line per photo with the score of every label")
    heatmaps: str = option("", "folder for heat-maps; the model must be exported --with_attention", path="folder")


def main(arguments: Sequence[str], config: OnDeviceConfig) -> None:
    """Classifies as configured. Photos that cannot be read are named at the end, and the exit status is then 1."""
    if not config.model:
        raise UserError("--model is missing: give the .tflite to run")
    if config.json and config.csv:
        raise UserError("--csv: cannot be combined with --json; leave one of them out")
    paths = find_photos(arguments, sys.stdin.buffer)
    with argument("model"):
        classifier = open_classifier(config.model, config.threads)
    if config.heatmaps and not classifier.has_attention:
        raise UserError(f"--heatmaps: {config.model} has none; export it with export.tflite --with_attention")
    heatmaps = HeatmapFiles(config.heatmaps) if config.heatmaps else None
    predictions, bad = [], []
    with ProgressBar("classifying", len(paths), "photos") as bar:
        for done, path in enumerate(paths, 1):
            try:
                predictions.append(classify(classifier, path, heatmaps))
            except ValueError as error:
                bad.append(str(error))
            bar.update(done)
    if config.json:
        print_json_of(predictions, config.top_k)
    elif config.csv:
        print_csv_of(predictions, classifier.labels)
    elif predictions:
        print_table_of(predictions, config.top_k)
    for message in bad:
        say(f"error: {message}", error=True)
    if bad:
        sys.exit(UNREADABLE_STATUS)


def open_classifier(path: str, num_threads: int) -> "DeviceClassifier":
    """The classifier of a .tflite; `UserError` where it cannot be used."""
    with needs("tflite"):
        from export.device_classifier import DeviceClassifier
    if not storage.isfile(path):
        raise UserError(f"{path}: no such file; export.tflite writes one")
    try:
        with captured_native_stderr():
            return DeviceClassifier(path, num_threads, storage.read_whole(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(str(error)) from error


def classify(classifier: "DeviceClassifier", path: str, heatmaps: HeatmapFiles | None = None) -> Prediction:
    """The `Prediction` of one photo, with milliseconds by stage. `heatmaps`: `HeatmapFiles`, where they are wanted."""
    prediction = Prediction.of(path, classifier.classify(path))
    milliseconds = {stage: round(1000 * classifier.seconds[stage], 2) for stage in STAGES}
    written = None
    if heatmaps:
        maps = classifier.attention()
        shown = {label: maps[classifier.labels.index(label)] for label in prediction.explained}
        written = heatmaps.write_combined(path, shown)
    return dataclasses.replace(prediction, milliseconds=milliseconds, heatmaps=written)


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(OnDeviceConfig,), positional="PHOTO_OR_DIR_OR_PATTERN_OR_-...")
