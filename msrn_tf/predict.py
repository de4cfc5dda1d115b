"""`python -m msrn_tf.predict`: prints the labels of photos, and draws where the model looked.

Photos are files, folders or patterns such as 'PHOTOS/**/*.jpg'; - reads paths from standard input, one a line.
"""

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from msrn_tf import command_line, storage
from msrn_tf.config import option
from msrn_tf.data.photo_batches import decoded_batches, whole_photo, why_unreadable
from msrn_tf.data.photos import find_photos
from msrn_tf.default_model import default_model_path
from msrn_tf.errors import UNREADABLE_STATUS, UserError, argument
from msrn_tf.extras import needs
from msrn_tf.files import replacing
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.factory import load_model
from msrn_tf.predictions import Prediction, Refusal, print_csv_of, print_json_of, print_table_of
from msrn_tf.predictor import Predictor
from msrn_tf.progress import ProgressBar
from msrn_tf.runners import WITHOUT_BEAM, RunnerConfig
from msrn_tf.terminal import say
from msrn_tf.type_names import Progress
from msrn_tf.visualization.captions import captioned_grid
from msrn_tf.visualization.heatmap_files import KINDS, HeatmapFiles, group_names

SHEET_CELL = 220
SHEET_COLUMNS = 6
MOST_ON_SHEET = 240


@dataclasses.dataclass(frozen=True)
class PredictionConfig:
    """Prediction"""

    model: str = option(
        "", "model.keras written by msrn_tf.train; empty: the bundled model for VOC's 20 labels", path="input"
    )
    top_k: int = option(5, "labels to print per photo", low=1)
    json: bool = option(False, "print a JSON line per photo instead of a table")
    csv: bool = option(False, "print CSV instead of a table: a line per photo with the score of every label")
    heatmaps: str = option(
        "", "folder for heat-maps: for each present label, the photo with its attention", path="folder"
    )
    heatmaps_by: str = option(
        "label",
        "label: an image for each label; scale: the maps of all strides side by side; group: an image for each group "
        "of labels",
        choices=KINDS,
    )
    sheet: str = option("", f"image file for an overview of up to {MOST_ON_SHEET} photos and their labels", path="file")
    batch_size: int = option(16, "photos per batch; at most, with --runner", low=1)
    input: str = option(
        "",
        "with --runner: a pattern of photos such as gs://BUCKET/photos/**.jpg, a folder, or a table (or a pattern of "
        "tables: CSV, JSON lines, Parquet) with a column of paths",
        path="input",
    )
    image_column: str = option("", "with --runner: table column that names photos; empty: detected")
    output: str = option(
        "",
        "with --runner: prefix of the files to write, such as gs://BUCKET/scores; JSON lines, or Parquet "
        "if it ends with .parquet",
        path="file",
    )


def main(arguments: Sequence[str], config: PredictionConfig, runner: RunnerConfig = WITHOUT_BEAM) -> None:
    """Predicts as configured. Photos that cannot be read are named at the end, and the exit status is then 1."""
    _check_flags(arguments, runner, config)
    if runner.runner:
        _predict_by_beam(runner, config)
        return
    paths = find_photos(arguments, sys.stdin.buffer)
    model, model_path = _load(config)
    if config.heatmaps and not model.explains:
        raise UserError(f"--heatmaps: {model_path} is a {model.name} model, which has no heat-maps")
    if config.heatmaps and config.heatmaps_by == "group" and not model.num_groups:
        raise UserError(f"--heatmaps_by=group: {model_path} has no groups; use label or scale")
    heatmaps = HeatmapFiles(config.heatmaps, config.heatmaps_by) if config.heatmaps else None
    predictor, predictions = Predictor(model, heatmaps.by if heatmaps else None), []
    with ProgressBar("predicting", len(paths), "photos") as bar:
        for prediction in predict_files(predictor, paths, config.batch_size, heatmaps, bar.update):
            predictions.append(prediction)
            if config.json:
                print_json_of([prediction], config.top_k)
    if config.csv:
        print_csv_of(predictions, model.labels)
    elif not config.json:
        print_table_of(predictions, config.top_k)
    done = {prediction.photo for prediction in predictions}
    refused = [Refusal(path, why_unreadable(path)) for path in paths if path not in done]
    if config.json:
        print_json_of(refused, config.top_k)
    for refusal in refused:
        say(f"error: {refusal.photo}: is not a photo that can be decoded ({refusal.reason})", error=True)
    if config.sheet and predictions:
        write_sheet(predictions, config.sheet)
    if refused:
        sys.exit(UNREADABLE_STATUS)


def _load(config):
    """The model, and where it lies."""
    path = config.model or default_model_path()
    with argument("model"):
        model = load_model(path)
    if not config.model:
        say(f"no --model: using {path}, which knows {', '.join(model.labels)}", error=True)
    return model, path


