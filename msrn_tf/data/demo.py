"""The built-in demo set: little landscapes drawn from a seed, with 12 labels that imply each other.

What stands in a picture depends on where it is: birds and kites fly in a sky, boats and fish are in water, flowers and
houses stand on grass. Objects differ in size (a flower covers 1 % of a picture, a sky half of it), take several colours
and share some of them with others, walls and sand bear no label, and dull shapes without a label lie about.
"""

import io
import math

import numpy as np
from PIL import Image, ImageDraw

from msrn_tf.data.examples import Example, Examples
from msrn_tf.errors import UserError

DEMO_LABELS = ["sky", "cloud", "sun", "bird", "kite", "grass", "tree", "flower", "house", "water", "boat", "fish"]
SPLIT_SIZES = {"train": 1600, "val": 400, "test": 400}
IMAGE_SIZE = 96
OVERSAMPLING = 2
DATASET_SEED = 20210626


class Demo:
    """Draws its examples when they are read; the same picture each time."""

    labels = DEMO_LABELS
    splits = tuple(SPLIT_SIZES)

    def read(self, split: str) -> Examples:
        """As `Reader.read`."""
        if split not in SPLIT_SIZES:
            raise UserError(f"split {split!r}: the demo set has {', '.join(SPLIT_SIZES)}")
        return Examples.of((draw_example(split, number) for number in range(SPLIT_SIZES[split])), len(DEMO_LABELS))

    def places(self, example: Example, size: int) -> dict[str, np.ndarray]:
        """Where objects are in the picture warped to `size`×`size`: label → bool `[size, size]`."""
        split, number = example.image_id.split("_")
        cells = (np.arange(size) + 0.5) * IMAGE_SIZE / size
        nearest = np.ix_(cells.astype(int), cells.astype(int))
        return {label: place[nearest] for label, place in object_places(split, int(number)).items()}


def draw_example(split: str, number: int) -> Example:
    """Example `number` of a split, a JPEG; the same bytes each time."""
    image, present = draw_scene(_example_rng(split, number))
    target = np.array([label in present for label in DEMO_LABELS], np.int8)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=92)
    return Example(f"{split}_{number:05d}", target, image_bytes=encoded.getvalue())


def object_places(split: str, number: int) -> dict[str, np.ndarray]:
    """Where in the picture of `draw_example(split, number)` each label is: label → bool `[96, 96]`.

    The boxes around what is visible of its things, as detection sets give them.
    """
    scene = _PlacedScene(_example_rng(split, number))
    _draw(scene)
    return scene.places()


def draw_scene(rng: np.random.Generator) -> tuple[Image.Image, set[str]]:
    """One landscape: an RGB `PIL.Image` of 96×96 pixels and the set of labels in it."""
    scene = _Scene(rng)
    _draw(scene)
    return scene.finished(), scene.present


def _example_rng(split, number):
    return np.random.default_rng((DATASET_SEED, list(SPLIT_SIZES).index(split), number))


def _draw(scene):
    rng = scene.rng
    has_sky = rng.random() < 0.72
    ground = rng.choice(["grass", "water", "sand", "none"], p=[0.42, 0.33, 0.15, 0.10])
    if not has_sky and ground == "none":
        ground = "grass"
    horizon = 0.0 if not has_sky else 1.0 if ground == "none" else rng.uniform(0.4, 0.65)
    if not has_sky and rng.random() < 0.5:
        horizon = rng.uniform(0.3, 0.5)  # a wall stands where the sky would be
        scene.wall(horizon)
    elif has_sky:
        scene.put(scene.sky, horizon)
    if ground != "none":
        scene.put(getattr(scene, ground), horizon)
    for _ in range(rng.integers(0, 3)):
        scene.clutter()
    if has_sky:
        scene.maybe(0.45, scene.cloud, horizon, most=3)
        scene.maybe(0.4, scene.sun, horizon)
        scene.maybe(0.35, scene.bird, horizon, most=4)
        scene.maybe(0.3, scene.kite, horizon)
    if ground == "grass":
        scene.maybe(0.5, scene.tree, horizon, most=2)
        scene.maybe(0.4, scene.house, horizon)
        scene.maybe(0.45, scene.flower, horizon, most=5)
    elif ground == "water":
        scene.maybe(0.55, scene.boat, horizon, most=2)
        scene.maybe(0.55, scene.fish, horizon, most=3)
    elif ground == "sand":
        scene.maybe(0.3, scene.tree, horizon)
        scene.maybe(0.3, scene.house, horizon)


