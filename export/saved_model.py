"""`python -m export.saved_model`: exports `model.keras` as a SavedModel for TensorFlow Serving, to `OUTPUT/VERSION/`.

Beside the versions, `OUTPUT/config/` has TensorFlow Serving's configuration files.
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from export.compare import check_labels
from export.example_photos import read_photos
from export.ondevice import open_classifier
from export.serving.version_folders import LARGEST_VERSION, version_folders
from export.signatures import CLASSIFY_METHOD, signatures
from msrn_tf import command_line, storage
from msrn_tf.choices import MAX_PIXELS
from msrn_tf.config import option
from msrn_tf.errors import UserError, argument, printable
from msrn_tf.extras import needs
from msrn_tf.layers import SemanticAttention
from msrn_tf.layers.semantic_attention import ACCELERATOR_BLOCK_ELEMENTS
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.factory import in_dtype, load_model
from msrn_tf.models.inference_model import inference_model
from msrn_tf.models.msrn import MSRN
from msrn_tf.terminal import say
from msrn_tf.text import check_whole_text

if TYPE_CHECKING:
    from export.device_classifier import DeviceClassifier

TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class SavedModelConfig:
    """Export"""

    model: str = option("", "model.keras written by msrn_tf.train", path="input")
    output: str = option("", "folder of the served model; the version goes to OUTPUT/VERSION", path="folder")
    version: int = option(0, "version to write, must be new; 0: one above the highest", low=0, high=LARGEST_VERSION)
    model_name: str = option("", "name by which clients request the model; empty: the last part of --output")
    serving_dtype: str = option("float32", "compute dtype", choices=("float32", "bfloat16"))
    device: str = option(
        "cpu",
        "device of the server: attention takes few large steps on gpu, many small ones on cpu",
        choices=("cpu", "gpu"),
    )
    photos: str = option(
        "", "folder of photos for comparing the export with the model; empty: one drawn photo", path="input"
    )
    tflite: str = option(
        "", "a .tflite that export.tflite made from the same model, for servers that prefer one", path="input"
    )
    max_pixels: int = option(MAX_PIXELS, "refuse photos with more pixels before decoding them", low=1)
    max_batch_size: int = option(16, "largest batch in the configuration for TensorFlow Serving", low=1)


def main(config: SavedModelConfig) -> None:
    """Exports as configured."""
    for flag in ("model", "output"):
        if not getattr(config, flag):
            raise UserError(f"--{flag} is missing: give the model.keras and the folder to serve from")
    for flag in ("output", "model_name"):
        check_whole_text(f"--{flag}", getattr(config, flag), "an export")
    with needs("serving"):
        from export.serving import warm_up  # noqa: F401  before anything is computed
        from export.serving.configuration import write_configuration
    with argument("model"):
        model = load_model(config.model)
    classifier = tflite_of(model, config.tflite) if config.tflite else None
    photos = read_photos(config.photos, model.image_size)
    version = choose_version(config.output, config.version)
    name = config.model_name or os.path.basename(os.path.abspath(config.output))
    computing = model if config.serving_dtype == "float32" else in_dtype(model, "mixed_bfloat16")
    served = inference_model(computing, served_attention(computing, config.device))
    where = storage.beside(os.path.join(config.output, str(version)))
    with tempfile.TemporaryDirectory(dir=where, prefix=f".writing-{version}-") as folder:
        os.chmod(folder, 0o755)
        write_saved_model(served, folder, name, config.max_pixels)
        expected = np.stack([model.probabilities(pixels[None])[0] for _, pixels in photos])
        found = saved_model_scores(folder, model.labels, [encoded for encoded, _ in photos])
        difference = np.abs(found - expected).max()
        if config.serving_dtype == "float32" and difference > TOLERANCE:
            raise UserError(f"--model={config.model}: the export's scores differ by {difference:.1e}; it was discarded")
        if classifier:
            from export.serving.tflite_functions import TFLITE_NAME

            with open(os.path.join(folder, TFLITE_NAME), "wb") as file:
                file.write(storage.read_whole(config.tflite))
        target, megabytes = os.path.join(config.output, str(version)), _megabytes(folder)
        storage.put_folder(folder, target, last="saved_model.pb")
        os.mkdir(folder)  # for the context to remove
    write_configuration(
        os.path.join(config.output, "config"),
        name,
        config.output if storage.is_address(config.output) else f"/models/{name}",
        find_versions(config.output),
        config.max_batch_size,
    )
    say(f"scores differ by at most {difference:.1e} from {config.model}'s, on {len(photos)} photos")
    if classifier:
        difference = np.abs(np.stack([classifier.scores(pixels) for _, pixels in photos]) - expected).max()
        say(f"those of {config.tflite} by at most {difference:.1e}; it is {TFLITE_NAME} beside the SavedModel")
    say(f"written to {target}: {', '.join(signatures(served))}; {megabytes:.0f} MB")


def tflite_of(model: MultiLabelClassifier, path: str) -> "DeviceClassifier":
    """The classifier of a .tflite; `UserError` where it is damaged, or of another model."""
    with argument("tflite"):
        classifier = open_classifier(path, 1)
    check_labels(path, classifier, model)
    return classifier


def served_attention(model: MultiLabelClassifier, device: str) -> keras.layers.Layer | None:
    """What takes the place of `SemanticAttention` on a server's device; None: the model keeps what it has."""
    if device == "cpu" or not isinstance(model, MSRN) or not isinstance(model.attention, SemanticAttention):
        return None
    return SemanticAttention(
        block_elements=ACCELERATOR_BLOCK_ELEMENTS, dtype=model.attention.dtype_policy, name="attention"
    )


