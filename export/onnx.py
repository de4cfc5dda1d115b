"""`python -m export.onnx`: exports `model.keras` as an .onnx with labels and thresholds, for other servers.

Triton, ONNX Runtime and OpenVINO Model Server take it. The graph has no control flow. With --photos attention uses the
moments form (docs/attention.md); without, the slower direct form, exact for any photo.
"""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from export.example_photos import read_photos
from export.quantization.device_model import device_attention
from msrn_tf import command_line
from msrn_tf.config import option
from msrn_tf.errors import UserError, argument
from msrn_tf.extras import needs
from msrn_tf.files import write_beside
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.factory import load_model
from msrn_tf.models.inference_model import inference_model
from msrn_tf.quiet_import import captured_native_stderr
from msrn_tf.terminal import say

TOLERANCE = 1e-4
OPSETS = (13, 18)


@dataclasses.dataclass(frozen=True)
class OnnxConfig:
    """Export"""

    model: str = option("", "model.keras written by msrn_tf.train", path="input")
    output: str = option("", "the .onnx to write", path="file")
    opset: int = option(18, "ONNX operator set", low=OPSETS[0], high=OPSETS[1])
    channel_order: str = option(
        "rgb", "channel order of the input; OpenVINO Model Server decodes to bgr", choices=("rgb", "bgr")
    )
    photos: str = option(
        "",
        "folder of photos like those the model will see, to compare the export with the model and to make "
        "attention faster; empty: one drawn photo",
        path="input",
    )


def main(config: OnnxConfig) -> None:
    """Exports as configured."""
    for flag in ("model", "output"):
        if not getattr(config, flag):
            raise UserError(f"--{flag} is missing: give the model.keras and the .onnx to write")
    with needs("onnx"):
        import onnx  # noqa: F401  before anything is computed
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    with argument("model"):
        model = load_model(config.model)
    pixels = np.stack([image for _, image in read_photos(config.photos, model.image_size)])
    content = onnx_bytes(model, config.opset, config.channel_order, pixels if config.photos else pixels[:0])
    difference = largest_difference(model, content, pixels, config.channel_order)
    if difference > TOLERANCE:
        raise UserError(f"--model={config.model}: the export's scores differ by {difference:.1e}; it was discarded")
    write_beside(config.output, content)
    say(f"scores differ by at most {difference:.1e} from {config.model}'s, on {len(pixels)} photos")
    say(f"written to {config.output}: opset {config.opset}, {len(model.labels)} labels, {model.image_size} pixels, "
        f"{len(content) / 1e6:.2f} MB")  # fmt: skip


def onnx_bytes(
    model: MultiLabelClassifier, opset: int = OPSETS[1], channel_order: str = "rgb", photos: Iterable[np.ndarray] = ()
) -> bytes:
    """The whole .onnx.

    Its input `image` is uint8 `[batch, size, size, 3]`, its output `scores` float32 `[batch, C]`, calibrated, in the
    order of the labels. The metadata `labels` and `thresholds` are lists in JSON.

    Args:
        model: trained.
        opset: int.
        channel_order: `"rgb"` or `"bgr"`, of `image`.
        photos: uint8 `[size, size, 3]` each, like those that it will see; may be empty.
    """
    with needs("onnx"):
        import onnx
        import tf2onnx
    inference = inference_model(model, device_attention(model, False, [photo[None] for photo in photos]))
    spec = tf.TensorSpec((None, model.image_size, model.image_size, 3), tf.uint8, "image")

    @tf.function(input_signature=[spec], autograph=False)
    def scores(image):
        pixels = image if channel_order == "rgb" else tf.reverse(image, [-1])
        return {"scores": inference.calibrated(inference(pixels, training=False))}

    with captured_native_stderr():
        graph, _ = tf2onnx.convert.from_function(scores, input_signature=[spec], opset=opset)
    onnx.helper.set_model_props(graph, metadata(model, channel_order))
    graph.graph.name = model.name
    onnx.checker.check_model(graph)
    return graph.SerializeToString()


def metadata(model: MultiLabelClassifier, channel_order: str) -> dict[str, str]:
    """What a reader of the file needs to know, as text."""
    return {
        "labels": json.dumps(list(model.labels), ensure_ascii=False),
        "thresholds": json.dumps([float(threshold) for threshold in model.thresholds]),
        "image": f"{channel_order.upper()} pixels 0 to 255 of the upright photo, resized (bilinear, antialiased)",
        "scores": "each label's own probability in [0, 1]; they do not add up to 1",
        "reference": model.reference,
    }


def largest_difference(model: MultiLabelClassifier, content: bytes, pixels: np.ndarray, channel_order: str) -> float:
    """Largest difference of a score between the trained model and ONNX Runtime with the export, on RGB `pixels`."""
    session = runtime(content)
    given = pixels if channel_order == "rgb" else pixels[..., ::-1]
    found = [session.run(["scores"], {"image": np.ascontiguousarray(image[None])})[0][0] for image in given]
    expected = [model.probabilities(image[None])[0] for image in pixels]
    return float(np.abs(np.array(found) - np.array(expected)).max())


def runtime(content: bytes) -> Any:
    """ONNX Runtime's session of an .onnx, on the CPU."""
    with needs("onnx"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, extra_flags=OnnxConfig)
