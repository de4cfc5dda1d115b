"""The house's rules: imports go downwards only, layers know Keras alone, flags stay in the commands."""

import ast
import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODULES = sorted(ROOT.glob("msrn_tf/**/*.py")) + sorted(ROOT.glob("export/**/*.py"))

# Who may import whom within msrn_tf: a package, and those it may use besides itself.
ALLOWED = {
    "arrays": {"storage"},
    "choices": set(),
    "default_model": {"errors", "package_files"},
    "errors": set(),
    "extras": {"errors"},
    "files": {"errors", "storage"},
    "storage": {"address_files", "errors"},
    "address_files": {"errors", "object_stores", "storage"},
    "object_stores": {"errors"},
    "progress": {"errors"},
    "gpus": {"quiet_import", "terminal"},
    "quiet_import": set(),
    "flagfile": {"errors", "package_files", "storage", "text"},
    "hdf5": {"arrays"},
    "compilation": set(),
    "in_place": set(),
    "package_files": set(),
    "tensor_files": {"arrays", "errors", "storage", "torch_files"},
    "terminal": {"errors"},
    "type_names": set(),  # for all
    "text": {"errors", "storage"},
    "torch_files": set(),
    "validation": set(),
    "layers": {"compilation", "in_place", "validation"},
    "label_graph": {"arrays", "errors", "files", "progress", "storage", "text"},
    "models": {
        "arrays",
        "choices",
        "hdf5",
        "layers",
        "label_graph",
        "errors",
        "in_place",
        "storage",
        "tensor_files",
        "validation",
    },
    "data": {
        "arrays",
        "choices",
        "label_graph",
        "errors",
        "extras",
        "files",
        "progress",
        "storage",
        "terminal",
        "text",
    },
    "evaluation": {"choices", "data", "models", "label_graph", "errors", "extras"},
    "beam": {
        "arrays",
        "choices",
        "data",
        "errors",
        "files",
        "label_graph",
        "models",
        "predictions",
        "predictor",
        "progress",
        "storage",
        "text",
        "visualization",
    },
    "visualization": {"models", "data", "label_graph", "errors", "files", "storage"},
    "report": {"choices", "visualization", "evaluation", "models", "data", "errors"},
    "training": {
        "arrays",
        "choices",
        "evaluation",
        "models",
        "data",
        "label_graph",
        "errors",
        "gpus",
        "progress",
        "files",
        "flagfile",
        "storage",
        "terminal",
    },
}

# Asked for GPUs by `command_line` in commands that have imported TensorFlow before, and in no other.
SAYS_NO_GPU = {"msrn_tf.gpus"}
# Asked by `storage` for an address alone.
READS_ADDRESSES = {"msrn_tf.address_files"}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            if node.module == "msrn_tf":
                yield from (f"msrn_tf.{alias.name}" for alias in node.names)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in MODULES}
COMMANDS = {name for name, path in PATHS.items() if "command_line.run(" in path.read_text()}