def write_saved_model(model: MultiLabelClassifier, folder: str, name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Writes the SavedModel of an inference model, with assets and warm-up requests."""
    with needs("serving"):
        from export.serving.warm_up import write_warm_up_requests
    archive = keras.export.ExportArchive()
    archive.track(model)
    found = signatures(model, max_pixels)
    for signature, (function, spec) in found.items():
        archive.add_endpoint(signature, function, input_signature=[spec])
    archive.write_out(folder, verbose=False)
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(folder)
    updater.replace_method_name("classify", CLASSIFY_METHOD, tags="serve")
    updater.save()
    assets = os.path.join(folder, "assets")
    os.makedirs(assets, exist_ok=True)
    with open(os.path.join(assets, "labels.txt"), "w", encoding="utf-8") as file:
        file.write(labels_text(model.labels))
    with open(os.path.join(assets, "model_card.json"), "w", encoding="utf-8") as file:
        json.dump(model_card(model, found, max_pixels), file, indent=2, ensure_ascii=False)
    write_warm_up_requests(folder, name, found, model.image_size)


def labels_text(labels: Sequence[str]) -> str:
    """A label a line, with line breaks and control characters in one escaped; `model_card.json` has it as it is."""
    return "".join(f"{printable(label)}\n" for label in labels)


def model_card(model: MultiLabelClassifier, found: dict[str, Any], max_pixels: int) -> dict[str, Any]:
    """What a person who finds the model on a server wants to know."""
    return {
        "kind": "multi-label image classification",
        "model": model.name,
        "reference": model.reference,
        "labels": list(model.labels),
        "thresholds": list(model.thresholds),
        "calibration": dataclasses.asdict(model.calibration),
        "image_size": model.image_size,
        "largest_photo_pixels": max_pixels,
        "compute_dtype": model.compute_dtype,
        "parameters": model.count_params(),
        "signatures": {name: {spec.name: f"{spec.dtype.name}{list(spec.shape)}"} for name, (_, spec) in found.items()},
        "scores": "each label's own probability in [0, 1]; they do not add up to 1",
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def find_versions(folder: str) -> list[int]:
    """The versions under a folder, ascending."""
    return list(version_folders(folder))


def choose_version(folder: str, wanted: int) -> int:
    """The version to write; makes the folder. Raises `UserError` where it cannot be written."""
    try:
        storage.makedirs(folder)
    except OSError as error:
        raise UserError(f"--output={folder}: cannot be made ({error.strerror})") from error
    versions = find_versions(folder)
    if wanted in versions:
        raise UserError(
            f"--version={wanted}: {os.path.join(folder, str(wanted))} already exists and may be served; use "
            f"{versions[-1] + 1}, or leave the flag out"
        )
    return wanted or (versions[-1] + 1 if versions else 1)


def saved_model_scores(folder: str, labels: Sequence[str], contents: Sequence[bytes]) -> np.ndarray:
    """Scores of encoded photos by the SavedModel that was written, `[photos, C]` in the order of `labels`."""
    function = tf.saved_model.load(folder).signatures["serving_default"]
    rows = []
    for encoded in contents:
        served = function(image_bytes=tf.constant([encoded]))
        scores = dict(zip(served["labels"][0].numpy().tolist(), served["scores"][0].numpy().tolist(), strict=True))
        rows.append([scores[label.encode()] for label in labels])
    return np.array(rows)


def _megabytes(folder):
    return sum(os.path.getsize(os.path.join(root, file)) for root, _, files in os.walk(folder) for file in files) / 1e6


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, extra_flags=SavedModelConfig)
