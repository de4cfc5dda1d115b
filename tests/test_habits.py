"""What is said to those who help: files that are named are there, and workflows run the scripts of tools/."""

import re
import tomllib

import pytest
import yaml
from running import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FULL_HASH = re.compile(r"[\w./-]+@[0-9a-f]{40}")


def steps_of(path):
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", ".github/pull_request_template.md"])
def test_files_that_a_page_names_are_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`(?:bash )?([\w.]+(?:/[\w.]+)+/?)`", text)
    named += [path for path in re.findall(r"\]\(([^)#]+)", text) if not path.startswith("https://")]
    named += re.findall(r"^bash (tools/\w+\.sh)", text, re.M)
    missing = {path for path in named if "NAME" not in path and not (ROOT / path).exists()}
    assert missing == set()


def test_names_of_code_that_contributing_gives_are_those_of_the_code():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    places = {
        "READERS": "msrn_tf/data/readers/__init__.py",
        "ListedPhotos": "msrn_tf/data/listing.py",
        "Listing": "msrn_tf/data/listing.py",
        "Marked": "msrn_tf/data/listing.py",
        "FORMS": "tests/forms.py",
        "FAMILIES": "msrn_tf/models/backbones/registry.py",
        "SMALL": "tests/test_backbone_families.py",
        "_mean_over_labels": "msrn_tf/training/losses.py",
        "make_loss": "msrn_tf/training/losses.py",
        "LOSSES": "msrn_tf/choices.py",
        "OptimizationConfig": "msrn_tf/config.py",
    }
    for name, path in places.items():
        assert re.search(rf"\b{name}\b", text) and path in text, name
        assert re.search(rf"^(?:class |def )?{name}\b", (ROOT / path).read_text(encoding="utf-8"), re.M), name
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    for name in set(re.findall(r"`(test_\w{20,})`", text)) - {"test_a_label_that_no_photo_shows_is_refused"}:  # made up
        assert f"def {name}(" in tests


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_scripts_of_the_repository_and_actions_of_one_commit(path):
    for step in steps_of(path):
        assert step.keys() & {"uses", "run"}
        if "uses" in step:
            assert FULL_HASH.fullmatch(step["uses"]), step
        else:
            script = step["run"].split()[1]
            assert step["run"].startswith("bash tools/") and (ROOT / script).is_file(), step
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}


def test_tests_run_on_the_pythons_that_the_package_names():
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    named = {line.rpartition(" ")[2] for line in classifiers if re.search(r":: 3\.\d+$", line)}
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))["jobs"]
    assert set(jobs["tests"]["strategy"]["matrix"]["python"]) >= named


def test_hooks_before_a_commit_call_what_the_checks_call():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    checks = (ROOT / "tools" / "check.sh").read_text(encoding="utf-8")
    for hook in hooks:
        assert hook["language"] == "system" and hook["entry"].split()[0] in checks
