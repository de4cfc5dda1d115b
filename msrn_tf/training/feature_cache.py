"""Feature maps of a frozen backbone, computed once and kept on a disk: heads then train in minutes on a CPU.

Exact: a frozen backbone's maps are a function of the photo's pixels alone, so what is kept is what each epoch would
compute again. That holds for photos as they are and mirrored; other augmentation has endless variants.
"""

import dataclasses
import fcntl
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from typing import Self

import numpy as np
import tensorflow as tf

from msrn_tf import storage
from msrn_tf.arrays import map_array
from msrn_tf.choices import MAX_PIXELS
from msrn_tf.data.augmentation import make_augmentation
from msrn_tf.data.decoding import decode, evaluation_pixels, training_resize
from msrn_tf.data.examples import UNKNOWN, Examples
from msrn_tf.data.pillow_decoding import readable_formats
from msrn_tf.data.pipeline import (
    PREFETCHED_BATCHES,
    as_written,
    augmentation_seed,
    check_cannot_be_decoded,
    epoch_rows,
    prefetched,
    read_bytes,
    shard_positions,
    why_not_decoded,
)
from msrn_tf.errors import UserError
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.taps import tap_shapes
from msrn_tf.progress import ProgressBar
from msrn_tf.terminal import say

IMAGES_AT_A_TIME = 32
DESCRIPTION = "features.json"
FORM = 2
"""Counts the ways to decode and resize: what an earlier one wrote is not taken."""


