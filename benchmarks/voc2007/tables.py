"""Tables of the study's scores: mean ± standard deviation over seeds, paired bootstrap intervals.

    PYTHONPATH=. python benchmarks/voc2007/tables.py --group=graph --phase=tune --reference=msrn

The difference of two variants is the mean over the seeds that both have, on the same photos; its interval is the middle
95 % over resamples of the photos, the same for both (`msrn_tf.evaluation.bootstrap`).
"""

import dataclasses
import glob
import os

import numpy as np
from runs import PHASES
from variants import GROUPS, select

from msrn_tf import command_line
from msrn_tf.command_line import option
from msrn_tf.errors import UserError
from msrn_tf.evaluation.bootstrap import bootstrap, interval, mean_over_labels, weighted_average_precision


@dataclasses.dataclass(frozen=True)
class TablesConfig:
    """Tables"""

    group: str = option("", f"variants to set side by side: {', '.join(GROUPS)}")
    phase: str = option("tune", "tune: scores on val; final: scores on test", choices=tuple(PHASES))
    reference: str = option("", "variant that the others are compared with; empty: the first that was trained")
    only: tuple[str, ...] = option(
        (), "a variant of the group by name; may be given several times; without: all", repeated=True
    )
    rarest: int = option(0, "a column for the mean of so many labels that the fewest photos show; 0: none", low=0)
    labels: bool = option(False, "average precision of each label, of the reference and of the others")
    resamples: int = option(1000, "bootstrap resamples of the photos", low=1)
    runs: str = option("runs/voc2007", "folder that study.py or jax_study.py wrote", path="input")


@dataclasses.dataclass(frozen=True)
class Runs:
    """Runs of one variant, a seed each.

    Attributes:
        seeds: of the runs, in the order of the arrays.
        precisions: `[seeds, 1 + C]`, mAP and the average precision of each label, in percent.
        resampled: `[seeds, resamples, 1 + C]`.
        counts: `[C]`, how many of the photos show each label.
        seconds, parameters: of training and scoring, the mean; of what is trained.
    """

    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    precisions: np.ndarray
    resampled: np.ndarray
    counts: np.ndarray
    seconds: float
    parameters: int


def main(config):
    found = group_runs(config, config.group, config.phase, config.only)
    reference = config.reference or next(iter(found), "")
    if reference not in found:
        raise UserError(f"--runs={config.runs}: no run of {reference or config.group!r} there; train it first")
    print(label_table(found, reference) if config.labels else mean_table(found, reference, config.rarest))


def group_runs(config, group, phase, only=()):
    """`Runs` by name of the variants of a group that were trained."""
    files = {variant.name: scores_files(config, variant, phase) for variant in select(group, only)}
    return {name: read_runs(paths, config.resamples) for name, paths in files.items() if paths}


def scores_files(config, variant, phase):
    """`scores.npz` files by seed."""
    paths = glob.glob(os.path.join(variant.folder(config.runs, phase), "seed*", "scores.npz"))
    by_seed = {int(os.path.basename(os.path.dirname(path)).removeprefix("seed")): path for path in paths}
    return dict(sorted(by_seed.items()))


def read_runs(files, resamples):
    """`Runs` of `scores.npz` files of the same photos, by seed."""
    precisions, resampled, seconds = [], [], []
    for path in files.values():
        with np.load(path) as run:
            scores, targets, labels = run["scores"], run["targets"], run["labels"]
            seconds.append(float(run["seconds"]))
            parameters = int(run["parameters"])

        def measured(weights, scores=scores, targets=targets):
            values = 100 * weighted_average_precision(scores, targets, weights)
            return np.column_stack([mean_over_labels(values), values])

        precisions.append(measured(np.ones((1, len(targets))))[0])
        resampled.append(bootstrap(measured, len(targets), resamples))
    return Runs(
        tuple(labels.tolist()),
        tuple(files),
        np.stack(precisions),
        np.stack(resampled),
        (targets == 1).sum(axis=0),
        float(np.mean(seconds)),
        parameters,
    )


def difference(runs, reference):
    """`[1 + C, 3]`: difference of means over the seeds of both, and its interval's ends."""
    shared = set(runs.seeds) & set(reference.seeds)
    if not shared:
        raise UserError("two variants have no seed in common; train both with the same --seeds")
    precisions, resampled = [], []
    for one in (runs, reference):
        rows = [one.seeds.index(seed) for seed in sorted(shared)]
        precisions.append(one.precisions[rows].mean(axis=0))
        resampled.append(one.resampled[rows].mean(axis=0))
    return np.column_stack([precisions[0] - precisions[1], interval(resampled[0] - resampled[1])])


def mean_table(found, reference, rarest=0):
    """Markdown: a row a variant."""
    more = [f"{rarest} rarest labels"] if rarest else []
    columns = ["variant", "seeds", "mAP", "difference", "labels that gain, lose", *more]
    columns += ["trained parameters", "seconds"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    rare = np.argsort(found[reference].counts, kind="stable")[:rarest]
    for name, runs in found.items():
        maps = runs.precisions[:, 0]
        spread = f" ± {maps.std(ddof=1):.2f}" if len(maps) > 1 else ""
        compared = ["", ""]
        if name != reference:
            found_difference = difference(runs, found[reference])
            value, low, high = found_difference[0]
            gained, lost = (found_difference[1:, 1] > 0).sum(), (found_difference[1:, 2] < 0).sum()
            compared = [f"{value:+.2f} [{low:+.2f}, {high:+.2f}]", f"{gained}, {lost}"]
        cells = [
            name,
            len(maps),
            f"{maps.mean():.2f}{spread}",
            *compared,
            *([f"{runs.precisions[:, 1 + rare].mean():.2f}"] if rarest else []),
            f"{runs.parameters:,}",
            f"{runs.seconds:.0f}",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def label_table(found, reference):
    """Markdown: a row a label; differences in bold where the interval leaves 0 out."""
    others = [name for name in found if name != reference]
    lines = ["| label | " + " | ".join([reference, *others]) + " |", "|---" * (2 + len(others)) + "|"]
    differences = [difference(found[name], found[reference]) for name in others]
    for row, label in enumerate(("mean", *found[reference].labels)):
        cells = [label, f"{found[reference].precisions[:, row].mean():.1f}"]
        for values in differences:
            value, low, high = values[row]
            text = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
            cells.append(f"**{text}**" if low > 0 or high < 0 else text)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(TablesConfig,))
