"""Whether heat-maps say where the model looked: deletion and insertion curves, and the pointing game.

Deletion and insertion (Petsiuk et al., RISE, arXiv 1806.07421): the pixels of a photo become those of its blurred copy,
or the other way round, in the order of the heat-map, and the label's score is watched. (RISE deletes to grey; but grey
pixels by themselves are edges that no photo has, and mislead a network wherever they lie.) Two controls go the same
way: the heat-map with its positions shuffled, equally smooth but in wrong places, and single pixels in random order.
Pointing game (Zhang et al., arXiv 1608.00507): does the highest point of the map lie on an object of the label?
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from msrn_tf.data.examples import Examples, Reader
from msrn_tf.data.pipeline import evaluation_batches
from msrn_tf.models.msrn import MSRN
from msrn_tf.type_names import Progress

ORDERS = ("heat-map", "shuffled", "random pixels")
STEPS = 10
BLUR = 10.0
"""Standard deviation of the blurred photo's kernel, as a part of 100 of its side."""


@dataclasses.dataclass(frozen=True)
class FaithfulnessCurves:
    """Mean curves over pairs of a photo and a label that is present and found in it.

    Attributes:
        fractions: `[steps + 1]`, of the pixels.
        deletion, insertion: order → `[steps + 1]`, mean score as a part of the whole photo's.
        num_pairs: int.
        deletion_wins, insertion_wins: control → share of pairs in which the heat-map's area is the better one.
    """

    fractions: np.ndarray
    deletion: dict
    insertion: dict
    num_pairs: int
    deletion_wins: dict
    insertion_wins: dict

    def areas(self) -> dict[str, dict[str, float]]:
        """`{"deletion": {order: area}, "insertion": …}`; low is good for deletion, high for insertion."""
        return {
            name: {order: float(np.trapezoid(curve, self.fractions)) for order, curve in curves.items()}
            for name, curves in (("deletion", self.deletion), ("insertion", self.insertion))
        }


def found_pairs(
    scores: np.ndarray, targets: np.ndarray, thresholds: Sequence[float] | np.ndarray, num_images: int, seed: int = 0
) -> list[tuple[int, int]]:
    """(image, label) index pairs of up to `num_images` photos: labels that are present, and found by the model."""
    right = (targets == 1) & (scores >= thresholds)
    images = np.flatnonzero(right.any(axis=1))
    chosen = np.sort(np.random.default_rng(seed).permutation(images)[:num_images])
    return [(int(image), int(label)) for image in chosen for label in np.flatnonzero(right[image])]


