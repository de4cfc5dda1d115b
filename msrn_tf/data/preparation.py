"""Writing a data set as shards of TFRecords: every file checked, the order kept, safe to interrupt.

A shard appears under its name when it is whole, beside a note of what is in it. A run that is given again keeps the
finished shards and goes on behind them; the notes become the index at the end. Nothing in a shard depends on how many
threads worked on it.
"""

import contextlib
import dataclasses
import errno
import glob
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from msrn_tf import storage
from msrn_tf.choices import READS_IN_FLIGHT
from msrn_tf.data.examples import Example, Examples, name_of
from msrn_tf.data.near_duplicates import perceptual_hash
from msrn_tf.data.photos import why_no_photo_is_there
from msrn_tf.data.pipeline import UNREADABLE, decoded, read_encoded, reason_of_refusal, why_bad
from msrn_tf.data.prepared import DATASET_FILE, index_columns, shard_path, sizes_of, write_index
from msrn_tf.data.records import FRAME_BYTES
from msrn_tf.errors import UserError
from msrn_tf.files import replacing, temporary_name
from msrn_tf.type_names import Progress

PLAN_FILE = "prepare.json"
PHOTOS = "photos"  # of the plan and of notes: the state of the files that photos are read from
JPEG_QUALITY = 95
AHEAD_A_THREAD = 4


@dataclasses.dataclass(frozen=True)
class PreparationPlan:
    """How to write.

    Attributes:
        max_pixels: int. Larger photos are rejected.
        max_side: int. Photos whose longer side is above it are shrunk to it (and then are JPEGs); 0: bytes as they are.
        shard_bytes: int. A shard ends with the record that reaches it.
        skip_bad_images: bool. Leave out what cannot be decoded, rather than stop.
        num_threads: int.
    """

    max_pixels: int
    max_side: int = 0
    shard_bytes: int = 128 << 20
    skip_bad_images: bool = True
    num_threads: int = 1


@dataclasses.dataclass(frozen=True)
class Checked:
    """A photo after the check: bytes to write, their hash before, upright size and look; or why it is rejected."""

    content: bytes = b""
    digest: str = ""
    height: int = 0
    width: int = 0
    look: str = ""
    reason: str = ""


@contextlib.contextmanager
def writing(output: str) -> Iterator[None]:
    """Makes a sentence of what a disk raises that is full or not to be written on."""
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        raise UserError(
            f"`output`={output}: cannot be written ({error}); free some space there or choose another folder"
        ) from error


def start(
    output: str,
    plan: PreparationPlan,
    name: str,
    labels: Sequence[str],
    splits: dict[str, Examples],
    last_flags: dict[str, Any] | None = None,
    order: dict[str, Any] | None = None,
) -> None:
    """Makes the folder, or recognises it as begun by the same command.

    Args:
        output: the folder.
        plan: `PreparationPlan`.
        name: the data set's.
        labels: C names.
        splits: dict of split → `Examples`.
        last_flags: dict of flag → value: what is written last depends on them, so they may change until then.
        order: what decides the order of records, where it is not that of the examples. The files of photos are then
            looked at by those who read them, and not here.

    Raises:
        UserError: the folder holds something else.
    """
    chosen = {key: value for key, value in dataclasses.asdict(plan).items() if key != "num_threads"}
    fingerprints = {split: list(examples.fingerprint()) for split, examples in splits.items()}
    description = {"dataset": name, **chosen, "labels": list(labels), "splits": fingerprints}
    description |= {} if order is None else {"order": order}
    photos = {split: None if order else state_of_files(examples) for split, examples in splits.items()}
    path = os.path.join(output, PLAN_FILE)
    if storage.exists(path):
        before = plan_before(output)
        photos_before, flags_before = before.pop(PHOTOS, photos), before.pop("last_flags", last_flags)
        # A command that was not to skip bad photos has skipped none: one that is may go on.
        is_same = before in (description, description | {"skip_bad_images": False})
        if not is_same or (is_complete(output) and flags_before != last_flags):
            raise UserError(
                f"`output`={output}: was begun with other data or flags; choose another folder, or delete it"
            )
        if is_complete(output) and photos_before != photos:
            raise UserError(
                f"`output`={output}: photos were edited, added or removed since it was written (the newest is "
                f"{_newest(splits)}); choose another folder, or delete it to prepare them again"
            )
    elif storage.isdir(output) and storage.listdir(output):
        raise UserError(f"`output`={output}: is not empty and was not written by this command; choose another folder")
    storage.makedirs(output)
    write_text(path, json.dumps(description | {PHOTOS: photos, "last_flags": last_flags}))


