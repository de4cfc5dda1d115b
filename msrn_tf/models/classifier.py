"""What every model here has in common: it takes pixels, knows its labels, and is saved whole."""

import dataclasses
import functools

import keras
import numpy as np
from keras import ops

from msrn_tf.models.calibration import Calibration
from msrn_tf.models.recomputation import recomputed_outputs, split_into_segments
from msrn_tf.models.validation import SMALLEST_STD, checked_labels, checked_numbers, checked_whole

LARGEST_IMAGE_SIZE = 8192


class MultiLabelClassifier(keras.Model):
    """A backbone with its pixel normalisation, and a head that subclasses define.

    Args:
        backbone: functional model from normalised images to maps at strides of 8, 16, 32 (`models.backbones`).
        labels: sequence of C label names, all different, in the order of the logits.
        image_size: int, up to 8192. Height and width that the model was made for; other sizes run too.
        mean, std: three floats each, for RGB pixels 0–255.
        thresholds: C calibrated probabilities from which a label counts as present. Defaults to 0.5 each.
        calibration: `Calibration`, or its fields as a dict. Defaults to none: slopes of 1, intercepts of 0.

    Raises:
        ValueError: an argument is none of these.

    Call arguments:
        images: `[batch, height, width, 3]`, RGB pixels 0–255, uint8 or float.

    Returns:
        Logits `[batch, C]`, float32.
    """

    def __init__(self, backbone, labels, image_size, mean, std, thresholds=None, calibration=None, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.labels = checked_labels(labels)
        self.image_size = checked_whole("image_size", image_size, 1, LARGEST_IMAGE_SIZE)
        self.mean = checked_numbers("mean", mean, 3)
        self.std = checked_numbers("std", std, 3, low=SMALLEST_STD)
        if thresholds is None:
            thresholds = (0.5,) * len(self.labels)
        self.thresholds = checked_numbers("thresholds", thresholds, len(self.labels), 0.0, 1.0)
        if isinstance(calibration, dict):
            calibration = Calibration(**calibration)
        self.calibration = calibration or Calibration.identity(len(self.labels))
        if len(self.calibration.slopes) != len(self.labels):
            raise ValueError(
                f"`calibration` must have {len(self.labels)} entries, one a label. "
                f"Received: {len(self.calibration.slopes)}"
            )
        scale = 1.0 / np.asarray(self.std)
        self._recomputed_taps = None
        self.normalize = keras.layers.Rescaling(
            scale=scale.tolist(), offset=(-np.asarray(self.mean) * scale).tolist(), dtype="float32", name="normalize"
        )

    @functools.cached_property
    def inputs(self):
        """As functional models have them: one symbolic input, of the size that the model was made for."""
        return [keras.Input((self.image_size, self.image_size, 3), name="images")]

    @functools.cached_property
    def outputs(self):
        """The symbolic logits of `inputs`: `keras.Model(model.inputs, model.outputs)` is the same model."""
        return [self(self.inputs[0])]

    def export(self, filepath, *arguments, **options):
        """See `keras.Model.export`; Keras exports no model that was never called."""
        if not self._called:
            self(keras.Input((None, None, 3)))
        return super().export(filepath, *arguments, **options)

    def save(self, filepath, *arguments, **options):
        """See `keras.Model.save`; `.keras` alone."""
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                "Keras' older HDF5 form does not find registered classes again: save a `.keras` file, or the weights "
                f"alone by `save_weights('model.weights.h5')`. Received: filepath={filepath}"
            )
        return super().save(filepath, *arguments, **options)

    def taps(self, images, training=None):
        """The backbone's feature maps for images of pixels 0–255; a list of feature maps is taken as they are."""
        if isinstance(images, list | tuple):
            return list(images)
        normalized = self.normalize(images)
        if training and self._recomputed_taps is not None:
            return self._recomputed_taps(normalized)
        maps = self.backbone(normalized, training=training)
        return list(maps) if isinstance(maps, list | tuple) else [maps]

    def recompute_backbone(self):
        """From now on training keeps few of the backbone's activations and computes the others twice."""
        # A function and not an attribute of models: those would be tracked as further layers.
        self._recomputed_taps = functools.partial(recomputed_outputs, split_into_segments(self.backbone))

    def forward(self, images, training=None):
        """Logits `[batch, C]` and the model's own loss, a scalar.

        For training loops under `tf.distribute`: replicas share `model.losses`, and with synchronized batch norm they
        take turns within one forward pass, so that a replica would find another's losses there.
        """
        return self.call(images, training=training), ops.zeros(())

    def calibrated(self, logits):
        """Calibrated probabilities `[batch, C]` of logits: what thresholds apply to, here and in every export."""
        slopes, intercepts = (
            ops.convert_to_tensor(values, "float32")
            for values in (self.calibration.slopes, self.calibration.intercepts)
        )
        return ops.sigmoid(ops.cast(logits, "float32") * slopes + intercepts)

    def probabilities(self, images):
        """Calibrated probabilities `[batch, C]` as a NumPy array."""
        return ops.convert_to_numpy(self.calibrated(self(images, training=False)))

    def backbone_variables(self):
        """Trainable variables that learn at the backbone's rate."""
        return list(self.backbone.trainable_variables)

    def build_from_config(self, config):
        # For photos of any size, whatever a file says.
        self.build((None, None, None, 3))

    def compute_output_shape(self, images_shape):
        return (images_shape[0], len(self.labels))

    def get_config(self):
        return {
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "labels": list(self.labels),
            "image_size": self.image_size,
            "mean": list(self.mean),
            "std": list(self.std),
            "thresholds": list(self.thresholds),
            "calibration": dataclasses.asdict(self.calibration),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(config["backbone"])
        config["dtype"] = keras.dtype_policies.deserialize(config["dtype"])
        return cls(**config)
