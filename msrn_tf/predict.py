"""`python -m msrn_tf.predict`: names what is in photos, and shows where the model looked."""

import csv
import dataclasses
import json
import os
import sys

import numpy as np
import tensorflow as tf

from msrn_tf import command_line
from msrn_tf.config import option
from msrn_tf.data.photo_batches import decoded_batches, whole_photo, why_unreadable
from msrn_tf.data.photos import find_photos
from msrn_tf.errors import UserError, printable
from msrn_tf.models.factory import load_model
from msrn_tf.progress import ProgressBar
from msrn_tf.terminal import Table, print_table, say
from msrn_tf.visualization.captions import captioned_grid
from msrn_tf.visualization.heatmap_files import KINDS, HeatmapFiles, group_names

UNREADABLE_STATUS = 1
SHEET_CELL = 220
SHEET_COLUMNS = 6
MOST_ON_SHEET = 240
FORMULA_STARTS = tuple("=+-@＝＋－＠")


@dataclasses.dataclass(frozen=True)
class PredictionConfig:
    """Prediction"""

    model: str = option("", "model.keras, as msrn_tf.train writes it", path="input")
    top_k: int = option(5, "labels to print for a photo", low=1)
    json: bool = option(False, "print a JSON line a photo instead of a table")
    csv: bool = option(False, "print CSV, a line a photo with the score of every label, instead of a table")
    heatmaps: str = option(
        "", "folder for heat-maps: for each present label, the photo with its attention", path="folder"
    )
    heatmaps_by: str = option(
        "label", "a picture for each label, its scales side by side, or for groups", choices=KINDS
    )
    sheet: str = option(
        "", f"picture file for an overview of up to {MOST_ON_SHEET} photos and their labels", path="file"
    )
    batch_size: int = option(16, "photos at a time", low=1)


def main(arguments, config):
    """Predicts as configured. Photos that cannot be read are named at the end, and the exit status is then 1."""
    if not config.model:
        raise UserError("--model is missing: give the model.keras to predict with")
    if config.json and config.csv:
        raise UserError("--csv: does not go with --json; leave one of them out")
    if config.sheet and not os.path.isdir(os.path.dirname(config.sheet) or "."):
        raise UserError(f"--sheet={config.sheet}: its folder does not exist")
    paths = find_photos(arguments, sys.stdin.buffer)
    model = load_model(config.model)
    if config.heatmaps and not model.explains:
        raise UserError(f"--heatmaps: {config.model} is a {model.name} baseline, which has no attention")
    if config.heatmaps and config.heatmaps_by == "group" and not model.semantics.num_groups:
        raise UserError(f"--heatmaps_by=group: {config.model} has no groups; use label or scale")
    heatmaps = HeatmapFiles(config.heatmaps, config.heatmaps_by) if config.heatmaps else None
    rows = []
    with ProgressBar("predicting", len(paths), "photos") as bar:
        for row in predicted_rows(model, paths, config.batch_size, heatmaps, bar.update):
            rows.append(row)
            if config.json:
                print_rows([row], config)
    if config.csv:
        print_csv(rows, model.labels)
    elif not config.json:
        print_rows(rows, config)
    if config.sheet and rows:
        write_sheet(rows, config.sheet)
    done = {row["photo"] for row in rows}
    bad = [path for path in paths if path not in done]
    for path in bad:
        say(f"error: {path}: is no photo that can be decoded ({why_unreadable(path)})", error=True)
    if bad:
        sys.exit(UNREADABLE_STATUS)


def predicted_rows(model, paths, batch_size, heatmaps=None, progress=None):
    """Rows of `predict_photos` for the photos that can be decoded, decoded while the model works.

    Args:
        heatmaps: `HeatmapFiles` or None.
        progress: called with the number of photos done.
    """
    forward = _forward(model, heatmaps.by if heatmaps else None)
    for indices, images in decoded_batches(paths, model.image_size, batch_size):
        # The last batch is filled up: the model is traced for one shape.
        padded = np.concatenate([images, np.zeros((batch_size - len(images), *images.shape[1:]), np.uint8)])
        scores, maps = _first(len(indices), forward(padded))
        rows = _rows(model, [paths[index] for index in indices], scores)
        if heatmaps:
            _add_heatmaps(model, rows, maps, heatmaps)
        yield from rows
        if progress:
            progress(int(indices[-1]) + 1)