@dataclasses.dataclass(frozen=True)
class CachedFeatureMaps:
    """`BatchSource` of feature maps in the place of images: the same batches in the same order.

    Attributes:
        examples: `Examples`.
        maps: arrays `[N, variants, h, w, features]`, a scale each, mapped from a disk; a variant is the photo, and its
            mirror image.
        undecodable: rows without maps: their photos cannot be decoded, and fail the batches they are in.
        augment: one of `choices.CACHED_AUGMENTATIONS`.
        image_size: int.
        max_pixels: int.
    """

    examples: Examples
    maps: list
    undecodable: frozenset
    augment: str
    image_size: int
    max_pixels: int

    def training_batches(
        self,
        *,
        batch_size: int,
        seed: int,
        epoch: int,
        first_batch: int = 0,
        shard: tuple[int, int] = (0, 1),
        sources: np.ndarray | None = None,
    ) -> tf.data.Dataset:
        """As `BatchSource.training_batches`."""
        rows, positions = epoch_rows(len(self.examples), batch_size, seed, epoch, first_batch, shard, sources)
        augment = make_augmentation(self.augment)

        def variant(position):
            # Two pixels show whether the augmentation mirrors: the very choice that it would make for the photo.
            return augment(tf.constant([[[0], [1]]], tf.uint8), augmentation_seed(seed, epoch, position))[0, 0, 0]

        variants = tf.data.Dataset.from_tensor_slices(positions).map(as_written(variant))
        return self._batches(rows, variants, batch_size // shard[1])

    def evaluation_batches(
        self, rows: np.ndarray, *, batch_size: int, shard: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        """What fills up the last batch is the last photo again, unknown."""
        positions = shard_positions(-(-len(rows) // batch_size), batch_size, shard).reshape(-1)
        variants = tf.data.Dataset.from_tensors(tf.constant(0, tf.uint8)).repeat(len(positions))
        filled = rows[np.minimum(positions, len(rows) - 1)]
        return self._batches(filled, variants, batch_size // shard[1], known=positions < len(rows))

    def feature_maps(self, model: MultiLabelClassifier) -> Callable[..., list]:  # noqa: ARG002 - as `BatchSource`
        """As `BatchSource`: a batch is its feature maps."""
        return _as_they_are

    def resized(self, image_size: int) -> Self:
        """As `BatchSource`. Raises `ValueError` for another size than the maps were computed at."""
        if image_size != self.image_size:
            raise ValueError(f"the maps are of {self.image_size} pixels. Received: image_size={image_size}")
        return self

    def why_not_decoded(self, row: int) -> str | None:
        """As `BatchSource`."""
        if row not in self.undecodable:
            return None
        now = why_not_decoded(self.examples[row], self.max_pixels)
        return now or "could not be decoded when its feature maps were computed; delete their folder"

    def _batches(self, rows, variants, size, known=None):
        known = np.ones(len(rows), bool) if known is None else known

        def gather(rows, variants, known):
            if self.undecodable.intersection(rows.tolist()):
                raise ValueError("a photo that cannot be decoded")  # tf.data raises InvalidArgumentError for it
            targets = np.where(known[:, None], self.examples.take(rows).targets, np.int8(UNKNOWN))
            return [*(stored[rows, variants] for stored in self.maps), targets]

        def load(rows, variants, known):
            types = [*[tf.float32] * len(self.maps), tf.int8]
            *features, targets = tf.numpy_function(gather, [rows, variants, known], types, stateful=False)
            shapes = [(size, *stored.shape[2:]) for stored in self.maps]
            targets = tf.ensure_shape(targets, (size, self.examples.num_labels))
            return tuple(map(tf.ensure_shape, features, shapes)), targets

        dataset = tf.data.Dataset.zip(
            tf.data.Dataset.from_tensor_slices(rows), variants, tf.data.Dataset.from_tensor_slices(known)
        )
        dataset = dataset.batch(size, drop_remainder=True)
        return prefetched(dataset.map(as_written(load), num_parallel_calls=tf.data.AUTOTUNE))


def _as_they_are(maps, training=False):
    """A batch's feature maps, which are there already."""
    del training
    return list(maps)


class FeatureCache:
    """Feature maps of a frozen backbone, computed once and kept.

    Args:
        folder: where the maps are kept, a folder a set of photos. What was written for the same backbone, weights,
            image size, pixel limit and photos is used again.
        model: a built `MultiLabelClassifier` with a frozen backbone.
        max_pixels: int. Larger photos are refused before they are decoded.

    Raises:
        UserError: the folder is at an address.
    """

    def __init__(self, folder: str, model: MultiLabelClassifier, max_pixels: int = MAX_PIXELS):
        if storage.is_address(folder):
            raise UserError(
                f"`cache_features`={folder}: feature maps are mapped into memory, from a disk alone; give a folder of "
                "this machine"
            )
        self.folder, self.model, self.max_pixels = folder, model, max_pixels

    def open(self, examples: Examples, *, augment: str = "none", training: bool) -> tuple[CachedFeatureMaps, str]:
        """Reads or computes the maps of the photos to train on, or of those to evaluate on.

        Args:
            examples: `Examples`.
            augment: one of `choices.CACHED_AUGMENTATIONS`.
            training: bool. Pixels as training resizes them, or as evaluation does.

        Returns:
            `(CachedFeatureMaps, sentence)`: the source of batches, and what is kept where.

        Raises:
            UserError: the disk has too little room, the folder cannot be written, or what is in it is damaged.
        """
        mirrored = augment == "flip"
        path = os.path.join(self.folder, self._key(examples, mirrored, training))
        shapes = self._shapes(len(examples), 1 + mirrored)
        size = sum(4 * math.prod(shape) for shape in shapes)
        photos = f"{len(examples)} photos{' and their mirror images' if mirrored else ''}"
        sentence = f"{photos}, {size / 1e9:.1f} GB, {path}"
        if not os.path.exists(path):
            self._check_room(size, sentence)
            # Of several processes one writes, and the others find it done. What a killed one left is written anew.
            try:
                with open(f"{path}.lock", "w", encoding="utf-8") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    if not os.path.exists(path):
                        self._write(path, shapes, examples, mirrored, training)
            except OSError as error:
                shutil.rmtree(f"{path}.unfinished", ignore_errors=True)
                raise UserError(
                    f"`cache_features`={self.folder}: cannot be written ({error.strerror}); free some space, or "
                    "choose another folder"
                ) from error
        maps, undecodable = self._read(path, shapes)
        return CachedFeatureMaps(examples, maps, undecodable, augment, self.model.image_size, self.max_pixels), sentence

    def _read(self, path, shapes):
        """`(maps, undecodable rows)` of what is kept."""
        try:
            maps = [map_array(_map_file(path, index)) for index in range(len(shapes))]
            with open(os.path.join(path, DESCRIPTION), encoding="utf-8") as file:
                undecodable = frozenset(map(int, json.load(file)["undecodable"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); delete it, and it is computed again") from error
        for stored, shape in zip(maps, shapes, strict=True):
            if stored.dtype != np.float32 or stored.shape != shape:
                raise UserError(
                    f"{path}: has maps of {stored.dtype} {list(stored.shape)}, not float32 {list(shape)}; delete it, "
                    "and they are computed again"
                )
        return maps, undecodable

    def _key(self, examples, mirrored, training):
        """A name made of all that the maps depend on."""
        backbone = self.model.backbone
        digest = hashlib.sha256()
        of_the_model = (backbone.get_config(), self.model.normalize.get_config(), self.model.image_size)
        for part in (FORM, *of_the_model, self.max_pixels, readable_formats()):
            digest.update(repr(part).encode())
        for weight in backbone.get_weights():
            digest.update(weight.tobytes())
        for encoded in read_bytes(examples):
            digest.update(hashlib.sha256(encoded).digest())
        return f"{'train' if training else 'evaluation'}{'_flip' if mirrored else ''}_{digest.hexdigest()[:16]}"

    def _shapes(self, num_examples, variants):
        size = self.model.image_size
        shapes = tap_shapes(self.model.backbone, (None, size, size, 3))
        return [(num_examples, variants, *shape[1:]) for shape in shapes]

    def _check_room(self, size, sentence):
        say(f"cache      writing feature maps of {sentence}")
        try:
            os.makedirs(self.folder, exist_ok=True)
        except OSError as error:
            raise UserError(f"`cache_features`={self.folder}: cannot be made ({error.strerror})") from error
        free = shutil.disk_usage(self.folder).free
        if free < size:
            raise UserError(
                f"`cache_features`={self.folder}: needs {size / 1e9:.1f} GB and {free / 1e9:.1f} are free; choose "
                "another folder, a smaller `image_size` or fewer `strides`"
            )

    def _write(self, path, shapes, examples, mirrored, training):
        """Writes into a folder beside `path` that takes its name when all is there."""
        unfinished = f"{path}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        os.mkdir(unfinished)
        maps = [
            np.lib.format.open_memmap(_map_file(unfinished, index), "w+", np.float32, shape)
            for index, shape in enumerate(shapes)
        ]
        for index in range(len(maps)):  # a disk that fills up under a memory map ends the process
            with open(_map_file(unfinished, index), "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(file.name))
        decoded = np.zeros(len(examples), bool)
        forward = tf.function(self.model.feature_maps, reduce_retracing=True, autograph=False)
        with ProgressBar("computing feature maps", len(examples)) as bar:
            for rows, images in self._pixels(examples, mirrored, training):
                for variant in range(1 + mirrored):
                    for stored, computed in zip(maps, forward(images[:, variant]), strict=True):
                        stored[rows, variant] = computed.numpy()
                decoded[rows] = True
                bar.update(int(decoded.sum()))
        for example in examples.take(np.flatnonzero(~decoded)):
            check_cannot_be_decoded(example, self.max_pixels)
        for stored in maps:
            stored.flush()
        with open(os.path.join(unfinished, DESCRIPTION), "w", encoding="utf-8") as file:
            json.dump({"undecodable": np.flatnonzero(~decoded).tolist()}, file)
        os.rename(unfinished, path)

    def _pixels(self, examples, mirrored, training):
        """Batches of (rows, uint8 `[batch, variants, size, size, 3]`); photos that cannot be decoded are left out."""
        size = self.model.image_size

        def load(row, encoded):
            if training:
                image = training_resize(decode(encoded, self.max_pixels), size)
            else:
                image = evaluation_pixels(encoded, size, self.max_pixels)
            return row, tf.stack([image, tf.image.flip_left_right(image)] if mirrored else [image])

        encoded = tf.data.Dataset.from_generator(
            lambda: read_bytes(examples), output_signature=tf.TensorSpec([], tf.string)
        )
        photos = encoded.enumerate().map(as_written(load), num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
        for rows, images in photos.batch(IMAGES_AT_A_TIME).prefetch(PREFETCHED_BATCHES):
            yield rows.numpy(), images


def _map_file(folder, index):
    return os.path.join(folder, f"map{index}.npy")
