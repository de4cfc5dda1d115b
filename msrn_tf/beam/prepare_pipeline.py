"""`msrn_tf.prepare` as one pipeline: photos are checked and written where they are read, and never shuffled.

A worker takes the rows of one shard, reads and checks their photos, writes the shard and a note of what is in it. What
goes from worker to worker is what the notes say: hashes, to find photos of the same bytes and photos that look alike,
and counts. A shard that has its note is kept by whoever comes to it again: a worker in the place of one that was lost,
or the same command once more.
"""

import collections
import dataclasses
import functools
import itertools
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms import combiners

from msrn_tf import storage
from msrn_tf.arrays import map_array
from msrn_tf.beam.work_list import read_block
from msrn_tf.data.audit import (
    LISTED,
    SameBytes,
    SplitFacts,
    are_apart,
    is_across_splits,
    rejection,
    report_of,
    training_photos,
)
from msrn_tf.data.examples import name_of
from msrn_tf.data.near_duplicates import NUM_PARTS, alike_in_bucket, part_of
from msrn_tf.data.preparation import (
    PHOTOS,
    PreparationPlan,
    checked_photos,
    finished_note,
    note_path,
    nothing_left,
    read_note,
    reading_threads,
    remove_note,
    state_of_files,
    write_description,
    write_shard,
    write_text,
)
from msrn_tf.data.prepared import IndexSizes, index_columns, shard_path, sizes_of, write_index
from msrn_tf.data.targets import sum_of_pairs, symmetric
from msrn_tf.errors import UserError
from msrn_tf.label_graph import LabelGraph
from msrn_tf.visualization.audit_page import write_audit

NAMESPACE, REPORT = "prepare", "report"
GRAPH_FILE = "label_graph.npz"
REJECTED = "rejected/photos"
OUTPUTS = ("facts", "pairs", "rejected", "photos")
NUMBERS = ("num_duplicates", "duplicates_across_splits", "num_near_duplicates", "near_duplicates_across_splits")
ACROSS, WITHIN = 0, 1
MOST_REJECTED = 10_000
"""Rejected photos of a split that the audit lists; the files in `rejected` have all of them."""

PARTS_AT_A_TIME = 64


@dataclasses.dataclass(frozen=True)
class Job:
    """What workers have to know.

    Attributes:
        output: folder of the prepared data.
        name: the data set's.
        labels: C names.
        train_split: the split that the label graph is counted on.
        image_size, graph_threshold: of the audit.
        plan: `PreparationPlan`; with 0 threads, one for each core of a worker.
        num_shards: dict of split → shards, in the order of the splits.
        word_vectors: path of the labels' vectors, a `.npy`; empty: there are none.
    """

    output: str
    name: str
    labels: Sequence[str]
    train_split: str
    image_size: int
    graph_threshold: float
    plan: PreparationPlan
    num_shards: dict[str, int] = dataclasses.field(default_factory=dict)
    word_vectors: str = ""

    @property
    def splits(self) -> list[str]:
        """Their names."""
        return list(self.num_shards)


def add_preparation(pipeline: beam.Pipeline, job: Job) -> None:
    """Adds all steps to a pipeline; `dataset.json` and the audit are there at its end."""
    shards = (
        pipeline
        | "splits" >> beam.Create(list(job.num_shards.items()))
        | "shards" >> beam.FlatMap(_numbered)
        | "to workers" >> beam.Reshuffle()
        | "write shards" >> beam.ParDo(WriteShard(job)).with_outputs(*OUTPUTS, main="written")
    )
    counted = {
        "facts": shards.facts | "facts of splits" >> beam.CombinePerKey(SplitFacts.joined),
        "pairs": shards.pairs | "pairs of labels" >> beam.CombineGlobally(SumOfPairs()),
        "index": shards.written | "by split" >> beam.GroupByKey() | "write index" >> beam.ParDo(WriteIndex(job)),
        **_rejected(shards.rejected, job),
        **_photos(shards.photos, job),
    }
    finished = (
        [values | f"{name} counted" >> beam.Map(_under, name) for name, values in counted.items()]
        | "all that is counted" >> beam.Flatten()
        | "at one worker" >> beam.GroupByKey()
        | "write report" >> beam.ParDo(WriteReport(job))
    )
    _ = finished | "notes" >> beam.FlatMap(_numbered) | "remove notes" >> beam.Map(_remove_note, job.output)


