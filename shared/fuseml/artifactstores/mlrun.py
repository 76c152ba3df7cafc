"""Models and datasets of MLRun, by the REST API of its service: a version is the unique id of a stored artifact.

MLRun keeps the facts, and object stores the contents, which its service reads for its clients. Workloads log artifacts with MLRun's own client; a
commit confirms that one was logged. The projects are those of MLRun of the same name.
"""

from __future__ import annotations

import datetime
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fuseml.artifactstores import pages, paths, verification
from fuseml.artifactstores.port import (
    PAGE,
    UNSTATED,
    About,
    Capability,
    Changes,
    Description,
    File,
    Location,
    Opened,
    Page,
    Place,
    Undeclared,
    Version,
    check_kind,
)
from fuseml.artifactstores.rest import Api, quoted
from fuseml.domain import errors, finite
from fuseml.domain.artifact import Address
from fuseml.domain.artifacts import names

KEY = "V3IO_ACCESS_KEY"
"""The key of a record with the session key of the account; MLRun on its own needs none."""

_UID = re.compile(r"[0-9a-f]{40}")
_CHUNK = 1 << 20
_MOST_FILES, _MOST_FOLDERS = 10_000, 1000
_BEGIN = "1970-01-01T00:00:00+00:00"


@dataclass(frozen=True, slots=True)
class _Stored:
    """A stored artifact, without its tags; times are in Unix milliseconds. `target` is the URL of its contents."""

    uid: str
    key: str
    kind: str
    created: int
    updated: str
    target: str
    size: int | None
    facts: Mapping[str, Any]


