"""`python -m msrn_tf.prepare`: checks a data set and writes it as TFRecords, with its label graph and an audit.

Train on the result with `--dataset=prepared --data_dir=OUTPUT`. If the command was interrupted, give it again to
continue.
"""

import dataclasses
import json
import os
from typing import Any

import numpy as np

from msrn_tf import command_line, storage
from msrn_tf.choices import READS_IN_FLIGHT
from msrn_tf.config import DataConfig, option
from msrn_tf.data.examples import Examples
from msrn_tf.data.lists import read_lines
from msrn_tf.data.prepared import Prepared
from msrn_tf.data.readers import read_examples
from msrn_tf.data.splits import split_meant
from msrn_tf.errors import UserError
from msrn_tf.extras import needs
from msrn_tf.label_graph import DEFAULT_THRESHOLD, LabelGraph, glove_word_vectors
from msrn_tf.progress import ProgressBar
from msrn_tf.runners import WITHOUT_BEAM, RunnerConfig
from msrn_tf.terminal import Table, print_table, say
from msrn_tf.visualization.audit_page import write_audit

REJECTED_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class PreparationConfig:
    """Preparation"""

    output: str = option("", "folder to write; must be new, empty, or started by the same command", path="folder")
    splits: str = option("", "splits to write, separated by commas; empty: all")
    train_split: str = option("train", "split to count the label graph on")
    image_size: int = option(
        448, "--image_size of the planned training: the audit counts photos that are smaller", low=0
    )
    leave_out: str = option(
        "",
        "file of --train_split photos to leave out, one per line, such as near_duplicates.txt of an earlier run",
        path="input",
    )
    max_side: int = option(0, "shrink photos whose longer side has more pixels than this; 0: keep the bytes", low=0)
    shard_megabytes: int = option(128, "approximate size of a shard in MB", low=1)
    bad_images: str = option(
        "skip", "photos that cannot be decoded: leave them out (skip), or stop (fail)", choices=("skip", "fail")
    )
    num_threads: int = option(
        0,
        f"threads that read, decode and shrink; 0: one for each core, and at least {READS_IN_FLIGHT} for photos in a "
        "bucket",
        low=0,
    )
    word_vectors: str = option(
        "", "text file of GloVe, word2vec or fastText; empty: the label graph has no word vectors", path="input"
    )
    graph_threshold: float = option(
        DEFAULT_THRESHOLD,
        "in the audit, label j is a neighbour of label i if at least this share of the photos of i show j too",
        low=0.0,
        high=1.0,
    )
    order_seed: int = option(0, "with --runner: seed for the record order", low=0)


def main(data: DataConfig, config: PreparationConfig, runner: RunnerConfig = WITHOUT_BEAM) -> None:
    """Prepares as configured."""
    with needs("data"):
        from msrn_tf.data import preparation
    if runner.runner:
        with needs("beam"):
            import msrn_tf.beam.preparation  # noqa: F401  (or its absence would be told when much is done)
    if not config.output:
        raise UserError("--output is missing: give a folder for the records")
    reader = data.open(config.train_split)
    config = dataclasses.replace(config, train_split=split_meant(config.train_split, reader.splits))
    splits = {split: read_examples(reader, split, data.drop_unlabelled) for split in _chosen_splits(reader, config)}
    if config.leave_out:
        splits[config.train_split] = without_listed(splits[config.train_split], config.leave_out)
    plan = preparation.PreparationPlan(
        max_pixels=data.max_pixels,
        max_side=config.max_side,
        shard_bytes=config.shard_megabytes << 20,
        skip_bad_images=config.bad_images == "skip",
        num_threads=config.num_threads
        or preparation.reading_threads(any(examples.are_remote for examples in splits.values())),
    )
    last_flags = {
        name: getattr(config, name) for name in ("train_split", "word_vectors", "graph_threshold", "image_size")
    }
    with preparation.writing(config.output):
        if runner.runner:
            found = _prepare_by_beam(data, config, runner, plan, reader.labels, splits, last_flags)
        else:
            found = _prepare_here(data, config, plan, reader.labels, splits, last_flags)
    if found is None:
        say(f"{config.output} is complete; nothing to do")
    else:
        report, graph = found
        print_report(report, graph, config)


def _prepare_here(data, config, plan, labels, splits, last_flags):
    """Prepares on this machine; returns the report and the label graph, or None where nothing is left to do."""
    from msrn_tf.data import preparation
    from msrn_tf.data.audit import audit

    preparation.start(config.output, plan, data.dataset, labels, splits, last_flags)
    if preparation.is_complete(config.output):
        return None
    notes = {}
    for split, examples in splits.items():
        with ProgressBar(f"writing {split}", len(examples)) as bar:
            notes[split] = preparation.write_split(config.output, split, examples, plan, bar.update)
    preparation.finish(config.output, labels, splits, notes)
    graph = write_label_graph(config)
    report = audit(labels, splits, notes, config.train_split, config.image_size)
    write_audit(config.output, data.dataset, report, graph, config.graph_threshold)
    preparation.remove_notes(config.output)
    return report, graph


