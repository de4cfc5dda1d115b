"""Which photos an epoch is made of: each once, or photos of every label equally often.

Class-aware sampling (Shen, Lin and Huang, *Relay Backpropagation*, arXiv 1512.05830): a label is drawn, then a photo
that shows it. A photo that shows several labels is drawn for each of them.
"""

import numpy as np

from msrn_tf.data.examples import PRESENT, Examples


class BalancedSampling:
    """The photos of each epoch, a function of seed and epoch alone.

    Photos without a label are drawn as those of one more label. An epoch is as long as one in which each photo is seen
    once. Within an epoch a label's photos are gone through before one of them comes again.

    Args:
        examples: `Examples` to draw from.
        seed: int.
    """

    def __init__(self, examples: Examples, seed: int):
        self._count, self._seed = len(examples), seed
        rows, columns = _present(examples)
        order = np.argsort(columns, kind="stable")
        _, starts = np.unique(columns[order], return_index=True)
        self._photos = np.split(rows[order], starts[1:])

    def drawn(self, epoch: int) -> np.ndarray:
        """Numbers of the photos of an epoch, int `[N]`, those of a label side by side."""
        rng = np.random.default_rng((self._seed, epoch, len(self._photos)))
        shares = np.full(len(self._photos), self._count // len(self._photos))
        shares[rng.permutation(len(shares))[: self._count % len(shares)]] += 1
        return np.concatenate([_draw(rng, photos, share) for photos, share in zip(self._photos, shares, strict=True)])


def _draw(rng, photos, count):
    rounds = [rng.permutation(photos) for _ in range(-(-count // len(photos)))]
    return np.concatenate([photos[:0], *rounds])[:count]


def _present(examples):
    """Rows and columns of all present labels; of photos without one, a column behind all others."""
    rows, columns, start = [], [], 0
    for chunk in examples.chunks():
        found = chunk.targets == PRESENT
        found = np.column_stack([found, ~found.any(axis=1)])
        row, column = np.nonzero(found)
        rows.append(row + start)
        columns.append(column)
        start += len(chunk)
    return np.concatenate(rows), np.concatenate(columns)
