"""What every model here has in common: it takes pixels, knows its labels, and is saved whole."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from msrn_tf.models.calibration import Calibration
from msrn_tf.models.recomputation import recomputed_outputs, split_into_segments
from msrn_tf.models.semantics import Semantics
from msrn_tf.type_names import Shape, Tensor
from msrn_tf.validation import SMALLEST_STD, checked_labels, checked_numbers, checked_whole

LARGEST_IMAGE_SIZE = 8192


class MultiLabelClassifier(keras.Model):
    """A backbone with its pixel normalisation, and a head that subclasses define.

    Args:
        backbone: functional model from normalised images to maps at strides of 8, 16, 32 (`models.backbones`).
        labels: sequence of C label names, all different, in the order of the logits.
        image_size: int, up to 8192. Height and width that the model was made for; other sizes run too,
            except on a transformer (`taps.fixed_size`).
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

    explains = False
    """Whether the model has `explain` and `classify_and_explain`: heat-maps."""

    reference = ""
    """The paper that the model is of; empty: pooling needs none."""

    semantics: Any
    """What the model knows of its labels before it sees a photo: a layer, or a method, that gives `Semantics`."""

    def __init__(
        self,
        backbone: keras.Model,
        labels: Sequence[str],
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        thresholds: Sequence[float] | None = None,
        calibration: Calibration | dict[str, Any] | None = None,
        **kwargs: Any,
    ):
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
                f"`calibration` must have {len(self.labels)} entries, one for each label. Received: "
                f"{len(self.calibration.slopes)}"
            )
        scale = 1.0 / np.asarray(self.std)
        self._recomputed_maps: Callable[..., list[Tensor]] | None = None
        self.normalize = keras.layers.Rescaling(
            scale=scale.tolist(), offset=(-np.asarray(self.mean) * scale).tolist(), dtype="float32", name="normalize"
        )

    @property
    def num_groups(self) -> int:
        """Groups of labels, which have heat-maps too."""
        return 0

    @functools.cached_property
    def inputs(self) -> list[keras.KerasTensor]:
        """As functional models have them: one symbolic input, of the size that the model was made for."""
        return [keras.Input((self.image_size, self.image_size, 3), name="images")]

    @functools.cached_property
    def outputs(self) -> list[Tensor]:
        """The symbolic logits of `inputs`: `keras.Model(model.inputs, model.outputs)` is the same model."""
        return [self(self.inputs[0])]

    def export(self, filepath: str, *arguments: Any, **options: Any) -> Any:
        """See `keras.Model.export`; Keras exports no model that was never called."""
        if not self._called:
            self(keras.Input((None, None, 3)))
        return super().export(filepath, *arguments, **options)

    def save(self, filepath: str, *arguments: Any, **options: Any) -> None:
        """See `keras.Model.save`; `.keras` alone."""
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                "Keras' older HDF5 form does not find registered classes again: save a `.keras` file, or only the "
                f"weights with `save_weights('model.weights.h5')`. Received: filepath={filepath}"
            )
        return super().save(filepath, *arguments, **options)

    def call(self, images: Tensor, training: bool = False) -> Tensor:
        semantics = self.semantics()
        self.add_loss(semantics.loss)
        return self.classify(self.feature_maps(images, training=training), semantics, training=training)

    def feature_maps(self, images: Tensor, training: bool = False) -> list[Tensor]:
        """The backbone's maps `[batch, h, w, features]`, a list, of images of pixels 0–255."""
        normalized = self.normalize(images)
        # Dropout knows nothing of `trainable`: without this a frozen backbone would give other maps each time.
        training = training and self.backbone.trainable
        if training and self._recomputed_maps is not None:
            return self._recomputed_maps(normalized)
        maps = self.backbone(normalized, training=training)
        return list(maps) if isinstance(maps, list | tuple) else [maps]

    def classify(self, maps: Sequence[Tensor], semantics: Semantics, training: bool = False) -> Tensor:
        """Logits `[batch, C]` of feature maps that are there, whether just computed or kept by a cache.

        Args:
            maps: of `feature_maps`.
            semantics: of `semantics`. For a training loop its loss is to be added: `call` adds it to the layer's
                losses, which replicas of `tf.distribute` share.
            training: bool.
        """
        raise NotImplementedError

    def recompute_backbone(self) -> None:
        """From now on training keeps few of the backbone's activations and computes the others twice."""
        # A function and not an attribute of models: those would be tracked as further layers.
        self._recomputed_maps = functools.partial(recomputed_outputs, split_into_segments(self.backbone))

    def calibrated(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities `[batch, C]` of logits: what thresholds apply to, here and in every export."""
        slopes, intercepts = (
            ops.convert_to_tensor(values, "float32")
            for values in (self.calibration.slopes, self.calibration.intercepts)
        )
        return ops.sigmoid(ops.cast(logits, "float32") * slopes + intercepts)

    def probabilities(self, images: Tensor) -> np.ndarray:
        """Calibrated probabilities `[batch, C]` as a NumPy array."""
        return ops.convert_to_numpy(self.calibrated(self(images, training=False)))

    def backbone_variables(self) -> list[Any]:
        """Trainable variables that learn at the backbone's rate."""
        return list(self.backbone.trainable_variables)

    def build_from_config(self, config: dict[str, Any]) -> None:
        # For photos of any size, whatever a file says.
        self.build((None, None, None, 3))

    def compute_output_shape(self, images_shape: Shape) -> Shape:
        return (images_shape[0], len(self.labels))

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments but for the layers that the model is put together from."""
        return {
            "name": self.name,
            "dtype": self.dtype_policy,
            "labels": self.labels,
            "image_size": self.image_size,
            "mean": self.mean,
            "std": self.std,
            "thresholds": self.thresholds,
            "calibration": self.calibration,
        }

    def with_parts(self, **parts: Any) -> Self:
        """A model of this class with the same settings, put together from other layers, not built."""
        return type(self)(**self.settings(), **parts)

    def get_config(self) -> dict[str, Any]:
        return {
            **self.settings(),
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "calibration": dataclasses.asdict(self.calibration),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(config["backbone"])
        config["dtype"] = keras.dtype_policies.deserialize(config["dtype"])
        return cls(**config)
