"""The flagfiles: put together from a data set and a recipe, each the choices that it always was."""

import json
import subprocess
import sys

import pytest
from running import ROOT

CONFIGS = ROOT / "configs"
CHOSEN = {
    "apparel": {"dataset": "apparel", "val_split": "test", "decay_vectors": True},
    "coco2014": {"dataset": "coco2014", "pool_ratio": 0.05, "decay_vectors": True},
    "custom": {
        "dataset": "auto",
        "image_size": 288,
        "augment": "flip",
        "backbone": "efficientnet_lite0",
        "backbone_weights": "imagenet",
        "freeze_backbone": True,
        "cache_features": "auto",
        "head": "elementwise",
        "channels": 256,
        "dropout": 0.3,
        "word_vector_norm": 0.3,
        "epochs": 10,
        "batch_size": 8,
        "learning_rate": 0.002,
        "optimizer": "adamw",
        "clip_norm": 0.0,
        "schedule": "cosine",
    },
    "demo": {
        "dataset": "demo",
        "image_size": 64,
        "augment": "flip",
        "backbone": "resnet_tiny",
        "head": "elementwise",
        "channels": 128,
        "pool_ratio": 0.25,
        "tap_pooling": "none",
        "epochs": 7,
        "batch_size": 8,
        "learning_rate": 0.05,
        "backbone_factor": 1.0,
        "clip_norm": 5.0,
        "schedule": "cosine",
        "warmup_epochs": 0.5,
    },
    "mobile": {
        "dataset": "auto",
        "image_size": 288,
        "backbone": "efficientnet_lite0",
        "backbone_weights": "imagenet",
        "freeze_batch_norm": True,
        "frozen_stride": 8,
        "attention": "cosine",
        "head": "elementwise",
        "strides": (32,),
        "tap_pooling": "none",
        "dropout": 0.4,
        "word_vector_norm": 0.3,
        "epochs": 6,
        "batch_size": 32,
        "learning_rate": 0.001,
        "optimizer": "adamw",
        "clip_norm": 0.0,
        "schedule": "cosine",
    },
    "nuswide": {"dataset": "nuswide", "val_split": "test", "pool_ratio": 0.05, "decay_vectors": True},
    "voc2007": {"dataset": "voc2007", "decay_vectors": True},
    "voc2007_lite": {
        "dataset": "voc2007",
        "val_split": "",
        "image_size": 288,
        "augment": "none",
        "backbone": "efficientnet_lite0",
        "backbone_weights": "imagenet",
        "freeze_backbone": True,
        "cache_features": "auto",
        "head": "elementwise",
        "strides": (32,),
        "tap_pooling": "none",
        "dropout": 0.4,
        "word_vector_norm": 0.3,
        "epochs": 6,
        "batch_size": 32,
        "learning_rate": 0.001,
        "optimizer": "adamw",
        "clip_norm": 0.0,
        "schedule": "cosine",
    },
    "voc2007_lite2": {
        "dataset": "voc2007",
        "data_dir": "../shared/voc2007/VOCdevkit",
        "train_split": "trainval",
        "val_split": "",
        "label_graph": "../shared/label_graphs/voc2007.npz",
        "workdir": "runs/voc2007_lite2",
        "image_size": 288,
        "backbone": "efficientnet_lite2",
        "backbone_weights": "imagenet",
        "freeze_batch_norm": True,
        "frozen_stride": 8,
        "attention": "cosine",
        "head": "elementwise",
        "strides": (32,),
        "tap_pooling": "none",
        "dropout": 0.4,
        "word_vector_norm": 0.3,
        "epochs": 6,
        "batch_size": 32,
        "learning_rate": 0.001,
        "optimizer": "adamw",
        "clip_norm": 0.0,
        "schedule": "cosine",
    },
    "voc2007_mobilenet": {
        "dataset": "voc2007",
        "data_dir": "../shared/voc2007/VOCdevkit",
        "train_split": "trainval",
        "val_split": "",
        "image_size": 288,
        "backbone": "mobilenet_v2",
        "backbone_weights": "../shared/weights/mobilenet_v2_1.0_224_notop.weights.h5",
        "freeze_batch_norm": True,
        "frozen_stride": 8,
        "head": "elementwise",
        "strides": (32,),
        "tap_pooling": "none",
        "dropout": 0.4,
        "label_graph": "../shared/label_graphs/voc2007.npz",
        "word_vector_norm": 0.3,
        "epochs": 6,
        "batch_size": 32,
        "learning_rate": 0.001,
        "optimizer": "adamw",
        "clip_norm": 0.0,
        "schedule": "cosine",
        "workdir": "runs/voc2007_mobilenet",
    },
}
"""What each combined flagfile chooses otherwise than the flags' defaults."""

READ = """
import dataclasses, json, sys
from absl import flags
from absl.testing import flagsaver
from msrn_tf import command_line, config
from msrn_tf.flagfile import expanded
subjects = (config.TrainingDataConfig, config.ModelConfig, config.OptimizationConfig, config.RunConfig)
for subject in subjects:
    command_line.define_flags(subject)
found = {}
for path in sys.argv[1:]:
    with flagsaver.flagsaver():
        assert flags.FLAGS(expanded(["train", f"--flagfile={path}"]))[1:] == [], path
        values = [command_line.from_flags(subject) for subject in subjects]
    fields = [(value, field) for value in values for field in dataclasses.fields(value)]
    found[path] = {f.name: getattr(value, f.name) for value, f in fields if getattr(value, f.name) != f.default}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """Path → what it chooses, read from another working directory."""
    paths = [str(path) for path in (*CONFIGS.rglob("*.cfg"), *(ROOT / "benchmarks").rglob("*.cfg"))]
    code = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{READ}"
    run = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, cwd=tmp_path_factory.mktemp("elsewhere")
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CHOSEN)
def test_a_combined_flagfile_chooses_what_it_always_did(chosen, name):
    expected = json.loads(json.dumps(CHOSEN[name]))  # tuples as lists
    assert chosen[str(CONFIGS / f"{name}.cfg")] == expected


def test_every_combined_flagfile_is_a_data_set_and_a_recipe_and_says_what_it_takes():
    assert {path.stem for path in CONFIGS.glob("*.cfg")} == set(CHOSEN)
    for path in CONFIGS.glob("*.cfg"):
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        flags = [line for line in lines if not line.startswith("#")]
        assert [line.split("/")[0] for line in flags[:2]] == ["--flagfile=data", "--flagfile=recipes"], path
        assert all(line.startswith("--workdir=") for line in flags[2:]), path
        for word in ("#   python -m msrn_tf.train ", "# Hardware: ", "# Time: ", "# Expected: "):
            assert any(line.startswith(word) for line in lines), (path, word)
        expected = next(line for line in lines if line.startswith("# Expected: "))
        assert " mAP" in expected or "not run at full size" in expected, path


def test_what_a_data_set_asks_for_stands_in_no_recipe():
    def names(path):
        return {line.split("=")[0] for line in path.read_text().splitlines() if line.startswith("--")}

    data = set().union(*map(names, (CONFIGS / "data").glob("*.cfg")))
    for path in (CONFIGS / "recipes").glob("*.cfg"):
        assert names(path) & data <= {"--image_size"}, path
