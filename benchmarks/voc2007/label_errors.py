"""Are wrong labels found, and is it worth it? Some labels of VOC 2007 are flipped; docs/labels.md has the answer.

    PYTHONPATH=. python benchmarks/voc2007/label_errors.py --seeds=0,1,2

For each seed, 5 % of the labels known of `train` and `val` are flipped, `msrn_tf.check_labels` lists as many suspects,
and it is counted how many of those were flipped. A person who looks at them is played by the labels as they were: what
was flipped and is on the list is put right, by a file of corrections; what is not on it stays wrong. Heads (global
average pooling, frozen MobileNetV2, 288 pixels) are trained on the labels as they were, flipped, and corrected.
"""

import csv
import dataclasses
import json
import os

import numpy as np
from heads import Heads
from variants import select

from msrn_tf import check_labels, command_line
from msrn_tf.command_line import option
from msrn_tf.config import DataConfig
from msrn_tf.data.corrections import STATES, Decision, corrections_text
from msrn_tf.data.readers import open_dataset, read_split
from msrn_tf.errors import UserError
from msrn_tf.evaluation.metrics import evaluate_scores
from msrn_tf.files import replacing

SPLIT, DATA = "trainval", "data"
STEPS = (0.01, 0.02, 0.03, 0.04, 0.05)


@dataclasses.dataclass(frozen=True)
class LabelErrorsConfig:
    """Flipped labels"""

    seeds: tuple[int, ...] = option((0, 1, 2), "of flips, folds and training; a run for each")
    flipped: float = option(0.05, "part of the known labels that is flipped, and that is looked at", low=0.0, high=0.5)
    voc: str = option("../shared/voc2007/VOCdevkit", "folder of the data set", path="input")
    weights: str = option(
        "../shared/weights/mobilenet_v2_1.0_224_notop.weights.h5", "ImageNet weights of the backbone", path="input"
    )
    runs: str = option("runs/voc2007", "folder for feature maps and tables", path="folder")


def main(config):
    reader = open_dataset("voc2007", config.voc)
    training, test = read_split(reader, SPLIT), read_split(reader, "test")
    heads = Heads(os.path.join(config.runs, "features"), reader.labels, training, test)
    results = [result_of(heads, seed, config) for seed in config.seeds]
    if not results:
        raise UserError("--seeds: is empty; give a run's seed")
    print_means(results)


def result_of(heads, seed, config):
    """What a seed's run found, a dict; one that is there already is read."""
    folder = os.path.join(config.runs, "label_errors", f"seed{seed}")
    path = os.path.join(folder, "result.json")
    if not os.path.exists(path):
        os.makedirs(os.path.join(folder, DATA), exist_ok=True)
        result = _run(heads, folder, seed, config)
        with replacing(path) as file:
            json.dump(result, file)
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _run(heads, folder, seed, config):
    truth, labels = heads.training.targets, heads.labels
    flips = drawn_flips(truth, config.flipped, seed)
    wrong = heads.training.with_targets(np.where(flips, 1 - truth, truth))
    write_table(os.path.join(folder, DATA, "labels.csv"), labels, {SPLIT: wrong})
    suspects = find_suspects(folder, int(flips.sum()), seed, config)
    where = places(suspects, wrong.ids, labels)
    known, found = int((truth >= 0).sum()), np.array([flips[place] for place in where])
    targets = {
        "as they were": truth,
        "flipped": wrong.targets,
        "corrected": corrected(folder, "corrected", suspects, [truth[place] for place in where]),
        "as suggested": corrected(folder, "as suggested", suspects, [STATES[row["suggestion"]] for row in suspects]),
    }
    (variant,) = select("single_positive", ["gap, all labels"])
    hits = {f"{step:.0%}": int(found[: round(step * known)].sum()) for step in STEPS}
    result = {
        "known": known,
        "flips": int(flips.sum()),
        "of present": int((flips & (truth == 1)).sum()),
        "looked at": {f"{step:.0%}": min(round(step * known), len(found)) for step in STEPS},
        "hits": hits,
        "mAP": {name: mean_average_precision(heads, variant, seed, value) for name, value in targets.items()},
    }
    print(f"seed {seed}: {result}", flush=True)
    return result


