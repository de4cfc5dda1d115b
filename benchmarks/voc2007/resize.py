"""What training loses when photos are shrunk without antialiasing, while evaluation shrinks them with it.

    PYTHONPATH=. python benchmarks/voc2007/resize.py --recipe=frozen --sizes=64,128,224 --seeds=0,1,2

`msrn_tf.data.decoding.training_resize` decides by what this found: it antialiases where a photo is more than a quarter
larger. Each side trains on `train` and scores `val` of VOC 2007, by the recipe of the study beside this, in processes
of its own. Runs that are there already are not run again.
"""

import multiprocessing
import os
from dataclasses import dataclass
from unittest import mock

import numpy as np
import study
from runs import scores_file
from variants import Variant

from msrn_tf import command_line
from msrn_tf.command_line import option
from msrn_tf.data import decoding, pipeline
from msrn_tf.evaluation.metrics import evaluate_scores
from msrn_tf.training import feature_cache

SIDES = {"antialiased": True, "plain": False}


@dataclass(frozen=True)
class ResizeConfig:
    """Resize"""

    recipe: str = option("frozen", "flagfile beside this, without .cfg", choices=("frozen", "finetuned"))
    sizes: tuple[int, ...] = option((64, 128, 224), "sides of the images", low=32)
    seeds: tuple[int, ...] = option((0, 1, 2), "a run for each seed, size and side")
    voc: str = option("../shared/voc2007/VOCdevkit", "folder of the data set", path="input")
    runs: str = option("runs/resize", "folder for feature maps, logs and scores", path="folder")


def main(config):
    print("size   " + "".join(f"{side:>24}" for side in SIDES) + f"{'difference':>14}", flush=True)
    for size in config.sizes:
        found = {}
        for side in SIDES:
            settings = study.StudyConfig(
                seeds=config.seeds, voc=config.voc, runs=os.path.join(config.runs, side), workers=1
            )
            variant = Variant(f"{size} pixels", (f"--image_size={size}",), config.recipe)
            found[side] = [mean_average_precision(settings, variant, seed, side) for seed in config.seeds]
        figures = "".join(f"{f'{np.mean(each):.2f} ({min(each):.2f}–{max(each):.2f})':>24}" for each in found.values())
        print(f"{size:4}   {figures}{np.mean(found['antialiased']) - np.mean(found['plain']):>+14.2f}", flush=True)


def mean_average_precision(settings, variant, seed, side):
    """Of one run, which is trained where it is not there; in a process of its own: TensorFlow keeps what it traced."""
    path = scores_file(settings, variant, seed)
    if not os.path.exists(path):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            _, _, outcome, failed = pool.apply(train, (settings, variant, seed, SIDES[side]))
        if failed:
            raise SystemExit(outcome)
    with np.load(path, allow_pickle=False) as run:
        return evaluate_scores(run["scores"], run["targets"], run["labels"].tolist(), None)["mAP"]


def train(settings, variant, seed, antialias):
    study.start_worker(len(os.sched_getaffinity(0)))

    def chosen(image, image_size):
        return decoding.resize(image, image_size, antialias=antialias)

    with (
        mock.patch.object(pipeline, "training_resize", chosen),
        mock.patch.object(feature_cache, "training_resize", chosen),
    ):
        return study.run_or_say_why((settings, variant, seed))


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(ResizeConfig,))
