"""The package as a Keras user has it: `read`, `new_model`, `fit` with callbacks beside the command, `load_model`."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from running import ROOT, command

import msrn_tf
from msrn_tf.errors import UserError
from msrn_tf.label_graph import LabelGraph

LABELS = ("red", "green", "blue")
SMALL = {"backbone": "resnet_tiny", "strides": (8,), "channels": 8, "head": "elementwise"}
SIZE, BATCH = 32, 4


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """22 training photos and 6 of validation, of squares in one colour or two."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 22), ("val", 6)):
        rows = []
        for number in range(count):
            present = sorted({number % 3, (number // 3) % 3})
            pixels = rng.integers(0, 60, (40, 48, 3), np.uint8)
            for place, channel in enumerate(present):
                pixels[8 + 16 * place : 20 + 16 * place, 10:30, channel] = 250
            Image.fromarray(pixels).save(folder / f"{split}{number}.png")
            rows.append(f"{split}{number}.png,{'|'.join(LABELS[channel] for channel in present)}")
        (folder / f"{split}.csv").write_text("image,labels\n" + "\n".join(rows) + "\n")
    return folder


def read(photos, **choices):
    chosen = {"image_size": SIZE, "batch_size": BATCH, "augment": "flip", "labels": ",".join(LABELS)} | choices
    return msrn_tf.datasets.read(str(photos), **chosen)


def test_importing_the_package_imports_neither_keras_nor_tensorflow():
    code = (
        "import sys, msrn_tf; assert not {'keras', 'tensorflow', 'numpy'} & set(sys.modules); "
        "assert set(msrn_tf.__all__) <= set(dir(msrn_tf)); assert not hasattr(msrn_tf, 'nosuch')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_public_name_is_there():
    assert msrn_tf.models.MSRN is msrn_tf.MSRN and issubclass(msrn_tf.MSRN, keras.Model)
    assert all(getattr(msrn_tf, name) is not None for name in msrn_tf.__all__)
    assert msrn_tf.load_model(str(ROOT / "models" / "voc2007.keras")).labels[0] == "aeroplane"


def test_photos_are_read_with_their_labels_and_their_label_graph(photos, capsys):
    data = read(photos)
    assert data.labels == LABELS and set(data.splits) == {"train", "val"}
    shown = np.array([[c in {n % 3, (n // 3) % 3} for c in range(3)] for n in range(22)])
    assert data.label_graph.counts.tolist() == shown.sum(axis=0).tolist()
    assert data.label_graph.cooccurrence[0, 1] == (shown[:, 0] & shown[:, 1]).sum()
    assert len(data.train) == 22 // BATCH
    images, targets = next(iter(data.train))
    assert images.shape == (BATCH, SIZE, SIZE, 3) and images.dtype == tf.uint8
    assert set(np.unique(targets)) <= {0, 1}
    whole = np.concatenate([targets for _, targets in data.val])
    assert whole.tolist() == shown[:6].astype(int).tolist()  # all six, in their order, none filled up
    assert [len(images) for images, _ in data.split("val")] == [4, 2]


def test_each_pass_over_the_training_photos_is_the_next_epoch_and_a_function_of_the_seed(photos):
    def epochs(data, count):
        return [np.concatenate([images for images, _ in data.train]).tobytes() for _ in range(count)]

    first, second = epochs(read(photos, seed=5), 2)
    assert first != second
    assert epochs(read(photos, seed=5), 2) == [first, second]


@pytest.mark.slow
def test_photos_that_cannot_be_decoded_are_named_and_left_out_or_refused(photos, tmp_path, capsys):
    for path in photos.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name in ("train3.png", "val1.png", "val5.png"):
        (tmp_path / name).write_bytes(b"no photo")
    data = read(tmp_path)
    assert [len(targets) for _, targets in data.val] == [3, 1] == [len(targets) for _, targets in data.val]
    assert sum(len(targets) for _, targets in data.train) == 20  # five whole batches, another one in its place
    said = capsys.readouterr().out
    assert all(said.count(name) == 1 for name in ("train3.png", "val1.png", "val5.png"))
    for number in (0, 1, 2, 3):
        (tmp_path / f"val{number}.png").write_bytes(b"no photo")
    (_, unknown), (_, last) = read(tmp_path).val  # a batch of which nothing is left
    assert unknown.numpy().tolist() == [[-1, -1, -1]] and len(last) == 1
    with pytest.raises(tf.errors.OpError, match=r"val0\.png.*fix it"):
        list(read(tmp_path, bad_images="fail").val)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"batch_size": 23}, "`batch_size`=23: more than the 22"),
        ({"dataset": "nosuch"}, "`dataset`=nosuch"),
        ({"labels": "red,violet"}, "violet"),
        ({"val_split": "test"}, "test"),
        ({"cache_features": "auto"}, "`cache_features`"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_that_names_the_argument(photos, choices, words):
    with pytest.raises(UserError, match=words) as told:
        data = read(photos, **choices)
        assert data.train and data.val
    assert "--" not in str(told.value)


def test_no_validation_split_is_none_and_a_misspelt_choice_a_type_error(photos):
    assert read(photos, val_split="").val is None
    with pytest.raises(TypeError, match="min_photo"):
        read(photos, min_photo=3)
    with pytest.raises(TypeError, match="backbon"):
        msrn_tf.new_model(LABELS, backbon="resnet_tiny")
    with pytest.raises(UserError, match="`label_graph` is missing"):
        msrn_tf.new_model(LABELS)


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"mix": "mix_up"}, "`mix` must be one of none, mixup, cutmix. Received: 'mix_up'"),
        (
            {"augment": "rand_augment"},
            "`augment` must be one of none, flip, multi_scale_crop, randaugment, addons. Received: 'rand_augment'",
        ),
        ({"sampling": "class_balanced"}, "`sampling` must be one of shuffle, balanced. Received: 'class_balanced'"),
        ({"bad_images": None}, "`bad_images` must be one of skip, fail. Received: None"),
        ({"batch_size": 0}, "`batch_size` must be a whole number, 1 or more. Received: 0"),
        ({"image_size": 448.5}, "`image_size` must be a whole number, 32 or more. Received: 448.5"),
        (
            {"reads_in_flight": 5000},
            "`reads_in_flight` must be a whole number, 1 or more, 4096 or less. Received: 5000",
        ),
        ({"seed": -1}, "`seed` must be a whole number, 0 or more, 2147483647 or less. Received: -1"),
    ],
)
def test_a_value_that_photos_cannot_be_read_with_is_a_value_error_that_names_what_can(photos, choices, sentence):
    with pytest.raises(ValueError) as told:
        read(photos, **choices)
    assert str(told.value) == sentence


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"attention": "cosines"}, "`attention` must be one of channelwise, cosine. Received: 'cosines'"),
        ({"model": "gpa"}, "`model` must be one of msrn, gap, gmp, csra, ml_decoder. Received: 'gpa'"),
        ({"strides": (64,)}, "`strides` must be some of 8, 16, 32, in order. Received: (64,)"),
        ({"strides": ()}, "`strides` must be some of 8, 16, 32, in order. Received: ()"),
        ({"channels": 0}, "`channels` must be a whole number, 1 or more. Received: 0"),
        ({"pool_ratio": 1.5}, "`pool_ratio` must be a finite number, 0.0 or more, 1.0 or less. Received: 1.5"),
        ({"dropout": "0.4"}, "`dropout` must be a finite number, 0.0 or more, 0.99 or less. Received: '0.4'"),
        ({"word_vector_norm": np.nan}, "`word_vector_norm` must be a finite number, 0.0 or more. Received: nan"),
    ],
)
def test_a_value_that_no_model_can_have_is_a_value_error_that_names_what_can(choices, sentence):
    graph = LabelGraph.from_targets(LABELS, np.ones((4, 3), np.int8))
    with pytest.raises(ValueError) as told:
        msrn_tf.new_model(LABELS, graph, image_size=SIZE, **SMALL | choices)
    assert str(told.value) == sentence


