"""Writing a data set as shards of TFRecords: every file checked, the order kept, safe to interrupt (DESIGN §4).

A shard appears under its name when it is whole, beside a note of what is in it. A run that is given again keeps the
finished shards and goes on behind them; the notes become the index at the end. Nothing in a shard depends on how many
threads worked on it.
"""

import collections
import concurrent.futures
import dataclasses
import glob
import hashlib
import io
import json
import os
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from msrn_tf.data.decoding import decode
from msrn_tf.data.example import targets_of
from msrn_tf.data.pipeline import read_bytes, reason_of_refusal
from msrn_tf.data.prepared import DATASET_FILE, index_path, shard_path
from msrn_tf.errors import UserError

PLAN_FILE = "prepare.json"
RECORD_FRAME_BYTES = 16  # of a TFRecord: length and two checksums
JPEG_QUALITY = 95


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
    """A photo after the check: its bytes, their hash and upright size; or why it is rejected."""

    content: bytes = b""
    digest: str = ""
    height: int = 0
    width: int = 0
    reason: str = ""


def start(output, plan, name, splits):
    """Makes the folder, or recognises it as begun by the same command.

    Args:
        output: the folder.
        plan: `PreparationPlan`.
        name: the data set's.
        splits: dict of split → list of `Example`.

    Raises:
        UserError: the folder holds something else.
    """
    chosen = {key: value for key, value in dataclasses.asdict(plan).items() if key != "num_threads"}
    description = {"dataset": name, **chosen, "splits": {key: _fingerprint(value) for key, value in splits.items()}}
    path = os.path.join(output, PLAN_FILE)
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            before = file.read()
        if before != json.dumps(description):
            raise UserError(f"--output={output}: was begun with other data or flags; give another folder, or delete it")
        return
    if os.path.isdir(output) and os.listdir(output):
        raise UserError(f"--output={output}: is not empty and not of this command; give another folder")
    os.makedirs(output, exist_ok=True)
    _write_text(path, json.dumps(description))


def write_split(output, split, examples, plan, progress):
    """Writes the shards of a split that are not there yet.

    Args:
        progress: called with the number of examples done.

    Returns:
        List of notes, one a shard: dicts with `rows` ([example's number, offset, hash, height, width]) and `rejected`
        ([example's number, reason]).

    Raises:
        UserError: a photo cannot be decoded and bad ones are not to be skipped, or the disk is full.
    """
    notes, first = _finished_shards(output, split)
    progress(first)
    checked = _in_order(examples[first:], plan)
    number = first
    try:
        while number < len(examples):
            path = shard_path(output, split, len(notes))
            note = {"rows": [], "rejected": [], "next": number}
            offset = 0
            with tf.io.TFRecordWriter(f"{path}.tmp") as writer:
                while offset < plan.shard_bytes and number < len(examples):
                    photo, example = next(checked), examples[number]
                    if photo.reason:
                        _reject(example, photo, plan)
                        note["rejected"].append([number, photo.reason])
                    else:
                        record = _record(example, photo)
                        writer.write(record)
                        note["rows"].append([number, offset, photo.digest, photo.height, photo.width])
                        offset += len(record) + RECORD_FRAME_BYTES
                    number += 1
                    progress(number)
            note["next"] = number
            os.replace(f"{path}.tmp", path)
            _write_text(_note_path(path), json.dumps(note))
            notes.append(note)
    except (tf.errors.ResourceExhaustedError, OSError) as error:
        raise UserError(
            f"--output={output}: cannot be written ({error}); make room and give the command again"
        ) from error
    return notes