@functools.cache
def own_imports(name):
    """Modules of this project that a module imports, anywhere in it, and the packages that this starts."""
    imported = set()
    for node in ast.walk(ast.parse(PATHS[name].read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    packages = {".".join(other.split(".")[:end]) for other in imported for end in range(1, other.count(".") + 1)}
    return (imported | packages) & PATHS.keys()


def reached_from(*names):
    """All modules of this project that are imported when these are, followed to the end."""
    reached, new = set(), set(names)
    while new:
        reached |= new
        new = {other for name in new for other in own_imports(name)} - reached
    return reached


def others_of(names):
    """The packages of others that some modules import."""
    return {other.split(".")[0] for name in names for other in imports_of(PATHS[name])} - {"msrn_tf", "export"}


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
    assert used <= ALLOWED[room(path)] | {room(path), "type_names"}
    assert not any(name.split(".")[0] == "export" for name in imports_of(path))


def test_flags_and_exports_need_no_training():
    for start in (["msrn_tf.config"], [name for name in PATHS if name.startswith("export")]):
        assert not {name for name in reached_from(*start) if name.startswith("msrn_tf.training")}


def test_flags_need_no_model():
    assert not {name for name in reached_from("msrn_tf.config") if name.startswith("msrn_tf.models")}


def test_devices_need_no_tensorflow():
    reached = reached_from("export.ondevice", "export.device_classifier")
    assert "msrn_tf.data.photos" in reached  # it is followed
    assert not {"tensorflow", "keras", "tensorflow_serving"} & others_of(reached - SAYS_NO_GPU - READS_ADDRESSES)


def test_the_light_client_stands_alone():
    reached = reached_from("export.client_light")
    assert reached <= {"export", "export.client_light"} and {"grpc", "requests"} <= others_of(reached)
    assert not {"tensorflow", "keras", "tensorflow_serving"} & others_of(reached)


def test_the_client_imports_no_command():
    assert "msrn_tf.predict" in COMMANDS
    assert reached_from("export.client") & COMMANDS == {"export.client"}


@pytest.mark.parametrize("package", ["layers", "models"])
def test_layers_and_models_run_on_any_keras_backend(package):
    for path in (ROOT / "msrn_tf" / package).rglob("*.py"):
        assert not any(name.split(".")[0] in ("tensorflow", "jax", "torch") for name in imports_of(path)), path


OF_DISKS = re.compile(
    r"(?<![\w.])open|os\.path\.(exists|isfile|isdir|lexists|getsize)|os\.(listdir|walk|scandir|makedirs|remove|replace|rename|stat)"
    r"|glob\.glob|shutil\.\w+"
)
ON_DISKS = {  # what asks about this machine's disks alone, after `storage.is_address` or of a copy
    "msrn_tf/data/photo_finder.py": {"os.path.exists"},
    "msrn_tf/data/photos.py": {"os.path.isfile", "os.stat"},
    "msrn_tf/data/readers/table_file.py": {"os.path.getsize"},
}


@pytest.mark.parametrize("path", sorted(ROOT.glob("msrn_tf/data/**/*.py")), ids=lambda path: path.name)
def test_files_of_data_may_lie_at_an_address(path):
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    found = {call for call in calls if OF_DISKS.fullmatch(call)}
    assert found <= ON_DISKS.get(str(path.relative_to(ROOT)), set()), "ask `storage`"


def test_flags_are_read_in_one_place():
    readers = [path.name for path in MODULES if any(name.split(".")[0] == "absl" for name in imports_of(path))]
    assert readers == ["command_line.py"]


LIBRARY = {
    name: path
    for name, path in PATHS.items()
    if name not in COMMANDS | {"msrn_tf.command_line", "msrn_tf.config", "msrn_tf.flagfile"}
}


@pytest.mark.parametrize("name", LIBRARY)
def test_errors_of_the_library_name_arguments_and_no_flags(name):
    """Commands put their flags in the place of arguments: `command_line.with_flags`."""
    tree = ast.parse(LIBRARY[name].read_text())
    raised = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    made = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and "Error" in ast.unparse(node.func)]
    found = [ast.unparse(node) for node in (*raised, *made) if re.search(r"--[a-z]", ast.unparse(node))]
    returned = [
        node for node in ast.walk(tree) if isinstance(node, ast.Return) and isinstance(node.value, ast.JoinedStr)
    ]
    found += [ast.unparse(node) for node in returned if re.search(r"(?<!\")--[a-z_]+[= ]", ast.unparse(node))]
    assert found == []


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


def unannotated(path):
    """Public functions and methods of a module, constructors among them, that leave an argument or the result open."""

    def public(name):
        return not name.startswith("_") or name in ("__init__", "__call__")

    def visit(body, owner=""):
        for node in body:
            if isinstance(node, ast.ClassDef) and public(node.name):
                yield from visit(node.body, f"{node.name}.")
            elif isinstance(node, ast.FunctionDef) and public(node.name):
                arguments = [*node.args.posonlyargs, *node.args.args]
                if owner and "staticmethod" not in map(ast.unparse, node.decorator_list):
                    arguments = arguments[1:]
                arguments += [*node.args.kwonlyargs, *filter(None, (node.args.vararg, node.args.kwarg))]
                if not all(each.annotation for each in arguments) or not (node.returns or node.name == "__init__"):
                    yield owner + node.name

    return list(visit(ast.parse(path.read_text()).body))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_functions_have_type_hints(path):
    assert unannotated(path) == []


def test_missing_type_hints_are_found(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(
        "def open_(a: int, *, b) -> int: ...\ndef whole(a: int) -> int: ...\ndef no_result(a: int): ...\n"
        "class Public:\n    def __init__(self, a): ...\n    def method(self, *a) -> None: ...\n"
        "    def _own(self, a): ...\n"
    )
    assert unannotated(module) == ["open_", "no_result", "Public.__init__", "Public.method"]
