"""From co-occurrence counts to the adjacency matrix of the label graph, re-weighted as in ML-GCN (arXiv 1904.03582)."""

import numpy as np

DEFAULT_THRESHOLD = 0.4
NEIGHBOUR_WEIGHT = 0.25
"""What a label's neighbours weigh together, beside 1 for the label itself (ML-GCN, arXiv 1904.03582, eq. 8: p)."""

EPSILON = 1e-6


def label_edges(counts: np.ndarray, cooccurrence: np.ndarray, threshold: float = DEFAULT_THRESHOLD) -> np.ndarray:
    """Edges i → j where P(j | i) = M[i,j] / n[i] reaches the threshold: bool `[C, C]`, diagonal False.

    Args:
        counts: n, int `[C]`: images with label i.
        cooccurrence: M, int `[C, C]`: images with labels i and j.
        threshold: probability in (0, 1].
    """
    counts = np.asarray(counts, np.float64)[:, None]
    conditional = np.divide(cooccurrence, counts, out=np.zeros(np.shape(cooccurrence)), where=counts > 0)
    edges = conditional >= threshold
    np.fill_diagonal(edges, False)
    return edges


def normalized_adjacency(
    counts: np.ndarray, cooccurrence: np.ndarray, threshold: float = DEFAULT_THRESHOLD
) -> np.ndarray:
    """Â = (A·Δ)ᵀ·Δ as float32 `[C, C]`.

    A = 0.25 · edges / (column sums + 1e-6) + I and Δ = diag(row sums of A)^(-1/2).

    Mind the transpose: row i of Â holds the labels that label i looks at, those j with P(i | j) ≥ threshold.
    """
    edges = label_edges(counts, cooccurrence, threshold).astype(np.float64)
    weights = NEIGHBOUR_WEIGHT * edges / (edges.sum(axis=0, keepdims=True) + EPSILON) + np.eye(len(edges))
    delta = np.diag(weights.sum(axis=1) ** -0.5)
    return ((weights @ delta).T @ delta).astype(np.float32)
