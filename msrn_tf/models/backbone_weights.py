"""Pretrained weights for a backbone: downloaded by their library, or from a file of Keras, torchvision or timm."""

import json
import os
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from msrn_tf import storage
from msrn_tf.errors import UserError, first_line
from msrn_tf.hdf5 import count_numbers
from msrn_tf.models.classifier import MultiLabelClassifier
from msrn_tf.models.normalization import PixelNormalization
from msrn_tf.models.published_weights import assign, torchvision_name
from msrn_tf.models.reading import read_keras_file
from msrn_tf.tensor_files import SUFFIXES, TensorFile
from msrn_tf.validation import SMALLEST_STD, checked_numbers

IMAGENET_WEIGHTS = "imagenet"
RESNET_PRESETS = {f"resnet{depth}": f"resnet_{depth}_imagenet" for depth in (18, 50, 101, 152)}
TORCHVISION_FILES = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "resnet152": "resnet152-394f9c45.pth",
}
_IMAGENET_STD = (0.229, 0.224, 0.225)


def load_resnet_weights(network: keras.Model, name: str, source: str) -> PixelNormalization | None:
    """Gives a KerasHub ResNet the weights of `source`: `imagenet`, a PyTorch state in torchvision's names, or Keras'.

    Returns:
        The `PixelNormalization` that the source asks for itself, or None.

    Raises:
        UserError: what `source` names cannot be had, cannot be read or does not fit.
    """
    if source == IMAGENET_WEIGHTS:
        _copy(_fetch_resnet(name), network, source)
        return None
    if source.endswith(SUFFIXES):
        tensors = TensorFile(source, "backbone_weights")
        _assign_torchvision(network, name, tensors)
        return _timm_normalization(source)
    return load_keras_file(network, source)


def load_application_weights(
    network: keras.Model, application: Callable[..., Any], source: str
) -> PixelNormalization | None:
    """As `load_resnet_weights`, for a `keras.applications` model made by the function `application`."""
    if source == IMAGENET_WEIGHTS:
        _copy(_fetch_application(application), network, source)
        normalization = None
    else:
        normalization = load_keras_file(network, source)
    _finish_efficientnet(network)
    return normalization


def _fetch_resnet(name):
    from keras_hub.models import ResNetBackbone

    file = TORCHVISION_FILES.get(name)
    if file is None:
        raise UserError(f"`backbone_weights`=imagenet: there are none for `backbone`={name}; leave it out")
    advice = f"fetch https://download.pytorch.org/models/{file} elsewhere and give it with `backbone_weights`=FILE"
    if name not in RESNET_PRESETS:
        raise UserError(f"`backbone_weights`=imagenet: KerasHub has none for {name}; {advice}")
    try:
        return ResNetBackbone.from_preset(RESNET_PRESETS[name])
    except Exception as error:  # no network, no disk, a library that a hub wants …
        raise UserError(
            f"`backbone_weights`=imagenet: KerasHub's {RESNET_PRESETS[name]} cannot be downloaded; {advice}"
        ) from error


def _fetch_application(application):
    try:
        return application(weights="imagenet", include_top=False, input_shape=(None, None, 3))
    except Exception as error:  # get_file raises a plain Exception
        address = re.search(r"https://\S+?\.h5", str(error))
        advice = f"fetch {address[0]} elsewhere and give it" if address else "give a file"
        raise UserError(
            f"`backbone_weights`=imagenet: weights of {application.__name__} cannot be downloaded; {advice} with "
            "`backbone_weights`=FILE"
        ) from error


def _assign_torchvision(network, name, tensors):
    named = {torchvision_name(*variable.path.split("/")[-2:]): variable for variable in network.variables}
    missing = [key for key in named if key not in tensors]
    if missing:
        raise tensors.error(f"lacks {len(missing)} of the {len(named)} parameters of {name}, such as {missing[0]}")
    for key, variable in named.items():
        assign(variable, key, tensors)


def _timm_normalization(path):
    """What timm's `config.json` beside the weights says, or None where there is no such file."""
    config = os.path.join(os.path.dirname(path), "config.json")
    if not storage.isfile(config):
        return None
    try:
        with storage.open_file(config, encoding="utf-8-sig") as file:
            content = json.load(file)["pretrained_cfg"]
        mean = checked_numbers("mean", content["mean"], 3)
        std = checked_numbers("std", content["std"], 3, low=SMALLEST_STD)
        return PixelNormalization.of_unit_range(mean, std)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"`backbone_weights`={path}: config.json beside it has no mean and std as timm's does (pretrained_cfg); "
            "fix it or move it away"
        ) from error


def load_keras_file(network: keras.Model, path: str) -> PixelNormalization | None:
    """Gives a network the weights of a file of Keras; returns and raises as `load_resnet_weights`."""
    if not storage.isfile(path):
        raise UserError(f"`backbone_weights`={path}: no such file")
    if not path.endswith((".keras", ".h5")):
        raise UserError(
            f"`backbone_weights`={path}: `imagenet` or a file is needed: .weights.h5, .h5 or .keras, "
            f"for a ResNet or EfficientNet-Lite also {', '.join(SUFFIXES)}"
        )
    loaded = None
    try:
        with storage.local_copy(path) as copy:
            if path.endswith(".keras"):
                loaded = read_keras_file(copy)
            else:
                count_numbers(copy, os.path.getsize(copy))
                network.load_weights(copy)
    except Exception as error:  # Keras and h5py raise many kinds; each means: not this network's weights
        raise UserError(f"`backbone_weights`={path}: does not fit {network.name} ({first_line(error)})") from error
    if loaded is None:
        return None
    _copy(getattr(loaded, "backbone", loaded), network, path)
    if isinstance(loaded, MultiLabelClassifier):
        return PixelNormalization(loaded.mean, loaded.std)
    return None


def _copy(source, network, name):
    """Weights of the same network, layer by layer in the same order."""
    found, needed = ([weight.shape for weight in model.weights] for model in (source, network))
    if found != needed:
        raise UserError(
            f"`backbone_weights`={name}: is not a {network.name} without its top: {len(found)} weights, "
            f"and {len(needed)} are needed, or their shapes differ"
        )
    network.set_weights(source.get_weights())


def _finish_efficientnet(network):
    """EfficientNet normalises by a layer with weights, which the published files hold as standard deviations.

    Where a variance belongs: `keras.applications` adds a layer to `weights="imagenet"` that mends it (TensorFlow issue
    49930); here the variance is put right. Files in Keras' older form also leave the layer's state as it was.
    """
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            if np.allclose(layer.adapt_variance, _IMAGENET_STD, atol=1e-3):
                layer.adapt_variance.assign(np.square(np.asarray(layer.adapt_variance)))
            layer.finalize_state()
