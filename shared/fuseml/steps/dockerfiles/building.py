"""A program that builds images, for Dockerfiles that need one: buildah, or podman, which builds with it. The result is an OCI layout.

On a cluster the program is in a container of its own of the same pod: `ask` leaves it a request, and it ends before the image is pushed.
No program gets the account of the registry: instructions of the Dockerfile run within its reach.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from fuseml.steps import assembly, layers, registry, sdk
from fuseml.steps.dockerfiles import ignoring

REQUEST, IGNORED, PLAIN, LAYOUT = "dockerfile", "ignored", "plain", "layout"
"""The files in the folder of a build: the path of the Dockerfile, the patterns of files to leave out, the third if the registries of all bases
speak plain HTTP, and the image."""

_LARGEST = 4 * 1024 * 1024
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PRIVATE = ("FUSEML_", "REGISTRY_")


def ask(folder: Path, codeset: Path, dockerfile: str, *, plain: bool) -> None:
    """Leave the request for a build in the folder. `plain`: the registries of all bases speak plain HTTP."""
    names = (f"{dockerfile}.dockerignore", ".dockerignore")
    name = next((name for name in names if (codeset / name).is_file()), None)
    own = "".join(f"{pattern}\n" for pattern in ignoring.OWN)
    (folder / IGNORED).write_text((f"{sdk.read_file(codeset, name)}\n" if name else "") + own, encoding="utf-8")
    if plain:
        (folder / PLAIN).touch()
    (folder / REQUEST).write_text(f"./{dockerfile}", encoding="utf-8")


def run(program: str, folder: Path, codeset: Path, home: str) -> None:
    """Build what was asked for in the folder. The program has the `home` of the user of this machine. Raises StepError."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE)} | {"HOME": home}
    request = (folder / REQUEST).read_text(encoding="utf-8")
    name = f"localhost/fuseml-build:{os.getpid()}"
    verify = ["--tls-verify=false"] if (folder / PLAIN).exists() else []
    _call([program, "build", *verify, "--file", request, "--ignorefile", str(folder / IGNORED), "--tag", name, "."], codeset, environment)
    try:
        _call([program, "push", name, f"oci:{folder / LAYOUT}:image"], codeset, environment)
    finally:
        # Its layers stay, for the next build.
        subprocess.run([program, "rmi", name], cwd=codeset, env=environment, check=False, stdout=subprocess.DEVNULL)


def _call(command: list[str], codeset: Path, environment: Mapping[str, str]) -> None:
    ended = subprocess.run(command, cwd=codeset, env=environment, check=False)
    if ended.returncode != 0:
        raise sdk.StepError(f"{Path(command[0]).name} {command[1]} exited with code {ended.returncode}: the log has the reason")


def push(folder: Path, target: registry.Repository, tag: str) -> str:
    """Push the image of the build in the folder under a tag. Returns its digest. Raises StepError for a folder without one image."""
    layout = folder / LAYOUT
    found = _document(layout / "index.json").get("manifests") or []
    if len(found) != 1:
        raise sdk.StepError(f"the build has left {len(found)} images instead of one")
    manifest = {"mediaType": found[0].get("mediaType"), **_document(_file(layout, found[0]))}
    tops = [(assembly.blob(entry), functools.partial(_opened, _file(layout, entry))) for entry in manifest["layers"]]
    configuration = _file(layout, manifest["config"]).read_bytes()
    return assembly.push(None, target, tag, assembly.Built(manifest, configuration, tops))


def _file(layout: Path, descriptor: layers.Document) -> Path:
    """The file of a blob."""
    digest = str(descriptor["digest"])
    if not _DIGEST.fullmatch(digest):
        raise sdk.StepError(f"the build has left an image with the digest '{digest[:80]}'")
    return layout / "blobs" / "sha256" / digest.partition(":")[2]


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def _document(path: Path) -> layers.Document:
    try:
        if path.stat().st_size <= _LARGEST:
            found = json.loads(path.read_bytes())
            if isinstance(found, dict):
                return found
    except (OSError, ValueError) as error:
        raise sdk.StepError(f"the build has left no image: {path.name} cannot be read ({error})") from None
    raise sdk.StepError(f"the build has left no image: {path.name} is no document of one")
