"""Feature maps of a frozen backbone, computed once and kept on a disk: heads then train in minutes on a CPU.

Exact: a frozen backbone's maps are a function of the photo's pixels alone, so what is kept is what each epoch would
compute again. That holds for photos as they are and mirrored; other augmentation has endless variants.
"""

import fcntl
import hashlib
import json
import math
import os
import shutil

import numpy as np
import tensorflow as tf

from msrn_tf.choices import MAX_PIXELS
from msrn_tf.data.augmentation import make_augmentation
from msrn_tf.data.decoding import decode_crop, evaluation_pixels, resize
from msrn_tf.data.example import targets_of
from msrn_tf.data.pipeline import (
    PREFETCHED_BATCHES,
    augmentation_seed,
    epoch_order,
    prefetched,
    read_bytes,
    shard_positions,
)
from msrn_tf.errors import UserError
from msrn_tf.models.taps import tap_shapes
from msrn_tf.progress import ProgressBar
from msrn_tf.terminal import say

IMAGES_AT_A_TIME = 32
DESCRIPTION = "features.json"


class FeatureCache:
    """Stands in for `data.pipeline`: the same batches in the same order, of feature maps in the place of images.

    Args:
        folder: where the maps are kept, a folder a set of photos. What was written for the same backbone, weights,
            image size and photos is used again.
        model: a built `MultiLabelClassifier` with a frozen backbone, which takes lists of feature maps for images.
        max_pixels: int. Larger photos are refused before they are decoded.
    """

    def __init__(self, folder, model, max_pixels=MAX_PIXELS):
        self.folder, self.model, self.max_pixels = folder, model, max_pixels
        self._kept = {}

    def add(self, examples, *, augment="none", training):
        """Reads or computes the maps of the photos to train on, or of those to evaluate on.

        Photos that cannot be decoded fail the batches they are in.

        Args:
            examples: list of `Example`; the batches are asked for with the same objects.
            augment: one of `choices.CACHED_AUGMENTATIONS`.
            training: bool. Pixels as training resizes them, or as evaluation does.

        Returns:
            A sentence that says what is kept where.

        Raises:
            UserError: the disk has too little room, or the folder cannot be written.
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
                    f"--cache_features={self.folder}: cannot be written ({error.strerror}); make room, or choose "
                    "another folder"
                ) from error
        maps = [np.load(_map_file(path, index), mmap_mode="r") for index in range(len(shapes))]
        with open(os.path.join(path, DESCRIPTION), encoding="utf-8") as file:
            undecodable = set(json.load(file)["undecodable"])
        rows = {id(example): row for row, example in enumerate(examples)}
        self._kept["training" if training else "evaluation"] = maps, undecodable, rows
        return sentence

    def training_batches(self, examples, plan, *, batch_size, seed, epoch, first_batch=0, shard=(0, 1)):
        """See `data.pipeline.training_batches`."""
        order, positions = epoch_order(len(examples), batch_size, seed, epoch, shard)
        positions = positions[first_batch:].reshape(-1)
        augment = make_augmentation(plan.augment)

        def variant(position):
            # Two pixels show whether the augmentation mirrors: the very choice that it would make for the photo.
            return augment(tf.constant([[[0], [1]]], tf.uint8), augmentation_seed(seed, epoch, position))[0, 0, 0]

        variants = tf.data.Dataset.from_tensor_slices(positions).map(variant)
        return self._batches(
            "training", [examples[index] for index in order[positions]], variants, batch_size // shard[1]
        )

    def evaluation_batches(self, examples, *, image_size, batch_size, shard=(0, 1), max_pixels=MAX_PIXELS):
        """See `data.pipeline.evaluation_batches`; what fills up the last batch is the last photo again, unknown."""
        positions = shard_positions(-(-len(examples) // batch_size), batch_size, shard).reshape(-1)
        variants = tf.data.Dataset.from_tensors(tf.constant(0, tf.uint8)).repeat(len(positions))
        filled = [examples[min(position, len(examples) - 1)] for position in positions]
        return self._batches("evaluation", filled, variants, batch_size // shard[1], known=positions < len(examples))

    def _batches(self, use, examples, variants, size, known=None):
        maps, undecodable, row_of = self._kept[use]
        rows = np.array([row_of[id(example)] for example in examples])
        targets = targets_of(examples)
        if known is not None:
            targets = np.where(known[:, None], targets, np.int8(-1))

        def gather(rows, variants):
            if undecodable.intersection(rows.tolist()):
                raise ValueError("a photo that cannot be decoded")  # tf.data raises InvalidArgumentError for it
            return [stored[rows, variants] for stored in maps]

        def load(rows, variants, targets):
            features = tf.numpy_function(gather, [rows, variants], [tf.float32] * len(maps), stateful=False)
            shapes = [(size, *stored.shape[2:]) for stored in maps]
            return tuple(map(tf.ensure_shape, features, shapes)), targets

        dataset = tf.data.Dataset.zip(
            tf.data.Dataset.from_tensor_slices(rows), variants, tf.data.Dataset.from_tensor_slices(targets)
        )
        return prefetched(dataset.batch(size, drop_remainder=True).map(load, num_parallel_calls=tf.data.AUTOTUNE))

    def _key(self, examples, mirrored, training):
        """A name made of all that the maps depend on."""
        backbone = self.model.backbone
        digest = hashlib.sha256()
        for part in (backbone.get_config(), self.model.normalize.get_config(), self.model.image_size, self.max_pixels):
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
            raise UserError(f"--cache_features={self.folder}: cannot be made ({error.strerror})") from error
        free = shutil.disk_usage(self.folder).free
        if free < size:
            raise UserError(
                f"--cache_features={self.folder}: needs {size / 1e9:.1f} GB and {free / 1e9:.1f} are free; choose "
                "another folder, a smaller --image_size or fewer --strides"
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
        forward = tf.function(lambda images: self.model.feature_maps(images), reduce_retracing=True)
        with ProgressBar("computing feature maps", len(examples)) as bar:
            for rows, images in self._pixels(examples, mirrored, training):
                for variant in range(1 + mirrored):
                    for stored, computed in zip(maps, forward(images[:, variant]), strict=True):
                        stored[rows, variant] = computed.numpy()
                decoded[rows] = True
                bar.update(int(decoded.sum()))
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
                image = resize(decode_crop(encoded, None, self.max_pixels), size, antialias=False)
            else:
                image = evaluation_pixels(encoded, size, self.max_pixels)
            return row, tf.stack([image, tf.image.flip_left_right(image)] if mirrored else [image])

        encoded = tf.data.Dataset.from_generator(
            lambda: read_bytes(examples), output_signature=tf.TensorSpec([], tf.string)
        )
        photos = encoded.enumerate().map(load, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
        for rows, images in photos.batch(IMAGES_AT_A_TIME).prefetch(PREFETCHED_BATCHES):
            yield rows.numpy(), images


def _map_file(folder, index):
    return os.path.join(folder, f"map{index}.npy")
