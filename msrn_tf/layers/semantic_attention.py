"""Semantic attention: every label and every group looks at the feature map, channel by channel.

Equations (Qu et al., arXiv 2106.11596, §3.3), with positions p `[batch, N, D]` and semantics e `[K, D]`::

    w[b,n,k,d] = softmax over n of (p[b,n,d] · e[k,d])
    r[b,k,d]   = Σₙ w[b,n,k,d] · p[b,n,d]

r is the derivative of log Σₙ exp(p·e) with respect to e, that is the mean of p under the tilted weights w. Hence

    ∂r/∂e    = Σₙ w·(p − r)²              (a variance: never negative)
    ∂r/∂p[n] = w[n]·(1 + e·(p[n] − r))

and neither pass needs the `[batch, N, K, D]` tensor of weights. Two forms compute this: `direct_attention`, an
exponential for each position and semantics vector, and `moment_attention`, which needs N + K steps a channel where the
exponents' range is moderate, as in trained models.
"""

import math
from typing import Any, Self

import keras
from keras import ops

from msrn_tf.compilation import compiled, has_accelerator
from msrn_tf.layers import direct_attention, moment_attention
from msrn_tf.type_names import Shape, Tensor

FORMS = ("auto", "direct", "moments")

CACHE_BLOCK_ELEMENTS = 1 << 19
"""Weights that the direct form computes at a time on a CPU, in numbers: 2 MiB of float32, what its cache holds."""

ACCELERATOR_BLOCK_ELEMENTS = 1 << 26
"""The same on an accelerator without XLA: few large blocks, 256 MiB of float32."""

MAX_CACHE_BLOCK_CHANNELS, UNKNOWN_SIZE_BLOCK_CHANNELS = 32, 8

ACCELERATOR_DIRECT_WEIGHTS = 1 << 27
"""Weights up to which the direct form is the faster one on an accelerator, where moments cost a loop of small kernels:
measured by `benchmarks/gpu.py`."""

POSITION_COST, SEMANTICS_COST = 12.0, 7.5
"""What a segment costs the form by moments for each position and for each semantics vector, forward and backward, in
exponentials of the direct form: measured on a CPU by `benchmarks/semantic_attention.py --part=crossover`."""