def finish(output, labels, splits, notes):
    """Writes the index of each split and `dataset.json`, and removes the notes: the folder is then complete.

    Args:
        splits, notes: dicts by split: the examples, and what `write_split` returned.
    """
    description = {"labels": list(labels), "splits": {}}
    for split, examples in splits.items():
        rows = [(shard, *row) for shard, note in enumerate(notes[split]) for row in note["rows"]]
        kept = [examples[row[1]] for row in rows]
        targets = targets_of(kept) if kept else np.zeros((0, len(labels)), np.int8)
        temporary = index_path(output, split) + ".tmp"
        with open(temporary, "wb") as file:
            np.savez(
                file,
                image_id=np.array([example.image_id for example in kept], np.str_),
                target=targets,
                shard=np.array([row[0] for row in rows], np.int32),
                offset=np.array([row[2] for row in rows], np.int64),
            )
        os.replace(temporary, index_path(output, split))
        description["splits"][split] = {
            "num_images": len(kept),
            "num_shards": len(notes[split]),
            "counts": dict(zip(labels, (targets == 1).sum(axis=0).tolist(), strict=True)),
        }
    _write_text(os.path.join(output, DATASET_FILE), json.dumps(description, indent=2))


def remove_notes(output):
    """The last step: without notes the folder says that it is complete."""
    for path in glob.glob(os.path.join(glob.escape(output), "*.tfrecord.json")):
        os.remove(path)


def check(content, plan):
    """Decodes a photo's bytes as training will, and shrinks them where the plan says so. Returns `Checked`."""
    try:
        height, width = (int(size) for size in _decoded_size(content, plan.max_pixels)[:2])
    except tf.errors.OpError as error:
        return Checked(reason=reason_of_refusal(error))
    if plan.max_side and max(height, width) > plan.max_side:
        with Image.open(io.BytesIO(content)) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        scale = plan.max_side / max(height, width)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        file = io.BytesIO()
        upright.resize((width, height), Image.Resampling.LANCZOS).save(file, "JPEG", quality=JPEG_QUALITY)
        content = file.getvalue()
    return Checked(content, hashlib.sha256(content).hexdigest(), height, width)


@tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)])
def _decoded_size(content, max_pixels):
    return tf.shape(decode(content, max_pixels))


def _in_order(examples, plan):
    """`Checked` of each example, in their order, a few ahead on threads (decoders leave Python's lock alone)."""

    def load(example):
        try:
            return check(_content(example), plan)
        except OSError as error:
            return Checked(reason=f"cannot be read ({error.strerror})")

    with concurrent.futures.ThreadPoolExecutor(plan.num_threads) as threads:
        ahead = collections.deque()
        for example in examples:
            ahead.append(threads.submit(load, example))
            if len(ahead) > 4 * plan.num_threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _content(example):
    if example.image_bytes is not None:
        return example.image_bytes
    if example.record_offset >= 0:
        return next(read_bytes([example]))
    with open(example.image_path, "rb") as file:
        return file.read()


def _reject(example, photo, plan):
    if not plan.skip_bad_images:
        name = example.image_path or example.image_id
        raise UserError(f"{name}: is no photo that can be used ({photo.reason}); mend it, or use --bad_images=skip")


def _record(example, photo):
    def bytes_of(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def integers(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    features = {
        "image/encoded": bytes_of(photo.content),
        "image/id": bytes_of(example.image_id.encode()),
        "image/height": integers([photo.height]),
        "image/width": integers([photo.width]),
        "labels/target": integers(example.target.tolist()),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def _finished_shards(output, split):
    """Notes of the shards that are whole, and the number of the example behind them."""
    notes = []
    while True:
        path = shard_path(output, split, len(notes))
        if not (os.path.exists(path) and os.path.exists(_note_path(path))):
            return notes, notes[-1]["next"] if notes else 0
        with open(_note_path(path), encoding="utf-8") as file:
            notes.append(json.load(file))


def _note_path(shard):
    return f"{shard}.json"


def _fingerprint(examples):
    names = "\n".join(example.image_id for example in examples).encode()
    return [len(examples), zlib.crc32(names), zlib.crc32(targets_of(examples).tobytes())]


def _write_text(path, text):
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.tmp", path)
