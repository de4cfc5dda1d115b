"""LiteRT.js, which runs a .tflite in a browser: fetched by npm, taken only as it was when it was tested here."""

import base64
import dataclasses
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile

from msrn_tf.errors import UserError, first_line

SECONDS = 300
LARGEST_FILE = 1 << 26
IMPORT, OWN_IMPORT = b'from "@litertjs/wasm-utils"', b'from "./wasm-utils.js"'
"""A browser finds no package by its name: the one import of that kind becomes a file's."""


@dataclasses.dataclass(frozen=True)
class Package:
    """One package of npm.

    Attributes:
        name, version: as npm knows it.
        sha512: of its archive, base64: the registry's own `integrity`.
        files: path in the archive → name in the page.
    """

    name: str
    version: str
    sha512: str
    files: dict[str, str]


VARIANTS = ("litert_wasm_internal", "litert_wasm_threaded_internal", "litert_wasm_compat_internal")
"""With relaxed SIMD, with that and threads, and for browsers that have neither."""

PACKAGES = (
    Package(
        "@litertjs/core",
        "2.5.3",
        "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
        {"package/dist/index.js": "index.js"}
        | {f"package/wasm/{name}.{kind}": f"{name}.{kind}" for name in VARIANTS for kind in ("js", "wasm")},
    ),
    Package(
        "@litertjs/wasm-utils",
        "2.5.3",
        "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
        {"package/dist/index.js": "wasm-utils.js"},
    ),
)


def litert_files() -> dict[str, bytes]:
    """Name → content of the files of LiteRT.js that the page needs.

    Raises:
        UserError: npm is missing, cannot get a package, or got another one than the pinned.
    """
    files = {}
    for package in PACKAGES:
        files |= unpacked(package, fetched(package))
    return files | {"index.js": files["index.js"].replace(IMPORT, OWN_IMPORT)}


def fetched(package: Package) -> bytes:
    """The archive of a package, by npm; from npm's own cache where that has it."""
    npm = shutil.which("npm")
    if not npm:
        raise UserError(
            f"npm is missing: the page takes LiteRT.js from the npm package {package.name} {package.version}; "
            "install Node.js, which includes npm"
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", "--ignore-scripts", "--prefer-offline", f"{package.name}@{package.version}"]
        try:
            run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
            reason = first_line(Exception(run.stderr or run.stdout or f"status {run.returncode}"))
        except (OSError, subprocess.TimeoutExpired) as error:
            run, reason = None, first_line(error)
        archives = [name for name in os.listdir(folder) if name.endswith(".tgz")]
        if run is None or run.returncode or len(archives) != 1:
            raise UserError(
                f"npm could not get {package.name} {package.version} ({reason}); check that npm reaches its registry"
            )
        with open(os.path.join(folder, archives[0]), "rb") as file:
            return file.read()


def unpacked(package: Package, archive: bytes) -> dict[str, bytes]:
    """The wanted files of an archive, by their names in the page; raises `UserError` if it is not the pinned one."""
    found = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != package.sha512:
        raise UserError(
            f"npm got another {package.name} {package.version} than the one pinned here (SHA-512 {found[:12]}…, not "
            f"{package.sha512[:12]}…), and it was not used; clear npm's cache, or check which registry it uses"
        )
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        return {name: _content(members, path) for path, name in package.files.items()}


def _content(members, path):
    member = members.getmember(path)
    file = members.extractfile(member) if member.isfile() and member.size <= LARGEST_FILE else None
    if file is None:
        raise UserError(f"{path} in the npm package is not a file of a plausible size")
    return file.read()
