"""Data and models in Pachyderm, by its JSON API: the name of an artifact is a repository, a version is the id of a finished commit.

Workloads put files with Pachyderm's own clients; a commit confirms that theirs is finished. Tags are branches. The projects are those of Pachyderm of
the same name.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import datetime
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fuseml.artifactstores import pages, paths, verification
from fuseml.artifactstores.port import (
    PAGE,
    UNSTATED,
    About,
    Capability,
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
from fuseml.artifactstores.rest import Api
from fuseml.domain import errors
from fuseml.domain.artifact import Address
from fuseml.domain.artifacts import names

KEY = "PACHYDERM_AUTH_TOKEN"
"""The key of a record with the token of the account; Pachyderm without enterprise features needs none."""

_ID = re.compile(r"[0-9a-f]{32}")
_MOST = 10_000
_LONGEST_ITEM = 64 << 20


@dataclass(frozen=True, slots=True)
class _Commit:
    """A finished commit. `created` is Unix milliseconds, `size` bytes if they are known."""

    id: str
    branch: str
    created: int
    size: int | None
    description: str


class PachydermStore(Undeclared):
    """See `ArtifactStore`."""

    resource = "pachyderm"
    kinds = frozenset({"dataset", "model"})
    capabilities: frozenset[Capability] = frozenset({"open", "commit", "tag", "untag"})

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        token = environment.get(KEY, "")
        # The second spelling is that of gateways which pass on no other headers.
        headers = {"Authn-Token": token, "Grpc-Metadata-Authn-Token": token} if token else {}
        self._api = Api("Pachyderm", url, {**headers, "Content-Type": "application/json"}, KEY)
        self._environment = {**environment, "PACHD_ADDRESS": url}

    def describe(self, address: Address) -> Description:
        """See `ArtifactStore.describe`."""
        found = self._found(address)
        about = About(metadata={"branch": found.branch, **({"description": found.description} if found.description else {})})
        return Description(address, "", found.created, found.size, about)

    def versions(self, kind: str, project: str, name: str, after: str = "", limit: int = PAGE) -> Page:
        """See `ArtifactStore.versions`."""
        check_kind(self, kind)
        found = (Version(Address(kind, project, name, commit.id), commit.created) for commit in self._commits(project, name))
        return pages.page(pages.oldest_first(found), after, limit)

    def locate(self, address: Address) -> Location:
        """The URI as Pachyderm's own clients write it, `pfs://PROJECT/REPOSITORY@COMMIT`."""
        found = self._found(address)
        return Location(f"pfs://{address.project}/{address.name}@{address.version}", "", found.size, self._environment)

    def open(self, address: Address) -> Opened:
        """See `ArtifactStore.open`. Pachyderm's digests of files are its own, so only sizes are compared."""
        commit = self._named(address, self._found(address).branch)
        with self._api.form("GlobFile"):
            files = [
                File(str(item["file"]["path"]).lstrip("/"), int(item.get("sizeBytes") or 0), "")
                for item in self._items("GlobFile", {"commit": commit, "pattern": "**"})
                if item.get("fileType") == "FILE"
            ]
        paths.check_paths(file.path for file in files)

        def fetch(file: File) -> Iterator[bytes]:
            for item in self._stream("GetFile", {"file": {"commit": commit, "path": f"/{file.path}"}}):
                text = item.get("value", "") if isinstance(item, dict) else item
                try:
                    yield base64.b64decode(str(text), validate=True)
                except binascii.Error:
                    raise errors.PermanentError(f"the answer of {self._api.at} for {file.path!r} is no base64") from None

        return Opened(address, files, fetch, verification.Whole("", [file.path for file in files], lambda _: "", str(address)))

    def place(self, kind: str, project: str, name: str) -> Place:
        """See `ArtifactStore.place`."""
        check_kind(self, kind)
        return Place(kind, project, name, f"pfs://{project}/{name}", self._environment)

    def commit(self, place: Place, digest: str, about: About = UNSTATED) -> Address:
        """The address of a commit that a workload has finished: `digest` is its id. Raises NotFoundError for another one, also an open one."""
        address = Address(place.kind, place.project, place.name, digest)
        self._found(address)
        return address

    def resolve(self, kind: str, project: str, name: str, tag: str) -> Address:
        """See `ArtifactStore.resolve`. A branch of which the head is open leads to nothing yet."""
        check_kind(self, kind)
        head = self._branches(project, name).get(tag)
        if head is None:
            raise errors.NotFoundError(f"the artifact store {self.resource!r} has no {kind}://{project}/{name}@{tag}")
        address = Address(kind, project, name, head)
        self._found(address)
        return address

    def tags(self, address: Address) -> list[str]:
        """See `ArtifactStore.tags`."""
        self._found(address)
        return sorted(name for name, head in self._branches(address.project, address.name).items() if head == address.version)

    def tag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.tag`. Moves a branch of that name, also one that pipelines read."""
        commit = self._named(address, self._found(address).branch)
        branch = {"name": names.check_tag(tag), "repo": _repository(address.project, address.name)}
        self._api.call("POST", _path("CreateBranch"), {"branch": branch, "head": commit})

    def untag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.untag`."""
        if self._branches(address.project, address.name).get(tag) == address.version:
            branch = {"name": tag, "repo": _repository(address.project, address.name)}
            self._api.call("POST", _path("DeleteBranch"), {"branch": branch}, missing=True)

    def _branches(self, project: str, name: str) -> dict[str, str]:
        try:
            listed = self._items("ListBranch", {"repo": _repository(project, name)})
            with self._api.form("ListBranch"):
                return {str(item["branch"]["name"]): str(item["head"]["id"]) for item in listed if item.get("head")}
        except errors.NotFoundError:
            return {}

    def _commits(self, project: str, name: str) -> list[_Commit]:
        """The finished commits of a repository, the newest first."""
        try:
            listed = self._items("ListCommit", {"repo": _repository(project, name), "all": True})
        except errors.NotFoundError:
            return []
        return [commit for item in listed if (commit := self._commit(item))]

    def _found(self, address: Address) -> _Commit:
        check_kind(self, address.kind)
        missing = errors.NotFoundError(f"the artifact store {self.resource!r} has no {address}")
        if not _ID.fullmatch(address.version):
            raise missing
        try:
            found = self._commit(self._api.call("POST", _path("InspectCommit"), {"commit": self._named(address)}))
        except errors.NotFoundError:
            raise missing from None
        if found is None or found.id != address.version:
            raise missing
        return found

    @staticmethod
    def _named(address: Address, branch: str = "") -> dict[str, Any]:
        repository = _repository(address.project, address.name)
        named = {"branch": {"name": branch, "repo": repository}} if branch else {}
        return {"id": address.version, "repo": repository, **named}

    def _commit(self, item: Mapping[str, Any]) -> _Commit | None:
        """A commit of an answer; None for one that is open or has failed."""
        with self._api.form("commit"):
            if not item.get("finished") or item.get("error"):
                return None
            size = (item.get("details") or {}).get("sizeBytes", item.get("sizeBytesUpperBound"))
            return _Commit(
                id=str(item["commit"]["id"]),
                branch=str((item["commit"].get("branch") or {}).get("name") or ""),
                created=int(datetime.datetime.fromisoformat(str(item["finished"])).timestamp() * 1000),
                size=None if size is None else int(size),
                description=str(item.get("description") or ""),
            )

    def _items(self, method: str, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The objects that a method answers as a stream."""
        found: list[dict[str, Any]] = []
        for item in self._stream(method, asked):
            if not isinstance(item, dict):
                raise errors.PermanentError(f"the answer of {self._api.at} for {method} is not the one of its documentation; check the URL")
            found.append(item)
            if len(found) > _MOST:
                raise errors.PermanentError(f"{self._api.at} lists more than {_MOST} entries for {method}; use a repository with fewer")
        return found

    def _stream(self, method: str, asked: Mapping[str, Any]) -> Iterator[Any]:
        """The values of an answer: one JSON text after the other, each alone or as a `result`, or in a list."""
        answer = self._api.send("POST", _path(method), body=json.dumps(asked).encode())
        if answer.status >= 300:
            self._api.refuse(answer, method)
        decoder, reader, held = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")("replace"), ""
        for block in self._api.body(answer):
            held += reader.decode(block)
            while text := held.lstrip():
                try:
                    value, end = decoder.raw_decode(text)
                except ValueError:
                    break
                held = text[end:]
                for item in value if isinstance(value, list) else [value]:
                    if isinstance(item, dict) and "error" in item and "commit" not in item:
                        raise errors.TemporaryError(f"{self._api.at} ended its answer for {method} early")
                    yield item["result"] if isinstance(item, dict) and "result" in item else item
            if len(held) > _LONGEST_ITEM:
                break
        if held.strip():
            raise errors.PermanentError(f"the answer of {self._api.at} for {method} is no JSON; check the URL")


def _repository(project: str, name: str) -> dict[str, Any]:
    return {"name": name, "type": "user", "project": {"name": project}}


def _path(method: str) -> str:
    return f"api/pfs_v2.API/{method}"