class _Scene:
    """A canvas in unit coordinates (0–1, y down) that remembers the labels drawn on it."""

    def __init__(self, rng):
        self.rng = rng
        self.size = IMAGE_SIZE * OVERSAMPLING
        self.image = Image.new("RGB", (self.size, self.size), self.colour((120, 120, 120), 60))
        self.draw = ImageDraw.Draw(self.image)
        self.present = set()

    def maybe(self, probability, draw_object, horizon, most=1):
        """Draws 1 to `most` objects with the given probability."""
        if self.rng.random() < probability:
            for _ in range(self.rng.integers(1, most + 1)):
                self.put(draw_object, horizon)
            self.present.add(draw_object.__name__)

    def put(self, draw, horizon):
        """Draws one thing."""
        draw(horizon)

    def finished(self):
        pixels = np.asarray(self.image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX), np.float32)
        light = self.rng.uniform(0.8, 1.1) * self.rng.uniform(0.95, 1.05, size=3)
        noise = self.rng.normal(0, self.rng.uniform(2, 6), size=pixels.shape)
        return Image.fromarray(np.clip(pixels * light + noise, 0, 255).astype(np.uint8))

    # Backgrounds

    def sky(self, horizon):
        self.present.add("sky")
        top = np.array(self.colour([(70, 130, 220), (150, 170, 200), (230, 150, 110)][self.rng.integers(3)], 25))
        for row in range(math.ceil(horizon * self.size)):
            shade = top + (235 - top) * 0.6 * row / self.size
            self.draw.line((0, row, self.size, row), fill=tuple(int(value) for value in shade))

    def wall(self, horizon):
        brick, mortar = self.colour((150, 110, 100), 45), self.colour((190, 185, 175), 20)
        height, width = self.rng.uniform(0.04, 0.08), self.rng.uniform(0.1, 0.2)
        self.box(0, 0, 1, horizon, mortar)
        for row in range(math.ceil(horizon / height)):
            for column in range(-1, math.ceil(1 / width)):
                x, y = column * width + (row % 2) * width / 2, row * height
                self.box(x, y, x + width * 0.92, min(y + height * 0.85, horizon), brick)

    def grass(self, horizon):
        self.present.add("grass")
        base = self.colour([(70, 140, 60), (140, 150, 60)][self.rng.integers(2)], 22)
        self.box(0, horizon, 1, 1, base)
        for _ in range(self.rng.integers(120, 260)):
            x, y = self.rng.random(), self.rng.uniform(horizon, 1)
            tip = self.rng.normal(0, 0.008)
            self.line([(x, y), (x + tip, y - self.rng.uniform(0.015, 0.04))], self.colour(base, 35), 0.006)

    def water(self, horizon):
        self.present.add("water")
        base = self.colour([(40, 90, 150), (70, 140, 130), (110, 125, 140)][self.rng.integers(3)], 22)
        self.box(0, horizon, 1, 1, base)
        for _ in range(self.rng.integers(25, 60)):
            x, y, length = self.rng.random(), self.rng.uniform(horizon, 1), self.rng.uniform(0.05, 0.16)
            waves = [(x + length * t, y + 0.008 * math.sin(9 * t)) for t in np.linspace(0, 1, 6)]
            self.line(waves, self.colour([value + 35 for value in base], 18), 0.007)

    def sand(self, horizon):
        base = self.colour((205, 180, 125), 25)
        self.box(0, horizon, 1, 1, base)
        for _ in range(self.rng.integers(80, 200)):
            x, y = self.rng.random(), self.rng.uniform(horizon, 1)
            self.ellipse(x, y, 0.004, 0.004, self.colour(base, 40))

    def clutter(self):
        """A shape without a label, in any dull colour."""
        x, y, size = self.rng.random(), self.rng.random(), self.rng.uniform(0.02, 0.07)
        colour = self.colour([self.rng.integers(40, 220)] * 3, 40)
        kind = self.rng.integers(3)
        if kind == 0:
            self.box(x - size, y - size / 2, x + size, y + size / 2, colour)
        elif kind == 1:
            self.ellipse(x, y, size * 0.7, size * 0.7, colour)
        else:
            self.line([(x - size, y), (x + size, y + self.rng.normal(0, size))], colour, 0.015)

    # Objects

    def cloud(self, horizon):
        x, y, size = self.rng.random(), self.rng.uniform(0.06, 0.6) * horizon, self.rng.uniform(0.07, 0.16)
        grey = self.colour([(245, 245, 245), (190, 190, 198)][self.rng.integers(2)], 8)
        for _ in range(self.rng.integers(4, 8)):
            dx, dy = self.rng.normal(0, size * 0.7), self.rng.normal(0, size * 0.18)
            self.ellipse(x + dx, y + dy, size * self.rng.uniform(0.4, 0.8), size * self.rng.uniform(0.25, 0.45), grey)

    def sun(self, horizon):
        x, y = self.rng.uniform(0.08, 0.92), self.rng.uniform(0.1, 0.6) * horizon
        radius = self.rng.uniform(0.07, 0.12)
        colour = self.colour([(250, 225, 70), (250, 190, 50), (250, 240, 160)][self.rng.integers(3)], 10)
        for ray in np.linspace(0, 2 * math.pi, self.rng.integers(8, 14), endpoint=False):
            reach = [(x + math.cos(ray) * radius * r, y + math.sin(ray) * radius * r) for r in (1.25, 1.8)]
            self.line(reach, colour, 0.018)
        self.ellipse(x, y, radius, radius, colour)

    def bird(self, horizon):
        x, y = self.rng.uniform(0.08, 0.92), self.rng.uniform(0.08, 0.85) * horizon
        span, lift = self.rng.uniform(0.05, 0.09), self.rng.uniform(0.4, 0.8)
        wing = [(t, -math.sin(math.pi * abs(t)) * lift) for t in np.linspace(-1, 1, 13)]
        self.line([(x + t * span, y + h * span) for t, h in wing], self.colour((50, 50, 55), 35), 0.024)

    def kite(self, horizon):
        x, y = self.rng.uniform(0.12, 0.88), self.rng.uniform(0.15, 0.7) * horizon
        size, turn = self.rng.uniform(0.11, 0.17), self.rng.normal(0, 0.35)
        colour = self.colour([(230, 50, 60), (215, 40, 160), (250, 120, 30)][self.rng.integers(3)], 25)
        self.polygon(self.turned([(0, -1), (0.65, -0.2), (0, 1.1), (-0.65, -0.2)], x, y, size, turn), colour)
        tail = [(0.25 * math.sin(4 * t), 1.1 + 1.3 * t) for t in np.linspace(0, 1, 10)]
        self.line(self.turned(tail, x, y, size, turn), colour, 0.01)
        self.line(self.turned([(-0.65, -0.2), (0.65, -0.2)], x, y, size, turn), self.vivid(), 0.01)

    def tree(self, horizon):
        x, y = self.rng.uniform(0.08, 0.92), self.rng.uniform(horizon, min(1.0, horizon + 0.3))
        height = self.rng.uniform(0.22, 0.42)
        self.box(x - 0.02, y - height * 0.45, x + 0.02, y, self.colour((95, 65, 40), 18))
        leaves = self.colour([(40, 105, 45), (95, 130, 50), (190, 120, 40)][self.rng.integers(3)], 20)
        if self.rng.random() < 0.5:
            for step in range(3):
                base, width = y - height * (0.3 + 0.22 * step), height * (0.36 - 0.08 * step)
                self.polygon([(x - width, base), (x + width, base), (x, base - height * 0.38)], leaves)
        else:
            for _ in range(7):
                dx, dy = self.rng.normal(0, height * 0.14, size=2)
                self.ellipse(x + dx, y - height * 0.68 + dy, height * 0.19, height * 0.19, leaves)

    def flower(self, horizon):
        x, y = self.rng.uniform(0.05, 0.95), self.rng.uniform(horizon + 0.12, 0.97)
        size, petals = self.rng.uniform(0.03, 0.045), self.vivid()
        self.line([(x, y), (x, y + size * 3)], self.colour((50, 110, 40), 15), 0.008)
        for petal in np.linspace(0, 2 * math.pi, 5, endpoint=False):
            self.ellipse(x + math.cos(petal) * size, y + math.sin(petal) * size, size * 0.62, size * 0.62, petals)
        self.ellipse(x, y, size * 0.5, size * 0.5, self.colour((250, 230, 120), 15))

    def house(self, horizon):
        x, y = self.rng.uniform(0.15, 0.85), self.rng.uniform(horizon + 0.02, min(0.95, horizon + 0.25))
        width, height = self.rng.uniform(0.1, 0.17), self.rng.uniform(0.13, 0.22)
        walls = self.colour([(220, 205, 180), (170, 90, 70), (150, 160, 170)][self.rng.integers(3)], 18)
        self.box(x - width, y - height, x + width, y, walls)
        roof = [(x - width * 1.2, y - height), (x + width * 1.2, y - height), (x, y - height * 1.75)]
        self.polygon(roof, self.colour((120, 55, 45), 35))
        self.box(x - width * 0.2, y - height * 0.55, x + width * 0.2, y, self.colour((80, 55, 40), 18))
        for side in (-0.62, 0.62):
            self.box(
                *(x + width * (side - 0.2), y - height * 0.8, x + width * (side + 0.2), y - height * 0.45),
                self.colour((90, 120, 160), 25),
            )

    def boat(self, horizon):
        x, y = self.rng.uniform(0.15, 0.85), self.rng.uniform(horizon + 0.08, 0.92)
        size = self.rng.uniform(0.09, 0.17)
        hull = [(-1, 0), (1, 0), (0.65, 0.42), (-0.65, 0.42)]
        self.polygon(
            self.turned(hull, x, y, size, 0), self.colour([(130, 60, 45), (235, 235, 235)][self.rng.integers(2)], 25)
        )
        self.line(self.turned([(0, 0), (0, -1.6)], x, y, size, 0), self.colour((80, 60, 45), 15), 0.012)
        side = self.rng.choice([-1, 1])
        sail = [(0.06 * side, -1.55), (0.85 * side, -0.2), (0.06 * side, -0.2)]
        self.polygon(
            self.turned(sail, x, y, size, 0), self.colour([(245, 245, 240), (220, 90, 60)][self.rng.integers(2)], 15)
        )

    def fish(self, horizon):
        x, y = self.rng.uniform(0.1, 0.9), self.rng.uniform(min(horizon + 0.12, 0.9), 0.95)
        size, side = self.rng.uniform(0.08, 0.13), self.rng.choice([-1, 1])
        colour = self.colour([(240, 140, 50), (235, 190, 60), (220, 80, 80)][self.rng.integers(3)], 18)
        self.ellipse(x, y, size, size * 0.5, colour)
        tail = [(-0.8 * side, 0), (-1.6 * side, -0.55), (-1.6 * side, 0.55)]
        self.polygon(self.turned(tail, x, y, size, 0), colour)
        self.ellipse(x + 0.55 * side * size, y - 0.12 * size, size * 0.13, size * 0.13, (20, 20, 20))

    # Pens

    def colour(self, base, spread):
        noise, light = self.rng.normal(0, spread / 2, size=3).tolist(), self.rng.normal(0, spread / 2)
        return tuple(int(min(max(value + change + light, 0), 255)) for value, change in zip(base, noise, strict=True))

    def vivid(self):
        return self.colour([(230, 50, 60), (240, 200, 50), (240, 240, 240), (170, 60, 190)][self.rng.integers(4)], 25)

    def pixels(self, points):
        return [(x * self.size, y * self.size) for x, y in points]

    def turned(self, points, x, y, size, angle):
        cos, sin = math.cos(angle) * size, math.sin(angle) * size
        return [(x + px * cos - py * sin, y + px * sin + py * cos) for px, py in points]

    def box(self, x0, y0, x1, y1, colour):
        if x1 > x0 and y1 > y0:
            self.draw.rectangle([value * self.size for value in (x0, y0, x1, y1)], fill=colour)

    def ellipse(self, x, y, rx, ry, colour):
        self.draw.ellipse([value * self.size for value in (x - rx, y - ry, x + rx, y + ry)], fill=colour)

    def polygon(self, points, colour):
        self.draw.polygon(self.pixels(points), fill=colour)

    def line(self, points, colour, width):
        self.draw.line(self.pixels(points), fill=colour, width=max(1, round(width * self.size)), joint="curve")


class _PlacedScene(_Scene):
    """A scene that also remembers which label each pixel shows: that of whatever was drawn there last."""

    def __init__(self, rng):
        super().__init__(rng)
        self._names, self._shown = [], np.full((self.size, self.size), -1)

    def put(self, draw, horizon):
        before = np.asarray(self.image)
        draw(horizon)
        self._shown[(np.asarray(self.image) != before).any(axis=-1)] = len(self._names)
        self._names.append(draw.__name__)

    def places(self):
        """label → bool `[96, 96]`, within the box around what is visible of each of its things."""
        found = {label: np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool) for label in sorted(self.present)}
        for index, label in enumerate(self._names):
            rows, columns = (np.flatnonzero((self._shown == index).any(axis=axis)) // OVERSAMPLING for axis in (1, 0))
            if label in found and len(rows):  # sand bears no label
                found[label][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        return found
