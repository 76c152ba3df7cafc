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
from collections.abc import Iterable, Iterator, Mapping
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
_CONFIGURATION = "application/vnd.oci.image.config.v1+json"
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


@dataclass(frozen=True)
class File:
    """A file or link on this machine, with its mode, user and group in an image."""

    path: Path
    mode: int
    user: int = 0
    group: int = 0


def pack(folder: Path, place: str, file: IO[bytes]) -> Layer:
    """Write a layer with the content of `folder` at the absolute path `place` of an image. Links within the folder become links within `place`."""
    return _packed(((_entry(path, folder, place), path) for path in _walk(folder)), file)


def pack_files(files: Mapping[str, File], file: IO[bytes]) -> Layer:
    """Write a layer with the files at absolute paths of an image. The folders above them have no entry: those of the base stay as they are."""
    return _packed(((_entry_of(path, files[path]), files[path].path) for path in sorted(files)), file)


def _packed(entries: Iterable[tuple[tarfile.TarInfo, Path]], file: IO[bytes]) -> Layer:
    written = _DigestWriter(file)
    with gzip.GzipFile(filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=cast("IO[bytes]", written), mtime=0) as compressed:
        unpacked = _DigestWriter(cast("IO[bytes]", compressed))
        with tarfile.open(fileobj=cast("IO[bytes]", unpacked), mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for entry, path in entries:
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


def _entry_of(name: str, file: File) -> tarfile.TarInfo:
    status = file.path.lstat()
    entry = tarfile.TarInfo(name.strip("/"))
    entry.mode, entry.uid, entry.gid = file.mode, file.user, file.group
    if stat.S_ISLNK(status.st_mode):
        entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, os.readlink(file.path)  # noqa: PTH115 - the unresolved target
    else:
        entry.size = status.st_size
    return entry


def _target(link: Path, folder: Path, place: str) -> str:
    target = Path(os.readlink(link))  # noqa: PTH115 - the unresolved target
    return (
        posixpath.normpath(posixpath.join(place, target.relative_to(folder).as_posix())) if target.is_relative_to(folder) else str(target)
    )


def architecture(machine: str) -> str:
    """The name in images of a `machine` as in `uname -m`."""
    return _ARCHITECTURES.get(machine, machine)


def platform_manifest(index: Document, machine: str, image: str) -> str:
    """The digest of an index's manifest for Linux on `machine` (as in `uname -m`). Raises StepError with the available platforms."""
    wanted = architecture(machine)
    offered = [(_platform(entry), entry["digest"]) for entry in index.get("manifests", [])]
    for name, manifest in offered:
        if name == f"linux/{wanted}":
            return str(manifest)
    raise sdk.StepError(
        f"the image {image} has no manifest for linux/{wanted}, only for {', '.join(name for name, _ in offered) or 'no platform'}"
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
    return _above(manifest, extended, layer, {"created_by": "fuseml mlflow-builder", "comment": f"environment in {programs}"})


def empty(machine: str) -> tuple[Document, Document]:
    """Manifest and configuration of an image without a layer, for a machine as in `uname -m`."""
    configuration = {"architecture": architecture(machine), "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "history": []}
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {"mediaType": _CONFIGURATION}, "layers": []}, configuration


def derived(
    manifest: Document, configuration: Document, inner: Document, layer: Layer | None, labels: Mapping[str, str], author: str = ""
) -> tuple[Document, bytes]:
    """Manifest and configuration of the image with `inner` as the configuration of its containers, and the layer on top, if there is one."""
    extended = copy.deepcopy(configuration)
    extended["config"] = {**inner, "Labels": {**labels, **(inner.get("Labels") or {})}}
    if author:
        extended["author"] = author
    return _above(manifest, extended, layer, {"created_by": "fuseml image-builder"})


def _above(manifest: Document, configuration: Document, layer: Layer | None, made: Document) -> tuple[Document, bytes]:
    """Manifest and configuration with the layer on top, which `made` describes in the history. Changes the configuration."""
    if layer is not None:
        configuration["rootfs"]["diff_ids"].append(layer.content)
    history = configuration.get("history")
    if history or (history is not None and not manifest["layers"]):  # one entry for each layer, or absent
        configuration["history"] = [*history, {**made, **({} if layer else {"empty_layer": True})}]
    written = json.dumps(configuration, sort_keys=True, separators=(",", ":")).encode()
    media_type = _LAYERS[manifest["mediaType"]]
    top = [{"mediaType": media_type, "digest": layer.blob.digest, "size": layer.blob.size}] if layer else []
    return {
        **{key: value for key, value in manifest.items() if key not in ("annotations", "subject")},
        "config": {**manifest["config"], "digest": digest(written), "size": len(written)},
        "layers": [*manifest["layers"], *top],
    }, written
