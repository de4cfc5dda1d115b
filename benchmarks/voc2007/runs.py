"""The runs of the study: which there are, the choices of each, and where its scores are kept."""

import dataclasses
import os

import numpy as np
from absl import flags
from absl.testing import flagsaver
from variants import GROUPS, Variant

from msrn_tf import command_line
from msrn_tf.command_line import option
from msrn_tf.config import ModelConfig, OptimizationConfig, RunConfig, TrainingDataConfig
from msrn_tf.flagfile import expanded

FOLDER = os.path.dirname(os.path.abspath(__file__))
CONFIGS = (TrainingDataConfig, ModelConfig, OptimizationConfig, RunConfig)
PHASES = {"tune": ("train", "val"), "final": ("trainval", "test")}
"""Name → the splits to train and to score on."""


@dataclasses.dataclass(frozen=True)
class RunsConfig:
    """Study"""

    group: str = option("", f"variants to train: {', '.join(GROUPS)}")
    only: tuple[str, ...] = option(
        (), "a variant of the group by name; may be given several times; without: all", repeated=True
    )
    phase: str = option("tune", "train on train and score val, or on trainval and score test", choices=tuple(PHASES))
    seeds: tuple[int, ...] = option((0, 1, 2, 3, 4), "a run for each seed")
    voc: str = option("../shared/voc2007/VOCdevkit", "folder of the data set", path="input")
    runs: str = option("runs/voc2007", "folder for feature maps, logs and scores", path="folder")


def choices(variant: Variant, *more: str) -> tuple:
    """The dataclasses `CONFIGS` of a variant's flags, and of further ones."""
    recipe = os.path.relpath(os.path.join(FOLDER, variant.recipe))
    return parsed(f"--flagfile={recipe}.cfg", *variant.flags, *more)


def parsed(*arguments: str) -> tuple:
    """The dataclasses `CONFIGS` of the words after `python -m msrn_tf.train`."""
    with flagsaver.flagsaver():
        for config in CONFIGS:
            if dataclasses.fields(config)[0].name not in flags.FLAGS:
                command_line.define_flags(config)
        flags.FLAGS(expanded(["train", *arguments]))
        return tuple(map(command_line.from_flags, CONFIGS))


def run_folder(study: RunsConfig, variant: Variant, seed: int) -> str:
    """Of one run."""
    return os.path.join(variant.folder(study.runs, study.phase), f"seed{seed}")


def scores_file(study: RunsConfig, variant: Variant, seed: int) -> str:
    """What `keep_scores` writes."""
    return os.path.join(run_folder(study, variant, seed), "scores.npz")


def keep_scores(path: str, scores: np.ndarray, targets: np.ndarray, labels, seconds: float, parameters: int) -> None:
    """What `tables.py` reads: scores and targets `[photos, C]`, seconds of the run, number of trained parameters."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    np.savez(path, scores=scores, targets=targets, labels=np.array(labels), seconds=seconds, parameters=parameters)


def trained_parameters(model) -> int:
    """How many numbers training may change."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