def _predict_by_beam(runner, config):
    """Predicts by a pipeline, from files to files."""
    with needs("beam"):
        from msrn_tf.beam.pipelines import pipeline_options
        from msrn_tf.beam.predict_pipeline import Output, predict
        from msrn_tf.beam.sources import find_source
    options = pipeline_options(runner.runner, runner.runner_option)
    source, output = find_source(config.input, config.image_column), Output.of(config.output)
    output.check_new()
    _, path = _load(config)
    path = path if storage.is_address(path) else os.path.abspath(path)
    counters = predict(path, source, output, config.top_k, config.batch_size, options)
    photos, refused = (counters.get(name, 0) for name in ("photos", "refused"))
    say(f"written    {config.output}: {photos} photos, {refused} more refused", error=True)
    if refused:
        sys.exit(UNREADABLE_STATUS)


def _check_flags(arguments, runner, config):
    for name in ("input", "output"):
        if bool(getattr(config, name)) != bool(runner.runner):
            raise UserError(f"--{name}: is {'missing: --runner needs it' if runner.runner else 'for --runner'}")
    of_one_machine = [name for name in ("json", "csv", "heatmaps", "sheet") if runner.runner and getattr(config, name)]
    if runner.runner and (arguments or of_one_machine):
        what = f"--{of_one_machine[0]}" if of_one_machine else repr(arguments[0])
        raise UserError(f"{what}: cannot be combined with --runner, which reads --input and writes --output")
    if config.json and config.csv:
        raise UserError("--csv: cannot be combined with --json; leave one of them out")
    if config.sheet and _sheet_format(config.sheet) not in Image.SAVE:
        raise UserError(f"--sheet={config.sheet}: its ending names no picture that can be written; name a .png or .jpg")


def _sheet_format(path):
    return Image.registered_extensions().get(os.path.splitext(path)[1].lower())


def predict_files(
    predictor: Predictor,
    paths: Sequence[str],
    batch_size: int,
    heatmaps: HeatmapFiles | None = None,
    progress: Progress | None = None,
) -> Iterator[Prediction]:
    """A `Prediction` for each photo that can be decoded; they are decoded while the model works.

    Args:
        heatmaps: `HeatmapFiles` of what the predictor computes, or None.
        progress: called with the number of photos done.
    """
    model = predictor.model
    groups = group_names(model) if heatmaps and heatmaps.by == "group" else None
    for indices, images in decoded_batches(paths, model.image_size, batch_size):
        scores, maps = predictor.of_batch(images)
        for row, index in enumerate(indices):
            prediction = predictor.prediction(paths[index], scores[row])
            if heatmaps:
                written = _write_heatmaps(model, prediction, [scale[row] for scale in maps], heatmaps, groups)
                prediction = dataclasses.replace(prediction, heatmaps=written)
            yield prediction
        if progress:
            progress(int(indices[-1]) + 1)


def predict_photos(model: MultiLabelClassifier, photos: Sequence[tuple[str, np.ndarray]]) -> list[Prediction]:
    """A `Prediction` for each photo whose pixels are at hand.

    Args:
        photos: list of (path, uint8 `[size, size, 3]`).
    """
    return Predictor(model).of_photos(photos)


def _write_heatmaps(model, prediction, maps, heatmaps, groups):
    """Writes the heat-maps of one photo, a `[labels or groups, h, w]` for each scale; returns the files' paths."""
    if groups is not None:
        shown = dict(enumerate(groups))
    else:
        shown = {model.labels.index(label): label for label in prediction.explained}
    chosen = {name: [scale[c] for scale in maps] for c, name in shown.items()}
    return heatmaps.write(prediction.photo, whole_photo(prediction.photo), chosen)


def write_sheet(predictions: Sequence[Prediction], path: str) -> None:
    """Many photos on one picture, each with its present labels."""
    cells = []
    for prediction in predictions[:MOST_ON_SHEET]:
        photo, scores = whole_photo(prediction.photo), prediction.score_of
        photo.thumbnail((SHEET_CELL, SHEET_CELL))
        present = ", ".join(f"{label} {scores[label]:.2f}" for label in prediction.present) or "no label"
        cells.append((photo, [present, os.path.basename(prediction.photo)]))
    sheet = captioned_grid(cells, min(SHEET_COLUMNS, len(cells)), SHEET_CELL, lines=2)
    try:
        with replacing(path, "wb") as file:
            sheet.save(file, _sheet_format(path))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"--sheet={path}: cannot be written ({error}); name a .png or .jpg file") from error
    left_out = f", the first of {len(predictions)}" if len(predictions) > len(cells) else ""
    say(f"sheet of {len(cells)} photos{left_out}: {path}", error=True)


if __name__ == "__main__":
    command_line.run(
        main, usage=__doc__, configs=(PredictionConfig, RunnerConfig), positional="PHOTO_OR_DIR_OR_PATTERN_OR_-..."
    )