def _forward(model, heatmaps_by):
    """A function of images: scores `[batch, C]`, and the scales' heat-maps of the same pass where they are wanted."""

    @tf.function
    def forward(images):
        if heatmaps_by is None:
            return model.calibrated(model(images, training=False)), []
        logits, maps = model.classify_and_explain(images, of="groups" if heatmaps_by == "group" else "labels")
        return model.calibrated(logits), maps

    return forward


def _first(count, outputs):
    """The first rows of each array of a nest of tensors."""
    return tf.nest.map_structure(lambda tensor: tensor.numpy()[:count], outputs)


def predict_photos(model, photos):
    """One row a photo: path, labels best first, their scores, and which are present.

    Args:
        photos: list of (path, uint8 `[size, size, 3]`).
    """
    return _rows(model, [path for path, _ in photos], model.probabilities(tf.stack([pixels for _, pixels in photos])))


def _rows(model, paths, scores):
    rows = []
    for path, row in zip(paths, scores, strict=True):
        order = np.argsort(-row, kind="stable")
        rows.append(
            {
                "photo": path,
                "labels": [model.labels[c] for c in order],
                "scores": [round(float(row[c]), 6) for c in order],
                "present": [model.labels[c] for c in order if row[c] >= model.thresholds[c]],
            }
        )
    return rows


def _add_heatmaps(model, rows, maps, heatmaps):
    """Writes heat-maps of a batch, and their files' paths into its rows."""
    by_group = heatmaps.by == "group"
    for index, row in enumerate(rows):
        if by_group:
            shown = dict(enumerate(group_names(model)))
        else:
            # A photo without a present label still gets one picture: where its best label looked.
            shown = {model.labels.index(label): label for label in row["present"] or row["labels"][:1]}
        photo = whole_photo(row["photo"])
        chosen = {name: [scale[index, c] for scale in maps] for c, name in shown.items()}
        row["heatmaps"] = heatmaps.write(row["photo"], photo, chosen)


def print_rows(rows, config):
    """The table, or a JSON line a photo."""
    if config.json:
        for row in rows:
            top = {key: row[key][: config.top_k] for key in ("labels", "scores")}
            say(json.dumps(row | top))
        return
    table = Table("photo", f"best {config.top_k} labels (present ones marked *)")
    for row in rows:
        best = zip(row["labels"][: config.top_k], row["scores"], strict=False)
        names = [f"{'*' if label in row['present'] else ''}{label} {score:.3f}" for label, score in best]
        table.add_row(os.path.basename(row["photo"]), "  ".join(names))
    print_table(table)


def print_csv(rows, labels):
    """A line a photo: its path, the present labels separated by `|`, and the score of each label.

    What a spreadsheet would compute (`=`, `+`, `-`, `@` in front) gets a `'` before it, which there means "text";
    control characters, and a `|` within a label, come as escapes.
    """
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(csv_text, ["photo", "present", *labels]))
    for row in rows:
        scores = dict(zip(row["labels"], row["scores"], strict=True))
        present = "|".join(label.replace("|", "\\|") for label in row["present"])
        writer.writerow([csv_text(row["photo"]), csv_text(present), *(scores[label] for label in labels)])


def csv_text(text):
    """Other people's text as a cell that neither a spreadsheet nor a terminal obeys (OWASP, "CSV injection")."""
    shown = printable(text)
    return f"'{shown}" if shown.lstrip().startswith(FORMULA_STARTS) else shown


def write_sheet(rows, path):
    """Many photos on one picture, each with its present labels."""
    cells = []
    for row in rows[:MOST_ON_SHEET]:
        photo = whole_photo(row["photo"])
        photo.thumbnail((SHEET_CELL, SHEET_CELL))
        scores = dict(zip(row["labels"], row["scores"], strict=True))
        present = ", ".join(f"{label} {scores[label]:.2f}" for label in row["present"]) or "no label"
        cells.append((photo, [present, os.path.basename(row["photo"])]))
    sheet = captioned_grid(cells, min(SHEET_COLUMNS, len(cells)), SHEET_CELL, lines=2)
    try:
        sheet.save(path)
    except (OSError, ValueError) as error:
        raise UserError(f"--sheet={path}: cannot be written ({error}); name a .png or .jpg file") from error
    left_out = f", the first of {len(rows)}" if len(rows) > len(cells) else ""
    say(f"sheet of {len(cells)} photos{left_out}: {path}", error=True)


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(PredictionConfig,), positional="PHOTO_OR_DIR_OR_PATTERN_OR_-...")