def test_as_many_training_photos_are_read_at_a_time_as_is_asked_for(photos, monkeypatch):
    plans, source = [], msrn_tf.datasets.PhotoSource
    monkeypatch.setattr(
        msrn_tf.datasets, "PhotoSource", lambda examples, plan: plans.append(plan) or source(examples, plan)
    )
    assert len(read(photos, reads_in_flight=3).train) == 22 // BATCH
    assert [plan.reads_in_flight for plan in plans] == [3]


def test_a_new_model_takes_a_label_graph_in_any_order_of_labels(tmp_path):
    targets = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]])
    graph = LabelGraph.from_targets(LABELS, targets)
    backwards = LabelGraph.from_targets(LABELS[::-1], targets[:, ::-1])
    backwards.save(str(tmp_path / "graph.npz"))
    models = [msrn_tf.new_model(LABELS, its, image_size=SIZE, **SMALL) for its in (graph, str(tmp_path / "graph.npz"))]
    adjacency = [keras.ops.convert_to_numpy(model.semantics.adjacency) for model in models]
    np.testing.assert_array_equal(*adjacency)
    np.testing.assert_allclose(adjacency[0], graph.adjacency(), rtol=1e-6)
    with pytest.raises(UserError, match="does not know violet"):
        msrn_tf.new_model(("violet",), graph, **SMALL)


