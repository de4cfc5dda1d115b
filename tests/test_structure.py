"""The house's rules: imports go downwards only, layers know Keras alone, flags stay in the commands."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODULES = sorted(ROOT.glob("msrn_tf/**/*.py")) + sorted(ROOT.glob("export/**/*.py"))

# Who may import whom within msrn_tf: a package, and those it may use besides itself.
ALLOWED = {
    "arrays": set(),
    "errors": set(),
    "files": {"errors"},
    "progress": {"errors"},
    "gpus": {"quiet_import", "terminal"},
    "quiet_import": set(),
    "flagfile": {"errors", "text"},
    "hdf5": {"arrays"},
    "compilation": set(),
    "in_place": set(),
    "tensor_files": {"arrays", "errors"},
    "terminal": {"errors"},
    "text": {"errors"},
    "validation": set(),
    "layers": {"compilation", "in_place", "validation"},
    "label_graph": {"arrays", "errors", "files", "progress", "text"},
    "models": {"arrays", "hdf5", "layers", "label_graph", "errors", "in_place", "tensor_files", "validation"},
    "data": {"arrays", "label_graph", "errors", "files", "progress", "terminal", "text"},
    "evaluation": {"data", "models", "label_graph", "errors"},
    "visualization": {"models", "data", "errors"},
    "report": {"visualization", "evaluation", "models", "data", "errors"},
    "training": {
        "arrays",
        "evaluation",
        "models",
        "data",
        "label_graph",
        "errors",
        "gpus",
        "progress",
        "files",
        "flagfile",
        "terminal",
    },
}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def room(path):
    parts = path.relative_to(ROOT / "msrn_tf").parts
    return parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "path", [p for p in MODULES if p.is_relative_to(ROOT / "msrn_tf")], ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_go_downwards(path):
    if room(path) not in ALLOWED:  # commands, and what they share
        return
    used = {name.split(".")[1] for name in imports_of(path) if name.startswith("msrn_tf.")}
    assert used <= ALLOWED[room(path)] | {room(path)}
    assert not any(name.split(".")[0] == "export" for name in imports_of(path))


@pytest.mark.parametrize("package", ["layers", "models"])
def test_layers_and_models_run_on_any_keras_backend(package):
    for path in (ROOT / "msrn_tf" / package).glob("*.py"):
        assert not any(name.split(".")[0] in ("tensorflow", "jax", "torch") for name in imports_of(path)), path


def test_flags_are_read_in_one_place():
    readers = [path.name for path in MODULES if any(name.split(".")[0] == "absl" for name in imports_of(path))]
    assert readers == ["command_line.py"]


def test_commands_say_what_they_say_through_the_terminal():
    """Other people's text is escaped there; rich's own tables read it as markup."""
    for path in MODULES:
        if path.name in ("terminal.py", "progress.py", "command_line.py"):
            continue
        calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        assert "print" not in [function.id for function in calls if isinstance(function, ast.Name)], path
        assert not any(name.split(".")[0] == "rich" for name in imports_of(path)), path


def test_every_module_says_what_it_is():
    assert [str(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_nothing_is_unpickled():
    for path in MODULES:
        if path.name == "published_pickles.py":  # NumPy's arrays and nothing else: tests/test_import_checkpoint.py
            continue
        assert not {"pickle", "dill", "joblib", "marshal"} & set(imports_of(path)), path
        assert "allow_pickle=True" not in path.read_text(), path
