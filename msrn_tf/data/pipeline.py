"""The tf.data pipeline: from examples to batches of uint8 images and targets.

The order of an epoch and every random choice in it are functions of (seed, epoch, position), whatever the number of
parallel calls. Images stay uint8 up to the device, which normalises them: four times fewer bytes to move.
"""

import dataclasses
import errno
import functools
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
import tensorflow as tf

from msrn_tf import storage
from msrn_tf.choices import MAX_PIXELS, READS_IN_FLIGHT
from msrn_tf.data.augmentation import CROPPED, make_augmentation, random_crop_box
from msrn_tf.data.decoding import decode, decode_crop, evaluation_pixels, training_resize
from msrn_tf.data.examples import UNKNOWN, Example, Examples, name_of
from msrn_tf.data.photos import why_no_photo_is_there, why_not_a_photo_file
from msrn_tf.data.policies import mixed
from msrn_tf.data.records import are_whole
from msrn_tf.errors import UserError
from msrn_tf.type_names import Tensor

PREFETCHED_BATCHES = 2
ROWS_AT_A_TIME, CHECKED_AT_A_TIME = 256, 32
RECORD_BUFFER_BYTES = 1 << 17
UNREADABLE = (
    tf.errors.InvalidArgumentError,
    tf.errors.DataLossError,  # a damaged record
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.FailedPreconditionError,  # a folder in the place of a file
)
"""What batches raise at a photo that cannot be read or decoded."""

OF_A_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""What a file system answers where one name is at fault, and not the disk, a store or this machine."""


@dataclasses.dataclass(frozen=True)
class InputPlan:
    """What becomes of a photo on its way into training.

    Attributes:
        image_size: int. Height and width of the images.
        augment: one of `choices.AUGMENTATIONS`.
        mix: one of `choices.MIXES`.
        max_pixels: int. Larger photos are refused before they are decoded.
        reads_in_flight: int. So many photos are being read at a time.
    """

    image_size: int
    augment: str = "none"
    mix: str = "none"
    max_pixels: int = MAX_PIXELS
    reads_in_flight: int = READS_IN_FLIGHT

    @classmethod
    def of(cls, data: Any) -> Self:
        """As `msrn_tf.config.TrainingDataConfig` says."""
        return cls(data.image_size, data.augment, data.mix, data.max_pixels, data.reads_in_flight)


def training_batches(
    examples: Examples,
    plan: InputPlan,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first_batch: int = 0,
    shard: tuple[int, int] = (0, 1),
    sources: np.ndarray | None = None,
) -> tf.data.Dataset:
    """One epoch of shuffled, augmented, full batches.

    The last `len(examples) % batch_size` images of the epoch's order are left out: a replica with an empty batch would
    turn batch-norm statistics to NaN.

    Args:
        examples: `Examples`.
        plan: `InputPlan`.
        batch_size: int, over all replicas.
        seed, epoch: ints.
        first_batch: int. Batches before it are left out; those that follow are what they would have been.
        shard: (index, count). This worker's part of each batch.
        sources: int `[N]`: the photo that stands in the place of each; None: its own.

    Returns:
        A `tf.data.Dataset` of (uint8 `[batch / count, size, size, 3]`, targets `[batch / count, C]`: int8, or float32
        where photos are mixed). It raises one of `UNREADABLE` at a batch with a photo that cannot be read or decoded.
    """
    chosen, positions = epoch_rows(len(examples), batch_size, seed, epoch, first_batch, shard, sources)
    rows = _rows(examples, chosen, plan.reads_in_flight, position=positions)
    load, run = _training_load(plan), tf.constant([seed, epoch], tf.int64)
    dataset = rows.map(as_written(lambda row: load(row, run)), num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(batch_size // shard[1], drop_remainder=True)
    if plan.mix != "none":

        def mix(number, batch):
            return mixed(batch[0], batch[1], _stateless_seed(seed, epoch, number, 2 + shard[0]), plan.mix)

        dataset = dataset.enumerate(first_batch).map(as_written(mix), num_parallel_calls=tf.data.AUTOTUNE)
    return prefetched(dataset)


@functools.lru_cache
def _training_load(plan):
    """The function of a row and `[seed, epoch]` → (image, target), which TensorFlow traces once and not every epoch."""
    augment = make_augmentation(plan.augment)

    @tf.function(autograph=False)
    def load(row, run):
        seed, epoch = tf.unstack(run)

        def box(height, width):
            return random_crop_box(height, width, plan.image_size, _stateless_seed(seed, epoch, row["position"], 0))

        image = decode_crop(row["content"], box if plan.augment in CROPPED else None, plan.max_pixels)
        image = training_resize(image, plan.image_size)
        return augment(image, augmentation_seed(seed, epoch, row["position"])), row["target"]

    return load


@functools.lru_cache
def _evaluation_load(image_size, max_pixels):
    """The function of a row → (image, target), traced once."""

    def load(row):
        return evaluation_pixels(row["content"], image_size, max_pixels), row["target"]

    return as_written(tf.function(load, autograph=False))


def as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function for `tf.data` to trace as it stands.

    By default AutoGraph rewrites it and every Python function that it calls, which takes longer than tracing them.
    """
    return tf.autograph.experimental.do_not_convert(function)