class MlrunStore(Undeclared):
    """See `ArtifactStore`. `project` is the one that changes are asked for."""

    resource = "mlrun"
    kinds = frozenset({"model", "dataset"})
    capabilities: frozenset[Capability] = frozenset({"open", "commit", "tag", "untag", "changes"})

    def __init__(self, url: str, environment: Mapping[str, str], *, project: str = "") -> None:
        key = environment.get(KEY, "")
        self._api = Api("MLRun", url, {"X-V3io-Session-Key": key} if key else {}, KEY)
        self._environment = {**environment, "MLRUN_DBPATH": url}
        self._project = project

    def describe(self, address: Address) -> Description:
        """See `ArtifactStore.describe`. The metrics are those that the client logged with a model."""
        found = self._found(address)
        spec, metadata = found.facts.get("spec") or {}, found.facts.get("metadata") or {}
        metrics = {str(name): number for name, value in _items(spec.get("metrics")) if (number := finite.number(value)) is not None}
        labels = {str(name): str(value) for name, value in _items(metadata.get("labels"))}
        about = About(
            format=str(spec.get("format") or ""),
            framework=str(spec.get("framework") or ""),
            producer=str(metadata.get("tree") or ""),
            metrics=metrics,
            params={str(name): str(value) for name, value in _items(spec.get("parameters"))},
            metadata={"target_path": found.target},
        )
        return Description(address, "", found.created, found.size, about, labels)

    def versions(self, kind: str, project: str, name: str, after: str = "", limit: int = PAGE) -> Page:
        """See `ArtifactStore.versions`."""
        check_kind(self, kind)
        listed = self._listed(kind, project, {"name": name, "tag": "*"})
        found = (Version(Address(kind, project, name, item.uid), item.created) for item in listed if item.key == name)
        return pages.page(pages.oldest_first(found), after, limit)

    def locate(self, address: Address) -> Location:
        """The URI for MLRun's own client, `store://...`."""
        found = self._found(address)
        noun = {"model": "models", "dataset": "datasets"}[address.kind]
        return Location(f"store://{noun}/{address.project}/{found.key}^{found.uid}", "", found.size, self._environment)

    def open(self, address: Address) -> Opened:
        """See `ArtifactStore.open`, through MLRun's service. It states no digests of files, so only sizes are compared."""
        found = self._found(address)
        files = list(self._files(address, found.target)) if found.target.endswith("/") else [self._file(address, found.target)]
        paths.check_paths(file.path for file in files)
        folder = found.target if found.target.endswith("/") else f"{posixpath.dirname(found.target)}/"

        def fetch(file: File) -> Iterator[bytes]:
            for start in range(0, file.size or 0, _CHUNK):
                query = {"path": f"{folder}{file.path}", "size": str(min(_CHUNK, (file.size or 0) - start)), "offset": str(start)}
                yield from self._api.blocks(self._at(address.project, "files"), query, f"file {file.path!r} of {address}")

        whole = verification.Whole("", [file.path for file in files], lambda _: "", str(address))
        return Opened(address, files, fetch, whole)

    def place(self, kind: str, project: str, name: str) -> Place:
        """See `ArtifactStore.place`. The URI is that of the service, to which the workload logs."""
        check_kind(self, kind)
        return Place(kind, project, name, self._environment["MLRUN_DBPATH"], self._environment)

    def commit(self, place: Place, digest: str, about: About = UNSTATED) -> Address:
        """The address of an artifact that was logged: `digest` is its unique id. Raises NotFoundError for another one."""
        address = Address(place.kind, place.project, place.name, digest)
        self._found(address)
        return address

    def resolve(self, kind: str, project: str, name: str, tag: str) -> Address:
        """See `ArtifactStore.resolve`. Also `latest`, which MLRun moves itself."""
        check_kind(self, kind)
        for item in self._listed(kind, project, {"name": name, "tag": tag}):
            if item.key == name:
                return Address(kind, project, name, item.uid)
        raise errors.NotFoundError(f"the artifact store {self.resource!r} has no {kind}://{project}/{name}@{tag}")

    def tags(self, address: Address) -> list[str]:
        """See `ArtifactStore.tags`."""
        self._found(address)
        listed = self._listed(address.kind, address.project, {"name": address.name, "tag": "*"})
        tags = {str((item.facts.get("metadata") or {}).get("tag") or "") for item in listed if item.uid == address.version}
        return sorted(tags - {""})

    def tag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.tag`. Raises PermanentError for `latest`, which MLRun keeps."""
        names.check_tag(tag)
        found = self._found(address)
        try:
            before = self.resolve(address.kind, address.project, address.name, tag)
        except errors.NotFoundError:
            before = address
        if before != address:
            self._call_tags("DELETE", tag, address.project, self._found(before))
        self._call_tags("PUT", tag, address.project, found)

    def untag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.untag`."""
        if tag in self.tags(address):
            self._call_tags("DELETE", tag, address.project, self._found(address))

    def changes(self, position: str = "") -> Changes:
        """See `ArtifactStore.changes`. The position is the time of the last change; versions of that moment come again."""
        if not self._project:
            return Changes([], position)
        found: dict[Address, str] = {}
        for kind in sorted(self.kinds):
            for item in self._listed(kind, self._project, {"tag": "*", "since": position or _BEGIN}):
                found[Address(kind, self._project, item.key, item.uid)] = item.updated
        ordered = sorted(found, key=lambda address: (found[address], str(address)))
        return Changes(ordered, max([position, *found.values()]))

    def _call_tags(self, method: str, tag: str, project: str, item: _Stored) -> None:
        identifier = {"kind": item.kind, "key": item.key, "uid": item.uid}
        path = f"api/v1/projects/{quoted(project)}/tags/{quoted(tag)}"
        self._api.call(method, path, {"kind": "artifact", "identifiers": [identifier]}, missing=method == "DELETE")

    def _found(self, address: Address) -> _Stored:
        check_kind(self, address.kind)
        missing = errors.NotFoundError(f"the artifact store {self.resource!r} has no {address}")
        if not _UID.fullmatch(address.version):
            raise missing
        path = f"api/v2/projects/{quoted(address.project)}/artifacts/{quoted(address.name)}"
        try:
            document = self._api.get(path, {"object-uid": address.version})
        except errors.NotFoundError:
            raise missing from None
        with self._api.form(path):
            found = _stored(document)
        if (found.uid, found.kind, found.key) != (address.version, address.kind, address.name):
            raise missing
        return found

    def _listed(self, kind: str, project: str, query: Mapping[str, str]) -> list[_Stored]:
        path = f"api/v2/projects/{quoted(project)}/artifacts"
        try:
            document = self._api.get(path, {"kind": kind, "iter": "0", **query})
        except errors.NotFoundError:
            return []
        with self._api.form(path):
            return [item for item in map(_stored, document["artifacts"]) if item.kind == kind and _UID.fullmatch(item.uid)]

    def _files(self, address: Address, target: str) -> Iterator[File]:
        """The files of a folder, which MLRun lists folder by folder."""
        folders, count = [target], 0
        for number, folder in enumerate(folders):
            for name in self._names(address, folder):
                if name.endswith("/"):
                    folders.append(f"{folder}{name}")
                    continue
                count += 1
                yield File(f"{folder}{name}".removeprefix(target), self._file(address, f"{folder}{name}").size, "")
            if count > _MOST_FILES or max(number, len(folders)) > _MOST_FOLDERS:
                raise errors.PermanentError(
                    f"{address} has more than {_MOST_FILES} files or {_MOST_FOLDERS} folders; read it with MLRun's client"
                )

    def _names(self, address: Address, folder: str) -> Sequence[str]:
        path = self._at(address.project, "files")
        document = self._api.get(path, {"path": folder})
        with self._api.form(path):
            return [str(name) for name in document["listdir"]]

    def _file(self, address: Address, target: str) -> File:
        if not target:
            raise errors.PermanentError(f"MLRun states no target_path of {address}, so its contents cannot be read")
        path = self._at(address.project, "filestat")
        document = self._api.get(path, {"path": target})
        with self._api.form(path):
            return File(posixpath.basename(target), int(document["size"]), "")

    @staticmethod
    def _at(project: str, noun: str) -> str:
        return f"api/v1/projects/{quoted(project)}/{noun}"


def _stored(item: Mapping[str, Any]) -> _Stored:
    metadata, spec = item["metadata"], item.get("spec") or {}
    created, updated = str(metadata.get("created") or metadata["updated"]), str(metadata.get("updated") or metadata["created"])
    size = spec.get("size")
    return _Stored(
        uid=str(metadata["uid"]),
        key=str(spec.get("db_key") or metadata["key"]),
        kind=str(item.get("kind") or ""),
        created=int(datetime.datetime.fromisoformat(created).timestamp() * 1000),
        updated=updated,
        target=str(spec.get("target_path") or ""),
        size=size if isinstance(size, int) else None,
        facts=item,
    )


def _items(value: object) -> list[tuple[object, object]]:
    return list(value.items()) if isinstance(value, dict) else []
