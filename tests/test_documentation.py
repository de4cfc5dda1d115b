"""README, BUILD and docs: their commands have the flags they are given, their figures are those of tables and tests."""

import math
import re
import subprocess
import sys
import tomllib

import pytest
import test_published_numbers
from PIL import Image
from running import ROOT, command

import msrn_tf
from msrn_tf.__main__ import COMMANDS
from msrn_tf.models.backbones import build_backbone
from msrn_tf.models.taps import tap_shapes

PAGES = [
    ROOT / "README.md",
    ROOT / "BUILD.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs").glob("tutorials/*.md")),
]


def text(name):
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


def rows(name):
    """Cells of every table in a page, those of commands' output too."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in re.split(r"[|│┃]", line)[1:-1]] for line in lines if line[:1] in ("|", "│", "┃")]


def named_commands():
    """Command → flags that a page gives it."""
    found = {}
    for page in PAGES:
        content = page.read_text(encoding="utf-8").replace("\\\n", " ")
        calls = re.findall(r"^[^#\n]*python -m ((?:msrn_tf|export)\.\w+)([^\n|`]*)", content, re.M)
        words = re.findall(r"(?:^|`)msrn (\w+)([^\n|`]*)", content, re.M)
        for module, rest in [*calls, *((COMMANDS[word], rest) for word, rest in words)]:
            found.setdefault(module, set()).update(re.findall(r"--(\w+)", rest))
    return found


@pytest.mark.parametrize("module", sorted(named_commands()))
def test_commands_of_the_pages_have_the_flags_that_they_are_given(module):
    run = command(module, "--help")
    assert run.returncode == 0, run.stderr
    known = set(re.findall(r"^  --(\w+)=", run.stdout, re.M)) | {"flagfile", "help"}
    assert named_commands()[module] <= known


def test_the_commands_of_deployments_make_the_folder_of_the_file_that_they_write():
    """`--output` of a file is refused where its folder is not there; volumes and buckets are elsewhere."""
    written = 0
    for path in (ROOT / "deploy").rglob("*.*"):
        content = path.read_text(encoding="utf-8")
        for folder in re.findall(r"--output=([\w/]+)/\w+\.\w+", content):
            written += 1
            assert folder == "/volume" or f"mkdir -p {folder}" in content, path
    assert written >= 3


def test_readme_states_tolerances_as_the_tests_hold_them():
    assert (
        f"logits within {test_published_numbers.LOGIT_TOLERANCE:.0e}, gradients within a relative error of "
        f"{test_published_numbers.GRADIENT_TOLERANCE:.0e}, those of the backbone "
        f"{test_published_numbers.BACKBONE_GRADIENT_TOLERANCE:.0e}"
    ).replace("e-0", "e-") in text("README.md")


def test_figures_of_voc_2007_are_those_of_the_study():
    best = [row for row in rows("docs/results.md") if len(row) == 7 and row[0].startswith("EfficientNet-Lite")]
    study = {tuple(row[:2]): row[3].strip("*").split(" ")[0] for row in best if "," in row[0]}
    assert len(study) == 11
    table = {
        (row[0], row[1].replace("cosine attention", "cosines")): row[3].strip("*")
        for row in rows("README.md")
        if len(row) == 7 and row[0].startswith("EfficientNet-Lite") and "bundled" not in row[0]
    }
    assert len(table) == 7
    for key, shown in table.items():
        assert shown == f"{float(study[key]):.1f}", key
    plain, cosines, gap = (table["EfficientNet-Lite0, frozen", head] for head in ("msrn", "msrn, cosines", "gap"))
    assert (
        f"it has {plain} mAP, with cosine attention {cosines}, and average pooling with the same training {gap}"
        in text("README.md")
    )


def test_sizes_and_speeds_of_the_models_are_those_of_the_benchmark():
    measured = {
        (backbone, model): [f"{float(megabytes):.1f} MB", f"{float(milliseconds):.0f} ms"]
        for megabytes, milliseconds, backbone, model in re.findall(
            r"^ *[\d,]+ +([\d.]+) +([\d.]+) \(.*\)  (\w+), (\w+(?:, cosine)?)$",
            (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8"),
            re.M,
        )
    }
    table = [row for row in rows("README.md") if len(row) == 7 and row[5].endswith("ms")]
    assert len(table) == 8
    for row in table:
        backbone = re.match(r"EfficientNet-(Lite\d)", row[0])[1].lower()
        assert row[4:6] == measured[f"efficientnet_{backbone}", row[1].removesuffix(" attention")], row


def test_figures_of_the_bundled_model_are_those_of_its_card_and_of_the_benchmark():
    model, tflite = re.findall(r"mAP ([\d.]+), CF1", text("models/README.md"))
    table = {row[0]: row[1:] for row in rows("README.md")}
    assert table["EfficientNet-Lite0, frozen: [the bundled model](models)"][2] == f"{float(model):.1f}"
    assert f"the bundled model has {float(tflite):.1f}." in text("README.md")
    int8 = next(row for row in rows("docs/ondevice.md") if row[0] == "`--quantize=int8`" and len(row) == 6)
    rounded = ["–".join(f"{float(end):.0f}" for end in cell.split("–")) for cell in int8[3:5]]
    assert [table["one photo, LiteRT"][0]] == [f"{rounded[0]} ms"]
    assert table["one photo, headless Chromium"][0] == f"{rounded[1]} ms"


def test_the_short_table_of_parts_is_an_excerpt_of_the_appendix():
    """Each row of docs/results.md that names a variant has the mAP and the difference of the full table."""
    full = {tuple(row[2:4]) for row in rows("docs/results_appendix.md") if len(row) in (7, 8)}
    short = [row for row in rows("docs/results.md") if len(row) == 4 and "±" in row[1] + row[2]]
    assert len(short) > 12
    for row in short:
        mean, difference = row[1:3] if "±" in row[1] else row[2:4]
        assert (mean, difference.replace("−", "-")) in full, row


def test_sizes_and_accuracy_of_devices_are_those_of_the_tables():
    table = {row[0]: row for row in rows("docs/ondevice.md") if len(row) == 10 and row[0].endswith(".tflite")}
    megabytes = {name: float(row[1]) for name, row in table.items()}
    resnet = dict(
        re.findall(r"(float16|dynamic|int8) (?:[\d.]+ [\d.]+× ){2}[\d.]+ ([\d.]+)×", text("benchmarks/RESULTS.md"))
    )

    def parts(mode):
        ours = [megabytes[f"{kind}_{mode}.tflite"] / megabytes[f"{kind}_none.tflite"] for kind in ("voc", "demo")]
        return [f"{part:.2f}" for part in (*ours, float(resnet[mode]))]

    page, readme = text("docs/ondevice.md"), text("README.md")
    voc, demo, published = parts("int8")
    before, after = re.search(r"mAP ([\d.]+), CF1.*`voc2007.tflite` mAP ([\d.]+)", text("models/README.md")).groups()
    small, whole = (
        re.search(rf"{name}\.tflite ([\d.]+)", text("benchmarks/RESULTS.md"))[1] for name in ("voc2007", "none")
    )
    part = f"{float(small) / float(whole):.2f}"
    assert f"went from {before} to {after} mAP at {part} of the float file's size (ResNet-101: {published})" in readme
    assert f"`int8` {demo} of the demo model's" in page and f"{voc} of VOC's" in page
    for mode, words in (("dynamic", "no photos needed, "), ("float16", "GPU delegates; ")):
        assert f"{words}{min(parts(mode))} to {max(parts(mode))} of the size" in page


def test_sizes_of_feature_maps_and_gradients_are_what_shapes_say():
    shapes = tap_shapes(build_backbone("mobilenet_v2")[0], (None, 224, 224, 3))
    numbers = [math.prod(shape[1:]) for shape in shapes]
    last, all_three = (4 * count * 5008 * 2 / 1e9 for count in (numbers[-1], sum(numbers)))
    assert f"{last:.1f} GB for 5,008 photos of 224 pixels and their mirror images, at all three {all_three:.0f} GB" in (
        text("BUILD.md")
    )
    resnet = 4 * build_backbone("resnet101")[0].count_params() / 1e6
    (published,) = re.findall(r"used: 544 parameters, ([\d,]+) numbers", text("docs/pretrained.md"))
    sentence = r"ResNet-101 alone (\d+) MB a step, with .* VOC's labels (\d+)"
    alone, with_head = re.findall(sentence, text("docs/distributed.md"))[0]
    assert int(alone) == pytest.approx(resnet, abs=5)
    assert int(with_head) == pytest.approx(4 * int(published.replace(",", "")) / 1e6, abs=5)


def test_the_first_python_that_is_named_is_the_one_that_installs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == ">=3.11" and project["tool"]["ruff"]["target-version"] == "py311"
    assert "Python 3.11 on Linux" in text("BUILD.md")


@pytest.mark.slow
def test_the_python_of_readme_predicts_and_trains(tmp_path, monkeypatch, capsys):
    predicts, trains = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    monkeypatch.chdir(ROOT)
    exec(predicts, {})
    scores = {label: float(score) for label, score in map(str.split, capsys.readouterr().out.splitlines())}
    assert len(scores) == 20 and max(scores, key=lambda label: scores[label]) == "cat"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "PHOTOS").mkdir()
    rows = ["image,labels"]
    for number in range(30):
        name = ("sea", "sky", "sea|sky")[number % 3]
        Image.new("RGB", (40, 30), (number, 40 * len(name) % 256, 90)).save(tmp_path / "PHOTOS" / f"{number}.png")
        rows.append(f"{number}.png,{name}")
    (tmp_path / "PHOTOS" / "list.csv").write_text("\n".join(rows) + "\n")
    assert "epochs=10" in trains
    exec(trains.replace("epochs=10", "epochs=1"), {})
    assert msrn_tf.load_model("model.keras").labels == ("sea", "sky")


@pytest.mark.slow
def test_the_number_of_conformance_cases_is_that_of_the_tests():
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/test_serving_conformance.py"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    (count,) = re.findall(r"(\d+) tests collected", run.stdout)
    assert f"{count} cases over the wire" in text("docs/serving.md")
