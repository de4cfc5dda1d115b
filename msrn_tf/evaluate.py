"""`python -m msrn_tf.evaluate`: measures a trained model on a labelled split; every metric of DESIGN §4."""

import dataclasses
import json
import os

from rich.console import Console
from rich.table import Table

from msrn_tf import command_line
from msrn_tf.config import DataConfig, option
from msrn_tf.data.readers import open_dataset, read_split
from msrn_tf.errors import UserError
from msrn_tf.evaluation.evaluator import Evaluator, in_label_order
from msrn_tf.models.factory import load_model
from msrn_tf.progress import ProgressBar

FIGURES = ("CP", "CR", "CF1", "OP", "OR", "OF1")


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation"""

    model: str = option("", "model.keras, as msrn_tf.train writes it")
    split: str = option("test", "split to measure on")
    batch_size: int = option(32, "images at a time", low=1)
    output: str = option("", "file for the metrics (.json)")


def main(data, config):
    """Evaluates as configured."""
    if not config.model:
        raise UserError("--model is missing: give the model.keras to evaluate")
    if config.output and not os.path.isdir(os.path.dirname(config.output) or "."):
        raise UserError(f"--output={config.output}: its folder does not exist")
    model = load_model(config.model)
    reader = open_dataset(data.dataset, data.data_dir)
    examples = in_label_order(read_split(reader, config.split, data.drop_unlabelled), reader.labels, model.labels)
    with ProgressBar("evaluating", len(examples)) as bar:
        metrics = Evaluator(model, config.batch_size, max_pixels=data.max_pixels).metrics(examples, bar.update)
    print_metrics(metrics)
    if config.output:
        temporary = config.output + ".tmp"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(metrics, file, indent=2)
        os.replace(temporary, config.output)
        print(f"written to {config.output}")


def print_metrics(metrics):
    """A table of average precision by label, and the summary figures."""
    table = Table("label", "AP %")
    table.columns[1].justify = "right"
    for label, value in metrics["AP"].items():
        table.add_row(label, "no positive" if value is None else f"{value:.2f}")
    table.add_section()
    table.add_row("mAP", "-" if metrics["mAP"] is None else f"{metrics['mAP']:.2f}")
    Console().print(table)
    for suffix, title in (("", "at thresholds"), ("_top3", "top 3")):
        print(f"{title:14}" + "  ".join(f"{name} {metrics[name + suffix]:.2f}" for name in FIGURES))
    print(f"ranking       coverage error {metrics['coverage_error']:.3f}  LRAP "
          f"{metrics['label_ranking_average_precision']:.4f}  ranking loss {metrics['label_ranking_loss']:.4f}  "
          f"Hamming loss {metrics['hamming_loss']:.4f}  on {metrics['num_images']} images")  # fmt: skip


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(DataConfig,), extra_flags=EvaluationConfig)
