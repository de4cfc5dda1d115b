"""A client of TensorFlow Serving and of `export.serve` in one file, without TensorFlow.

    pip install grpcio protobuf numpy     for `Client`, gRPC
    pip install requests numpy            for `RestClient`

    with Client("localhost:8500", "msrn") as client:
        outputs = client.predict([open("photo.jpg", "rb").read()])

    python client_light.py --address=localhost:8500 --model_name=msrn PHOTO...

The messages are described here as far as the client needs them, with the field numbers of TensorFlow's and
TF-Serving's `.proto` files: they have not changed since the first release.
"""

import base64
import json
import os
import random
import struct
import sys
import time
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

FIRST_WAIT_SECONDS = 0.1
RETRIED = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED")
"""Busy, away, or ending: a server that stops cuts off what has reached it and no handler."""
HTTP_CODES = {
    400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 501: "UNIMPLEMENTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}  # fmt: skip
SECONDS_TO_ASK_WHY = 3.0
LARGEST_VERSION = (1 << 63) - 1
MESSAGES = """
ModelSpec: name string 1, version Version 2, signature_name string 3, version_label string 4
Version: value int64 1
Dimension: size int64 1
Shape: dim Dimension* 2
Tensor: dtype int32 1, shape Shape 2, content bytes 4, floats float* 5, doubles double* 6, ints int32* 7,
        strings bytes* 8, int64s int64* 10, bools bool* 11
Input: key string 1, value Tensor 2
PredictRequest: model_spec ModelSpec 1, inputs Input* 2
PredictResponse: outputs Input* 1
StatusRequest: model_spec ModelSpec 1
VersionStatus: version int64 1, state int32 2
StatusResponse: versions VersionStatus* 1
"""
STRING, AVAILABLE = 7, 30
DTYPES = {
    1: ("floats", np.float32), 2: ("doubles", np.float64), 3: ("ints", np.int32), 4: ("ints", np.uint8),
    5: ("ints", np.int16), 6: ("ints", np.int8), 9: ("int64s", np.int64), 10: ("bools", np.bool_),
}  # fmt: skip
"""Field and NumPy's type by TensorFlow's number of a type."""


class ServingFailure(Exception):
    """A request that the server did not answer. `code`: the name of gRPC's status code."""

    def __init__(self, message: str, code: str):
        super().__init__(message)
        self.code = code


class BaseClient:
    """What clients of both protocols have.

    Args:
        address: `host:port`.
        model_name: as the server knows it.
        version: int, or 0 for the newest; `label`: a version label instead.
        deadline: seconds for one request, retries included.
        retries: how often a request is sent again while the server is busy or away, after waits that double.
        ca_certificate: PEM file of the authority that signed the server's certificate; empty: no TLS.
        client_certificate: PEM file, where the server asks for one, and `client_key`, that of its key.
    """

    def __init__(
        self,
        address: str,
        model_name: str,
        version: int = 0,
        label: str = "",
        deadline: float = 60.0,
        retries: int = 5,
        *,
        ca_certificate: str = "",
        client_certificate: str = "",
        client_key: str = "",
    ):
        self.address, self.model_name, self._version, self._label = address, model_name, version, label
        self._deadline, self._retries = deadline, retries
        self._ca_certificate, self._certificate, self._key = ca_certificate, client_certificate, client_key

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self) -> None:
        """Ends the connection."""

    def predict(self, photos: Sequence[bytes], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Outputs of a signature for a list of photos' bytes: dict of arrays, the batch first; texts are `str`.

        Raises:
            ServingFailure: no answer within the deadline, or the server refuses the request.
        """
        until, wait = time.monotonic() + self._deadline, FIRST_WAIT_SECONDS
        for attempt in range(self._retries + 1):
            try:
                return self._send(photos, signature, max(0.001, until - time.monotonic()))
            except ServingFailure as failure:
                pause = wait * random.uniform(0.5, 1.0)  # clients that failed together do not come back together
                if failure.code not in RETRIED or attempt == self._retries or time.monotonic() + pause > until:
                    why = self._why_unavailable() if failure.code == "UNAVAILABLE" else ""
                    sentence = f"{self.model_name} gave no answer ({failure.code}: {why or failure})"
                    raise ServingFailure(f"`address`={self.address}: {sentence}", failure.code) from failure
                time.sleep(pause)
                wait *= 2
        raise AssertionError("not reached")

    async def predict_async(self, photos: Sequence[bytes], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """As `predict`, for an event loop, which goes on meanwhile: a thread of its executor waits."""
        import asyncio

        return await asyncio.to_thread(self.predict, photos, signature)

    def is_ready(self) -> bool:
        """Whether the server serves the model."""
        raise NotImplementedError

    def _send(self, photos: Sequence[bytes], signature: str, seconds: float) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def _why_unavailable(self):
        """What a connection of our own tells: for gRPC and HTTP, whatever fails is a refused or a closed one."""
        import socket
        import ssl

        host, _, port = self.address.rpartition(":")
        host = host.strip("[]") or "localhost"
        try:
            plain = socket.create_connection((host, int(port)), SECONDS_TO_ASK_WHY)
            with plain, self._tls_context().wrap_socket(plain, server_hostname=host) as encrypted:
                if not self._ca_certificate:
                    return "the server speaks TLS; give `ca_certificate`"
                # What a server thinks of a client's certificate comes after the handshake; gRPC's just ends.
                return "" if encrypted.recv(1) else self._no_certificate()
        except ssl.SSLCertVerificationError as error:
            return f"`ca_certificate`={self._ca_certificate} does not vouch for the server: {error.verify_message}"
        except (ssl.SSLError, ConnectionResetError) as error:
            reason = str(getattr(error, "reason", "CERTIFICATE_REQUIRED"))
            if not self._ca_certificate:
                return ""
            asks = "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason
            return self._no_certificate() if asks else f"no TLS connection comes about ({reason})"
        except ConnectionRefusedError:
            return "nobody listens there"
        except (OSError, ValueError):
            return ""

    def _tls_context(self):
        import ssl

        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        if self._ca_certificate:
            context.load_verify_locations(self._ca_certificate)
        else:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self._certificate:
            context.load_cert_chain(self._certificate, self._key)
        return context

    def _no_certificate(self):
        if self._certificate:
            return f"the server does not take `client_certificate`={self._certificate}"
        return "the server asks for a client's certificate; give `client_certificate` and `client_key`"


class Client(BaseClient):
    """A model on a server that speaks TF-Serving's gRPC API. Arguments: those of `BaseClient`, and `max_message_mb`.

    `max_message_mb`: largest answer. gRPC's own limit of 4 MB is too small for attention maps.
    """

    def __init__(self, *arguments: Any, max_message_mb: int = 256, **options: Any):
        super().__init__(*arguments, **options)
        import grpc

        size = max_message_mb << 20
        limits = [("grpc.max_receive_message_length", size), ("grpc.max_send_message_length", size)]
        if self._ca_certificate:
            files = (self._ca_certificate, self._key, self._certificate)
            credentials = grpc.ssl_channel_credentials(*(_content(path) if path else None for path in files))
            self._channel = grpc.secure_channel(self.address, credentials, limits)
        else:
            self._channel = grpc.insecure_channel(self.address, limits)
        self._messages = _message_classes(MESSAGES)
        self._predict = self._method("PredictionService/Predict", "PredictResponse")
        self._status = self._method("ModelService/GetModelStatus", "StatusResponse")
        self._error = grpc.RpcError

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def is_ready(self) -> bool:
        """Whether the server serves the model: GetModelStatus says so, the health service does not."""
        request = self._messages["StatusRequest"]()
        request.model_spec.name = self.model_name
        try:
            versions = self._status(request, timeout=self._deadline).versions
        except self._error:
            return False
        return any(version.state == AVAILABLE for version in versions)

    def _method(self, name, response):
        return self._channel.unary_unary(
            f"/tensorflow.serving.{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self._messages[response].FromString,
        )

    def _send(self, photos, signature, seconds):
        request = self._messages["PredictRequest"]()
        spec = request.model_spec
        spec.name, spec.signature_name = self.model_name, signature
        if self._label:
            spec.version_label = self._label
        elif self._version:
            spec.version.value = self._version
        tensor = request.inputs.add(key="image_bytes").value
        tensor.dtype = STRING
        tensor.shape.dim.add(size=len(photos))
        tensor.strings.extend(photos)
        try:
            outputs = self._predict(request, timeout=seconds).outputs
        except self._error as error:
            raise ServingFailure(str(error.details()), error.code().name) from error
        return {output.key: _array(output.value) for output in outputs}


class RestClient(BaseClient):
    """A model on a server that speaks TF-Serving's REST API. Arguments: those of `BaseClient`."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        import requests
        import requests.utils

        self._session = requests.Session()
        self._error = requests.RequestException
        # With each request: those of a session give way to a bundle that the environment names.
        self._tls: dict[str, Any] = {"verify": self._ca_certificate or True}
        if self._certificate:
            self._tls["cert"] = (self._certificate, self._key)
        which = f"/labels/{self._label}" if self._label else f"/versions/{self._version}" if self._version else ""
        name = requests.utils.quote(self.model_name, safe="")
        self._url = f"{'https' if self._ca_certificate else 'http'}://{self.address}/v1/models/{name}"
        self._predict_url = f"{self._url}{which}:predict"

    def close(self) -> None:
        """Ends the connection."""
        self._session.close()

    def is_ready(self) -> bool:
        """Whether the server serves the model."""
        try:
            answer = self._session.get(self._url, timeout=self._deadline, **self._tls)
            return any(one["state"] == "AVAILABLE" for one in answer.json()["model_version_status"])
        except (self._error, ValueError, KeyError):
            return False

    def _send(self, photos, signature, seconds):
        inputs = {"image_bytes": [{"b64": base64.b64encode(photo).decode()} for photo in photos]}
        try:
            answer = self._session.post(
                self._predict_url, json={"signature_name": signature, "inputs": inputs}, timeout=seconds, **self._tls
            )
        except self._error as error:
            late = "timed out" in str(error).lower()
            raise ServingFailure(str(error), "DEADLINE_EXCEEDED" if late else "UNAVAILABLE") from error
        except ValueError as error:  # urllib3's own
            raise ServingFailure(f"this is not host:port: {error}", "INVALID_ARGUMENT") from error
        code = HTTP_CODES.get(answer.status_code, "UNKNOWN")
        try:
            content = answer.json()
        except ValueError as error:
            sentence = f"status {answer.status_code} with an answer that is no JSON; is it the REST port of the server?"
            raise ServingFailure(sentence, code) from error
        if answer.status_code != 200 or not isinstance(content, dict) or "outputs" not in content:
            raise ServingFailure(str(content.get("error", "") if isinstance(content, dict) else ""), code)
        return {name: _array_of_lists(value) for name, value in content["outputs"].items()}


def attention_maps(outputs: dict[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    """Heat-maps of a photo: for each label that it shows, an array `[height, width]` in [0, 1].

    Args:
        outputs: of `predict` with the signature `explain`.
        row: the photo's place in the request.
    """
    shown = outputs["is_present"][row]
    return {outputs["labels"][row][i]: outputs["attention"][row][i] for i in np.flatnonzero(shown)}


def write_png(path: str, values: np.ndarray) -> None:
    """Writes an array `[height, width]` in [0, 1] as a grey PNG."""
    grey = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    rows = np.pad(grey, [(0, 0), (1, 0)])  # 0 before each: it is not predicted from others
    header = struct.pack(">2I5B", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")):
            file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


def _message_classes(text):
    """Classes of protocol buffers from a description: `Name: field type number, …`, with `*` for repeated ones."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="client_light.proto", package="light", syntax="proto3")
    for line in text.strip().replace(",\n", ",").splitlines():
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for field, kind, number in (part.split() for part in fields.split(",")):
            added = message.field.add(name=field, number=int(number), label=3 if kind.endswith("*") else 1)
            kind = kind.rstrip("*")
            if kind[0].isupper():
                added.type, added.type_name = field_type.TYPE_MESSAGE, f".light.{kind}"
            else:
                added.type = field_type.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"light.{message.name}"))
        for message in file.message_type
    }


def _array(tensor):
    """The array of a `Tensor` message: raw content, or values of which the last stands for all that follow."""
    shape = [dimension.size for dimension in tensor.shape.dim]
    if tensor.dtype == STRING:
        return _texts([text.decode(errors="backslashreplace") for text in tensor.strings], shape)
    if tensor.dtype not in DTYPES:
        raise ServingFailure(f"an output has type {tensor.dtype}, which this client does not know", "UNIMPLEMENTED")
    field, dtype = DTYPES[tensor.dtype]
    if tensor.content:
        return np.frombuffer(tensor.content, dtype).reshape(shape)
    values = np.array(getattr(tensor, field), dtype)
    missing = int(np.prod(shape)) - len(values)
    return np.pad(values, (0, missing), "edge" if len(values) else "constant").reshape(shape)


def _array_of_lists(value):
    array = np.array(value)
    if array.dtype.kind == "U":
        return _texts(array.ravel().tolist(), array.shape)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _texts(texts, shape):
    array = np.empty(len(texts), object)
    array[:] = texts
    return array.reshape(shape)


def _content(path):
    with open(path, "rb") as file:
        return file.read()


def _text(argument):
    import argparse

    try:
        argument.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError("is no Unicode text, which a request needs; write UTF-8") from error
    return argument


def _version(argument):
    import argparse

    if not argument.isdecimal() or int(argument) > LARGEST_VERSION:
        raise argparse.ArgumentTypeError(f"{argument} is no version; give a number up to {LARGEST_VERSION}")
    return int(argument)


def _free_name(path, taken):
    """The name of a photo for its maps: `NAME`, or `NAME~2` … where photos in other folders are called alike.

    `taken`: the names that were given, where case is nothing, as on some disks.
    """
    name = numbered = os.path.splitext(os.path.basename(path))[0]
    number = 1
    while numbered.casefold() in taken:
        number += 1
        numbered = f"{name}~{number}"
    taken.add(numbered.casefold())
    return numbered


def _arguments():
    import argparse

    parser = argparse.ArgumentParser(description="Asks a server for the labels of photos.")
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="JPEG, PNG, GIF or BMP")
    parser.add_argument("--rest", action="store_true", help="use REST instead of gRPC")
    parser.add_argument("--address", type=_text, help="host:port; localhost:8500, with --rest localhost:8501")
    parser.add_argument("--model_name", type=_text, default="msrn")
    parser.add_argument("--version", type=_version, default=0, help="version to query; 0: the newest")
    parser.add_argument("--label", type=_text, default="", help="version label, such as stable")
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds for one photo, retries included")
    parser.add_argument("--retries", type=int, default=5)
    for name in ("ca_certificate", "client_certificate", "client_key"):
        parser.add_argument(f"--{name}", default="", metavar="PEM")
    parser.add_argument(
        "--heatmaps", default="", metavar="DIR", help="folder for heat-maps: a grey PNG for each label that is present"
    )
    return parser.parse_args()


def main() -> int:
    """Prints a JSON line a photo. Returns 1 where one is no photo, 2 where one was not answered."""
    options = vars(_arguments())
    photos, heatmaps, rest = options.pop("photos"), options.pop("heatmaps"), options.pop("rest")
    address = options.pop("address") or ("localhost:8501" if rest else "localhost:8500")
    status, taken = 0, set()
    try:
        if heatmaps:
            os.makedirs(heatmaps, exist_ok=True)
        with (RestClient if rest else Client)(address, **options) as client:
            for path in photos:
                outputs = client.predict([_content(path)], "explain" if heatmaps else "serving_default")
                if not outputs["valid"][0]:
                    sys.stderr.write(f"error: {json.dumps(path)}: is not a photo that the server can decode\n")
                    status = 1
                    continue
                scores = dict(zip(outputs["labels"][0], map(float, outputs["scores"][0]), strict=True))
                shown = [label for label, present in zip(scores, outputs["is_present"][0], strict=True) if present]
                written, name = {}, _free_name(path, taken) if heatmaps else ""
                for number, (label, values) in enumerate(attention_maps(outputs, 0).items() if heatmaps else ()):
                    written[label] = os.path.join(heatmaps, f"{name}-{number}.png")
                    write_png(written[label], values)
                line = {"photo": path, "present": shown, "scores": scores} | ({"heatmaps": written} if heatmaps else {})
                sys.stdout.write(json.dumps(line) + "\n")
    except (ServingFailure, OSError) as error:
        text = str(error).replace("`", "")
        sys.stderr.write("error: " + "".join(c if c.isprintable() else " " for c in text) + "\n")
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