def _numbered(split: tuple[str, int]) -> Iterator[tuple[str, int]]:
    name, shards = split
    return ((name, number) for number in range(shards))


def _under(value: Any, name: str) -> tuple[str, tuple[str, Any]]:
    return REPORT, (name, value)


class WriteShard(beam.DoFn):
    """Writes the shard of (split, number), or keeps it where it is whole.

    Yields (split, (number, `IndexSizes`)); and what is in it: `facts`, (split, `SplitFacts`); `pairs` of labels;
    `rejected`, (split, (number, JSON)); `photos`, (hash of the bytes, (split's number, number, name, id, look)).
    """

    def __init__(self, job: Job):
        self._job = job
        self._photos = Metrics.counter(NAMESPACE, "photos")
        self._bytes = Metrics.counter(NAMESPACE, "bytes")
        self._rejected = Metrics.counter(NAMESPACE, "rejected")
        self._kept_shards = Metrics.counter(NAMESPACE, "shards_kept")
        self._written_shards = Metrics.counter(NAMESPACE, "shards_written")

    def process(self, element: tuple[str, int]) -> Iterator[Any]:
        """See the class."""
        split, number = element
        block, note = self._note_of(split, number)
        rows, kept = note["rows"], block.examples.take(_places(block, note["rows"]))
        self._photos.inc(len(rows))
        self._rejected.inc(len(note["rejected"]))
        yield split, (number, sizes_of(index_columns(kept, [number] * len(rows), [row[1] for row in rows])))
        facts = SplitFacts.of(kept, rows, len(note["rejected"]), self._job.image_size)
        yield TaggedOutput("facts", (split, facts))
        if split == self._job.train_split:
            yield TaggedOutput("pairs", kept.label_pairs())
        for n, reason in note["rejected"]:
            (example,) = block.examples.take(_places(block, [[n]]))
            yield TaggedOutput("rejected", (split, (n, json.dumps(rejection(split, example, reason)))))
        which = self._job.splits.index(split)
        for example, row in zip(kept, rows, strict=True):
            name, image_id = os.fsencode(name_of(example)), os.fsencode(example.image_id)
            yield TaggedOutput("photos", (bytes.fromhex(row[2]), (which, row[0], name, image_id, row[5])))

    def _note_of(self, split, number):
        """A shard's block and note, when it is written."""
        block, path = read_block(self._job.output, split, number), shard_path(self._job.output, split, number)
        note = finished_note(path, block.examples)
        if note is not None:
            self._kept_shards.inc()
            return block, note
        threads = self._job.plan.num_threads or reading_threads(block.examples.are_remote)
        plan = dataclasses.replace(self._job.plan, num_threads=threads)
        photos = zip(block.numbers.tolist(), checked_photos(block.examples, plan), strict=True)
        # Two workers may write the same shard at the same time; what they write is the same.
        note = write_shard(path, photos, plan, attempt=f".{uuid.uuid4().hex}")
        note |= {PHOTOS: state_of_files(block.examples)}
        write_text(note_path(path), json.dumps(note))
        self._written_shards.inc()
        self._bytes.inc(storage.getsize(path))
        return block, note


def _places(block, rows):
    """Where in a block the rows of a note are."""
    places = {number: place for place, number in enumerate(block.numbers.tolist())}
    return np.array([places[row[0]] for row in rows], int)


