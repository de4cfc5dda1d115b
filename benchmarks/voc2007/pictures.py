"""Pictures of the study's scores: average precision by label, differences of the ablations, curves.

PYTHONPATH=. python benchmarks/voc2007/pictures.py --output=docs/images
"""

import dataclasses
import json
import os

import matplotlib
import numpy as np
from tables import difference, group_runs, scores_files
from variants import BASELINE, BEST, GROUPS

from msrn_tf import command_line
from msrn_tf.command_line import option
from msrn_tf.evaluation.metrics import precision_recall_curve

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {"msrn": "#1f5fa8", "baseline": "#9a9a9a", "gain": "#2a7f3e", "loss": "#b3362b", "none": "#777777"}


@dataclasses.dataclass(frozen=True)
class PicturesConfig:
    """Pictures"""

    output: str = option("docs/images", "folder for the pictures", path="folder")
    runs: str = option("runs/voc2007", "folder that study.py wrote", path="input")
    resamples: int = option(1000, "bootstrap resamples of the photos", low=1)


def main(config):
    os.makedirs(config.output, exist_ok=True)
    finetuned = group_runs(config, "best_finetuned", "final")
    save(draw_labels(finetuned[BEST], finetuned[BASELINE]), config.output, "voc2007_labels.png")
    save(draw_curves(config), config.output, "voc2007_curves.png")
    save(draw_differences(config), config.output, "voc2007_ablations.png")


def save(figure, folder, name):
    path = os.path.join(folder, name)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
    print(path)


def draw_labels(best, baseline):
    """Average precision of each label of both models, the labels in order of the difference."""
    values = difference(best, baseline)[1:]
    order = np.argsort(values[:, 0])
    means = [runs.precisions.mean(axis=0)[1:][order] for runs in (baseline, best)]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 6), sharey=True, width_ratios=(3, 2))
    rows = np.arange(len(order))
    left.hlines(rows, *means, color="#cccccc", lw=3)
    left.plot(means[0], rows, "o", color=COLOURS["baseline"], label=BASELINE)
    left.plot(means[1], rows, "o", color=COLOURS["msrn"], label=BEST)
    left.set_yticks(rows, np.array(best.labels)[order])
    left.set_xlabel("average precision on test, %")
    left.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    draw_intervals(right, rows, values[order])
    right.set_xlabel("difference, 95 % interval")
    return figure


def draw_intervals(axes, rows, values):
    """Differences `[rows, 3]` with their intervals, coloured where 0 lies outside."""
    for row, (value, low, high) in zip(rows, values, strict=True):
        colour = COLOURS["gain"] if low > 0 else COLOURS["loss"] if high < 0 else COLOURS["none"]
        axes.plot([low, high], [row, row], color=colour, lw=2)
        axes.plot(value, row, "o", color=colour)
    axes.axvline(0, color="black", lw=0.8)


def draw_differences(config):
    """Every ablation's difference of mAP from its group's first variant."""
    names, values = [], []
    for group in ("semantics", "graph", "head", "scales"):
        runs = group_runs(config, group, "tune")
        reference = next(iter(runs), None)
        for name in list(runs)[1:]:
            names.append(f"{name}  (against {reference})")
            values.append(difference(runs[name], runs[reference])[0])
    figure, axes = plt.subplots(figsize=(9, 0.28 * len(names) + 1))
    draw_intervals(axes, range(len(names)), values)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("difference of mAP on val, 95 % interval")
    return figure


def draw_curves(config):
    """Loss by epoch of the fine-tuned models, and precision over recall of all labels together on test."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for variant in GROUPS["best_finetuned"]:
        files = list(scores_files(config, variant, "final").values())
        if not files:
            continue
        with open(os.path.join(os.path.dirname(files[0]), "metrics.jsonl"), encoding="utf-8") as file:
            epochs = [json.loads(line) for line in file]
        left.plot([e["epoch"] for e in epochs], [e["classification_loss"] for e in epochs], "o-", label=variant.name)
        with np.load(files[0]) as run:
            precision, recall, _ = precision_recall_curve(run["scores"], run["targets"])
        right.plot(recall, precision, label=variant.name)
    left.set(xlabel="epoch", ylabel="classification loss in training", ylim=(0, None))
    right.set(xlabel="recall", ylabel="precision, all labels together, test", xlim=(0, 1), ylim=(0.4, 1.01))
    right.legend(frameon=False, loc="lower left")
    return figure


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(PicturesConfig,))
