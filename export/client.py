"""`python -m export.client`: asks TensorFlow Serving or `export.serve` for the labels of photos, by gRPC or REST.

Photos are files, folders or patterns such as 'PHOTOS/**/*.jpg'; - reads paths from standard input, one a line.
`export/client_light.py` is the same for programs.
"""

import dataclasses
import io
import sys
from collections.abc import Sequence

from PIL import Image

from export.client_light import BaseClient, Client, RestClient, ServingFailure
from export.serving.version_folders import LARGEST_VERSION
from msrn_tf import command_line
from msrn_tf.choices import MAX_PIXELS
from msrn_tf.command_line import option
from msrn_tf.data.photo_batches import why_unreadable
from msrn_tf.data.photos import find_photos, why_not_a_photo_file
from msrn_tf.data.pillow_decoding import pixels_by_pillow
from msrn_tf.errors import UNREADABLE_STATUS, UserError
from msrn_tf.extras import needs
from msrn_tf.predictions import Prediction, print_csv_of, print_json_of, print_table_of
from msrn_tf.progress import ProgressBar
from msrn_tf.terminal import say
from msrn_tf.text import check_whole_text
from msrn_tf.visualization.heatmap_files import HeatmapFiles

SENT_AS_THEY_ARE = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8")


@dataclasses.dataclass(frozen=True)
class ClientConfig:
    """Client"""

    address: str = option("", "host:port of the server; empty: localhost:8500, with --rest localhost:8501")
    rest: bool = option(False, "use REST instead of gRPC")
    model_name: str = option("msrn", "name of the model on the server")
    version: int = option(0, "version to use; 0: the newest", low=0, high=LARGEST_VERSION)
    version_label: str = option("", "version label to use, such as stable")
    deadline: float = option(60.0, "seconds for one request, retries included", low=0.001)
    retries: int = option(5, "how often to retry while the server is busy or unreachable", low=0)
    max_message_mb: int = option(256, "largest gRPC response, in MB", low=1, high=2047)
    ca_certificate: str = option(
        "", "PEM file of the authority that signed the server's certificate; empty: no TLS", path="input"
    )
    client_certificate: str = option(
        "", "PEM file, if the server asks for a client certificate; needs --client_key", path="input"
    )
    client_key: str = option("", "PEM key file for --client_certificate", path="input")
    batch_size: int = option(8, "photos per request", low=1)
    top_k: int = option(5, "labels to print per photo", low=1)
    json: bool = option(False, "print a JSON line per photo instead of a table")
    csv: bool = option(False, "print CSV instead of a table: a line per photo with the score of every label")
    heatmaps: str = option(
        "", "folder for heat-maps: for each present label, the photo with its attention", path="folder"
    )


def main(arguments: Sequence[str], config: ClientConfig) -> None:
    """Asks as configured. Photos that the server cannot decode are named at the end, and the exit status is then 1."""
    if config.json and config.csv:
        raise UserError("--csv: cannot be combined with --json; leave one of them out")
    paths = find_photos(arguments, sys.stdin.buffer)
    if config.version and config.version_label:
        raise UserError("--version and --version_label: give one of them")
    heatmaps = HeatmapFiles(config.heatmaps) if config.heatmaps else None
    predictions, bad, failure = [], [], None
    with _client(config) as client, ProgressBar("asking", len(paths), "photos") as bar:
        for start in range(0, len(paths), config.batch_size):
            part = paths[start : start + config.batch_size]
            try:
                answered, refused = ask(client, part, heatmaps)
            except ServingFailure as error:
                failure = error
                break
            predictions, bad = predictions + answered, bad + refused
            bar.update(start + len(part))
    if config.json:
        print_json_of(predictions, config.top_k)
    elif config.csv:
        # A server gives labels best first, in no order of its own.
        print_csv_of(predictions, sorted(predictions[0].labels) if predictions else [])
    else:
        print_table_of(predictions, config.top_k)
    for path in bad:
        say(f"error: {path}: is not a photo that the server can decode ({why_unreadable(path)})", error=True)
    if failure:  # what was answered before is printed
        raise UserError(str(failure)) from failure
    if bad:
        sys.exit(UNREADABLE_STATUS)


def ask(
    client: BaseClient, paths: Sequence[str], heatmaps: HeatmapFiles | None = None
) -> tuple[list[Prediction], list[str]]:
    """`(predictions, bad)`: a `Prediction` for each photo, and the paths that are no photos.

    `heatmaps`: `HeatmapFiles`, where heat-maps are asked for too.
    """
    outputs = client.predict([read_photo(path) for path in paths], "explain" if heatmaps else "serving_default")
    predictions, bad = [], []
    for index, path in enumerate(paths):
        if not outputs["valid"][index]:
            bad.append(path)
            continue
        labels = list(outputs["labels"][index])
        answer = zip(labels, outputs["scores"][index], outputs["is_present"][index], strict=True)
        prediction = Prediction.of(path, answer)
        if heatmaps:
            maps = dict(zip(labels, outputs["attention"][index], strict=False))
            written = heatmaps.write_combined(path, {label: maps[label] for label in prediction.explained})
            prediction = dataclasses.replace(prediction, heatmaps=written)
        predictions.append(prediction)
    return predictions, bad


def read_photo(path: str) -> bytes:
    """A file's bytes, as PNG where servers do not decode its format (WebP, TIFF …); none where there is no file."""
    if why_not_a_photo_file(path):
        return b""
    try:
        with open(path, "rb") as file:
            encoded = file.read()
    except OSError:
        return b""
    if encoded.startswith(SENT_AS_THEY_ARE):
        return encoded
    pixels, reason = pixels_by_pillow(encoded, MAX_PIXELS)
    if reason:
        return encoded
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _client(config):
    """The client that flags ask for."""
    if bool(config.client_certificate) != bool(config.client_key):
        raise UserError("--client_certificate and --client_key: give both or none")
    if config.client_certificate and not config.ca_certificate:
        raise UserError("--client_certificate: needs --ca_certificate, without which there is no TLS")
    for name in ("address", "model_name", "version_label"):
        check_whole_text(f"--{name}", getattr(config, name), "a request")
    options = {name: getattr(config, name) for name in ("ca_certificate", "client_certificate", "client_key")}
    for name, path in options.items():
        _check_file(name, path)
    where = (config.model_name, config.version, config.version_label, config.deadline, config.retries)
    with needs("serving"):
        if config.rest:
            return RestClient(config.address or "localhost:8501", *where, **options)
        return Client(config.address or "localhost:8500", *where, max_message_mb=config.max_message_mb, **options)


def _check_file(flag, path):
    if not path:
        return
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise UserError(f"--{flag}={path}: cannot be read ({error.strerror})") from error


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(ClientConfig,), positional="PHOTO_OR_DIR_OR_PATTERN_OR_-...")
