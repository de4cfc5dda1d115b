"""Semantic attention in N + K steps a channel instead of N · K: by the moments of the positions.

For one channel of one photo let c and h be the middle and half the range of its N positions, u = (p − c)/h in [−1, 1],
and z = h·e the exponent's range for a semantics vector. The sums over positions are one function of z, the moment
generating function of u, and its derivatives::

    F(z) = mean over n of exp(z·u[n])          r = c + h · F′(z)/F(z)          ∂r/∂e = h² · (F″/F − (F′/F)²)

Cut [−1, 1] into S segments with centres x[s], and let v = S·(u − x[s]) in [−1, 1] for positions in segment s. Then::

    F(z) = Σ_s exp(z·x[s]) · Σ_i (z/S)^i/i! · m[s,i]          m[s,i] = mean over n of v^i, 0 outside the segment

The moments m hold no label and the powers of z no position: that is the whole gain. With S ≥ |z| the inner series is
that of exp on [−1, 1], and T terms leave out less than e/T!: 12 terms are float32, 18 float64. Segments also keep the
sums sound: within one, exponentials differ by a factor of e² at most, so no position's share drowns in the rounding of
others'. (One series over all of [−1, 1] loses up to e^2|z| times a float's precision.)

The backward pass has the same shape. For the upstream gradient g the gradient at a position is a smooth function of u::

    ∂/∂p = Σ_k g[k]/(N·F(z[k])) · exp(z[k]·u) · (1 + z[k]·(u − ρ[k]))          ρ = F′/F

whose series in v has coefficients that are sums over labels. c and h are constants in it: r does not depend on them.
`docs/attention.md` derives the bound.

Shapes: positions `[batch, N, D]`, semantics `[K, D]`, float32 or float64.
"""

import dataclasses
import math
from typing import Any

import keras
from keras import ops

from msrn_tf.type_names import Tensor

NUM_TERMS = {"float32": 12, "float64": 18}


def exponent_range(positions: Tensor, semantics: Tensor) -> Tensor:
    """The largest |z| of a batch, a scalar: half the range of a channel's positions times its largest |e|."""
    half = (ops.max(positions, axis=1) - ops.min(positions, axis=1)) / 2
    return ops.max(half * ops.max(ops.abs(semantics), axis=0))


def num_segments(exponent_range: Tensor) -> Tensor:
    """The S that an exponent's range needs, int32."""
    return ops.maximum(ops.cast(ops.ceil(exponent_range), "int32"), 1)


def aggregate(positions: Tensor, semantics: Tensor, segments: Any) -> Tensor:
    """r `[batch, K, D]`; `segments` is S, an int or an int32 scalar."""
    channel = _Channel(positions, semantics, segments)
    f0, f1 = channel.generating_function(derivatives=1)
    return channel.centre + channel.half * (f1 / f0)


def gradients(positions: Tensor, semantics: Tensor, upstream: Tensor, segments: Any) -> tuple[Tensor, Tensor]:
    """∂/∂positions and ∂/∂semantics for the upstream gradient `[batch, K, D]`."""
    channel = _Channel(positions, semantics, segments)
    f0, f1, f2 = channel.generating_function(derivatives=2)
    rho = f1 / f0
    variance = ops.maximum(f2 / f0 - rho * rho, 0)
    de = ops.sum(upstream * ops.square(channel.half) * variance, axis=0)
    weights = upstream / (f0 * channel.count)

    def add_segment(s, total):
        segment = channel.segment(s)
        term = weights * segment.scale
        constant = 1 + channel.z * (segment.centre - rho)
        coefficients = []
        for i in range(channel.terms):
            coefficients.append(ops.sum(term * (constant + i), axis=1, keepdims=True))
            term = term * (channel.local_z / (i + 1))
        return total + segment.only_inside(_polynomial(coefficients, segment.v))

    return channel.over_segments(add_segment, ops.zeros_like(positions)), de


def evidence_maps(positions: Tensor, semantics: Tensor, gradients: Tensor, segments: Any) -> Tensor:
    """`SemanticAttention.evidence_maps`: `[batch, K, N]`."""
    channel = _Channel(positions, semantics, segments)
    (f0,) = channel.generating_function(derivatives=0)
    weights = gradients / (f0 * channel.count)
    deviation = positions - ops.mean(positions, axis=1, keepdims=True)

    def add_segment(s, maps):
        segment = channel.segment(s)
        term = weights * segment.scale
        powers = segment.only_inside(deviation)
        for i in range(channel.terms):
            maps = maps + ops.matmul(term, ops.transpose(powers, (0, 2, 1)))
            term = term * (channel.local_z / (i + 1))
            powers = powers * segment.v
        return maps

    start = ops.matmul(weights, ops.transpose(ops.zeros_like(deviation), (0, 2, 1)))
    return channel.over_segments(add_segment, start)