class SumOfPairs(beam.CombineFn):
    """Adds up `Examples.label_pairs`."""

    def create_accumulator(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """None yet."""
        return []

    def add_input(self, accumulator: list, element: tuple[np.ndarray, np.ndarray]) -> list:
        """One more part, added up with the others now and then."""
        accumulator.append(element)
        return [sum_of_pairs(accumulator)] if len(accumulator) > PARTS_AT_A_TIME else accumulator

    def merge_accumulators(self, accumulators: Iterable[list]) -> list:
        """Those of several workers."""
        return [sum_of_pairs(itertools.chain.from_iterable(accumulators))]

    def extract_output(self, accumulator: list) -> tuple[np.ndarray, np.ndarray]:
        """The sum."""
        return sum_of_pairs(accumulator)


def _rejected(rejected, job):
    """What is reported of photos that are left out; all of them go to files of JSON lines."""
    _ = (
        rejected
        | "lines" >> beam.Map(_text)
        | "write rejected"
        >> beam.io.WriteToText(os.path.join(job.output, REJECTED), file_name_suffix=".jsonl", skip_if_empty=True)
    )
    return {"rejected": rejected | "first rejected" >> combiners.Top.SmallestPerKey(MOST_REJECTED)}


def _text(keyed: tuple[Any, tuple[Any, str]]) -> str:
    return keyed[1][1]


def _photos(photos, job):
    """What is reported of photos with the same bytes and of ones that look alike."""
    same = (
        photos
        | "by bytes" >> beam.GroupByKey()
        | "same bytes" >> beam.ParDo(FindSame(job)).with_outputs("overlap", "duplicate", "look")
    )
    alike = same.look | "by part of look" >> beam.GroupByKey() | "look alike" >> beam.ParDo(FindAlike())
    like_others = (
        alike
        | "apart" >> beam.Filter(_is_first_kind)
        | "of training" >> beam.FlatMap(_training_photos, job.train_split)
        | "each once" >> beam.Distinct()
    )
    return {
        "overlaps": same.overlap | "overlaps" >> combiners.Count.PerElement(),
        "training_photos_like_others": like_others,
        **_listed(same.duplicate, "duplicates", "duplicates_across_splits"),
        **_listed(alike, "near_duplicates", "near_duplicates_across_splits"),
    }


def _listed(found, name, across):
    """How many groups of photos there are, how many across splits, and the first ones."""
    return {
        f"num_{name}": found | f"count {name}" >> combiners.Count.Globally(),
        across: found
        | f"those of {across}" >> beam.Filter(_is_first_kind)
        | f"count {across}" >> combiners.Count.Globally(),
        name: found | f"first {name}" >> combiners.Top.Smallest(LISTED),
    }


def _is_first_kind(item: tuple[tuple, str]) -> bool:
    """Whether a group of photos, by its place in the report, is across splits."""
    return item[0][0] == ACROSS


def _training_photos(item: tuple[tuple, str], train_split: str) -> Iterator[bytes]:
    return (image.encode("utf-8", "surrogatepass") for image in training_photos([json.loads(item[1])], train_split))


class FindSame(beam.DoFn):
    """Of the photos of the same bytes: splits that `overlap`; a `duplicate`, (place, JSON); how the first may `look`.

    A look is (part of the hash, (hash, split's number, number, JSON of the photo)), once for each part.
    """

    def __init__(self, job: Job):
        self._splits = job.splits

    def process(self, element: tuple[bytes, Iterable[tuple]]) -> Iterator[Any]:
        """See the class."""
        photos, same = sorted(element[1]), SameBytes()
        for which, _, name, image_id, _ in photos:
            same.add(os.fsdecode(name), os.fsdecode(image_id), self._splits[which])
        which, number, _, _, look = photos[0]
        for pair in same.overlaps:
            yield TaggedOutput("overlap", pair)
        if group := same.duplicates:
            place = (ACROSS if is_across_splits(group) else WITHIN, which, number)
            yield TaggedOutput("duplicate", (place, json.dumps(group)))
        if look:
            value, photo = np.array([int(look, 16)], np.uint64), json.dumps(same.first)
            for part in range(NUM_PARTS):
                key = part << 32 | int(part_of(value, part)[0])
                yield TaggedOutput("look", (key, (look, which, number, photo)))


class FindAlike(beam.DoFn):
    """Of photos with the same part of their looks, the pairs that look alike: (place, JSON of two photos)."""

    def process(self, element: tuple[int, Iterable[tuple]]) -> Iterator[tuple[tuple, str]]:
        """See the class."""
        key, photos = element[0], sorted(element[1], key=_place)
        values = np.array([int(photo[0], 16) for photo in photos], np.uint64)
        for one, other, _ in alike_in_bucket(values, key >> 32):
            pair = [json.loads(photos[n][3]) for n in (one, other)]
            place = (ACROSS if are_apart(pair) else WITHIN, *_place(photos[one]), *_place(photos[other]))
            yield place, json.dumps(pair)


def _place(photo):
    return photo[1:3]


class WriteIndex(beam.DoFn):
    """Writes the index of a split from the notes of its shards, one after the other. Yields (split, shards)."""

    def __init__(self, job: Job):
        self._job = job

    def process(self, element: tuple[str, Iterable[tuple[int, IndexSizes]]]) -> Iterator[tuple[str, int]]:
        """See the class."""
        split, shards = element[0], sorted(element[1], key=_number)
        parts = storage.in_flight(functools.partial(self._part, split), map(_number, shards), remote=True)
        write_index(self._job.output, split, parts, IndexSizes.joined(sizes for _, sizes in shards))
        yield split, len(shards)

    def _part(self, split, number):
        block = read_block(self._job.output, split, number)
        rows = read_note(shard_path(self._job.output, split, number))["rows"]
        kept = block.examples.take(_places(block, rows))
        return index_columns(kept, [number] * len(rows), [row[1] for row in rows])


def _number(shard):
    return shard[0]


class WriteReport(beam.DoFn):
    """Writes what says of the whole what is in it. Yields (split, shards): the notes are needed no more.

    Raises:
        UserError: no photo of a split can be used.
    """

    def __init__(self, job: Job):
        self._job = job

    def process(self, element: tuple[str, Iterable[tuple[str, Any]]]) -> Iterator[tuple[str, int]]:
        """See the class."""
        job, counted = self._job, collections.defaultdict(list)
        for name, value in element[1]:
            counted[name].append(value)
        facts, rejected = (dict(counted[name]) for name in ("facts", "rejected"))
        for split in job.splits:
            if not facts[split].images:
                first = json.loads(rejected[split][0][1])
                raise UserError(nothing_left(split, facts[split].rejected, first["image"], first["reason"]))
        facts = {split: facts[split] for split in job.splits}
        together = symmetric(counted["pairs"][0], len(job.labels))
        found = {name: counted[name][0] for name in NUMBERS} | {
            "overlaps": dict(counted["overlaps"]),
            "rejected": [json.loads(text) for split in job.splits for _, text in rejected.get(split, [])],
            "training_photos_like_others": sorted(
                image.decode("utf-8", "surrogatepass") for image in counted["training_photos_like_others"]
            ),
            **{name: [json.loads(text) for _, text in counted[name][0]] for name in ("duplicates", "near_duplicates")},
        }
        report = report_of(job.labels, facts, together, found, job.train_split, job.image_size)
        training = facts[job.train_split]
        vectors = map_array(job.word_vectors) if job.word_vectors else None
        graph = LabelGraph(tuple(job.labels), training.present, together, training.images, vectors)
        graph.save(os.path.join(job.output, GRAPH_FILE))
        write_audit(job.output, job.name, report, graph, job.graph_threshold)
        sizes = {split: (its.images, job.num_shards[split], its.present) for split, its in facts.items()}
        write_description(job.output, job.labels, sizes)
        yield from job.num_shards.items()


def _remove_note(shard: tuple[str, int], output: str) -> None:
    remove_note(shard_path(output, *shard))