@keras.saving.register_keras_serializable("msrn_tf")
class SemanticAttention(keras.layers.Layer):
    """Aggregates a feature map once for each semantics vector.

    Sums are computed in float32 whatever the dtype policy (in float64 for float64 inputs). No form makes a tensor of
    `batch × N × K × D` numbers.

    Args:
        form: `"direct"`: an exponential for each position and semantics vector; `"moments"`: by the moments of the
            positions; `"auto"` (the default): by moments where that is cheaper for the exponents that a batch has,
            which is decided at run time, and direct otherwise.
        segments: int or None. For `"moments"` alone: a fixed number of segments, exact to float32 while half the range
            of a channel's positions times |e| is at most that. None (the default) takes what a batch needs.
        block_elements: int or None. Numbers that the direct form computes at a time. None chooses by device.

    Call arguments:
        positions: `[batch, N, D]`, the projected feature map; batch and N may be unknown until run time.
        semantics: `[K, D]`, label and group semantics, shared by the batch.

    Returns:
        `[batch, K, D]`, in the layer's compute dtype.

    Examples:

    >>> positions = keras.random.normal((2, 49, 16))
    >>> semantics = keras.random.normal((5, 16))
    >>> tuple(SemanticAttention()(positions, semantics).shape)
    (2, 5, 16)

    Reference:
        Qu et al., arXiv 2106.11596, §3.3. `docs/attention.md` derives both forms.
    """

    def __init__(
        self, form: str = "auto", segments: int | None = None, block_elements: int | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if form not in FORMS:
            raise ValueError(f"`form` must be one of {FORMS}. Received: form={form}")
        if segments is not None and (form != "moments" or segments < 1):
            raise ValueError(f"`segments` is a positive int, for form='moments'. Received: {segments}, form={form}")
        if block_elements is not None and block_elements < 1:
            raise ValueError(f"`block_elements` must be positive. Received: block_elements={block_elements}")
        self.form = form
        self.segments = segments
        self.block_elements = block_elements
        self._compiles = has_accelerator()
        self._functions = {
            name: compiled(getattr(self, f"_{name}")) if self._compiles else getattr(self, f"_{name}")
            for name in ("aggregate", "gradients", "evidence_maps")
        }

    def build(self, positions_shape: Shape, semantics_shape: Shape) -> None:
        check_channels(positions_shape, semantics_shape)

    def call(self, positions: Tensor, semantics: Tensor) -> Tensor:
        @ops.custom_gradient
        def attend(positions, semantics):
            def grad(*args, upstream=None):
                upstream = args[0] if upstream is None else upstream
                return self._run("gradients", positions, semantics, upstream)

            return self._run("aggregate", positions, semantics), grad

        dtype = _sum_dtype(positions.dtype)
        return ops.cast(attend(ops.cast(positions, dtype), ops.cast(semantics, dtype)), self.compute_dtype)

    def evidence_maps(self, positions: Tensor, semantics: Tensor, gradients: Tensor) -> Tensor:
        """How much each position speaks for each label, through the attention of that label: `[batch, K, N]`.

        To first order, what attending to position n adds to a logit over looking everywhere alike::

            map[b,k,n] = Σ_d gradients[b,k,d] · w[b,n,k,d] · (p[b,n,d] − mean over n of p[b,n,d])

        It may be negative; summed over positions it is Σ_d gradients · (r − mean of p). The weights alone, averaged
        over channels, hardly differ between labels: which channels a label listens to is in the gradients.

        Args:
            positions: `[batch, N, D]`.
            semantics: `[K, D]`.
            gradients: `[batch, K, D]`, of each label's logit with respect to its aggregated features.
        """
        dtype = _sum_dtype(positions.dtype)
        return self._run("evidence_maps", *(ops.cast(array, dtype) for array in (positions, semantics, gradients)))

    def compute_output_shape(self, positions_shape: Shape, semantics_shape: Shape) -> Shape:
        return (positions_shape[0], semantics_shape[0], semantics_shape[1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "form": self.form,
            "segments": self.segments,
            "block_elements": self.block_elements,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = dict(config)
        config.pop("block_channels", None)  # of models saved when there was one form
        return cls(**config)

    def _run(self, name, positions, *arrays):
        """`_aggregate`, `_gradients` or `_evidence_maps`, compiled where that helps and shapes are known."""
        function = self._functions[name] if self._is_compiled(positions) else getattr(self, f"_{name}")
        return function(positions, *arrays)

    def _is_compiled(self, positions):
        return self._compiles and None not in positions.shape

    def _aggregate(self, positions, semantics):
        return self._by_form("aggregate", positions, semantics)

    def _gradients(self, positions, semantics, upstream):
        return self._by_form("gradients", positions, semantics, upstream)

    def _evidence_maps(self, positions, semantics, gradients):
        return self._by_form("evidence_maps", positions, semantics, gradients)

    def _by_form(self, name, *arrays):
        positions, semantics = arrays[:2]

        def direct():
            return getattr(direct_attention, name)(*arrays, self._block_channels(positions, semantics))

        def by_moments(segments):
            return getattr(moment_attention, name)(*arrays, segments)

        if self.form == "direct":
            return direct()
        if self.segments:
            return by_moments(self.segments)
        exponents = moment_attention.exponent_range(positions, semantics)
        segments = moment_attention.num_segments(exponents)
        if self.form == "moments":
            return by_moments(segments)
        if self._is_compiled(positions) and _size(positions) * semantics.shape[0] <= ACCELERATOR_DIRECT_WEIGHTS:
            return direct()
        num_positions, nodes = (ops.cast(ops.shape(array)[-2], exponents.dtype) for array in (positions, semantics))
        largest = largest_range(num_positions, nodes)
        # One segment, which is what trained models mostly need, takes no loop. A range that is not a number is not
        # below the bound: infinite and NaN inputs give what the equation gives.
        return ops.cond(
            exponents <= ops.minimum(largest, 1),
            lambda: by_moments(1),
            lambda: ops.cond(exponents <= largest, lambda: by_moments(segments), direct),
        )

    def _block_channels(self, positions, semantics):
        """The largest power of two that divides D and keeps a block within its budget."""
        nodes, channels = semantics.shape
        if self._is_compiled(positions):
            return channels
        budget = self.block_elements or (ACCELERATOR_BLOCK_ELEMENTS if self._compiles else CACHE_BLOCK_ELEMENTS)
        if None in positions.shape:
            wanted = UNKNOWN_SIZE_BLOCK_CHANNELS * budget // CACHE_BLOCK_ELEMENTS
        else:
            wanted = budget // (math.prod(positions.shape[:2]) * nodes)
        most = MAX_CACHE_BLOCK_CHANNELS * max(1, budget // CACHE_BLOCK_ELEMENTS)
        return math.gcd(channels, 1 << max(0, min(wanted, most, channels).bit_length() - 1))


def _size(array):
    """Numbers in an array of known shape."""
    return math.prod(array.shape)


def check_channels(positions_shape: Shape, semantics_shape: Shape) -> None:
    """Raises `ValueError` where positions and semantics are not of one width."""
    if positions_shape[-1] != semantics_shape[-1]:
        raise ValueError(
            f"positions and semantics must have as many channels. Received: {positions_shape}, {semantics_shape}"
        )


def largest_range(num_positions: int, nodes: int, position_cost: float = POSITION_COST) -> float:
    """The exponents' range up to which moments cost less than the N · K exponentials of the direct form."""
    return num_positions * nodes / (position_cost * num_positions + SEMANTICS_COST * nodes)


def _sum_dtype(dtype):
    return "float64" if keras.backend.standardize_dtype(dtype) == "float64" else "float32"
