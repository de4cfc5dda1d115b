"""The package as pip sees it: what it holds, what it needs, and one version number."""

import ast
import csv
import importlib.metadata
import io
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from running import ROOT
from setuptools import find_packages

import msrn_tf
from msrn_tf.extras import EXTRAS
from msrn_tf.package_files import FOLDERS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
USERS = {
    "tensorflow", "keras", "tensorflow-addons", "tensorflow-datasets", "tensorflow-serving-api", "numpy", "absl-py",
    "pillow",
}  # fmt: skip
"""What requirements.txt has always to name."""

LIST_PAGE = """
import importlib.resources
print(*(entry.name for entry in (importlib.resources.files("export.web_page") / "static").iterdir()))
"""
UNDECLARED = {"jax": "another Keras backend", "pillow_heif": "photos in HEIC, where it is installed"}


def requirements(lines):
    """Name of a package → the requirement."""
    lines = [line.split("#")[0].strip() for line in lines]
    return {_name(line): Requirement(line) for line in lines if line and not line.startswith("-r")}


def _name(line):
    return re.sub(r"[-_.]+", "-", Requirement(line).name).lower()


def of_file(name):
    return requirements((ROOT / name).read_text(encoding="utf-8").splitlines())


def core():
    return requirements(PROJECT["project"]["dependencies"])


def extra(name):
    """The packages of an extra; those of `all` are those of the extras that it names."""
    found = {}
    for package, requirement in requirements(PROJECT["project"]["optional-dependencies"][name]).items():
        found |= {k: v for own in requirement.extras for k, v in extra(own).items()} or {package: requirement}
    return found


def test_requirements_txt_is_the_package_with_all_extras_in_the_same_ranges():
    assert of_file("requirements.txt") == core() | extra("all")
    assert of_file("requirements-dev.txt") == extra("dev")
    assert of_file("requirements.txt").keys() >= USERS


def test_every_extra_is_in_all_but_what_developing_needs_and_what_needs_older_packages_than_the_others():
    extras = PROJECT["project"]["optional-dependencies"].keys()
    (everything,) = requirements(PROJECT["project"]["optional-dependencies"]["all"]).values()
    assert everything.name == "msrn-tf" and everything.extras == extras - {"all", "dev", "beam"}
    assert extras - {"all", "dev"} == EXTRAS.keys()


@pytest.mark.parametrize("name", EXTRAS)
def test_the_sentences_about_missing_packages_name_those_of_the_extra(name):
    assert {_name(package) for package in EXTRAS[name].values()} == extra(name).keys()
    assert not extra(name).keys() & core().keys()


def test_every_package_that_is_imported_is_declared():
    installed = importlib.metadata.packages_distributions()
    declared = core() | extra("all") | extra("beam")
    installed.setdefault("apache_beam", ["apache-beam"])  # which may not be there
    for path in [*(ROOT / "msrn_tf").rglob("*.py"), *(ROOT / "export").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names - UNDECLARED.keys():
                if top not in ("msrn_tf", "export"):
                    assert any(_name(package) in declared for package in installed[top]), f"{path}: {top}"


def test_every_package_of_code_and_every_folder_of_files_is_listed():
    code = find_packages(str(ROOT), include=["msrn_tf*", "export*"])
    assert set(SETUPTOOLS["packages"]) == {*code, *SETUPTOOLS["package-dir"]}
    for folder, own in FOLDERS.items():
        mapped = {name: path for name, path in SETUPTOOLS["package-dir"].items() if path.split("/")[0] == folder}
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
        for path in files:
            (package,) = [name for name, where in mapped.items() if ROOT / where == path.parent]
            assert package.split(".")[1] == own
            assert any(path.match(pattern) for pattern in SETUPTOOLS["package-data"][package]), path


def test_there_is_one_version_number():
    assert "version" in PROJECT["project"]["dynamic"] and SETUPTOOLS["dynamic"]["version"] == {
        "attr": "msrn_tf.__version__"
    }
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.M) == [msrn_tf.__version__]


@pytest.mark.slow
def test_a_wheel_of_the_source_distribution_predicts_and_finds_its_flagfiles_from_another_folder(tmp_path):
    dist, venv, elsewhere = tmp_path / "dist", tmp_path / "venv", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run([sys.executable, "-m", "build", "--outdir", dist, ROOT])  # the wheel from the sdist
    (wheel,), (source,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    run([sys.executable, "-m", "twine", "check", "--strict", wheel, source])
    run([sys.executable, "-m", "venv", "--without-pip", venv])
    (site,) = (venv / "lib").glob("python*/site-packages")
    # What it needs is there already: this installs the wheel alone, as pip does, into one that sees the rest.
    (site / "others.pth").write_text(importlib.metadata.distribution("tensorflow").locate_file("").as_posix())
    run([sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", "--no-deps", wheel])
    msrn = venv / "bin" / "msrn"
    assert run([msrn, "--version"], elsewhere) == f"msrn {msrn_tf.__version__}\n"
    assert "  predict  " in run([msrn], elsewhere)
    table = run([msrn, "predict", "--csv", ROOT / "tools" / "photos" / "cat.jpg"], elsewhere)
    (row,) = csv.DictReader(io.StringIO(table))
    assert "cat" in row["present"].split("|")
    flags = run(
        [
            venv / "bin" / "python",
            "-c",
            "from msrn_tf.flagfile import expanded\nprint(expanded(['--flagfile=custom.cfg']))",
        ],
        elsewhere,
    )
    assert "--backbone=efficientnet_lite0" in flags
    page = run([venv / "bin" / "python", "-c", LIST_PAGE], elsewhere)
    assert set(page.split()) == {path.name for path in (ROOT / "export" / "web_page" / "static").iterdir()}


def run(words, where=None):
    """Standard output of a program that ends well."""
    done = subprocess.run([*map(str, words)], cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_what_is_installed_as_package_data_is_small_enough_for_an_index():
    assert sum(path.stat().st_size for path in (ROOT / "models").iterdir()) < 30e6
