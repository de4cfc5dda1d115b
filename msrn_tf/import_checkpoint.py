"""`python -m msrn_tf.import_checkpoint`: converts a published MSRN checkpoint to `model.keras`, and back (--to_torch).

python -m msrn_tf.import_checkpoint --checkpoint=voc_checkpoint.pth.tar --label_graph=voc.npz --output=model.keras
python -m msrn_tf.import_checkpoint --model=model.keras --to_torch=model.safetensors
"""

import collections
import contextlib
import dataclasses
import os

import numpy as np

from msrn_tf import command_line, storage
from msrn_tf.config import option
from msrn_tf.data.lists import read_lines
from msrn_tf.errors import UserError, argument
from msrn_tf.files import check_output, temporary_name
from msrn_tf.label_graph import DEFAULT_THRESHOLD, LabelGraph
from msrn_tf.label_graph.published_pickles import read_graph_pickle, read_word_vector_pickle
from msrn_tf.label_graph.validation import label_names
from msrn_tf.models.factory import load_model, save_model
from msrn_tf.models.msrn import MSRN
from msrn_tf.models.published_checkpoint import (
    HEAD_PARAMETERS,
    model_from_published,
    published_state,
    unpublished_sizes,
)
from msrn_tf.tensor_files import TensorFile
from msrn_tf.terminal import say

NAMES_SHOWN = 12
COUNTER = ".num_batches_tracked"


@dataclasses.dataclass(frozen=True)
class ImportConfig:
    """Import"""

    checkpoint: str = option("", "published checkpoint: .pth.tar, .safetensors or .npz", path="input")
    output: str = option("", "model.keras to write", path="file")
    label_graph: str = option(
        "",
        "label graph (.npz) with the checkpoint's labels in its order, in our format or the published one",
        path="input",
    )
    labels: str = option(
        "", "text file of labels in the checkpoint's order, one a line; for --graph_pickle", path="input"
    )
    graph_pickle: str = option("", "published graph (voc_adj.pkl …) instead of --label_graph", path="input")
    word_vector_pickle: str = option("", "published word vectors, instead of those in the label graph", path="input")
    graph_threshold: float = option(
        DEFAULT_THRESHOLD,
        "label j is a neighbour of label i if at least this share of the photos of i show j too",
        low=0.0,
        high=1.0,
    )
    head: str = option("mlp", "which of the checkpoint's two heads was trained", choices=tuple(HEAD_PARAMETERS))
    image_size: int = option(448, "height and width in pixels of the checkpoint's training photos", low=32)
    model: str = option("", "model.keras to convert to the published names, with --to_torch", path="input")
    to_torch: str = option("", "file (.safetensors) to write --model to", path="file")


def main(config: ImportConfig) -> None:
    """Imports or writes back, as configured."""
    if config.to_torch or config.model:
        write_published(config)
        return
    for flag in ("checkpoint", "output"):
        if not getattr(config, flag):
            raise UserError(f"--{flag} is missing: give the checkpoint to import and the model.keras to write")
    if not config.output.endswith(".keras"):
        raise UserError(f"--output={config.output}: must end in .keras")
    check_output("output", config.output)
    tensors = TensorFile(config.checkpoint, "checkpoint")
    model, report = model_from_published(
        tensors, read_label_graph(config), config.head, config.image_size, config.graph_threshold
    )
    for name, value in tensors.notes.items():
        say(f"{name}: {value}")
    say(f"used: {len(report.used)} parameters, {model.count_params():,} numbers with the label graph's")
    parts = collections.Counter(name.split(".")[0] for name in report.used)
    say(f"used: {', '.join(f'{part} ({count})' for part, count in parts.items())}")
    counters = [name for name in report.ignored if name.endswith(COUNTER)]
    say(f"ignored: {len(counters)} counters of batch norms")
    rest = [name for name in report.ignored if not name.endswith(COUNTER)]
    _print_names("ignored: never called by the network, or of the other head", rest)
    _print_names("ignored: not known", report.unknown)
    say("missing: none")
    save_model(model, config.output)
    say(
        f"written to {config.output}: {len(model.labels)} labels, {model.semantics.num_groups} groups, "
        f"--head={config.head}"
    )


def write_published(config: ImportConfig) -> None:
    """`--model` → `--to_torch`."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    if not config.model or not config.to_torch:
        raise UserError("--to_torch and --model go together: the model.keras to read and the .safetensors to write")
    if config.checkpoint or config.output:
        raise UserError("--to_torch writes a model of ours; leave out --checkpoint and --output")
    if not config.to_torch.endswith(".safetensors"):
        raise UserError(f"--to_torch={config.to_torch}: must end in .safetensors")
    check_output("to_torch", config.to_torch)
    with argument("model"):
        model = load_model(config.model)
    if not isinstance(model, MSRN):
        raise UserError(f"--model={config.model}: is a {model.name} baseline; the published code has MSRN only")
    try:
        state = published_state(model)
    except UserError as error:
        raise UserError(f"--to_torch: {error}") from error
    temporary = temporary_name(config.to_torch)
    try:
        save_file(state, temporary)
        storage.put(temporary, config.to_torch)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise UserError(f"--to_torch={config.to_torch}: cannot be written ({error})") from error
    say(f"written to {config.to_torch}: {len(state)} parameters under the published names")
    if others := unpublished_sizes(model):
        say(f"warning: the published code has constants of another size; change them there: {', '.join(others)}")
    if not model.calibration.is_identity or set(model.thresholds) != {0.5}:
        say("warning: the published code has no place for the model's thresholds and calibration; its scores are raw")


def read_label_graph(config: ImportConfig) -> LabelGraph:
    """The `LabelGraph` with word vectors that the flags name."""
    if bool(config.label_graph) == bool(config.graph_pickle):
        raise UserError("--label_graph or --graph_pickle is needed, one of the two")
    if config.graph_pickle:
        graph = read_graph_pickle(config.graph_pickle, read_labels(config.labels))
    elif config.labels:
        raise UserError(f"--labels={config.labels}: goes with --graph_pickle; --label_graph names its labels itself")
    else:
        graph = LabelGraph.load(config.label_graph)
    if config.word_vector_pickle:
        vectors = read_word_vector_pickle(config.word_vector_pickle, graph.labels)
        graph = dataclasses.replace(graph, word_vectors=vectors)
    if graph.word_vectors is None:
        source = (
            f"--label_graph={config.label_graph}" if config.label_graph else f"--graph_pickle={config.graph_pickle}"
        )
        raise UserError(f"{source}: has no word vectors; give those of the training with --word_vector_pickle")
    return graph


def read_labels(path: str) -> tuple[str, ...]:
    """The lines of a text file."""
    if not path:
        raise UserError(
            "--labels is missing: a pickled graph does not name its labels; give a file with one label a line"
        )
    lines = read_lines(path, "give --labels a file with one label a line")
    return label_names(np.array(lines, np.str_), f"--labels={path}:")


def _print_names(title, names):
    if names:
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        say(f"{title}: {', '.join(names[:NAMES_SHOWN])}{more}")


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, extra_flags=ImportConfig)
