"""A .tflite in the browser against LiteRT's own runtime on the same processor: milliseconds, their ratio, and sizes.

    python benchmarks/web.py --tflite=model.tflite [--tflite=…] [--photo=photo.jpg] [--repetitions=30]

Writes the page of each file, opens it in a headless Chromium and has it look at one photo, in turns with
`ai_edge_litert`; once in as many threads as the page takes, and once in one (where no service worker isolates the
page). `run` is what the model takes; `read` is decoding and resizing the photo. Medians; the first runs are left out.
"""

import argparse
import functools
import http.server
import os
import platform
import statistics
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "tests")]

ROUNDS, WARM_UP, SECONDS = 3, 3, 600

START = """(async () => {
  const { Model } = await import(new URL("model.js", location.href));
  const started = performance.now();
  window.measured = new Model(() => {});
  await measured.load();
  window.photo = await (await fetch("photo")).blob();
  const { kind, simd, threads } = measured.backend;
  return { kind, simd, threads, milliseconds: performance.now() - started };
})()"""

LOOK = """(async () => {
  const found = [];
  for (let run = 0; run < COUNT; run++) {
    const { picture, times } = await measured.look(photo);
    picture.close();
    found.push(times);
  }
  return found;
})()"""


class QuietHost(http.server.SimpleHTTPRequestHandler):
    """A static host that says nothing."""

    def log_message(self, *_):
        pass


def in_turns(browser, classifier, pixels, repetitions):
    """Milliseconds of LiteRT, and of the page's stages, of runs in turns."""
    natives, pages = [], []
    for turn in range(ROUNDS):
        count = repetitions // ROUNDS + (WARM_UP if turn == 0 else 0)
        for _ in range(count):
            classifier.scores(pixels)
            natives.append(1000 * classifier.seconds["run"])
        answer = browser.send(
            "Runtime.evaluate", SECONDS, expression=LOOK.replace("COUNT", str(count)), awaitPromise=True,
            returnByValue=True,
        )  # fmt: skip
        pages += answer["result"]["value"]
    return natives[WARM_UP:], pages[WARM_UP:]


def measure(browser, address, path, photo, isolated, repetitions):
    """Opens the page, isolated by its service worker or not, and prints a row."""
    from export.device_classifier import DeviceClassifier

    browser.send("Network.setBypassServiceWorker", bypass=not isolated)
    browser.open(address, 1000)
    browser.until(f"crossOriginIsolated === {str(isolated).lower()} && !document.getElementById('facts').hidden")
    answer = browser.send("Runtime.evaluate", SECONDS, expression=START, awaitPromise=True, returnByValue=True)
    started = answer["result"]["value"]
    classifier = DeviceClassifier(path, num_threads=started["threads"])
    natives, pages = in_turns(browser, classifier, classifier.pixels(photo), repetitions)
    native, run = statistics.median(natives), statistics.median(times["run"] for times in pages)
    read = statistics.median(times["decode"] + times["resize"] for times in pages)
    print(
        f"{os.path.basename(path):28} {os.path.getsize(path) / 1e6:6.2f} {started['threads']:7} {native:9.2f} "
        f"{run:9.2f} {run / native:6.2f} {read:8.1f} {started['milliseconds'] / 1000:8.1f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tflite", action="append", required=True)
    parser.add_argument("--photo", help="a drawn photo of 640 × 480 where none is given")
    parser.add_argument("--repetitions", type=int, default=30)
    options = parser.parse_args()
    from browser import find_chromium, running_browser
    from PIL import Image

    from export.web_page.folder import page_files, write_folder
    from export.web_page.litert_js import litert_files

    litert = litert_files()
    sizes = {name: len(content) / 1e6 for name, content in litert.items() if name.endswith(".wasm")}
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; " + ", ".join(
        f"{name} {size:.1f} MB" for name, size in sorted(sizes.items())
    ))  # fmt: skip
    print("file                             MB threads LiteRT ms  page ms  ratio  read ms  start s")
    with (
        tempfile.TemporaryDirectory() as root,
        running_browser(find_chromium(), "--disable-renderer-backgrounding") as browser,
    ):
        handler = functools.partial(QuietHost, directory=root)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
            threading.Thread(target=host.serve_forever, daemon=True).start()
            for number, path in enumerate(options.tflite):
                with open(path, "rb") as file:
                    write_folder(f"{root}/{number}", page_files(file.read(), "benchmark", litert))
                photo = f"{root}/{number}/photo"
                source = Image.open(options.photo) if options.photo else Image.effect_noise((640, 480), 60)
                source.convert("RGB").save(photo, "JPEG", quality=90)
                for isolated in (True, False):
                    measure(
                        browser,
                        f"http://127.0.0.1:{host.server_port}/{number}/",
                        path,
                        photo,
                        isolated,
                        options.repetitions,
                    )
            host.shutdown()
    print(f"load at the end {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
