"""Sizes and places of the published multi-scale crops; `augmentation.crop_candidate` puts them together."""

import numpy as np

SCALES = (1.0, 0.9, 0.8, 0.7, 0.6)
MAX_DISTORTION = 2
SNAP_PIXELS = 3

# (row, column) positions of a crop in quarters of the free space: corners, centre, edges, and halfway inwards.
POSITIONS = np.array(
    [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3)], np.int32
)
SCALE_PAIRS = np.array(
    [(i, j) for i in range(len(SCALES)) for j in range(len(SCALES)) if abs(i - j) <= MAX_DISTORTION], np.int32
)

NUM_CROP_CANDIDATES = len(SCALE_PAIRS) * len(POSITIONS)
