"""`python -m msrn_tf.predict`: names what is in photos, and shows where the model looked."""

import dataclasses
import json
import os
import sys

import numpy as np
import tensorflow as tf
from PIL import Image
from rich.console import Console
from rich.table import Table

from msrn_tf import command_line
from msrn_tf.config import option
from msrn_tf.data.decoding import decode, evaluation_pixels
from msrn_tf.data.photos import find_photos
from msrn_tf.errors import UserError
from msrn_tf.models.factory import load_model
from msrn_tf.progress import ProgressBar
from msrn_tf.visualization.heatmaps import combine_scales, overlay


@dataclasses.dataclass(frozen=True)
class PredictionConfig:
    """Prediction"""

    model: str = option("", "model.keras, as msrn_tf.train writes it")
    top_k: int = option(5, "labels to print for a photo", low=1)
    json: bool = option(False, "print a JSON line a photo instead of a table")
    heatmaps: str = option("", "folder for heat-maps: for each present label, the photo with its attention")
    batch_size: int = option(16, "photos at a time", low=1)


def main(arguments, config):
    """Predicts as configured. Photos that cannot be decoded are named at the end, and the exit status is then 2."""
    if not config.model:
        raise UserError("--model is missing: give the model.keras to predict with")
    paths = find_photos(arguments)
    model = load_model(config.model)
    if config.heatmaps:
        if not hasattr(model, "attention_maps"):
            raise UserError(f"--heatmaps: {config.model} is a {model.name} baseline, which has no attention")
        os.makedirs(config.heatmaps, exist_ok=True)
    rows, bad = [], []
    with ProgressBar("predicting", len(paths), "photos") as bar:
        for start in range(0, len(paths), config.batch_size):
            photos, refused = read_photos(paths[start : start + config.batch_size], model.image_size)
            bad += refused
            if photos:
                rows += predict_photos(model, photos, config.heatmaps)
            bar.update(min(len(paths), start + config.batch_size))
    print_rows(rows, config)
    for path, reason in bad:
        print(f"error: {path}: is no photo that can be decoded ({reason})", file=sys.stderr)
    if bad:
        sys.exit(UserError.exit_status)


def read_photos(paths, image_size):
    """`(photos, refused)`: (path, uint8 `[size, size, 3]`) of what can be decoded, (path, reason) of the rest."""
    photos, refused = [], []
    for path in paths:
        try:
            photos.append((path, evaluation_pixels(tf.io.read_file(path), image_size)))
        except tf.errors.OpError as error:
            refused.append((path, error.message.splitlines()[0].split("} ")[-1][:160]))
    return photos, refused


def predict_photos(model, photos, heatmaps=""):
    """One row a photo: path, labels best first, their scores, which are present, and heat-map files."""
    images = tf.stack([pixels for _, pixels in photos])
    scores = model.probabilities(images)
    maps = [np.asarray(scale) for scale in model.attention_maps(images)] if heatmaps else None
    rows = []
    for index, (path, _) in enumerate(photos):
        order = np.argsort(-scores[index], kind="stable")
        present = [int(c) for c in order if scores[index, c] >= model.thresholds[c]]
        row = {
            "photo": path,
            "labels": [model.labels[c] for c in order],
            "scores": [round(float(scores[index, c]), 6) for c in order],
            "present": [model.labels[c] for c in present],
        }
        if heatmaps:
            # A photo without a present label still gets one picture: where its best label looked.
            shown = present or [int(order[0])]
            row["heatmaps"] = write_heatmaps(
                path, {model.labels[c]: [m[index, c] for m in maps] for c in shown}, heatmaps
            )
        rows.append(row)
    return rows


def write_heatmaps(path, maps_by_label, folder):
    """Writes `PHOTO_LABEL.jpg` for each label; returns the files' paths."""
    photo = Image.fromarray(decode(tf.io.read_file(path)).numpy())
    name, written = os.path.splitext(os.path.basename(path))[0], []
    for label, maps in maps_by_label.items():
        file = os.path.join(folder, f"{name}_{label.replace('/', '-').replace(' ', '_')}.jpg")
        overlay(photo, combine_scales(maps, photo.size)).save(file, quality=92)
        written.append(file)
    return written


def print_rows(rows, config):
    """The table, or a JSON line a photo."""
    if config.json:
        for row in rows:
            top = {key: row[key][: config.top_k] for key in ("labels", "scores")}
            print(json.dumps(row | top))
        return
    table = Table("photo", f"best {config.top_k} labels (present ones marked *)", highlight=False)
    for row in rows:
        best = zip(row["labels"][: config.top_k], row["scores"], strict=False)
        names = [f"{'*' if label in row['present'] else ''}{label} {score:.3f}" for label, score in best]
        table.add_row(os.path.basename(row["photo"]), "  ".join(names))
    Console(soft_wrap=not sys.stdout.isatty()).print(table)


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(PredictionConfig,), positional="PHOTO_OR_DIR...")
