"""The ways of quantizing that `export.tflite` offers; what each does to which operation is in `recipes`."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mode:
    """One way of quantizing.

    Attributes:
        meaning: for `--help` and the model's description.
        calibrated: bool. Whether photos are needed.
        warning: what a person should know before using it; may be empty.
    """

    meaning: str
    calibrated: bool = False
    warning: str = ""


MODES = {
    "none": Mode("float32"),
    "dynamic": Mode("int8 weights; activations are quantized on the fly"),
    "float16": Mode("float16 weights, float32 computation: half the size, for GPU delegates"),
    "int8": Mode("int8 backbone and dense layers, float attention", calibrated=True),
    "int8_full": Mode(
        "int8 everywhere, for accelerators that accept nothing else",
        calibrated=True,
        warning="int8_full computes attention in steps of 1/256 of its range; check the loss that is printed below",
    ),
    "int16x8": Mode(
        "int8 weights, int16 activations, float attention",
        calibrated=True,
        warning="int16x8 has no fast kernels: it took 180 times as long as int8 on a CPU",
    ),
}
