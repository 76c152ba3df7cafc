"""Addition of a layer to an image: the layer's bytes, the new configuration and manifest (OCI image specification v1.1).

Equal folders give equal bytes: entries are sorted, and have neither owners nor times.
"""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from fuseml.steps import sdk

Document = dict[str, Any]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_LAYERS = {
    OCI_MANIFEST: "application/vnd.oci.image.layer.v1.tar+gzip",
    DOCKER_MANIFEST: "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COMPRESSION = 4  # nearly as small as the usual 6, in half the time
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True)
class Blob:
    """A blob of `size` bytes by its digest."""

    digest: str
    size: int


@dataclass(frozen=True)
class Layer:
    """A packed layer; `content` is the digest before compression, its `diff_id` in configurations."""

    blob: Blob
    content: str


def digest(data: bytes) -> str:
    """The digest by which registries identify these bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class _DigestWriter:
    """A file for writing that computes digest and size of its content."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self._size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def blob(self) -> Blob:
        return Blob(f"sha256:{self._hash.hexdigest()}", self._size)


def pack(folder: Path, place: str, file: IO[bytes]) -> Layer:
    """Write a layer with the content of `folder` at the absolute path `place` of an image. Links within the folder become links within `place`."""
    written = _DigestWriter(file)
    with gzip.GzipFile(filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=cast("IO[bytes]", written), mtime=0) as compressed:
        unpacked = _DigestWriter(cast("IO[bytes]", compressed))
        with tarfile.open(fileobj=cast("IO[bytes]", unpacked), mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for path in _walk(folder):
                entry = _entry(path, folder, place)
                if entry.isreg():
                    with path.open("rb") as content:
                        archive.addfile(entry, content)
                else:
                    archive.addfile(entry)
    return Layer(written.blob(), unpacked.blob().digest)


def _walk(folder: Path) -> Iterator[Path]:
    yield folder
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            yield from _walk(path)
        elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            yield path


def _entry(path: Path, folder: Path, place: str) -> tarfile.TarInfo:
    """Built by hand: `tarfile` makes the second name of a hard-linked file a link to the first."""
    status = path.lstat()
    entry = tarfile.TarInfo(posixpath.normpath(posixpath.join(place, path.relative_to(folder).as_posix())).strip("/"))
    entry.mode = 0o755 if status.st_mode & (stat.S_IFDIR | stat.S_IXUSR) else 0o644
    if stat.S_ISDIR(status.st_mode):
        entry.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(status.st_mode):
        entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, _target(path, folder, place)
    else:
        entry.size = status.st_size
    return entry


def _target(link: Path, folder: Path, place: str) -> str:
    target = Path(os.readlink(link))  # noqa: PTH115 - the unresolved target
    return (
        posixpath.normpath(posixpath.join(place, target.relative_to(folder).as_posix())) if target.is_relative_to(folder) else str(target)
    )


def platform_manifest(index: Document, machine: str, image: str) -> str:
    """The digest of an index's manifest for Linux on `machine` (as in `uname -m`). Raises StepError with the available platforms."""
    architecture = _ARCHITECTURES.get(machine, machine)
    offered = [(_platform(entry), entry["digest"]) for entry in index.get("manifests", [])]
    for name, manifest in offered:
        if name == f"linux/{architecture}":
            return str(manifest)
    raise sdk.StepError(
        f"the image {image} has no manifest for linux/{architecture}, only for {', '.join(name for name, _ in offered) or 'no platform'}"
    )


def _platform(entry: Mapping[str, Any]) -> str:
    platform = entry.get("platform") or {}
    return f"{platform.get('os')}/{platform.get('architecture')}"


def appended(
    manifest: Document,
    configuration: Document,
    layer: Layer,
    programs: str,
    labels: Mapping[str, str],
    more_variables: Mapping[str, str] | None = None,
) -> tuple[Document, bytes]:
    """Manifest and configuration of the image with the layer on top, the folder `programs` first on its PATH, and more variables.

    The result has the `mediaType` of `manifest`, OCI's or docker's.
    """
    extended = copy.deepcopy(configuration)
    inner = extended.setdefault("config", {})
    variables = dict(variable.partition("=")[::2] for variable in inner.get("Env") or [])
    variables.update(more_variables or {})
    variables["PATH"] = f"{programs}:{variables.get('PATH') or _PATH}"
    inner["Env"] = [f"{name}={value}" for name, value in variables.items()]
    inner["Labels"] = {**(inner.get("Labels") or {}), **labels}
    extended["rootfs"]["diff_ids"].append(layer.content)
    if extended.get("history"):  # one entry for each layer, or absent
        extended["history"].append({"created_by": "fuseml mlflow-builder", "comment": f"environment in {programs}"})
    written = json.dumps(extended, sort_keys=True, separators=(",", ":")).encode()
    descriptor = {"mediaType": _LAYERS[manifest["mediaType"]], "digest": layer.blob.digest, "size": layer.blob.size}
    return {
        **{key: value for key, value in manifest.items() if key not in ("annotations", "subject")},
        "config": {**manifest["config"], "digest": digest(written), "size": len(written)},
        "layers": [*manifest["layers"], descriptor],
    }, written
