"""What the demo came to: MSRN beside the baseline and chance, and a picture of the heat-maps."""

import glob
import json
import os
import sys

import numpy as np
from PIL import Image, ImageDraw

from msrn_tf.data.demo import Demo


def read_map(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)["mAP"]


def write_montage(run, path, rows=5, columns=6, size=150, caption=18):
    """A row for each of some photos: the photo, and its heat-map for each present label, named."""
    photos = sorted(glob.glob(os.path.join(run, "photos", "*.jpg")))[:rows]
    picture = Image.new("RGB", (columns * size, len(photos) * (size + caption)), "white")
    draw = ImageDraw.Draw(picture)
    for row, photo in enumerate(photos):
        name = os.path.splitext(os.path.basename(photo))[0]
        maps = sorted(glob.glob(os.path.join(run, "heatmaps", f"{name}_*.jpg")))
        for column, file in enumerate([photo, *maps][:columns]):
            corner = (column * size, row * (size + caption))
            with Image.open(file) as image:
                picture.paste(image.resize((size - 4, size - 4), Image.Resampling.LANCZOS), corner)
            label = os.path.splitext(os.path.basename(file))[0].removeprefix(name).strip("_") or "photo"
            draw.text((corner[0] + 4, corner[1] + size - 4), label, fill="black", font_size=14)
    picture.save(path)


if __name__ == "__main__":
    run = sys.argv[1]
    write_montage(run, os.path.join(run, "heatmaps.png"))
    # The average precision of random scores is the share of images that show the label.
    chance = 100 * np.mean(Demo().read("test").targets == 1)
    print(f"== mAP on the test split: MSRN {read_map(os.path.join(run, 'metrics.json')):.2f}, "
          f"gmp {read_map(os.path.join(run, 'gmp', 'metrics.json')):.2f}, chance {chance:.2f}")  # fmt: skip
    print(
        f"results in {run}: model.keras, metrics.json, report.html, heatmaps/, heatmaps.png, model.tflite, tensorboard/"
    )
