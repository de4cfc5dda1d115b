"""Starting the pipeline of `msrn_tf.prepare`: what is done once, before it and after it."""

import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterator

import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from msrn_tf import storage
from msrn_tf.beam.pipelines import run
from msrn_tf.beam.prepare_pipeline import NAMESPACE, Job, add_preparation
from msrn_tf.beam.work_list import FOLDER, shuffled_blocks, write_blocks
from msrn_tf.data.examples import Examples
from msrn_tf.data.preparation import PreparationPlan, checked_photos, plan_before
from msrn_tf.data.prepared import MOST_SHARDS
from msrn_tf.files import replacing
from msrn_tf.progress import ProgressBar

SAMPLE = 64
USUAL_BYTES = 100_000
SECONDS_BETWEEN_LOOKS = 2.0
WORD_VECTORS = "word_vectors.npy"
GOES_ON = "the same command goes on with what is written"


@dataclasses.dataclass(frozen=True)
class Order:
    """What decides which record is where: the number of photos of a shard, and the seed of their order."""

    rows: int
    seed: int

    @classmethod
    def begun(cls, output: str, seed: int) -> "Order | None":
        """With as many photos a shard as what was begun in a folder has; None: nothing was."""
        order = plan_before(output).get("order")
        rows = order.get("rows") if isinstance(order, dict) else None
        return cls(rows, seed) if isinstance(rows, int) and rows > 0 else None

    @classmethod
    def of(cls, splits: dict[str, Examples], plan: PreparationPlan, seed: int) -> "Order":
        """With as many photos as make a shard of about `plan.shard_bytes`, by a sample of the largest split."""
        examples = max(splits.values(), key=len)
        numbers = np.random.default_rng(seed).choice(len(examples), min(SAMPLE, len(examples)), replace=False)
        sample = checked_photos(examples.take(np.sort(numbers)), plan)
        sizes = [len(photo.content) for _, photo in sample if photo.content]
        rows = round(plan.shard_bytes / (sum(sizes) / len(sizes) if sizes else USUAL_BYTES))
        return cls(max(1, rows, -(-len(examples) // MOST_SHARDS)), seed)


def prepare(
    job: Job,
    splits: dict[str, Examples],
    order: Order,
    options: PipelineOptions,
    word_vectors: np.ndarray | None = None,
) -> dict[str, int]:
    """Writes a prepared data set by a pipeline.

    Args:
        job: what workers have to know; its shards are counted here.
        splits: dict of split → `Examples`.
        order: `Order`.
        options: of `pipelines.pipeline_options`.
        word_vectors: float32 `[C, V]`; None: none.

    Returns:
        Dict of counter → value: `photos`, `bytes`, `rejected`, `shards_written`, `shards_kept`.

    Raises:
        UserError: the pipeline failed.
    """
    shards = {
        split: write_blocks(job.output, split, shuffled_blocks(examples, order.rows, order.seed))
        for split, examples in splits.items()
    }
    job = dataclasses.replace(job, num_shards=shards)
    if word_vectors is not None:
        path = os.path.join(job.output, FOLDER, WORD_VECTORS)
        with replacing(path, "wb") as file:
            np.save(file, np.asarray(word_vectors, np.float32))
        job = dataclasses.replace(job, word_vectors=path)
    with _progress(job):
        counters = run(options, lambda pipeline: add_preparation(pipeline, job), NAMESPACE, GOES_ON)
    storage.rmtree(os.path.join(job.output, FOLDER))
    for path in storage.matching(job.output, "*.tmp"):  # of workers that were lost
        storage.remove(path)
    return counters


@contextlib.contextmanager
def _progress(job: Job) -> Iterator[None]:
    """Shows how many shards have their notes, whichever machine writes them."""
    done, total = threading.Event(), sum(job.num_shards.values())

    def look(bar):
        most = 0
        while not done.wait(SECONDS_BETWEEN_LOOKS):
            notes = sum(name.endswith(".tfrecord.json") for name in storage.listdir(job.output))
            most = max(most, notes)  # they are removed at the end
            bar.update(most)

    with ProgressBar("writing", total, "shards") as bar:
        thread = threading.Thread(target=look, args=(bar,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
