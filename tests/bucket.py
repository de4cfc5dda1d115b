"""A bucket of Google Cloud Storage on this machine, for TensorFlow's own client.

That client knows the two hosts of Google alone and no emulator's address. What it does heed is a proxy, as libcurl does
(`https_proxy`), and an authority of its own (`CURL_CA_BUNDLE`): a proxy that answers for these hosts hands its requests
to `gcp-storage-emulator`.
"""

import collections
import contextlib
import http.client
import http.server
import json
import logging
import socket
import socketserver
import ssl
import threading
import time
import urllib.parse

import trustme
from gcp_storage_emulator.server import create_server

PASSED_ON = ("Range", "Content-Range", "X-Upload-Content-Length")
UPLOAD = "uploadType=resumable"
HOSTS = ("www.googleapis.com", "storage.googleapis.com")


class Bucket:
    """A running bucket.

    Args:
        name: the bucket's.
        folder: for the certificate (`pathlib.Path`).
        seconds: that each answer takes longer.

    Attributes:
        environment: variables for the process that is to reach it.
        requests: `(method, path, bytes of the answer)` of each request so far.
        status: what every request is answered with; None: what the emulator says.
    """

    def __init__(self, name, folder, seconds=0.0):
        logging.getLogger("gcp_storage_emulator").setLevel(logging.ERROR)
        self.name, self.seconds, self.requests, self.status = name, seconds, collections.deque(), None
        self._emulator_port = _free_port()
        self._emulator = create_server("127.0.0.1", self._emulator_port, in_memory=True, default_bucket=name)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "authority.pem"))
        self._certificate = authority.issue_cert(*HOSTS)
        self._proxy = _Server(("127.0.0.1", 0), self._handler())
        address = f"http://127.0.0.1:{self._proxy.server_address[1]}"
        self.environment = {
            "https_proxy": address,
            "http_proxy": address,
            "no_proxy": "127.0.0.1,localhost",
            "CURL_CA_BUNDLE": str(folder / "authority.pem"),
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "a-token",
        }

    def __enter__(self):
        self._emulator.start()
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._proxy.shutdown()
        self._proxy.server_close()
        with contextlib.suppress(Exception):
            self._emulator.stop()

    def put(self, name, content):
        """Writes an object."""
        path = f"/upload/storage/v1/b/{self.name}/o?uploadType=media&name={urllib.parse.quote(name, safe='')}"
        assert self._ask("POST", path, content, {})[0] == 200

    def get(self, name):
        """The bytes of an object."""
        status, _, content = self._ask("GET", f"/{self.name}/{urllib.parse.quote(name, safe='')}", b"", {})
        assert status == 200, name
        return content

    def names(self, prefix):
        """The names of the objects that begin with `prefix`."""
        content = self._ask(
            "GET", f"/storage/v1/b/{self.name}/o?prefix={urllib.parse.quote(prefix, safe='')}", b"", {}
        )[2]
        return [item["name"] for item in json.loads(content).get("items", [])]

    def _handler(bucket):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        bucket._certificate.configure_cert(context)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def log_message(self, *_):
                pass

            def do_CONNECT(self):
                if self.path.partition(":")[0] not in HOSTS:
                    self.send_error(502)
                    return
                self.send_response(200)
                self.end_headers()
                self.connection = context.wrap_socket(self.connection, server_side=True)
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
                self.close_connection = False

            def _forward(self):
                parts = urllib.parse.urlsplit(self.path)
                path = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
                body = self._body()
                time.sleep(bucket.seconds)
                status, headers, content = bucket._answer(self.command, path, body, self.headers)
                bucket.requests.append((self.command, path, len(content)))
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()

            def _body(self):
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            do_GET = do_POST = do_PUT = do_DELETE = _forward

        return Handler

    def _answer(self, method, path, body, headers):
        if self.status:
            return self.status, [], b'{"error": {"message": "refused"}}'
        wanted = {
            name: headers[name] for name in ("Range", "Content-Range", "X-Upload-Content-Length") if headers[name]
        }
        status, found, content = self._ask(
            method, path.replace("uploadType=media", UPLOAD) if not body else path, body, wanted
        )
        if UPLOAD not in path and "Location" in found:  # the emulator takes no object without a byte but in two steps
            status, found, content = self._ask("PUT", found["Location"], b"", {})
        if "Location" in found:
            found["Location"] = f"https://{HOSTS[0]}{found['Location']}"
        return status, found.items(), content

    def _ask(self, method, path, body, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self._emulator_port, timeout=60)
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        content, found = answer.read(), dict(answer.getheaders())
        connection.close()
        if "Location" in found:
            found["Location"] = found["Location"].partition(str(self._emulator_port))[2]
        return answer.status, found, content


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # a client that goes away


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
