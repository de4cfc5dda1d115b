"""`python -m export.ondevice`: names what is in photos with a .tflite and without TensorFlow, as devices do."""

import dataclasses
import json
import os
import sys

from export.device_classifier import DeviceClassifier
from export.heatmap_files import write_heatmaps
from msrn_tf import command_line
from msrn_tf.command_line import option
from msrn_tf.data.photos import find_photos
from msrn_tf.errors import UserError
from msrn_tf.progress import ProgressBar
from msrn_tf.quiet_import import captured_native_stderr
from msrn_tf.terminal import Table, print_table, say
from msrn_tf.visualization.heatmap_files import HeatmapFiles

STAGES = ("read", "run")


@dataclasses.dataclass(frozen=True)
class OnDeviceConfig:
    """On the device"""

    model: str = option("", "the .tflite of export.tflite", path="input")
    threads: int = option(2, "threads that the interpreter uses", low=1)
    top_k: int = option(5, "labels to print for a photo", low=1)
    json: bool = option(False, "print a JSON line a photo instead of a table")
    heatmaps: str = option("", "folder for heat-maps; the model must be exported --with_attention", path="folder")


def main(arguments, config):
    """Classifies as configured. Photos that cannot be read are named at the end, and the exit status is then 2."""
    if not config.model:
        raise UserError("--model is missing: give the .tflite to run")
    paths = find_photos(arguments, sys.stdin.buffer)
    classifier = open_classifier(config.model, config.threads)
    if config.heatmaps and not classifier.has_attention:
        raise UserError(f"--heatmaps: {config.model} has none; export it with export.tflite --with_attention")
    heatmaps = HeatmapFiles(config.heatmaps) if config.heatmaps else None
    rows, bad = [], []
    with ProgressBar("classifying", len(paths), "photos") as bar:
        for done, path in enumerate(paths, 1):
            try:
                rows.append(classify(classifier, path, heatmaps))
            except ValueError as error:
                bad.append(str(error))
            bar.update(done)
    if rows:
        print_rows(rows, config)
    for message in bad:
        say(f"error: {message}", error=True)
    if bad:
        sys.exit(UserError.exit_status)


def open_classifier(path, num_threads, flag="--model"):
    """The classifier of a .tflite; `UserError` where it cannot be used."""
    if not os.path.isfile(path):
        raise UserError(f"{flag}={path}: no such file; export.tflite writes one")
    try:
        with captured_native_stderr():
            return DeviceClassifier(path, num_threads)
    except OSError as error:
        raise UserError(f"{flag}={path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{flag}={error}") from error


def classify(classifier, path, heatmaps=None):
    """One photo's row: labels best first, scores, which are present, milliseconds by stage, heat-map files."""
    answer = classifier.classify(path)
    present = [label for label, _, is_present in answer if is_present]
    row = {
        "photo": path,
        "labels": [label for label, _, _ in answer],
        "scores": [round(score, 6) for _, score, _ in answer],
        "present": present,
        "milliseconds": {stage: round(1000 * classifier.seconds[stage], 2) for stage in STAGES},
    }
    if heatmaps:
        maps = classifier.attention()
        shown = present or row["labels"][:1]
        row["heatmaps"] = write_heatmaps(
            path, {label: maps[classifier.labels.index(label)] for label in shown}, heatmaps
        )
    return row


def print_rows(rows, config):
    """The table, or a JSON line a photo."""
    if config.json:
        for row in rows:
            say(json.dumps(row | {key: row[key][: config.top_k] for key in ("labels", "scores")}))
        return
    table = Table("photo", f"best {config.top_k} labels (present ones marked *)", "read ms", "run ms")
    for row in rows:
        best = zip(row["labels"][: config.top_k], row["scores"], strict=False)
        names = [f"{'*' if label in row['present'] else ''}{label} {score:.3f}" for label, score in best]
        times = [f"{row['milliseconds'][stage]:.1f}" for stage in STAGES]
        table.add_row(os.path.basename(row["photo"]), "  ".join(names), *times)
    print_table(table)


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(OnDeviceConfig,), positional="PHOTO_OR_DIR_OR_PATTERN_OR_-...")
