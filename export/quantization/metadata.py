"""Metadata of a .tflite as the TFLite schema has it, for MediaPipe Tasks, Android Studio and `export.ondevice`.

A FlatBuffer (`metadata_schema.fbs` of MediaPipe and TFLite Support, identifier M001) lies in the model as a buffer of
the name TFLITE_METADATA; the files that it names are a ZIP after the model's last byte. Written here slot by slot: the
writer of mediapipe 1.2 cannot be imported, and tflite-support does not install beside TensorFlow 2.21. The tests read
it with MediaPipe's generated classes.
"""

import io
import zipfile

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from export.quantization.model_object import add_old_codes, read_model, write_model
from msrn_tf.models.classifier import MultiLabelClassifier

METADATA_NAME = b"TFLITE_METADATA"
IDENTIFIER = b"M001"
LABELS_FILE = "labels.txt"
THRESHOLDS_FILE = "thresholds.txt"

# Values of the schema's enumerations and unions.
TENSOR_AXIS_LABELS, DESCRIPTIONS = 2, 1
RGB = 1
FEATURE_PROPERTIES, IMAGE_PROPERTIES = 1, 2
NORMALIZATION_OPTIONS, SCORE_THRESHOLDING_OPTIONS = 1, 3

IMAGE_DESCRIPTION = "RGB pixels 0 to 255 of the upright photo, resized (bilinear, antialiased) to this size"
SCORES_DESCRIPTION = (
    "a probability for each label, independent of the others: they do not add up to 1; a label is present from its own "
    f"threshold on, a line of {THRESHOLDS_FILE}"
)
ATTENTION_DESCRIPTION = "what in the photo spoke for each label, in [0, 1]: one map for each label"


def with_metadata(content: bytes, model: MultiLabelClassifier, description: str, with_attention: bool = False) -> bytes:
    """The bytes of a .tflite with metadata, and with the files that it names.

    All of the model's buffers come to lie in its FlatBuffer: litert-quantizer puts them behind it, where MediaPipe does
    not look for metadata. OpenVINO finds the numbers of operations.

    Args:
        content: bytes of a .tflite.
        model: that it was made from.
        description: sentence on the model.
        with_attention: bool. Whether heat-maps are its first output.

    Raises:
        ValueError: a label has a line break: the file of labels has a label a line.
    """
    if broken := [label for label in model.labels if "\n" in label or "\r" in label]:
        raise ValueError(
            f"the label {broken[0]!r} has a line break, and a .tflite's {LABELS_FILE} has one label a line"
        )
    content_object = read_model(content)
    add_old_codes(content_object)
    buffer = schema.BufferT()
    buffer.data = _model_metadata(model, description, with_attention)
    content_object.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(content_object.buffers) - 1
    content_object.metadata = [*(content_object.metadata or []), entry]
    return _with_files(write_model(content_object), model)


def _with_files(content, model):
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(LABELS_FILE, "".join(f"{label}\n" for label in model.labels))
        archive.writestr(THRESHOLDS_FILE, "".join(f"{threshold:.9g}\n" for threshold in model.thresholds))
    return stream.getvalue()


def _model_metadata(model, description, with_attention):
    builder = flatbuffers.Builder(1024)
    outputs = [_scores_tensor(builder, model)]
    if with_attention:
        outputs.insert(0, _tensor(builder, "attention", ATTENTION_DESCRIPTION, FEATURE_PROPERTIES, _table(builder, 0)))
    subgraph = _table(
        builder,
        10,
        {2: _vector(builder, [_image_tensor(builder, model.image_size)]), 3: _vector(builder, outputs)},
    )
    root = _table(
        builder,
        8,
        {
            0: builder.CreateString(model.name),
            1: builder.CreateString(description),
            3: _vector(builder, [subgraph]),
            7: builder.CreateString("1.0.0"),
        },
    )
    builder.Finish(root, IDENTIFIER)
    return bytes(builder.Output())


def _image_tensor(builder, size):
    image_size = _table(builder, 2, numbers={0: ("Uint32", size), 1: ("Uint32", size)})
    properties = _table(builder, 2, {1: image_size}, {0: ("Int8", RGB)})
    # Pixels go in as they are; the model normalises them itself.
    options = _table(builder, 2, {0: _floats(builder, [0.0]), 1: _floats(builder, [1.0])})
    normalization = _table(builder, 2, {1: options}, {0: ("Uint8", NORMALIZATION_OPTIONS)})
    stats = _table(builder, 2, {0: _floats(builder, [255.0] * 3), 1: _floats(builder, [0.0] * 3)})
    return _tensor(builder, "image", IMAGE_DESCRIPTION, IMAGE_PROPERTIES, properties, [normalization], stats)


def _scores_tensor(builder, model):
    # What MediaPipe leaves out where its user sets no threshold: labels that are below everybody's.
    options = _table(builder, 1, numbers={0: ("Float32", min(model.thresholds))})
    thresholding = _table(builder, 2, {1: options}, {0: ("Uint8", SCORE_THRESHOLDING_OPTIONS)})
    stats = _table(builder, 2, {0: _floats(builder, [1.0]), 1: _floats(builder, [0.0])})
    files = [
        _associated_file(builder, LABELS_FILE, "the labels, in the order of the scores", TENSOR_AXIS_LABELS),
        _associated_file(builder, THRESHOLDS_FILE, "the score from which each label is present", DESCRIPTIONS),
    ]
    properties = _table(builder, 0)
    return _tensor(builder, "scores", SCORES_DESCRIPTION, FEATURE_PROPERTIES, properties, [thresholding], stats, files)


def _tensor(builder, name, description, content_type, properties, process_units=(), stats=None, files=()):
    content = _table(builder, 3, {1: properties}, {0: ("Uint8", content_type)})
    offsets = {0: builder.CreateString(name), 1: builder.CreateString(description), 3: content}
    if process_units:
        offsets[4] = _vector(builder, process_units)
    if stats:
        offsets[5] = stats
    if files:
        offsets[6] = _vector(builder, files)
    return _table(builder, 7, offsets)


def _associated_file(builder, name, description, kind):
    offsets = {0: builder.CreateString(name), 1: builder.CreateString(description)}
    return _table(builder, 5, offsets, {2: ("Int8", kind)})


def _table(builder, num_slots, offsets=(), numbers=()):
    """A table: `offsets` are slot → what was built before, `numbers` slot → (type, value)."""
    builder.StartObject(num_slots)
    for slot, offset in dict(offsets).items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, (kind, value) in dict(numbers).items():
        getattr(builder, f"Prepend{kind}Slot")(slot, value, 0)
    return builder.EndObject()


def _vector(builder, offsets):
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _floats(builder, values):
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()
