"""README, the tutorials and the pages of docs as a reader follows them: every command runs, in order, in one folder."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest
from running import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "BUILD.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs").glob("tutorials/*.md")),
]
WALKS = {
    "readme": ("README.md",),
    "data": ("docs/labels.md", "docs/datasets.md"),
    "demo": ("docs/getting-started.md", "docs/evaluation.md", "docs/ondevice.md", "docs/serving.md"),
    "tutorials": tuple(
        f"docs/tutorials/{name}.md" for name in ("own-photos", "fine-tune", "wrong-labels", "serve", "phone", "browser")
    ),
}
"""Name → pages that are followed one after the other in one folder."""

ELSEWHERE = {
    r"^(pip install|python3 -m venv) ": "tests/test_package.py installs",
    r"^bash tools/": "what CI and the nightly run call",
    r"pip install \"\.\[data,beam\]\"|--runner=|benchmarks/scale.py": "tests/test_beam.py, tools/beam.sh",
    r"docker |kubectl |--strategy=multi_worker|recipes/gpu.cfg": "needs a cluster, GPUs or Docker",
    r"gs://": "tests/test_bucket.py",
    r"--dataset=coco2017": "needs MS COCO",
    r"--checkpoint=voc_checkpoint.pth.tar|--to_torch": "needs the published network; tests/test_import_checkpoint.py",
    r"VOCdevkit --train_split=trainval|configs/voc2007_|few/VOC2007|runs/voc2007": "trains on VOC 2007 for hours",
    r"benchmarks/voc2007/": "tests/test_voc2007_study.py",
    r"voc_none.tflite": "needs every mode of a model of VOC; tests/test_tflite.py compares",
    r"client_light.py": "needs a model of Apparel; tests/test_serving_clients.py",
    r"--flagfile=… ": "a part of a command",
}
"""Of blocks that no walk runs: what they match, and where they are run instead or what they need."""

SHORTER = {
    r"\[--[^\]]*\] ?": "",
    r"PHOTO(_OR_DIR)?\.\.\.": "new_photos",
    r"photos 300 ": "photos 60 ",
    r"PHOTOS/\*\*/\*\.jpg": "photos/*.jpg",
    r"PHOTOS\b": "photos",
    r"RECORDS\b": "records",
    r"-newer last_run": "-name '*0.jpg'",
    r"configs/custom.cfg": "configs/custom.cfg --epochs=1 --image_size=64",
    r"--image_size=128": "",
    r"--epochs=[36]\b": "--epochs=1",
    r"--photos=60": "--photos=2",
    r"--report=report.html": "--report=report.html --report_photos=1 --report_maps=0",
}
"""What a reader replaces, and what makes runs shorter."""

BEFORE = {
    "calibrated.keras --dataset=demo --split=test": "cp runs/demo/model.keras runs/demo/calibrated.keras\n",
    "--output=RECORDS": "rm -rf records\n",
    "runs/demo/photos": "cp -r new_photos runs/demo/photos\n",
}
"""What a block stands on that no block before it makes: a part of it, and a command."""

PROGRAMS = "python|python3|msrn|cp|head|curl|printf|find|for|bash|sh|pip|docker|kubectl|srun|export|source"
STARTS = re.compile(rf"(\$ )?(\w+=\S+ )*({PROGRAMS})\b")
SERVERS = {"export.serve ": 8500, "http.server ": 8000}


def blocks(page):
    """The blocks of commands of a page, without those of output and of other languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    return [block for language, block in found if language in ("", "bash", "sh") and STARTS.match(block)]


def reason_elsewhere(block):
    return next((reason for pattern, reason in ELSEWHERE.items() if re.search(pattern, block, re.M)), None)


def test_every_command_of_the_pages_is_run_by_a_walk_or_said_to_be_run_elsewhere():
    walked = {ROOT / page for pages in WALKS.values() for page in pages}
    missed = [
        f"{page.name}: {block[:60]}"
        for page in PAGES
        for block in blocks(page)
        if page not in walked and not reason_elsewhere(block)
    ]
    assert not missed
    everything = [block for page in PAGES for block in blocks(page)]
    for pattern in ELSEWHERE:
        assert any(re.search(pattern, block, re.M) for block in everything), f"matches nothing: {pattern}"


@pytest.fixture
def folder(tmp_path, small_voc):
    """A clone's folder as the pages suppose it, with photos, a model and a data set of VOC."""
    for name in ("msrn_tf", "export", "tools", "configs", "models"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "VOCdevkit").symlink_to(small_voc.parent)
    (tmp_path / "runs" / "voc").mkdir(parents=True)
    (tmp_path / "runs" / "voc" / "model.keras").symlink_to(ROOT / "models" / "voc2007.keras")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("walk", WALKS)
def test_a_reader_can_follow_the_pages(walk, folder):
    if not shutil.which("curl") or not shutil.which("npm"):
        pytest.skip("curl and npm are not installed")
    for port in SERVERS.values():
        if _answers(port):
            pytest.skip(f"something else answers on port {port}")
    shell = Shell(folder)
    shell.run("python -m tools.write_demo_photos new_photos 4\n")
    if walk != "tutorials":  # they make their own
        shell.run("python -m tools.write_demo_photos photos 60 --split=train --list\n")
    for page in WALKS[walk]:
        for block in blocks(ROOT / page):
            if reason_elsewhere(block):
                continue
            for text, command in BEFORE.items():
                shell.run(command if text in block else "")
            shell.run(_as_followed(block))
        shell.stop_servers()


def _as_followed(block):
    for pattern, text in SHORTER.items():
        block = re.sub(pattern, text, block)
    lines = [line for line in block.splitlines() if not block.startswith("$ ") or line.startswith(("$ ", "    --"))]
    return "\n".join(line.removeprefix("$ ") for line in lines) + "\n"


class Shell:
    """Runs blocks of commands in a folder; servers go on in the background."""

    def __init__(self, folder):
        self.folder, self.servers = folder, []
        self.environment = os.environ | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}

    def run(self, block):
        lines = block.replace("\\\n", " ").splitlines(keepends=True)
        first = next((index for index, line in enumerate(lines) if any(name in line for name in SERVERS)), None)
        if first is None:
            self._finish(block)
            return
        self._finish("".join(lines[:first]))
        self._serve(lines[first])
        self._finish("".join(lines[first + 1 :]))

    def _finish(self, commands):
        if commands:
            ran = self._start(commands, subprocess.run, text=True, timeout=900)
            assert ran.returncode == 0, f"{commands}\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}"

    def _serve(self, command):
        """Starts a server, in the place of one that a block before started, and waits until it answers."""
        self.stop_servers()
        self.servers.append(self._start(f"exec {command}", subprocess.Popen))
        port = next(port for name, port in SERVERS.items() if name in command)
        until = time.monotonic() + 300
        while not _answers(port):
            assert self.servers[-1].poll() is None and time.monotonic() < until, command
            time.sleep(0.5)

    def _start(self, commands, start, **options):
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} if start is subprocess.run else {}
        arguments = ["bash", "-e", "-o", "pipefail", "-c", commands]
        return start(arguments, cwd=self.folder, env=self.environment, **streams, **options)

    def stop_servers(self):
        for server in self.servers:
            server.terminate()
            server.wait(60)
        self.servers = []


def _answers(port):
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