def check_heatmaps(
    model: MSRN,
    reader: Reader,
    examples: Examples,
    pairs: Sequence[tuple[int, int]],
    heatmap: Callable[[list, tuple[int, int]], np.ndarray],
    *,
    batch_size: int,
    max_pixels: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[FaithfulnessCurves, dict[str, tuple[int, int]]]:
    """`(FaithfulnessCurves, pointing)` of a model; pointing is empty where the reader knows no places of objects.

    Args:
        reader: of the data set.
        examples: those that `pairs` counts from.
        heatmap, batch_size, seed, progress: as in `faithfulness_curves`.
    """
    photos = photos_of(examples, pairs, model.image_size, max_pixels)
    curves = faithfulness_curves(model, photos, pairs, heatmap, batch_size, seed=seed, progress=progress)
    pointing = {}
    if hasattr(reader, "places"):
        pointing = pointing_game(
            model, photos, pairs, heatmap, lambda image: reader.places(examples[image], model.image_size)
        )
    return curves, pointing


def photos_of(
    examples: Examples, pairs: Sequence[tuple[int, int]], image_size: int, max_pixels: int
) -> dict[int, np.ndarray]:
    """image → uint8 `[size, size, 3]` of the photos in `pairs`."""
    images = sorted({image for image, _ in pairs})
    batches = evaluation_batches(
        examples.take(np.array(images, int)), image_size=image_size, batch_size=1, max_pixels=max_pixels
    )
    return dict(zip(images, (pixels.numpy()[0] for pixels, _ in batches), strict=True))


def faithfulness_curves(
    model: MSRN,
    photos: dict[int, np.ndarray],
    pairs: Sequence[tuple[int, int]],
    heatmap: Callable[[list, tuple[int, int]], np.ndarray],
    batch_size: int = 32,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> FaithfulnessCurves:
    """`FaithfulnessCurves` of a model's heat-maps.

    Args:
        model: `MSRN`.
        photos: dict image → uint8 `[size, size, 3]`.
        pairs: of `found_pairs`.
        heatmap: function of one label's maps, a list of `[h, w]`, and (width, height) → float `[height, width]`.
        batch_size: int, photos at a time.
        steps: int, points of a curve.
        seed: int, of the controls.
        progress: called with the number of pairs done.
    """
    rng = np.random.default_rng(seed)
    forward = tf.function(
        lambda images: model.calibrated(model(images, training=False)), reduce_retracing=True, autograph=False
    )
    fractions = np.linspace(0, 1, steps + 1)
    curves = {name: {order: [] for order in ORDERS} for name in ("deletion", "insertion")}
    maps: Any = None
    blurred_photo: Any = None
    last = None
    for done, (image, label) in enumerate(pairs):
        photo = photos[image].astype(np.float32)
        if image != last:
            maps = _maps(model, photos[image])
            blurred_photo, last = blurred(photo), image
        own = [scale[label] for scale in maps]
        shuffled = [rng.permutation(scale.reshape(-1)).reshape(scale.shape) for scale in own]
        size = photo.shape[1::-1]
        orders = {
            "heat-map": heatmap(own, size),
            "shuffled": heatmap(shuffled, size),
            "random pixels": rng.random(photo.shape[:2]),
        }
        images = np.concatenate(
            [
                replaced(photo, blurred_photo, values, fractions) if name == "deletion"
                else replaced(blurred_photo, photo, values, fractions)
                for name in curves for values in orders.values()
            ]
        )  # fmt: skip
        scores = np.concatenate(
            [forward(part)[:, label].numpy() for part in _full_batches(images, batch_size)]
        )[: len(images)].reshape(2, len(ORDERS), -1)  # fmt: skip
        for name, found in zip(curves, scores, strict=True):
            for order, curve in zip(ORDERS, found, strict=True):
                curves[name][order].append(curve / max(scores[0, 0, 0], 1e-6))
        if progress:
            progress(done + 1)
    areas = {n: {o: np.trapezoid(c, fractions, axis=-1) for o, c in by_order.items()} for n, by_order in curves.items()}
    wins = [
        {order: float(np.mean(sign * (areas[name]["heat-map"] - areas[name][order]) > 0)) for order in ORDERS[1:]}
        for name, sign in (("deletion", -1), ("insertion", 1))
    ]
    deletion, insertion = ({order: np.mean(curve, axis=0) for order, curve in curves[name].items()} for name in curves)
    return FaithfulnessCurves(fractions, deletion, insertion, len(pairs), *wins)


def replaced(photo: np.ndarray, other: np.ndarray, order: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """The photo with the pixels that come first in `order` replaced by `other`'s, for each fraction: `[n, h, w, 3]`."""
    rank = np.argsort(np.argsort(-order.reshape(-1), kind="stable"), kind="stable").reshape(order.shape)
    taken = rank[None] < np.round(fractions * order.size)[:, None, None]
    return np.where(taken[..., None], other, photo).astype(np.float32)


def blurred(photo: np.ndarray) -> np.ndarray:
    """A photo float `[h, w, 3]` under a Gaussian kernel of `BLUR` % of its side."""
    sigma = BLUR / 100 * photo.shape[0]
    reach = int(3 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        pad = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(photo, pad, mode="edge")
        photo = np.apply_along_axis(lambda row: np.convolve(row, kernel, mode="valid"), axis, padded)
    return photo


def point_hits(heatmap: np.ndarray, place: np.ndarray, tolerance: float) -> bool:
    """Whether the map's highest point lies on the object, or within `tolerance` pixels of it.

    Args:
        heatmap: float `[height, width]`.
        place: bool `[height, width]`, where the label's objects are.
        tolerance: pixels.
    """
    y, x = np.unravel_index(np.argmax(heatmap), heatmap.shape)
    rows, columns = np.nonzero(place)
    return bool(len(rows)) and bool(np.min((rows - y) ** 2 + (columns - x) ** 2) <= tolerance**2)


def pointing_game(
    model: MSRN,
    photos: dict[int, np.ndarray],
    pairs: Sequence[tuple[int, int]],
    heatmap: Callable[[list, tuple[int, int]], np.ndarray],
    places: Callable[[int], dict[str, np.ndarray]],
) -> dict[str, tuple[int, int]]:
    """label → (hits, pairs) of the pointing game.

    A point may miss by 3 % of the photo's side (Zhang et al.: 15 pixels of about 500), or by half a cell of the finest
    map where that is more.

    Args:
        model, photos, pairs, heatmap: as in `faithfulness_curves`.
        places: function of an image's index → label → bool `[size, size]`.
    """
    found = {}
    for image in sorted({image for image, _ in pairs}):
        maps = _maps(model, photos[image])
        size = photos[image].shape[0]
        tolerance = max(0.03 * size, size / maps[0].shape[-1] / 2)
        here = places(image)
        for label in [label for other, label in pairs if other == image and model.labels[label] in here]:
            name = model.labels[label]
            hit = point_hits(heatmap([scale[label] for scale in maps], (size, size)), here[name], tolerance)
            hits, count = found.get(name, (0, 0))
            found[name] = hits + hit, count + 1
    return found


def _maps(model, photo):
    """All labels' heat-maps of one photo: `[C, h, w]`, a scale each."""
    return [np.asarray(scale)[0] for scale in model.classify_and_explain(photo[None])[1]]


def _full_batches(images, batch_size):
    """Batches of one size, the last one filled up: the model is traced once."""
    padding = -len(images) % batch_size
    images = np.concatenate([images, np.zeros((padding, *images.shape[1:]), images.dtype)])
    return images.reshape(-1, batch_size, *images.shape[1:])
