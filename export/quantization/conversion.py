"""From a trained model to the bytes of a .tflite, in one of the modes of `recipes`."""

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from litert_quantizer import calibrator, quantizer, recipe_manager
from litert_quantizer.utils import qsv_utils
from tensorflow.python.eager.wrap_function import function_from_graph_def
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from export.quantization.device_model import DeviceModel
from export.quantization.model_object import joins_constants, read_model
from export.quantization.modes import MODES
from export.quantization.recipes import recipe
from msrn_tf.errors import UserError, first_line
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.progress import ProgressBar
from msrn_tf.quiet_import import captured_native_stderr

SIGNATURE = "serving_default"
CALIBRATION_THREADS = 2


def convert(
    model: MultiLabelClassifier, mode: str, photos: Sequence[np.ndarray] = (), with_attention: bool = False
) -> bytes:
    """The bytes of a quantized model, whose operations are all built in.

    Args:
        model: trained.
        mode: key of `modes.MODES`.
        photos: list of uint8 `[1, size, size, 3]`, for modes that are calibrated; in the others they tell how large
            the exponents of attention become.
        with_attention: bool. A second output with heat-maps.

    Raises:
        UserError: the model has operations that cannot be quantized in this mode.
    """
    device_model = DeviceModel(model, with_attention, mode == "int8_full", photos)
    if mode == "int8_full":
        return _converted(device_model, photos)
    content = _converted(device_model)
    if mode == "none":
        return content
    chosen = recipe(mode, joins_constants(read_model(content)))
    return quantize(content, chosen, photos if MODES[mode].calibrated else ())


def quantize(
    content: bytes,
    recipe: Any,
    photos: Sequence[np.ndarray] = (),
    update_ranges: Callable[..., Any] = qsv_utils.min_max_update,
) -> bytes:
    """A float model's bytes, quantized by a recipe of litert-quantizer.

    `update_ranges`: how the ranges of activations of several photos become one: by default from the smallest value of
    all to the largest.
    """
    work = quantizer.Quantizer(bytearray(content), recipe)
    ranges = measured_ranges(content, recipe, photos, update_ranges) if work.need_calibration else None
    try:
        with _without_messages():
            result = work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    except ValueError as error:
        raise UserError(
            f"`quantize`: litert-quantizer cannot quantize an operation of this model ({first_line(error)}); "
            "use float16 or none"
        ) from error
    return bytes(result.quantized_model)


def measured_ranges(
    content: bytes,
    recipe: Any,
    photos: Sequence[np.ndarray],
    update_ranges: Callable[..., Any] = qsv_utils.min_max_update,
) -> dict[str, Any]:
    """What the float model's activations are on photos, as litert-quantizer takes it."""
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe)
    # `Quantizer.calibrate` would count its photos first, and offers a running mean of their ranges alone.
    with _without_messages():
        measured = calibrator.Calibrator(
            bytes(content),
            num_threads=CALIBRATION_THREADS,
            mode=calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED,
            qsv_update_func=update_ranges,
        )
    with ProgressBar("calibrating", len(photos), "photos") as bar:
        for done, photo in enumerate(photos, 1):
            with _without_messages():
                measured.calibrate({SIGNATURE: [{"image": photo}]}, manager)
            bar.update(done)
    return measured.get_model_qsvs()


def _without_gradients(function):
    """The same function, whose operations name no custom gradients.

    A gradient that uses tensors around its operation cannot be saved, and the converter would silently go another way,
    on which the signature is lost.
    """
    graph = function.graph.as_graph_def()
    for node in (*graph.node, *(node for each in graph.library.function for node in each.node_def)):
        node.attr.pop("_gradient_op_type", None)
    inputs, outputs = ([tensor.name for tensor in tensors] for tensors in (function.inputs, function.outputs))
    return function_from_graph_def(graph, inputs, outputs)


@contextlib.contextmanager
def _without_messages():
    """Holds back litert-quantizer's bars, one a photo, and its warning that it keeps activations."""
    with captured_native_stderr(), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _converted(device_model, calibration_photos=None):
    """TensorFlow's converter: in float, or with photos in integers alone (uint8 in, uint8 out)."""
    traced = device_model.function.get_concrete_function()
    names, frozen = sorted(traced.structured_outputs), _without_gradients(convert_variables_to_constants_v2(traced))
    # Once more as a function, for a signature with names; the converter itself would keep variables in the model.
    signature = tf.function(
        lambda image: dict(zip(names, frozen(image), strict=True)), input_signature=[device_model.spec]
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([signature.get_concrete_function()], tf.Module())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if calibration_photos is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ({"image": photo} for photo in calibration_photos)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    with captured_native_stderr():
        return converter.convert()
