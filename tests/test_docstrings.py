"""The examples in the docstrings of layers and models run, and give what they say."""

import doctest
import importlib
import inspect
import pkgutil

import keras
import numpy as np
import pytest

import msrn_tf.layers
import msrn_tf.models

PACKAGES = (msrn_tf.layers, msrn_tf.models)
MODULES = [
    importlib.import_module(found.name)
    for package in PACKAGES
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
]
LAYERS = [part for package in PACKAGES for part in map(package.__dict__.get, package.__all__) if inspect.isclass(part)]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_examples_of_docstrings_run(module):
    found = doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs={"keras": keras, "np": np})
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in found:
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize(
    "layer", [layer for layer in LAYERS if issubclass(layer, keras.layers.Layer)], ids=lambda layer: layer.__name__
)
def test_every_public_layer_and_model_shows_how_it_is_used(layer):
    assert ">>> " in layer.__doc__