def is_complete(output: str) -> bool:
    """Whether a folder is written to its end: `remove_notes` was the last step."""
    names = storage.listdir(output)
    return DATASET_FILE in names and not any(name.endswith(".tfrecord.json") for name in names)


def plan_before(output: str) -> dict[str, Any]:
    """What a folder was begun with; empty: nothing that can be read."""
    try:
        with storage.open_file(os.path.join(output, PLAN_FILE), encoding="utf-8") as file:
            return dict(json.load(file))
    except (OSError, ValueError, TypeError, RecursionError):  # it was cut short, or is another's
        return {}


def write_split(
    output: str, split: str, examples: Examples, plan: PreparationPlan, progress: Progress
) -> list[dict[str, Any]]:
    """Writes the shards of a split that are not there yet.

    Args:
        progress: called with the number of examples done.

    Returns:
        List of notes, one a shard: dicts with `rows` ([example's number, offset, hash, height, width, perceptual hash])
        and `rejected` ([example's number, reason]).

    Raises:
        UserError: a photo cannot be decoded and bad ones are not to be skipped, or none can be.
    """
    notes, number = _finished_shards(output, split, examples)
    progress(number)
    photos = _with_progress(enumerate(checked_photos(examples[number:], plan), number), progress)
    while number < len(examples):
        path, first = shard_path(output, split, len(notes)), number
        note = write_shard(path, photos, plan, plan.shard_bytes)
        number += len(note["rows"]) + len(note["rejected"])
        notes.append(note | {"next": number, PHOTOS: state_of_files(examples[first:number])})
        write_text(note_path(path), json.dumps(notes[-1]))
    if not any(note["rows"] for note in notes):
        for number in range(len(notes)):  # or the next run, when the photos are there, would keep them
            remove_note(shard_path(output, split, number))
        number, reason = notes[0]["rejected"][0]
        raise UserError(nothing_left(split, len(examples), name_of(examples[number]), reason))
    return notes


def write_shard(
    path: str,
    photos: Iterator[tuple[int, tuple[Example, Checked]]],
    plan: PreparationPlan,
    shard_bytes: int | None = None,
    attempt: str = "",
) -> dict[str, Any]:
    """Writes photos to a file that is whole when it has its name.

    Args:
        path: the file.
        photos: (number, (example, what became of it)), taken until the shard is full or there are no more.
        plan: `PreparationPlan`.
        shard_bytes: int. It is full with the record that reaches this; None: it takes all.
        attempt: text that tells this writer from another that writes the same shard at the same time.

    Returns:
        A note: a dict with `rows` and `rejected`, as of `write_split`.

    Raises:
        UserError: a photo cannot be decoded and bad ones are not to be skipped.
    """
    note: dict[str, Any] = {"rows": [], "rejected": []}
    offset, temporary = 0, temporary_name(f"{path}{attempt}")
    with tf.io.TFRecordWriter(temporary) as writer:
        for number, (example, photo) in photos:
            if photo.reason:
                if not plan.skip_bad_images:
                    raise UserError(cannot_be_used(name_of(example), photo.reason))
                note["rejected"].append([number, photo.reason])
                continue
            record = _record(example, photo)
            writer.write(record)
            note["rows"].append([number, offset, photo.digest, photo.height, photo.width, photo.look])
            offset += len(record) + FRAME_BYTES
            if shard_bytes is not None and offset >= shard_bytes:
                break
    storage.put(temporary, path)
    return note