class _Channel:
    """The positions of every channel on [−1, 1], and the range z of every exponent."""

    def __init__(self, positions, semantics, segments):
        largest, smallest = (f(positions, axis=1, keepdims=True) for f in (ops.max, ops.min))
        self.centre, self.half = largest / 2 + smallest / 2, largest / 2 - smallest / 2
        # A channel of one value alone has a range of 0: every u is 0 then, and r is that value.
        self.u = (positions - self.centre) / ops.where(self.half > 0, self.half, 1)
        self.z = self.half * semantics
        self.dtype = keras.backend.standardize_dtype(positions.dtype)
        self.terms = NUM_TERMS[self.dtype]
        self.count = ops.cast(ops.shape(positions)[1], self.dtype)
        self._segments = segments
        self._num = ops.cast(segments, self.dtype)
        self.local_z = self.z / self._num
        if not self._is_whole():
            self._index = ops.clip(ops.floor((self.u + 1) * (self._num / 2)), 0, self._num - 1)

    def _is_whole(self):
        """Whether one segment holds every position, as is known beforehand: nothing to be left out then."""
        return isinstance(self._segments, int) and self._segments == 1

    def segment(self, s):
        """Segment s, an int or an int32 scalar."""
        if self._is_whole():
            return _Segment(0.0, 1.0, self.u, None, ops.ones_like(self.z))
        s = ops.cast(s, self.dtype)
        centre = (2 * s + 1) / self._num - 1
        inside = ops.equal(self._index, s)
        v = ops.where(inside, (self.u - centre) * self._num, 0)
        # At most 1 with the inner series' largest value taken along: nothing overflows, whatever z is.
        scale = ops.exp(self.z * centre - ops.abs(self.z) * (1 - 1 / self._num))
        return _Segment(centre, 1 / self._num, v, inside, scale)

    def over_segments(self, add_segment, start):
        """`add_segment(s, total)` for every segment; a loop where their number is known at run time alone."""
        if not isinstance(self._segments, int):
            return ops.fori_loop(0, self._segments, add_segment, start)
        for s in range(self._segments):
            start = add_segment(s, start)
        return start

    def generating_function(self, derivatives):
        """F and its first derivatives in z, times exp(−|z|·(1 − 1/S)): a list of `[batch, K, D]`."""

        def add_segment(s, totals):
            segment = self.segment(s)
            means = segment.power_means(self.terms + derivatives)
            series = []
            for k in range(derivatives + 1):
                coefficients = [mean / math.factorial(i) for i, mean in enumerate(means[k : k + self.terms])]
                series.append(segment.scale * _polynomial(coefficients, self.local_z))
            return [total + part for total, part in zip(totals, segment.in_powers_of_u(series), strict=True)]

        return self.over_segments(add_segment, [ops.zeros_like(self.z)] * (derivatives + 1))


@dataclasses.dataclass(frozen=True)
class _Segment:
    """The positions in one segment: v = (u − centre)/step for them and 0 for others; the scale of its exponentials."""

    centre: Any
    step: Any
    v: Any
    inside: Any
    scale: Any

    def only_inside(self, x):
        """`x` of positions, 0 for those of other segments."""
        return x if self.inside is None else ops.where(self.inside, x, 0)

    def power_means(self, count):
        """m[0] … m[count − 1], each `[batch, 1, D]`."""
        power, means = self.v, [ops.mean(self.only_inside(ops.ones_like(self.v)), axis=1, keepdims=True)]
        for i in range(1, count):
            means.append(ops.mean(power, axis=1, keepdims=True))
            if i < count - 1:
                power = power * self.v
        return means

    def in_powers_of_u(self, series):
        """Means of u^k·exp from those of v^k·exp, by u = centre + step·v."""
        x, step = self.centre, self.step
        binomial = [[1], [x, step], [x * x, 2 * x * step, step * step]]
        return [sum(a * part for a, part in zip(binomial[k], series, strict=False)) for k in range(len(series))]


def _polynomial(coefficients, x):
    """Σ_i coefficients[i] · x^i, by Horner's rule."""
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value
