"""What the families of KerasHub have in common: a network of a configuration, with weights of a preset or a file."""

from typing import Any

import keras

from msrn_tf.errors import UserError
from msrn_tf.models.backbone_weights import IMAGENET_WEIGHTS, load_keras_file
from msrn_tf.models.backbones.family import Request
from msrn_tf.models.normalization import PixelNormalization


def hub_network(
    backbone: Any, configuration: dict[str, Any], preset: str, request: Request, **sized: Any
) -> tuple[keras.Model, PixelNormalization | None]:
    """The network that a request asks for, and the normalisation that its file of weights asks for.

    Args:
        backbone: class of `keras_hub.models`.
        configuration: its arguments; a preset has its own.
        preset: KerasHub's name of the published weights.
        request: what is asked for.
        **sized: arguments that depend on the size of photos, of a preset too.

    Raises:
        UserError: weights that cannot be downloaded, cannot be read or do not fit.
    """
    if request.weights == IMAGENET_WEIGHTS:
        return fetch_preset(backbone, preset, dtype=request.dtype, **sized), None
    network = backbone(**configuration, **sized, dtype=request.dtype)
    return network, load_keras_file(network, request.weights) if request.weights else None


def fetch_preset(backbone: Any, preset: str, **options: Any) -> keras.Model:
    """KerasHub's network with its published weights, from its cache or downloaded. Raises `UserError`."""
    try:
        return backbone.from_preset(preset, **options)
    except Exception as error:  # no network, no disk, no licence accepted, a library that a hub wants …
        handle = backbone.presets[preset]["kaggle_handle"].removeprefix("kaggle://")
        raise UserError(
            f"`backbone_weights`=imagenet: KerasHub's {preset} cannot be downloaded; fetch "
            f"https://www.kaggle.com/models/{handle} elsewhere and give its model.weights.h5 with "
            "`backbone_weights`=FILE"
        ) from error