def cannot_be_used(name: str, reason: str) -> str:
    """The sentence about a photo that is not to be skipped."""
    return f"{name}: is not a photo that can be used ({reason}); fix it, or use `bad_images`=skip"


def nothing_left(split: str, count: int, name: str, reason: str) -> str:
    """The sentence about a split of which no photo can be used, for one of them why."""
    return (
        f"split {split!r}: none of its {count} photos can be used ({name}: {reason}); complete the data, or leave the "
        "split out with `splits`"
    )


def finish(
    output: str, labels: Sequence[str], splits: dict[str, Examples], notes: dict[str, list[dict[str, Any]]]
) -> None:
    """Writes the index of each split and `dataset.json`, and removes the notes: the folder is then complete.

    Args:
        splits, notes: dicts by split: the examples, and what `write_split` returned.
    """
    facts = {}
    for split, examples in splits.items():
        rows = [(shard, *row) for shard, note in enumerate(notes[split]) for row in note["rows"]]
        kept = examples.take(np.array([row[1] for row in rows], int))
        columns = index_columns(kept, shards=[row[0] for row in rows], offsets=[row[2] for row in rows])
        write_index(output, split, [columns], sizes_of(columns))
        facts[split] = (len(kept), len(notes[split]), kept.counts())
    write_description(output, labels, facts)


def write_description(output: str, labels: Sequence[str], splits: dict[str, tuple[int, int, np.ndarray]]) -> None:
    """Writes `dataset.json`.

    Args:
        splits: dict of split → (images, shards, int64 `[C]` of images that show each label).
    """
    description = {
        "labels": list(labels),
        "splits": {
            split: {
                "num_images": images,
                "num_shards": shards,
                "counts": dict(zip(labels, counts.tolist(), strict=True)),
            }
            for split, (images, shards, counts) in splits.items()
        },
    }
    write_text(os.path.join(output, DATASET_FILE), json.dumps(description, indent=2))


def remove_notes(output: str) -> None:
    """The last step: without notes the folder says that it is complete."""
    for path in storage.matching(output, "*.tfrecord.json"):
        storage.remove(path)


def remove_note(shard: str) -> None:
    """Removes the note of a shard, where it is there."""
    with contextlib.suppress(FileNotFoundError):
        storage.remove(note_path(shard))


def check(content: bytes, plan: PreparationPlan) -> Checked:
    """Decodes a photo's bytes as training will, and shrinks it where the plan says so. Returns `Checked`."""
    try:
        pixels = decoded(content, plan.max_pixels)
    except UNREADABLE as error:
        return Checked(reason=reason_of_refusal(error))
    digest, look = hashlib.sha256(content).hexdigest(), perceptual_hash(pixels.numpy())
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if plan.max_side and longer > plan.max_side:
        height, width = (max(1, round(side * plan.max_side / longer)) for side in (height, width))
        shrunk, file = Image.fromarray(pixels.numpy()).resize((width, height), Image.Resampling.LANCZOS), io.BytesIO()
        shrunk.save(file, "JPEG", quality=JPEG_QUALITY)
        content = file.getvalue()
    return Checked(content, digest, height, width, look)


def checked_photos(examples: Sequence[Example], plan: PreparationPlan) -> Iterator[tuple[Example, Checked]]:
    """Each example with what became of it, in their order, a few ahead.

    On threads: TensorFlow's decoders, Pillow's resizing and its encoder run without Python's lock. Processes, each of
    which would import TensorFlow, would be no faster.
    """

    def load(example):
        return example, checked(example, plan)

    return storage.on_threads(load, examples, plan.num_threads, AHEAD_A_THREAD * plan.num_threads)


