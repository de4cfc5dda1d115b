"""What the demo came to: MSRN beside the baseline and chance, and a picture of the heat-maps."""

import glob
import json
import os
import sys

import numpy as np
from PIL import Image

from msrn_tf.data.demo import Demo
from msrn_tf.data.example import targets_of


def read_map(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)["mAP"]


def write_montage(folder, path, columns=6, size=192):
    """The first heat-maps in one picture."""
    files = sorted(glob.glob(os.path.join(folder, "*.jpg")))[: 3 * columns]
    picture = Image.new("RGB", (columns * size, -(-len(files) // columns) * size), "white")
    for index, file in enumerate(files):
        with Image.open(file) as image:
            picture.paste(image.resize((size, size)), (index % columns * size, index // columns * size))
    picture.save(path)


if __name__ == "__main__":
    run = sys.argv[1]
    write_montage(os.path.join(run, "heatmaps"), os.path.join(run, "heatmaps.png"))
    # The average precision of random scores is the share of images that show the label.
    chance = 100 * np.mean(targets_of(Demo().read("test")) == 1)
    print(f"== mAP on the test split: MSRN {read_map(os.path.join(run, 'metrics.json')):.2f}, "
          f"gmp {read_map(os.path.join(run, 'gmp', 'metrics.json')):.2f}, chance {chance:.2f}")  # fmt: skip
    print(f"results in {run}: model.keras, metrics.json, heatmaps/, heatmaps.png, tensorboard/")