@pytest.mark.slow
def test_fit_gives_the_losses_of_the_command_and_works_with_callbacks(photos, tmp_path):
    """The same seed, batches and optimizer: Adam without decay, whose every variable learns at one rate."""
    flags = [f"--{name}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for name, v in SMALL.items()]
    run = command(
        "msrn_tf.train", f"--data_dir={photos}", f"--labels={','.join(LABELS)}", "--augment=flip", *flags,
        f"--image_size={SIZE}", f"--batch_size={BATCH}", "--epochs=2", "--seed=7", "--optimizer=adamw",
        "--weight_decay=0", "--backbone_factor=1", "--clip_norm=0", "--schedule=constant", "--learning_rate=0.003",
        f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]

    data = read(photos, seed=7)
    keras.utils.set_random_seed(7)
    model = msrn_tf.new_model(data.labels, data.label_graph, image_size=SIZE, seed=7, **SMALL)
    model.compile(keras.optimizers.Adam(0.003), loss=msrn_tf.losses.binary_crossentropy)
    best = str(tmp_path / "best.keras")
    steps = []
    history = model.fit(
        data.train,
        validation_data=data.val,
        epochs=2,
        verbose=0,
        callbacks=[
            keras.callbacks.ModelCheckpoint(best, monitor="val_loss", save_best_only=True),
            keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
            keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(logs["loss"])),
        ],
    ).history
    np.testing.assert_allclose(history["loss"], [record["loss"] for record in records], rtol=2e-4)
    assert len(steps) == 2 * (22 // BATCH) and len((tmp_path / "log.csv").read_text().splitlines()) == 3

    saved = msrn_tf.load_model(best)
    logits = np.concatenate([saved(images).numpy() for images, _ in data.val])
    targets = np.concatenate([targets for _, targets in data.val]).astype(np.float64)
    loss = np.mean(np.logaddexp(0, logits) - targets * logits)  # binary cross-entropy, written out
    group = float(keras.ops.convert_to_numpy(saved.semantics().loss))
    assert loss + group == pytest.approx(min(history["val_loss"]), rel=1e-4)
    assert keras.saving.load_model(best).loss is msrn_tf.losses.binary_crossentropy


def test_an_unknown_target_counts_nothing_in_fit():
    logits, targets = tf.constant([[2.0, -1.0]]), tf.constant([[1, -1]], tf.int8)
    loss = keras.losses.get(msrn_tf.losses.binary_crossentropy)(targets, logits)
    assert float(loss[0]) == pytest.approx(np.log1p(np.exp(-2.0)) / 2, rel=1e-6)
