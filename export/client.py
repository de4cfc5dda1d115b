"""`python -m export.client`: asks TF-Serving, or `export.serve`, what is in photos.

`Client` is the same for programs.
"""

import dataclasses
import io
import random
import sys
import time
from collections.abc import Sequence

import grpc
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from export.serving.warm_up import predict_request
from msrn_tf import command_line
from msrn_tf.choices import MAX_PIXELS
from msrn_tf.command_line import option
from msrn_tf.data.photo_batches import why_unreadable
from msrn_tf.data.photos import find_photos, why_not_a_photo_file
from msrn_tf.data.pillow_decoding import pixels_by_pillow
from msrn_tf.errors import UserError
from msrn_tf.predictions import Prediction, print_csv_of, print_json_of, print_table_of
from msrn_tf.progress import ProgressBar
from msrn_tf.terminal import say
from msrn_tf.visualization.heatmap_files import HeatmapFiles

RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
FIRST_WAIT_SECONDS = 0.1
SENT_AS_THEY_ARE = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8")


class ServingFailure(UserError):
    """A request that the server did not answer."""


class Client:
    """A model on a server that speaks TF-Serving's gRPC API.

    Args:
        address: `host:port`.
        model_name: as the server knows it.
        version: int, or 0 for the newest; `label`: a version label instead.
        deadline: seconds for one request, retries included.
        retries: how often a request is sent again while the server is busy or away, after waits that double.
        max_message_mb: largest answer. gRPC's own limit of 4 MB is too small for attention maps.
        credentials: `grpc.ChannelCredentials`; None: no TLS.
    """

    def __init__(
        self,
        address: str,
        model_name: str,
        version: int = 0,
        label: str = "",
        deadline: float = 60.0,
        retries: int = 5,
        max_message_mb: int = 256,
        credentials: grpc.ChannelCredentials | None = None,
    ):
        size = max_message_mb << 20
        options = [("grpc.max_receive_message_length", size), ("grpc.max_send_message_length", size)]
        self._channel = (
            grpc.secure_channel(address, credentials, options)
            if credentials
            else grpc.insecure_channel(address, options)
        )
        self.address, self.model_name, self._version, self._label = address, model_name, version, label
        self._deadline, self._retries = deadline, retries
        self._predict = prediction_service_pb2_grpc.PredictionServiceStub(self._channel).Predict
        self._status = model_service_pb2_grpc.ModelServiceStub(self._channel).GetModelStatus

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def predict(self, photos: Sequence[bytes], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Outputs of a signature for a list of photos' bytes: dict of arrays, the batch first.

        Raises:
            ServingFailure: no answer within the deadline, or the server refuses the request.
        """
        request = predict_request(self.model_name, signature, {"image_bytes": np.array(photos, object)})
        self._choose_version(request.model_spec)
        response = self._call(self._predict, request)
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def is_ready(self) -> bool:
        """Whether the server serves the model: GetModelStatus says so, the health service does not."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self.model_name
        try:
            versions = self._status(request, timeout=self._deadline).model_version_status
        except grpc.RpcError:
            return False
        return any(version.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE for version in versions)

    def _choose_version(self, spec):
        if self._label:
            spec.version_label = self._label
        elif self._version:
            spec.version.value = self._version

    def _call(self, method, request):
        until, wait = time.monotonic() + self._deadline, FIRST_WAIT_SECONDS
        for attempt in range(self._retries + 1):
            try:
                return method(request, timeout=max(0.001, until - time.monotonic()))
            except grpc.RpcError as error:
                pause = wait * random.uniform(0.5, 1.0)  # clients that failed together do not come back together
                if error.code() not in RETRIED or attempt == self._retries or time.monotonic() + pause > until:
                    raise ServingFailure(
                        f"`address`={self.address}: {self.model_name} gave no answer "
                        f"({error.code().name}: {error.details()})"
                    ) from error
                time.sleep(pause)
                wait *= 2
        raise AssertionError("not reached")


@dataclasses.dataclass(frozen=True)
class ClientConfig:
    """Client"""

    address: str = option("localhost:8500", "host:port of the server")
    model_name: str = option("msrn", "model to ask")
    version: int = option(0, "version to ask; 0: the newest", low=0)
    version_label: str = option("", "version label to ask, such as stable")
    deadline: float = option(60.0, "seconds for one request, retries included", low=0.001)
    retries: int = option(5, "how often a request is sent again while the server is busy or away", low=0)
    max_message_mb: int = option(256, "largest answer", low=1, high=2047)
    ca_certificate: str = option(
        "", "PEM file of the authority that signed the server's certificate; empty: no TLS", path="input"
    )
    client_certificate: str = option("", "PEM file, where the server asks for one; needs --client_key", path="input")
    client_key: str = option("", "PEM file of its key", path="input")
    batch_size: int = option(8, "photos in a request", low=1)
    top_k: int = option(5, "labels to print for a photo", low=1)
    json: bool = option(False, "print a JSON line a photo instead of a table")
    csv: bool = option(False, "print CSV, a line a photo with the score of every label, instead of a table")
    heatmaps: str = option(
        "", "folder for heat-maps: for each present label, the photo with its attention", path="folder"
    )


def main(arguments: Sequence[str], config: ClientConfig) -> None:
    """Asks as configured. Photos that the server cannot decode are named at the end, with exit status 2."""
    if config.json and config.csv:
        raise UserError("--csv: does not go with --json; leave one of them out")
    paths = find_photos(arguments, sys.stdin.buffer)
    if config.version and config.version_label:
        raise UserError("--version and --version_label: give one of them")
    heatmaps = HeatmapFiles(config.heatmaps) if config.heatmaps else None
    credentials = _credentials(config)
    predictions, bad, failure = [], [], None
    with (
        Client(
            config.address, config.model_name, config.version, config.version_label, config.deadline, config.retries,
            config.max_message_mb, credentials,
        ) as client,
        ProgressBar("asking", len(paths), "photos") as bar,
    ):  # fmt: skip
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
        say(f"error: {path}: is no photo that the server can decode ({why_unreadable(path)})", error=True)
    if failure:  # what was answered before is printed
        raise failure
    if bad:
        sys.exit(UserError.exit_status)


def ask(
    client: Client, paths: Sequence[str], heatmaps: HeatmapFiles | None = None
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
        labels = [label.decode(errors="backslashreplace") for label in outputs["labels"][index]]
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


def _credentials(config):
    if bool(config.client_certificate) != bool(config.client_key):
        raise UserError("--client_certificate and --client_key: give both or none")
    if not config.ca_certificate:
        if config.client_certificate:
            raise UserError("--client_certificate: needs --ca_certificate, without which there is no TLS")
        return None
    texts = [_read_pem(flag, getattr(config, flag)) for flag in ("ca_certificate", "client_key", "client_certificate")]
    return grpc.ssl_channel_credentials(*texts)


def _read_pem(flag, path):
    if not path:
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"--{flag}={path}: cannot be read ({error.strerror})") from error


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, configs=(ClientConfig,), positional="PHOTO_OR_DIR_OR_PATTERN_OR_-...")
