"""`msrn COMMAND`: every command of this project by one name; `msrn train …` is `python -m msrn_tf.train …`."""

import ast
import difflib
import importlib.util
import re
import runpy
import sys
import textwrap

import msrn_tf
from msrn_tf.errors import UserError, printable
from msrn_tf.terminal import say

PROGRAM = "msrn"
COMMANDS = {
    "prepare": "msrn_tf.prepare",
    "train": "msrn_tf.train",
    "calibrate": "msrn_tf.calibrate",
    "evaluate": "msrn_tf.evaluate",
    "predict": "msrn_tf.predict",
    "check_labels": "msrn_tf.check_labels",
    "check_heatmaps": "msrn_tf.check_heatmaps",
    "import_checkpoint": "msrn_tf.import_checkpoint",
    "saved_model": "export.saved_model",
    "serve": "export.serve",
    "client": "export.client",
    "tflite": "export.tflite",
    "ondevice": "export.ondevice",
    "compare": "export.compare",
    "web": "export.web",
    "onnx": "export.onnx",
}
"""Name → module, in the order of the work."""

WIDTH = 110


def main() -> None:
    """Runs the command that the command line names; `python -m msrn_tf` and the script `msrn` start here."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("--help", "-help", "-h", "help"):
        say_commands()
    elif arguments[0] == "--version":
        say(f"{PROGRAM} {msrn_tf.__version__}")
    else:
        try:
            name = command_meant(arguments[0])
        except UserError as error:
            say(f"error: {error}", error=True)
            sys.exit(error.exit_status)
        # What it was called by is for its --help; the module of a command runs as `python -m` runs it.
        sys.argv = [f"{PROGRAM} {name}", *arguments[1:]]
        runpy.run_module(COMMANDS[name], run_name="__main__")


def command_meant(word: str) -> str:
    """The command of this name, written with `_` or `-`. Raises `UserError` where there is none."""
    name = word.replace("-", "_")
    if name in COMMANDS:
        return name
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    advice = f"did you mean {close[0]}?" if close else f"{PROGRAM} --help lists them"
    raise UserError(f"{printable(word)}: no such command; {advice}")


def say_commands() -> None:
    """A line or two for each command."""
    say(f"{PROGRAM} COMMAND [--flagfile=FILE] [--flag=value ...]")
    say("")
    width = max(map(len, COMMANDS)) + 2
    for name, module in COMMANDS.items():
        lines = textwrap.wrap(what_it_does(module), WIDTH - width - 2)
        say(f"  {name:{width}}{lines[0]}")
        for line in lines[1:]:
            say(" " * (width + 2) + line)
    say("")
    say(f"{PROGRAM} COMMAND --help lists its flags; {PROGRAM} --version says which release this is")


def what_it_does(module: str) -> str:
    """The first sentence of a command's docstring, which is read and not imported: that would take seconds."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    with open(spec.origin, encoding="utf-8") as file:
        docstring = ast.get_docstring(ast.parse(file.read())) or ""
    sentence = re.sub(r"^`python -m [\w.]+`: ", "", docstring.partition("\n\n")[0].replace("\n", " "))
    return sentence.rstrip(".")


if __name__ == "__main__":
    main()
