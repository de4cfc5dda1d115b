"""`python -m msrn_tf.predict`: prints the labels of photos, and draws where the model looked."""

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from msrn_tf import command_line
from msrn_tf.config import option
from msrn_tf.data.photo_batches import decoded_batches, whole_photo, why_unreadable
from msrn_tf.data.photos import find_photos
from msrn_tf.default_model import default_model_path
from msrn_tf.errors import UserError, argument
from msrn_tf.files import replacing
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.factory import load_model
from msrn_tf.predictions import Prediction, print_csv_of, print_json_of, print_table_of
from msrn_tf.progress import ProgressBar
from msrn_tf.terminal import say
from msrn_tf.type_names import Progress
from msrn_tf.visualization.captions import captioned_grid
from msrn_tf.visualization.heatmap_files import KINDS, HeatmapFiles, group_names

UNREADABLE_STATUS = 1
SHEET_CELL = 220
SHEET_COLUMNS = 6
MOST_ON_SHEET = 240


@dataclasses.dataclass(frozen=True)
class PredictionConfig:
    """Prediction"""

    model: str = option(
        "", "model.keras, as msrn_tf.train writes it; empty: the bundled model of VOC's 20 labels", path="input"
    )
    top_k: int = option(5, "labels to print for a photo", low=1)
    json: bool = option(False, "print a JSON line for each photo in place of a table")
    csv: bool = option(False, "print CSV in place of a table: a line for each photo with the score of every label")
    heatmaps: str = option(
        "", "folder for heat-maps: for each present label, the photo with its attention", path="folder"
    )
    heatmaps_by: str = option(
        "label", "a picture for each label; the scales side by side; or a picture for each group", choices=KINDS
    )
    sheet: str = option(
        "", f"picture file for an overview of up to {MOST_ON_SHEET} photos and their labels", path="file"
    )
    batch_size: int = option(16, "photos in a batch", low=1)


def main(arguments: Sequence[str], config: PredictionConfig) -> None:
    """Predicts as configured. Photos that cannot be read are named at the end, and the exit status is then 1."""
    _check_flags(config)
    paths = find_photos(arguments, sys.stdin.buffer)
    model_path = config.model or default_model_path()
    with argument("model"):
        model = load_model(model_path)
    if not config.model:
        say(f"no --model: using {model_path}, which knows {', '.join(model.labels)}", error=True)
    if config.heatmaps and not model.explains:
        raise UserError(f"--heatmaps: {model_path} is a {model.name} model, which has no heat-maps")
    if config.heatmaps and config.heatmaps_by == "group" and not model.num_groups:
        raise UserError(f"--heatmaps_by=group: {model_path} has no groups; use label or scale")
    heatmaps = HeatmapFiles(config.heatmaps, config.heatmaps_by) if config.heatmaps else None
    predictions = []
    with ProgressBar("predicting", len(paths), "photos") as bar:
        for prediction in predict_files(model, paths, config.batch_size, heatmaps, bar.update):
            predictions.append(prediction)
            if config.json:
                print_json_of([prediction], config.top_k)
    if config.csv:
        print_csv_of(predictions, model.labels)
    elif not config.json:
        print_table_of(predictions, config.top_k)
    if config.sheet and predictions:
        write_sheet(predictions, config.sheet)
    done = {prediction.photo for prediction in predictions}
    bad = [path for path in paths if path not in done]
    for path in bad:
        say(f"error: {path}: is not a photo that can be decoded ({why_unreadable(path)})", error=True)
    if bad:
        sys.exit(UNREADABLE_STATUS)


def _check_flags(config):
    if config.json and config.csv:
        raise UserError("--csv: cannot be combined with --json; leave one of them out")


def predict_files(
    model: MultiLabelClassifier,
    paths: Sequence[str],
    batch_size: int,
    heatmaps: HeatmapFiles | None = None,
    progress: Progress | None = None,
) -> Iterator[Prediction]:
    """A `Prediction` for each photo that can be decoded; they are decoded while the model works.

    Args:
        heatmaps: `HeatmapFiles` or None.
        progress: called with the number of photos done.
    """
    forward = _forward(model, heatmaps.by if heatmaps else None)
    groups = group_names(model) if heatmaps and heatmaps.by == "group" else None
    for indices, images in decoded_batches(paths, model.image_size, batch_size):
        # The last batch is filled up: the model is traced for one shape.
        padded = np.concatenate([images, np.zeros((batch_size - len(images), *images.shape[1:]), np.uint8)])
        scores, maps = _first(len(indices), forward(padded))
        for row, index in enumerate(indices):
            prediction = _prediction(model, paths[index], scores[row])
            if heatmaps:
                written = _write_heatmaps(model, prediction, [scale[row] for scale in maps], heatmaps, groups)
                prediction = dataclasses.replace(prediction, heatmaps=written)
            yield prediction
        if progress:
            progress(int(indices[-1]) + 1)


def _forward(model, heatmaps_by):
    """A function of images: scores `[batch, C]`, and the scales' heat-maps of the same pass where they are wanted."""

    @tf.function(autograph=False)
    def forward(images):
        if heatmaps_by is None:
            return model.calibrated(model(images, training=False)), []
        logits, maps = model.classify_and_explain(images, of="groups" if heatmaps_by == "group" else "labels")
        return model.calibrated(logits), maps

    return forward


def _first(count, outputs):
    """The first rows of each array of a nest of tensors."""
    return tf.nest.map_structure(lambda tensor: tensor.numpy()[:count], outputs)


def predict_photos(model: MultiLabelClassifier, photos: Sequence[tuple[str, np.ndarray]]) -> list[Prediction]:
    """A `Prediction` for each photo whose pixels are at hand.

    Args:
        photos: list of (path, uint8 `[size, size, 3]`).
    """
    scores = model.probabilities(tf.stack([pixels for _, pixels in photos]))
    return [_prediction(model, path, row) for (path, _), row in zip(photos, scores, strict=True)]


def _prediction(model, path, scores):
    order = np.argsort(-scores, kind="stable")
    return Prediction.of(path, [(model.labels[c], scores[c], scores[c] >= model.thresholds[c]) for c in order])


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
        kind = Image.registered_extensions()[os.path.splitext(path)[1].lower()]
        with replacing(path, "wb") as file:
            sheet.save(file, kind)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"--sheet={path}: cannot be written ({error}); name a .png or .jpg file") from error
    left_out = f", the first of {len(predictions)}" if len(predictions) > len(cells) else ""
    say(f"sheet of {len(cells)} photos{left_out}: {path}", error=True)


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(PredictionConfig,), positional="PHOTO_OR_DIR_OR_PATTERN_OR_-...")