def drawn_flips(targets, part, seed):
    """Which labels are flipped, bool `[N, C]`: a part of those that are known, drawn with equal chances."""
    known = np.flatnonzero(targets.ravel() >= 0)
    flips = np.zeros(targets.size, bool)
    flips[np.random.default_rng(seed).choice(known, round(part * len(known)), replace=False)] = True
    return flips.reshape(targets.shape)


def write_table(path, labels, splits):
    """Examples by split as a table for `--dataset=csv`; photos are found by a link `JPEGImages` beside it."""
    link = os.path.join(os.path.dirname(path), "JPEGImages")
    with replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "labels", "split"])
        for split, examples in splits.items():
            for example in examples:
                if not os.path.lexists(link):
                    os.symlink(os.path.abspath(os.path.dirname(example.image_path)), link)
                named = zip(labels, example.target, strict=True)
                marks = [("?" if value < 0 else "") + label for label, value in named if value]
                writer.writerow([f"JPEGImages/{os.path.basename(example.image_path)}", "|".join(marks), split])


def find_suspects(folder, count, seed, config):
    """Rows of what `msrn_tf.check_labels` lists of a folder's table."""
    path = os.path.join(folder, "suspects.csv")
    check_labels.main(
        DataConfig(dataset="csv", data_dir=os.path.join(folder, DATA)),
        check_labels.CheckLabelsConfig(
            split=SPLIT, backbone="mobilenet_v2", backbone_weights=config.weights, seed=seed, most=count, output=path,
            cache_features=os.path.join(config.runs, "features"), augment="flip",
            page=os.path.join(folder, "page.html"),
        ),
    )  # fmt: skip
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def places(suspects, ids, labels):
    """(row, column) of each suspect; the table's photos are called as its rows, VOC's by their numbers."""
    rows = {f"JPEGImages/{image_id}.jpg": row for row, image_id in enumerate(ids)}
    return [(rows[row["photo"]], labels.index(row["label"])) for row in suspects]


def corrected(folder, name, suspects, decisions):
    """Targets of the table read with a file of these decisions."""
    path = os.path.join(folder, f"{name.replace(' ', '_')}.csv")
    rows = [
        Decision(row["photo"], row["label"], STATES[row["annotated"]], int(decision), 0)
        for row, decision in zip(suspects, decisions, strict=True)
    ]
    with replacing(path) as file:
        file.write(corrections_text(rows))
    return read_split(open_dataset("csv", os.path.join(folder, DATA), corrections=path), SPLIT).targets


def mean_average_precision(heads, variant, seed, targets):
    scores, _ = heads.run(variant, seed, targets)
    return evaluate_scores(scores, heads.test.targets, heads.labels, np.full(len(heads.labels), 0.5))["mAP"]


def print_means(results):
    for result in results:
        print(f"{result['flips']} of {result['known']} labels flipped, {result['of present']} of them were present")
    print("\n| looked at | flipped of those | of all flips |\n|---|---|---|")
    for step in results[0]["hits"]:
        right = [result["hits"][step] / result["looked at"][step] for result in results]
        found = [result["hits"][step] / result["flips"] for result in results]
        print(f"| {step} | {percent(right)} | {percent(found)} |")
    maps = np.array([list(result["mAP"].values()) for result in results])
    spreads = maps.std(axis=0, ddof=1) if len(maps) > 1 else np.zeros(maps.shape[1])
    won = (maps - maps[:, 1:2]) / (maps[:, :1] - maps[:, 1:2])
    print("\n| trained on labels | mAP on test | won back of the loss |\n|---|---|---|")
    for column, name in enumerate(results[0]["mAP"]):
        back = percent(won[:, column]) if column > 1 else ""
        print(f"| {name} | {maps[:, column].mean():.2f} ± {spreads[column]:.2f} | {back} |")


def percent(values):
    """The mean, and of several the smallest and the largest."""
    between = f" ({min(values):.0%}–{max(values):.0%})" if len(values) > 1 else ""
    return f"{np.mean(values):.0%}{between}"


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(LabelErrorsConfig,))
