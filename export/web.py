"""`python -m export.web`: writes a web page that runs a .tflite in the visitor's browser.

Any static host can serve the folder. Photos on the page never leave the browser.
"""

import dataclasses

from export.ondevice import open_classifier
from export.web_page.folder import page_files, write_folder
from export.web_page.litert_js import PACKAGES, litert_files
from msrn_tf import command_line, storage
from msrn_tf.command_line import option
from msrn_tf.errors import UserError, argument
from msrn_tf.extras import needs
from msrn_tf.terminal import say
from msrn_tf.text import check_whole_text

LARGEST_TFLITE = 2**30
"""WebAssembly addresses 2 GB, where weights come to lie twice: as they are, and packed for the processor."""


@dataclasses.dataclass(frozen=True)
class WebConfig:
    """Page"""

    tflite: str = option("", "a .tflite from export.tflite; heat-maps need its --with_attention", path="input")
    output: str = option("", "folder for the page; replaces an earlier page", path="folder")
    title: str = option("What is in the photo?", "title of the page")


def main(config: WebConfig) -> None:
    """Writes the page as configured."""
    for flag in ("tflite", "output"):
        if not getattr(config, flag):
            raise UserError(f"--{flag} is missing: give the .tflite and the folder to write")
    check_whole_text("--title", config.title, "a page")
    with needs("tflite"):
        from export.quantization.model_object import read_model, unpacks_weights
    with argument("tflite"):
        classifier = open_classifier(config.tflite, 1)
    with storage.open_file(config.tflite, "rb") as file:
        model = file.read(LARGEST_TFLITE + 1)
    if len(model) > LARGEST_TFLITE:
        raise UserError(f"--tflite={config.tflite}: is larger than the 1 GB that a browser has room for; quantize it")
    if unpacks_weights(read_model(model)):
        say(
            f"warning: --tflite={config.tflite}: computes in float32 with packed weights, which takes a browser 3 to 13"
            " times as long as the same model exported with --quantize=int8 or none",
            error=True,
        )
    litert, *_ = PACKAGES
    say(f"taking LiteRT.js {litert.version} from the npm package {litert.name}")
    files = page_files(model, config.title, litert_files())
    write_folder(config.output, files)
    maps = "heat-maps" if classifier.has_attention else "no heat-maps (export.tflite --with_attention adds them)"
    say(
        f"written to {config.output}: {len(files)} files, {sum(map(len, files.values())) / 1e6:.1f} MB; "
        f"{len(classifier.labels)} labels, {maps}"
    )
    say(f"to see it: python -m http.server --directory {config.output}, then open http://localhost:8000/")


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(WebConfig,))