def _prepare_by_beam(data, config, runner, plan, labels, splits, last_flags):
    """The same by a pipeline."""
    from msrn_tf.beam.pipelines import pipeline_options
    from msrn_tf.beam.preparation import Order, prepare
    from msrn_tf.beam.prepare_pipeline import Job
    from msrn_tf.data import preparation

    options = pipeline_options(runner.runner, runner.runner_option)
    order = Order.begun(config.output, config.order_seed) or Order.of(splits, plan, config.order_seed)
    preparation.start(config.output, plan, data.dataset, labels, splits, last_flags, dataclasses.asdict(order))
    if preparation.is_complete(config.output):
        return None
    job = Job(
        output=config.output if storage.is_address(config.output) else os.path.abspath(config.output),
        name=data.dataset,
        labels=labels,
        train_split=config.train_split,
        image_size=config.image_size,
        graph_threshold=config.graph_threshold,
        plan=dataclasses.replace(plan, num_threads=config.num_threads),
    )
    counters = prepare(job, splits, order, options, _word_vectors(config, labels))
    say("counted    " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sorted(counters.items())))
    with storage.open_file(os.path.join(config.output, "audit.json"), encoding="utf-8") as file:
        return json.load(file), LabelGraph.load(os.path.join(config.output, "label_graph.npz"))


def _chosen_splits(reader, config):
    names = [name.strip() for name in config.splits.split(",") if name.strip()] or list(reader.splits)
    unknown = [name for name in names if name not in reader.splits]
    if unknown:
        raise UserError(f"--splits={config.splits}: the data set has {', '.join(reader.splits)}")
    if config.train_split not in names:
        raise UserError(f"--train_split={config.train_split}: is not one of the splits to write, {', '.join(names)}")
    return names


def without_listed(examples: Examples, path: str) -> Examples:
    """Examples without those that a file names, one a line. Raises `UserError` where it names none of them."""
    names = set(read_lines(path, "give a photo a line"))
    kept = np.array([name not in names for name in examples.ids], bool)
    if kept.all() and names:
        raise UserError(f"--leave_out={path}: names no photo of the split, such as {next(iter(sorted(names)))}")
    if not kept.any():
        raise UserError(f"--leave_out={path}: names all photos of the split; leave some")
    say(f"left out   {(~kept).sum()} photos that {path} names")
    return examples.take(np.flatnonzero(kept))


def write_label_graph(config: PreparationConfig) -> LabelGraph:
    """Writes `label_graph.npz` of what was kept of the training split, and returns it."""
    prepared = Prepared(config.output)
    examples = prepared.read(config.train_split)
    graph = LabelGraph(
        prepared.labels,
        examples.counts(),
        examples.cooccurrence(),
        len(examples),
        _word_vectors(config, prepared.labels),
    )
    graph.save(os.path.join(config.output, "label_graph.npz"))
    return graph


def _word_vectors(config, labels):
    """Vectors of labels, float32 `[C, V]`, where a file of them is given; says which labels have none."""
    if not config.word_vectors:
        return None
    vectors, missing = glove_word_vectors(config.word_vectors, labels)
    for label, words in missing.items():
        say(f"warning: word vectors: {label!r} has no vector for {', '.join(words) or 'any word'}")
    return vectors


def print_report(report: dict[str, Any], graph: LabelGraph, config: PreparationConfig) -> None:
    """The audit as a table, and what needs attention."""
    splits = report["splits"]
    table = Table("", *splits)
    for name in ("images", "rejected", "without_a_label", "labels_an_image", "shortest_side", "longest_side"):
        table.add_row(name.replace("_", " "), *(str(split[name]) for split in splits.values()))
    table.add_section()
    for label in graph.labels:
        table.add_row(label, *(str(split["present"][label]) for split in splits.values()))
    print_table(table)
    say(f"graph      {graph.describe(config.graph_threshold)}")
    for split, description in splits.items():
        if description["labels_without_positives"]:
            say(f"warning: {split}: no image shows {', '.join(description['labels_without_positives'])}")
    for item in report["rejected"][:REJECTED_SHOWN]:
        say(f"rejected   {item['image']}: {item['reason']}")
    if len(report["rejected"]) > REJECTED_SHOWN:
        say(f"rejected   {len(report['rejected']) - REJECTED_SHOWN} more; audit.json names them")
    for overlap in report["overlaps"]:
        say(f"warning: {overlap['images']} photos are in {' and in '.join(overlap['splits'])}")
    if report["num_duplicates"]:
        across = report["duplicates_across_splits"]
        say(f"warning: {report['num_duplicates']} groups of files with the same bytes, {across} of them across splits")
    if report["num_near_duplicates"]:
        across = report["near_duplicates_across_splits"]
        say(f"warning: {report['num_near_duplicates']} pairs of photos look alike, {across} of them across splits")
    for item in report["findings"]:
        say(f"look at    {item['finding']}: {item['mend']}")
    folder = config.output
    say(f"written    {folder}: shards, dataset.json, label_graph.npz, audit.json, audit.html, near_duplicates.txt")
    say(f"next       python -m msrn_tf.train --dataset=prepared --data_dir={folder}{_split_flags(splits, config)}")


def _split_flags(splits, config):
    """What `msrn_tf.train` must be told of the splits, where they are not called train and val."""
    train, others = config.train_split, [split for split in splits if split != config.train_split]
    flags = f" --train_split={train}" if train != "train" else ""
    return flags + (f" --val_split={others[0]}" if others and "val" not in others else "") + " --workdir=RUN"


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(DataConfig, PreparationConfig, RunnerConfig))