def checked(example: Example, plan: PreparationPlan) -> Checked:
    """A photo, read and checked.

    Raises:
        UserError: a disk, a store or this machine fails. What is left out for that would be missing for ever.
    """
    try:
        return check(_content(example), plan)
    except (tf.errors.OpError, OSError) as error:
        why = why_bad(error, example, "give the same command again to go on")
        return Checked(reason=f"cannot be read ({why})" if isinstance(error, OSError) else why)


def _with_progress(photos, progress):
    for number, photo in photos:
        progress(number + 1)
        yield number, photo


def _content(example):
    if example.image_bytes is not None:
        return example.image_bytes
    if example.record_offset >= 0:
        return read_encoded(example).numpy()
    if reason := why_no_photo_is_there(example.image_path):
        raise OSError(errno.ENOENT, reason)
    return storage.read_whole(example.image_path)


def _record(example, photo):
    def bytes_of(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def integers(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    features = {
        "image/encoded": bytes_of(photo.content),
        "image/id": bytes_of(os.fsencode(example.image_id)),
        "image/height": integers([photo.height]),
        "image/width": integers([photo.width]),
        "labels/target": integers(example.target.tolist()),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def _finished_shards(output, split, examples):
    """Notes of the shards that are whole and whose photos are as they were, and the number of the example behind them.

    The notes of later shards are removed: those are written anew.
    """
    notes, first = [], 0
    while True:
        path = shard_path(output, split, len(notes))
        note = finished_note(path, examples, first)
        if note is None:
            break
        first = note["next"]
        notes.append(note)
    kept = {note_path(shard_path(output, split, number)) for number in range(len(notes))}
    for path in storage.matching(output, f"{glob.escape(split)}-*.tfrecord.json"):
        if path not in kept:
            storage.remove(path)
    return notes, first


def finished_note(path: str, examples: Examples, first: int = 0) -> dict[str, Any] | None:
    """The note of a shard that is whole and whose photos are as they were; None: it is to be written.

    Args:
        path: the shard's.
        examples: that the shard is made of from number `first` on: to where the note says, or all.
    """
    try:
        note = read_note(path)
        is_whole = storage.exists(path) and note[PHOTOS] == state_of_files(examples[first : note.get("next")])
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):  # cut short with the machine
        return None
    return note if is_whole else None


def read_note(shard: str) -> dict[str, Any]:
    """The note of a shard. Raises `OSError` or `ValueError` where there is none that is whole."""
    with storage.open_file(note_path(shard), encoding="utf-8") as file:
        return json.load(file)


def note_path(shard: str) -> str:
    """The note of a shard: it is there while the data set is being written."""
    return f"{shard}.json"


def state_of_files(examples: Examples) -> int:
    """A number that changes with the size or time of change of a file, or with bytes in memory."""
    state = 0
    for example, status in zip(examples, _statuses(examples), strict=True):
        content = example.image_bytes or (b"%d %d" % (status.size, status.mtime_ns) if status else b"none")
        state = zlib.crc32(content, state)
    return state


def _newest(splits):
    """The name of the file that was changed last."""
    every = ((e, status) for es in splits.values() for e, status in zip(es, _statuses(es), strict=True))
    files = [(status.mtime_ns, name_of(e)) for e, status in every if status]
    return max(files)[1] if files else "not a file"


def _statuses(examples):
    return storage.in_flight(_status, examples, remote=examples.are_remote)


def _status(example):
    try:
        return storage.status(example.image_path) if example.image_path and example.image_bytes is None else None
    except (OSError, ValueError):
        return None


def reading_threads(are_remote: bool) -> int:
    """Threads to prepare with: one for each core; many where reading photos waits for a store."""
    return max(os.cpu_count() or 1, READS_IN_FLIGHT if are_remote else 1)


def write_text(path: str, text: str) -> None:
    """Writes a text file that is whole or not there."""
    with replacing(path) as file:
        file.write(text)
