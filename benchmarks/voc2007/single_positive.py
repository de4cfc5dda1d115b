"""What each policy for labels that are not listed gives, where one label a photo is: docs/results.md.

    PYTHONPATH=. python benchmarks/voc2007/single_positive.py --group=single_positive --seeds=0,1,2,3,4
    PYTHONPATH=. python benchmarks/voc2007/tables.py --group=single_positive --phase=final

Of each photo of `train` and `val` one of the present labels is kept, drawn by the seed (Cole et al., arXiv 2106.09708);
of no other label anything is said, of *difficult* objects neither. The scores are of all labels of `test`.
"""

import dataclasses
import os
import time

import numpy as np
from heads import Heads
from runs import RunsConfig, keep_scores, scores_file
from variants import select

from msrn_tf import command_line
from msrn_tf.command_line import option
from msrn_tf.data.readers import open_dataset, read_split
from msrn_tf.evaluation.metrics import evaluate_scores


@dataclasses.dataclass(frozen=True)
class SinglePositiveConfig(RunsConfig):
    """Study of unlisted labels"""

    group: str = option("single_positive", "variants to train: single_positive, single_positive_msrn")
    phase: str = option("final", "train on train and val, and score test", choices=("final",))


def main(config):
    reader = open_dataset("voc2007", config.voc)
    training, test = read_split(reader, "trainval"), read_split(reader, "test")
    heads = Heads(os.path.join(config.runs, "features"), reader.labels, training, test)
    for seed in config.seeds:
        for variant in select(config.group, config.only):
            path = scores_file(config, variant, seed)
            if os.path.exists(path):
                continue
            started = time.perf_counter()
            targets = one_positive(training.targets, seed) if variant.single_positive else training.targets
            scores, parameters = heads.run(variant, seed, targets)
            seconds = time.perf_counter() - started
            keep_scores(path, scores, test.targets, reader.labels, seconds, parameters)
            found = evaluate_scores(scores, test.targets, reader.labels, np.full(len(reader.labels), 0.5))["mAP"]
            print(f"{variant.name:40} seed {seed}  mAP {found:.2f}  {seconds:.0f} s", flush=True)


def one_positive(targets, seed):
    """Targets with one present label of each row that has any, and nothing else listed; int8 `[N, C]`."""
    draws = np.random.default_rng(seed).random(targets.shape)
    chosen = np.where(targets == 1, draws, -1.0).argmax(axis=1)
    kept = np.zeros_like(targets)
    rows = np.flatnonzero((targets == 1).any(axis=1))
    kept[rows, chosen[rows]] = 1
    return kept


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(SinglePositiveConfig,))
