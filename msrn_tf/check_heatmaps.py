"""`python -m msrn_tf.check_heatmaps`: tests whether heat-maps show where a model looked.

Photos of a labelled split are blurred (deletion) or sharpened (insertion) pixel by pixel, in the order of the heat-map
and, for comparison, in two random orders. Where the data set has boxes of objects (demo, VOC), the highest points of
the maps are compared with them (pointing game).
"""

import dataclasses
import json

from msrn_tf import command_line
from msrn_tf.config import DataConfig, option
from msrn_tf.data.batch_source import PhotoSource
from msrn_tf.data.pipeline import InputPlan
from msrn_tf.data.readers import read_split
from msrn_tf.errors import UserError, argument
from msrn_tf.evaluation import faithfulness
from msrn_tf.evaluation.evaluator import Evaluator
from msrn_tf.files import write_beside
from msrn_tf.models.factory import load_model
from msrn_tf.progress import ProgressBar
from msrn_tf.terminal import Table, print_table, say
from msrn_tf.visualization.heatmaps import combine_scales


@dataclasses.dataclass(frozen=True)
class CheckConfig:
    """Check of heat-maps"""

    model: str = option("", "model.keras written by msrn_tf.train", path="input")
    split: str = option("test", "split to take photos from")
    photos: int = option(100, "number of photos; every label that the model finds in them is checked", low=1)
    seed: int = option(0, "seed for choosing photos and for the random orders", low=0)
    batch_size: int = option(32, "photos per batch", low=1)
    output: str = option("", "file for the results (.json)", path="file")


def main(data: DataConfig, config: CheckConfig) -> None:
    """Checks as configured."""
    if not config.model:
        raise UserError("--model is missing: give the model.keras whose heat-maps to check")
    with argument("model"):
        model = load_model(config.model)
    if not model.explains:
        raise UserError(f"--model={config.model}: is a {model.name} model, which has no heat-maps")
    reader = data.open(config.split)
    examples = read_split(reader, config.split, data.drop_unlabelled, model.labels)
    examples = examples[:: max(1, len(examples) // (2 * config.photos))]
    with ProgressBar("scoring", len(examples)) as bar:
        source = PhotoSource(examples, InputPlan(model.image_size, max_pixels=data.max_pixels))
        scores = Evaluator(model, config.batch_size).scores(source, bar.update)
    pairs = faithfulness.found_pairs(scores, examples.targets, model.thresholds, config.photos, config.seed)
    if not pairs:
        raise UserError(f"--model={config.model}: finds none of the labels that are present in split {config.split}")
    with ProgressBar("taking photos apart", len(pairs), "labels") as bar:
        curves, pointing = faithfulness.check_heatmaps(
            model, reader, examples, pairs, combine_scales, batch_size=config.batch_size, max_pixels=data.max_pixels,
            seed=config.seed, progress=bar.update,
        )  # fmt: skip
    print_curves(curves, len({image for image, _ in pairs}))
    if pointing:
        print_pointing(pointing)
    if config.output:
        figures = {
            "areas": curves.areas(),
            "deletion_wins": curves.deletion_wins,
            "insertion_wins": curves.insertion_wins,
            "pairs": curves.num_pairs,
            "pointing": pointing,
        }
        write_beside(config.output, json.dumps(figures, indent=2, ensure_ascii=False))
        say(f"written to {config.output}")


def print_curves(curves: faithfulness.FaithfulnessCurves, num_photos: int) -> None:
    """Areas under the curves by order, and how often the heat-map is the better order."""
    table = Table("pixels in the order of", "deletion area", "insertion area", "heat-map better in")
    for column in table.columns[1:]:
        column.justify = "right"
    areas = curves.areas()
    for order in faithfulness.ORDERS:
        wins = ""
        if order in curves.deletion_wins:
            wins = f"{curves.deletion_wins[order]:.0%} / {curves.insertion_wins[order]:.0%}"
        table.add_row(order, f"{areas['deletion'][order]:.3f}", f"{areas['insertion'][order]:.3f}", wins)
    print_table(table)
    say(f"score as a part of the whole photo's, mean over {curves.num_pairs} labels found in {num_photos} photos; "
        "deletion: lower is better, insertion: higher")  # fmt: skip


def print_pointing(pointing: dict[str, tuple[int, int]]) -> None:
    """Share of maps whose highest point lies on an object of the label."""
    hits, count = (sum(values) for values in zip(*pointing.values(), strict=True))
    labels = ", ".join(f"{label} {h}/{n}" for label, (h, n) in sorted(pointing.items()))
    say(f"pointing game {hits / count:.3f} ({hits} of {count}): {labels}")


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(DataConfig,), extra_flags=CheckConfig)
