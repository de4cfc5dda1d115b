"""`python -m msrn_tf.evaluate`: measures a trained model on a labelled split.

docs/evaluation.md explains the figures.
"""

import contextlib
import dataclasses
import json
import os
from typing import Any

from msrn_tf import command_line
from msrn_tf.config import DataConfig, option
from msrn_tf.data.examples import Reader
from msrn_tf.data.label_choice import for_labels, shown
from msrn_tf.data.readers import read_split
from msrn_tf.errors import UserError, argument
from msrn_tf.evaluation.bootstrap import metric_intervals, paired_comparison
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.evaluation.faithfulness import check_heatmaps, found_pairs
from msrn_tf.evaluation.measurement import THRESHOLDS, Measurement, Protocol, measure
from msrn_tf.evaluation.metrics import FIGURES
from msrn_tf.files import write_beside
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.factory import load_model
from msrn_tf.models.taps import fixed_size
from msrn_tf.progress import ProgressBar
from msrn_tf.report.page import report_page
from msrn_tf.terminal import Table, print_table, say
from msrn_tf.training.distribution import check_batch_size, make_strategy
from msrn_tf.visualization.heatmaps import combine_scales


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation"""

    model: str = option("", "model.keras written by msrn_tf.train", path="input")
    split: str = option("test", "split to measure on")
    baseline: str = option("", "another model.keras to compare with on the same photos", path="input")
    thresholds: str = option(
        "model",
        "model: the model's own (0.5 until calibrated); fixed: 0.5; calibrated: best F1 on --calibration_split",
        choices=THRESHOLDS,
    )
    calibration_split: str = option("", "split for --thresholds=calibrated; must not be the measured one")
    i_know_this_is_optimistic: bool = option(False, "allow thresholds that were fitted to the measured photos")
    image_sizes: tuple[int, ...] = option(
        (), "sizes in pixels to warp photos to; logits are averaged over them; empty: the model's size"
    )
    flip: bool = option(False, "average over photos and their mirror images")
    bootstrap: int = option(1000, "resamples for 95 % intervals; 0: none", low=0)
    seed: int = option(0, "seed of the resamples", low=0)
    batch_size: int = option(32, "images per batch, over all devices", low=1)
    strategy: str = option("mirrored", "all devices of this machine (mirrored), or one", choices=("mirrored", "one"))
    num_cpu_replicas: int = option(1, "logical CPU devices, to try mirroring without GPUs; 1: off", low=1)
    output: str = option("", "file for the metrics (.json)", path="file")
    report: str = option("", "file for the report (.html)", path="file")
    report_photos: int = option(2, "best and worst photos of each label in the report: this many of each", low=1)
    report_maps: int = option(24, "photos on which the report checks heat-maps; 0: none", low=0)


def main(data: DataConfig, config: EvaluationConfig) -> None:
    """Evaluates as configured."""
    check_flags(config)
    strategy = make_strategy(config.strategy, config.num_cpu_replicas)
    check_batch_size(config.batch_size, strategy)
    reader = data.open(config.split)
    protocol = Protocol(
        data.dataset,
        config.split,
        config.thresholds,
        config.calibration_split,
        config.image_sizes,
        config.flip,
        config.i_know_this_is_optimistic,
    )
    examples = read_split(reader, config.split, data.drop_unlabelled)
    with strategy.scope():
        models = load_models(config)

    def measured(name):
        model = models[name]
        evaluator = Evaluator(model, config.batch_size, strategy, config.image_sizes, config.flip)
        ordered = for_labels(examples, reader, model.labels, name)
        with ProgressBar(f"evaluating --{name}", len(examples) * max(1, len(evaluator.image_sizes))) as bar:
            return measure(evaluator, ordered, protocol, reader, bar.update, data.max_pixels)

    found = measured("model")
    metrics = found.metrics
    if config.bootstrap:
        with ProgressBar("bootstrap", config.bootstrap, "resamples") as bar:
            metrics["intervals"] = metric_intervals(
                found.scores, found.targets, found.model.labels, found.thresholds, config.bootstrap, config.seed,
                bar.update,
            )  # fmt: skip
    if config.baseline:
        if metrics["mAP"] is None:
            raise UserError(
                f"--split={config.split}: no image in it shows a label, so --baseline has nothing to compare"
            )
        other = measured("baseline")
        order = [other.model.labels.index(label) for label in found.model.labels]
        with ProgressBar("comparing", config.bootstrap, "resamples") as bar:
            metrics["comparison"] = paired_comparison(
                found.scores, other.scores[:, order], found.targets, found.model.labels, config.bootstrap, config.seed,
                bar.update,
            )  # fmt: skip
    print_metrics(metrics)
    if config.output:
        write_beside(config.output, json.dumps(metrics, indent=2, ensure_ascii=False))
        say(f"written to {config.output}")
    if config.report:
        write_report(found, metrics, reader, data, config)


def load_models(config: EvaluationConfig) -> dict[str, MultiLabelClassifier]:
    """By flag, `model` and where it is given `baseline`. What they cannot do is refused before anything is measured.

    Raises:
        UserError: a file is no model, takes photos of one size and `image_sizes` has others, or the baseline lacks
            labels of the model.
    """
    models = {}
    for name, path in (("model", config.model), ("baseline", config.baseline)):
        if not path:
            continue
        with argument(name):
            models[name] = load_model(path)
        size = fixed_size(models[name].backbone)
        if size and set(config.image_sizes) - {size}:
            sizes = ",".join(map(str, config.image_sizes))
            raise UserError(f"--image_sizes={sizes}: --{name} takes photos of {size} pixels alone; leave it out")
    known = models.get("baseline", models["model"]).labels
    if unknown := [label for label in models["model"].labels if label not in known]:
        raise UserError(f"--baseline={config.baseline}: does not know {shown(unknown)}, which --model does")
    return models


def write_report(
    found: Measurement, metrics: dict[str, Any], reader: Reader, data: DataConfig, config: EvaluationConfig
) -> None:
    """Writes the page about a measurement."""
    checked = None
    pairs = found_pairs(found.scores, found.targets, found.thresholds, config.report_maps, config.seed)
    if pairs and found.model.explains:
        with ProgressBar("checking heat-maps", len(pairs), "labels") as bar:
            checked = check_heatmaps(
                found.model, reader, found.examples, pairs, combine_scales, batch_size=config.batch_size,
                max_pixels=data.max_pixels, seed=config.seed, progress=bar.update,
            )  # fmt: skip
    with contextlib.ExitStack() as stack:
        page = report_page(
            found,
            metrics,
            name=f"{os.path.basename(os.path.dirname(os.path.abspath(config.model)))} on {data.dataset}:{config.split}",
            photos_by_label=config.report_photos,
            faithfulness=checked,
            max_pixels=data.max_pixels,
            progress=lambda total: stack.enter_context(ProgressBar("drawing the report", total, "photos")).update,
        )
    write_beside(config.report, page)
    say(f"report in {config.report}: {len(page) / 1e6:.1f} MB, opens without a network")


def check_flags(config: EvaluationConfig) -> None:
    """Refuses what cannot work, before anything is loaded. Raises `UserError`."""
    if not config.model:
        raise UserError("--model is missing: give the model.keras to evaluate")
    if any(size < 32 for size in config.image_sizes):
        raise UserError(f"--image_sizes={','.join(map(str, config.image_sizes))}: must be 32 or more each")
    if config.baseline and not config.bootstrap:
        raise UserError("--bootstrap=0: --baseline compares over resamples; leave one of them out")


def print_metrics(metrics: dict[str, Any]) -> None:
    """A table of average precision by label, and the summary figures, with 95 % intervals where there are."""
    intervals = metrics.get("intervals", {})
    table = Table("label", "photos", "AP %", *(["95 % interval"] if intervals else []))
    for column in table.columns[1:]:
        column.justify = "right"

    def row(name, photos, value, ends):
        cells = [name, photos, "no positive" if value is None else f"{value:.2f}"]
        table.add_row(*cells, *([f"{ends[0]:.1f}–{ends[1]:.1f}" if ends else ""] if intervals else []))

    for label, value in metrics["AP"].items():
        row(label, str(metrics["positives"][label]), value, intervals.get("AP", {}).get(label))
    table.add_section()
    row("mAP", str(metrics["num_images"]), metrics["mAP"], intervals.get("mAP"))
    print_table(table)
    for suffix, title in (("", "at thresholds"), ("_top3", "top 3")):
        say(f"{title:14}" + "  ".join(f"{name} {metrics[name + suffix]:.2f}" for name in FIGURES))
    if intervals:
        say("95 % interval " + "  ".join(f"{name} {intervals[name][0]:.1f}–{intervals[name][1]:.1f}"
                                         for name in ("mAP", "CF1", "OF1") if intervals[name]))  # fmt: skip
    say(f"ranking       coverage error {metrics['coverage_error']:.3f}  LRAP "
        f"{metrics['label_ranking_average_precision']:.4f}  ranking loss {metrics['label_ranking_loss']:.4f}  "
        f"Hamming loss {metrics['hamming_loss']:.4f}  on {metrics['num_images']} images")  # fmt: skip
    say(f"calibration   expected error {metrics['expected_calibration_error']:.4f}  "
        f"mean over labels {metrics['classwise_calibration_error']:.4f}")  # fmt: skip
    for name, text in metrics["protocol"].items():
        say(f"{name:14}{text}")
    if "comparison" in metrics:
        print_comparison(metrics["comparison"])


def print_comparison(comparison: dict[str, Any]) -> None:
    """The difference to the baseline and which labels are surely better or worse."""
    low, high = comparison["interval"]
    verdict = "no significant difference" if low <= 0 <= high else "better" if low > 0 else "worse"
    say(f"baseline      mAP {comparison['baseline']:.2f}; model − baseline {comparison['mAP_difference']:+.2f} "
        f"(95 % interval {low:+.2f} to {high:+.2f}, paired bootstrap): {verdict}")  # fmt: skip
    for name in ("gained", "lost"):
        labels = [f"{label} {comparison['AP_difference'][label][0]:+.1f}" for label in comparison[name]]
        say(f"{name:14}{', '.join(labels) or 'no label significantly'}")


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(DataConfig,), extra_flags=EvaluationConfig)
