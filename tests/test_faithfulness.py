"""Deletion, insertion and pointing: on a model whose reasons are known, and where data sets say objects are."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from msrn_tf.data import demo
from msrn_tf.data.readers.voc import VOC
from msrn_tf.evaluation import faithfulness
from msrn_tf.visualization.heatmaps import combine_scales

SIZE = 32


class CornerModel:
    """Sees one label where the upper left quarter has texture, and says so; `tells` false: its maps point away."""

    labels = ("textured",)

    def __init__(self, tells=True):
        self.tells = tells

    def __call__(self, images, training=False):
        corner = tf.cast(images, tf.float32)[:, : SIZE // 2, : SIZE // 2]
        steps = tf.abs(corner[:, :, 1:] - corner[:, :, :-1])
        return 10 * tf.reduce_mean(steps, axis=(1, 2, 3))[:, None] / 255 - 3

    def calibrated(self, logits):
        return tf.sigmoid(logits)

    def classify_and_explain(self, images):
        maps = np.zeros((1, 1, 4, 4), np.float32)
        quarter = (slice(0, 2), slice(0, 2)) if self.tells else (slice(2, 4), slice(2, 4))
        maps[(0, 0, *quarter)] = 1
        return self(images), [maps, np.ones((1, 1, 1, 1), np.float32) * 0.01]


@pytest.fixture
def photos(rng):
    photos = {image: rng.integers(0, 40, (SIZE, SIZE, 3), dtype=np.uint8) for image in range(3)}
    for photo in photos.values():
        photo[: SIZE // 2, : SIZE // 2 : 2] = 220
    return photos


def curves_of(model, photos):
    pairs = [(image, 0) for image in photos]
    return faithfulness.faithfulness_curves(model, photos, pairs, combine_scales, batch_size=8, steps=8)


def test_a_true_map_beats_both_controls_and_a_false_one_does_not(photos):
    true, false = curves_of(CornerModel(), photos), curves_of(CornerModel(tells=False), photos)
    areas, wrong = true.areas(), false.areas()
    for control in ("shuffled", "random pixels"):
        assert areas["deletion"]["heat-map"] < areas["deletion"][control] - 0.1
        assert areas["insertion"]["heat-map"] > areas["insertion"][control] + 0.1
        assert true.deletion_wins[control] == true.insertion_wins[control] == 1
        assert wrong["deletion"]["heat-map"] > wrong["deletion"][control]
        assert false.deletion_wins[control] == 0
    for by_order in (true.deletion, true.insertion):
        for curve in by_order.values():
            assert len(curve) == 9
    assert true.deletion["heat-map"][0] == true.insertion["heat-map"][-1] == pytest.approx(1)


def test_pixels_are_replaced_in_the_order_of_the_map():
    photo, order = np.zeros((2, 2, 3)), np.array([[0.1, 0.9], [0.5, 0.5]])
    found = faithfulness.replaced(photo, np.ones((2, 2, 3)), order, np.array([0, 0.25, 0.75, 1]))
    assert [np.flatnonzero(step[..., 0]).tolist() for step in found] == [[], [1], [1, 2, 3], [0, 1, 2, 3]]


def test_blurring_is_gaussian(rng):
    photo = rng.random((40, 40, 3))
    expected = scipy.ndimage.gaussian_filter(photo, (4.0, 4.0, 0), mode="nearest", radius=(12, 12, 0))
    np.testing.assert_allclose(faithfulness.blurred(photo), expected, atol=1e-6)


def test_pairs_are_labels_present_and_found():
    scores, targets = np.array([[0.9, 0.9], [0.2, 0.9], [0.9, 0.1]]), np.array([[1, 0], [1, 1], [-1, 1]])
    assert faithfulness.found_pairs(scores, targets, np.array([0.5, 0.5]), 10) == [(0, 0), (1, 1)]


def test_a_point_may_miss_by_the_tolerance():
    heatmap, place = np.zeros((10, 10)), np.zeros((10, 10), bool)
    heatmap[5, 2], place[5, 5:] = 1, True
    assert faithfulness.point_hits(heatmap, place, 3) and not faithfulness.point_hits(heatmap, place, 2.9)
    assert not faithfulness.point_hits(heatmap, np.zeros((10, 10), bool), 99)


def test_the_pointing_game_counts_by_label(photos):
    def places(image):
        corner = np.zeros((SIZE, SIZE), bool)
        corner[:8, :8] = True
        return {"textured": corner} if image else {}

    pairs = [(image, 0) for image in photos]
    assert faithfulness.pointing_game(CornerModel(), photos, pairs, combine_scales, places) == {"textured": (2, 2)}
    assert faithfulness.pointing_game(CornerModel(False), photos, pairs, combine_scales, places) == {"textured": (0, 2)}


def test_places_of_the_demo_are_those_of_the_same_picture():
    sizes = {label: [] for label in demo.DEMO_LABELS}
    for number in range(40):
        example = demo.draw_example("val", number)
        places = demo.Demo().places(example, 48)
        assert {demo.DEMO_LABELS[c] for c in np.flatnonzero(example.target == 1)} == set(places)
        for label, place in places.items():
            sizes[label].append(place.mean())
        plain, _ = demo.draw_scene(demo._example_rng("val", number))
        placed = demo._PlacedScene(demo._example_rng("val", number))
        demo._draw(placed)
        assert np.array_equal(plain, placed.finished())  # remembering draws nothing else
    mean = {label: np.mean(values) for label, values in sizes.items()}
    assert mean["sky"] > 0.3 and 0.001 < mean["bird"] < 0.06 and mean["flower"] < mean["tree"] < mean["sky"]
    assert min(min(values) for values in sizes.values()) >= 0


def test_places_of_voc_are_its_boxes(small_voc):
    reader = VOC(str(small_voc))
    example = next(e for split in ("train", "val", "test") for e in reader.read(split) if e.image_id == "000012")
    places = reader.places(example, 100)
    # 000012.jpg is 500×333 with one car, xmin 156, ymin 97, xmax 351, ymax 270.
    rows, columns = np.nonzero(places["car"])
    assert list(places) == ["car"]
    assert (rows.min(), rows.max() + 1) == (28, 81) and (columns.min(), columns.max() + 1) == (31, 70)
