"""Fixtures of all tests: where the shared reference numbers and photos lie, and a tiny data set."""

import importlib.util
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

FIRST = ("test_training", "test_export", "test_serve", "test_serving_conformance", "test_resume", "test_tflite",
         "test_distributed", "test_prepare")  # fmt: skip
"""The files that take longest: several processes end at about the same time where they begin with these."""
EXPORTED = ("test_export", "test_serve", "test_serve_tflite", "test_serving_conformance")
"""One exported model is for all of them."""


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items):
    """With `--dist=loadgroup` a file's tests stay in one process: they share what is slow to make."""
    for item in items:
        name = item.path.stem
        item.add_marker(pytest.mark.xdist_group("exported" if name in EXPORTED else name))
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))


SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared():
    """The folder of reference numbers and real photos beside the project; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip(f"reference numbers and photos are not there ({SHARED.name}/ beside the project)")
    return SHARED


@pytest.fixture(scope="session")
def parity(shared):
    return shared / "parity"


@pytest.fixture(scope="session")
def param(parity):
    """RULE.md's generator of the published network's parameters: (name, shape) → array."""
    spec = importlib.util.spec_from_file_location("gen_params", parity / "gen_params.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.param


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def small_voc(shared, tmp_path_factory):
    """A devkit with the first photos of each split, linked."""
    source = shared / "voc2007" / "VOCdevkit" / "VOC2007"
    target = tmp_path_factory.mktemp("voc") / "VOC2007"
    (target / "ImageSets" / "Main").mkdir(parents=True)
    for folder in ("JPEGImages", "Annotations"):
        (target / folder).symlink_to(source / folder)
    for split, count in (("train", 160), ("val", 40), ("test", 40)):
        names = (source / "ImageSets" / "Main" / f"{split}.txt").read_text().split()[:count]
        (target / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
    return target