def prefetched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The last step of every dataset of batches.

    Parallel calls are as many as cores, not tuned while it runs (see `distributed`).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(PREFETCHED_BATCHES).with_options(options)


def distributed(
    strategy: tf.distribute.Strategy, of_shard: Callable[[tuple[int, int]], tf.data.Dataset]
) -> Iterator[Any]:
    """Batches for the replicas of this worker.

    Read by an iterator of tf.data, not by one of `tf.distribute` (TensorFlow 2.21). That one's copies to the devices
    have a tuner of their own which no option turns off. Dropping the iterator waits for the tuner's next turn, after
    10, 20, 41, 82 and then every 60 seconds; and where it is dropped on a thread of its own instead, a process that
    ends in the meantime is aborted.

    Args:
        strategy: a `tf.distribute.Strategy`.
        of_shard: function of a shard, `(index, count)` of workers, → a `tf.data.Dataset` with the batches of its
            replicas one after the other.

    Yields:
        What `strategy.run` takes: a batch, or the `PerReplica` batches of several replicas.
    """
    replicas = len(strategy.extended.worker_devices) if strategy.num_replicas_in_sync > 1 else 1
    resolver = strategy.cluster_resolver
    index = (resolver.task_id or 0) if resolver else 0
    batches = iter(of_shard((index, strategy.num_replicas_in_sync // replicas)))
    for parts in zip(*[batches] * replicas, strict=False):
        if replicas == 1:
            yield parts[0]
        else:
            yield tf.nest.map_structure(functools.partial(_per_replica, strategy), *parts)


def _per_replica(strategy, *tensors):
    return strategy.experimental_distribute_values_from_function(
        lambda context: tensors[context.replica_id_in_sync_group % len(tensors)]
    )


def epoch_order(
    num_examples: int, batch_size: int, seed: int, epoch: int, shard: tuple[int, int] = (0, 1)
) -> tuple[np.ndarray, np.ndarray]:
    """The order of an epoch, and which positions of it a worker loads.

    Returns:
        `(order, positions)`: a permutation, int `[num_examples]`; int64 `[batches, batch size / workers]`.
    """
    order = np.random.default_rng((seed, epoch)).permutation(num_examples)
    return order, shard_positions(num_examples // batch_size, batch_size, shard)


def epoch_rows(
    num_examples: int,
    batch_size: int,
    seed: int,
    epoch: int,
    first_batch: int,
    shard: tuple[int, int],
    sources: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Which photos a worker reads from a batch of an epoch on, and their positions in it; see `training_batches`.

    Returns:
        `(rows, positions)`: int `[images]` each, a batch's photos after those of the batch before.
    """
    order, positions = epoch_order(num_examples, batch_size, seed, epoch, shard)
    positions = positions[first_batch:].reshape(-1)
    return order[positions] if sources is None else sources[order[positions]], positions


def shard_positions(num_batches: int, batch_size: int, shard: tuple[int, int]) -> np.ndarray:
    """The positions of an epoch's order that a worker loads, int64 `[batches, batch size / workers]`."""
    index, count = shard
    return np.arange(num_batches * batch_size).reshape(num_batches, count, batch_size // count)[:, index]


def evaluation_batches(
    examples: Examples,
    *,
    image_size: int,
    batch_size: int,
    shard: tuple[int, int] = (0, 1),
    max_pixels: int = MAX_PIXELS,
) -> tf.data.Dataset:
    """All examples in their order, as in `training_batches`.

    The last batch is filled up with black images whose labels are all unknown: every replica has work, the model is
    traced for one shape, and what is unknown adds nothing to a metric.
    """
    blank = (
        tf.zeros([image_size, image_size, 3], tf.uint8),
        tf.fill([examples.num_labels], tf.constant(UNKNOWN, tf.int8)),
    )
    positions = shard_positions(-(-len(examples) // batch_size), batch_size, shard).reshape(-1)
    mine = positions[positions < len(examples)]
    dataset = tf.data.Dataset.from_tensors(blank).repeat(len(positions) - len(mine))
    if len(mine):
        rows = _rows(examples, mine)
        images = rows.map(_evaluation_load(image_size, max_pixels), num_parallel_calls=tf.data.AUTOTUNE)
        dataset = images.concatenate(dataset)
    return prefetched(dataset.batch(batch_size // shard[1], drop_remainder=True))


def is_of_the_photo(error: Exception, path: str | bytes | None) -> bool:
    """Whether it is one photo that cannot be read or decoded, and not a disk, a store or this machine that fails."""
    if isinstance(error, PermissionError | tf.errors.PermissionDeniedError):
        return not storage.is_address(path or "")  # a store denies all once credentials have expired
    return isinstance(error, UNREADABLE) or getattr(error, "errno", None) in OF_A_FILE


def why_bad(error: OSError | tf.errors.OpError, example: Example, then: str) -> str:
    """Why a photo counts as bad, in a few words.

    Args:
        error: what was raised when it was read or decoded.
        example: the photo.
        then: what to do when a disk, a store or this machine works again.

    Raises:
        UserError: it is one of those that fails, and the photo may be sound.
    """
    why = str(error.strerror) if isinstance(error, OSError) else reason_of_refusal(error)
    if is_of_the_photo(error, example.image_path):
        return why
    raise UserError(f"{name_of(example)}: cannot be read now ({why}); mend that, and {then}") from error


def check_cannot_be_decoded(example: Example, max_pixels: int = MAX_PIXELS) -> None:
    """Tries a photo again before it counts as bad for good. Raises `UserError` where a disk or store was at fault."""
    path = example.image_path
    try:
        if path and not example.image_bytes and example.record_offset < 0 and why_no_photo_is_there(path):
            return
        decoded(read_encoded(example), max_pixels)
    except (OSError, tf.errors.OpError) as error:
        why_bad(error, example, "start again")
        return
    raise UserError(f"{name_of(example)}: could be read at a second try alone; start again")


def why_not_decoded(example: Example, max_pixels: int = MAX_PIXELS) -> str | None:
    """Why a photo cannot be read or decoded, in a few words; None for one that can."""
    if not example.image_bytes and example.image_path:
        reason = why_not_a_photo_file(example.image_path) if example.record_offset < 0 else None
        if reason:
            return f"cannot be read: {reason}"
        example = dataclasses.replace(example, image_bytes=None)
    try:
        decoded(read_encoded(example), max_pixels)
    except tf.errors.OpError as error:
        return reason_of_refusal(error)
    return None


@tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)], autograph=False)
def decoded(encoded: Tensor, max_pixels: int) -> Tensor:
    """`decode`, traced once for all photos that are looked at one by one."""
    return decode(encoded, max_pixels)


def reason_of_refusal(error: tf.errors.OpError) -> str:
    """What a reading or decoding error says to a person: TensorFlow's message without its operations' names."""
    if isinstance(error, tf.errors.DataLossError):
        return DAMAGED_RECORD
    lines = [line for line in error.message.splitlines() if line.strip()]
    # A traced function says where its operations were defined, then what is wrong, then `[[{{node …}}]]`.
    end = next((number for number, line in enumerate(lines) if line.strip().startswith("[[{{")), len(lines))
    line = re.sub(r" \[Op:\w+\]$", "", lines[max(0, end - 1)].split("}} ")[-1])
    return re.sub(r"[\[\]]", "", line.removeprefix("assertion failed: ")).strip()[:160]


def in_memory(examples: Examples) -> Examples:
    """The same examples with their encoded bytes in memory."""
    return examples.with_contents(read_bytes(examples))


def read_bytes(examples: Examples) -> Iterator[bytes]:
    """The encoded bytes of each example, one after the other; none where they cannot be read."""
    rows = _rows(examples, np.arange(len(examples)))
    contents = rows.map(lambda row: row["content"]).prefetch(PREFETCHED_BATCHES).as_numpy_iterator()
    for _ in range(len(examples)):
        try:
            yield next(contents)
        except UNREADABLE:
            yield b""


def read_encoded(example: Example) -> Tensor:
    """The encoded bytes of one example, a string scalar. Raises `tf.errors.OpError` where they cannot be read."""
    if example.image_bytes is not None:
        return tf.constant(example.image_bytes)
    assert example.image_path is not None
    path = os.fsencode(example.image_path)
    if example.record_offset < 0:
        return _read_file({"path": path})
    offset = example.record_offset
    if not storage.is_address(path):
        (offset,) = _whole_records(np.array([path], object), np.array([offset]))
    if offset == NO_RECORD:
        raise tf.errors.DataLossError(None, None, DAMAGED_RECORD)
    return _read_record({"path": path, "offset": tf.constant(offset, tf.int64)})


NO_RECORD, DAMAGED_RECORD = -1, "is a damaged record"
PLACES = {"content": tf.string, "path": tf.string, "offset": tf.int64}


def _rows(examples, numbers, reads_in_flight=READS_IN_FLIGHT, **columns):
    """Some rows as a dataset of dicts in their order: `content`, the photo's encoded bytes, `target` and `columns`.

    Columns are looked into for a few rows at a time, while the dataset runs: it starts at once, however many there are.

    Args:
        examples: `Examples`.
        numbers: int `[rows]`.
        reads_in_flight: int.
        columns: further arrays int64 `[rows]`.
    """
    rows, read = row_places(examples, numbers, reads_in_flight, **columns)

    def with_content(row):
        return {name: row[name] for name in ("target", *columns)} | {"content": read(row)}

    waiting = {} if read is _read_content else _waiting(reads_in_flight)
    return rows.map(as_written(with_content), **waiting)


def row_places(
    examples: Examples, numbers: np.ndarray, reads_in_flight: int = READS_IN_FLIGHT, **columns: np.ndarray
) -> tuple[tf.data.Dataset, Callable[[dict[str, Tensor]], Tensor]]:
    """Where the photos of some rows are, before any is read: a dataset of dicts, and what reads the bytes of one.

    Args:
        examples, numbers, reads_in_flight, columns: see `_rows`.
    """
    first = examples.take(numbers[:1])
    places = list(first.place_columns())
    read = _read_content if "content" in places else _read_record if "offset" in places else _read_file
    kinds = {"target": tf.int8} | {name: PLACES[name] for name in places} | dict.fromkeys(columns, tf.int64)

    is_checked = "offset" in places and not first.are_remote

    def look_up(part):
        found = examples.take(numbers[part])
        values = {"target": found.targets} | found.place_columns()
        if is_checked:
            values["offset"] = _whole_records(values["path"], values["offset"])
        values |= {name: column[part] for name, column in columns.items()}
        return [values[name] for name in kinds]

    def named(part):
        values = dict(zip(kinds, tf.numpy_function(look_up, [part], list(kinds.values()), stateful=False), strict=True))
        for name, value in values.items():
            value.set_shape([None, examples.num_labels] if name == "target" else [None])
        return values

    parts = tf.data.Dataset.range(len(numbers)).batch(CHECKED_AT_A_TIME if is_checked else ROWS_AT_A_TIME)
    return parts.map(as_written(named), **(_waiting(reads_in_flight) if is_checked else {})).unbatch(), read


def _waiting(reads_in_flight):
    """Of a map that waits for a store: threads beside those of the cores."""
    return {"num_parallel_calls": reads_in_flight, "use_unbounded_threadpool": True}


def _whole_records(paths, offsets):
    """The offsets, with `NO_RECORD` in the place of those at which there is none that is whole.

    At addresses nobody asks: that would be a second request for each photo.
    """
    kept = np.full(len(offsets), NO_RECORD, np.int64)
    for path in set(paths):
        here = np.flatnonzero(paths == path)
        whole = here[are_whole(path, offsets[here].tolist())]
        kept[whole] = offsets[whole]
    return kept


def _read_content(row):
    return row["content"]


def _read_file(row):
    return tf.io.read_file(row["path"])


def _read_record(row):
    with tf.control_dependencies([tf.debugging.Assert(row["offset"] > NO_RECORD, [DAMAGED_RECORD])]):
        offset = tf.identity(row["offset"])
    # TFRecordDataset takes no offsets; the operation below it does.
    records = tf.raw_ops.TFRecordDatasetV2(
        filenames=[row["path"]],
        compression_type="",
        buffer_size=tf.constant(RECORD_BUFFER_BYTES, tf.int64),
        byte_offsets=[offset],
    )
    kind = {"output_types": [tf.string], "output_shapes": [[]]}
    first = tf.raw_ops.TakeDataset(input_dataset=records, count=tf.constant(1, tf.int64), **kind)
    record = tf.raw_ops.DatasetToSingleElement(dataset=first, **kind)[0]
    return tf.io.parse_single_example(record, {"image/encoded": tf.io.FixedLenFeature([], tf.string)})["image/encoded"]


def augmentation_seed(seed: int, epoch: Any, position: Any) -> Tensor:
    """What decides how the photo at a position of an epoch is augmented, int `[2]`."""
    return _stateless_seed(seed, epoch, position, 1)


def _stateless_seed(seed, epoch, position, use):
    """A seed pair for `tf.random.stateless_*`: distinct for each epoch, position and use of a run."""
    seed, epoch, position = (tf.cast(number, tf.int64) for number in (seed, epoch, position))
    return tf.stack([seed * (1 << 16) + use, epoch * (1 << 32) + position])
