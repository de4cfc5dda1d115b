"""A headless Chromium, driven over its DevTools pipe with the standard library alone."""

import base64
import contextlib
import fcntl
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_chromium():
    """The browser's path; skips the test where there is none."""
    path = next((path for path in map(shutil.which, NAMES) if path), None)
    return path or pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")


class Browser:
    """One page of a browser; what it says and asks for is collected in `events`."""

    def __init__(self, to_browser, from_browser):
        self._to, self._number, self._session = to_browser, 0, None
        self.events, self._messages = [], queue.SimpleQueue()
        threading.Thread(target=self._receive, args=(from_browser,), daemon=True).start()
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method, seconds=60, **parameters):
        """The answer to one command of the DevTools protocol; `queue.Empty` where there is none within some time."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while True:
            answer = self._read(seconds)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self, from_browser):
        content = bytearray()
        with contextlib.suppress(ValueError):  # closed at the end
            while byte := from_browser.read(1):
                content += byte
                if byte == b"\0":
                    self._messages.put(json.loads(content[:-1]))
                    content.clear()

    def _read(self, seconds=60):
        message = self._messages.get(timeout=seconds)
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, url, width, height=900, scheme="light"):
        """Opens a page in a window of this width, in light or dark colours."""
        self.events.clear()
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._read()

    def evaluate(self, script):
        """The value of a JavaScript expression; of a promise, what it comes to."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, condition, seconds=120):
        """Waits until a JavaScript expression is true of the page, also when that is loaded anew meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            # A page that is isolated changes its process as it loads, and an answer may be lost with the old one.
            with contextlib.suppress(queue.Empty, AssertionError):
                result = self.send("Runtime.evaluate", 2, expression=condition, returnByValue=True)
                if "exceptionDetails" not in result and result["result"].get("value"):
                    return
            time.sleep(0.05)
        raise AssertionError(
            f"{condition} did not come true; the page says: {self.evaluate('document.body.innerText')}"
        )

    def drop(self, paths, x=300, y=300):
        """Drags files onto the page and lets go of them there."""
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def offline(self, is_offline=True):
        """Takes the network away from the page, or gives it back."""
        self.send(
            "Network.emulateNetworkConditions",
            offline=is_offline,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )

    def screenshot(self, whole=False):
        """A PNG of the window, or of the whole page."""
        return base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"])


@contextlib.contextmanager
def running_browser(path, *flags):
    """A `Browser` of the program at `path`, with further flags of Chromium."""
    to_browser, from_browser = _high_pipe(), _high_pipe()

    def connect():
        os.dup2(to_browser[0], 3)
        os.dup2(from_browser[1], 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [path, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
             f"--user-data-dir={profile}", *flags],
            preexec_fn=connect, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser[0])
        os.close(from_browser[1])
        with os.fdopen(to_browser[1], "wb") as writer, os.fdopen(from_browser[0], "rb") as reader:
            try:
                yield Browser(writer, reader)
            finally:  # before the pipes are closed: a thread reads until the browser ends
                process.terminate()
                process.wait(timeout=60)


def _high_pipe():
    """A pipe of high numbers: the child's ends are 3 and 4, and dup2 of one onto itself would keep close-on-exec."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high
