"""Artifacts in a repository of lakeFS: a version is the commit of the branch that changed the files of the artifact.

The files of `kind://project/name` lie in the folder `PREFIX/kind/project/name` of the repository, so what others commit there with lakeFS's own
clients is a version, too. A step writes to a branch of its own, named by the digest of the files, and a commit merges it as one commit.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping

from fuseml.artifactstores import manifest, pages, paths, records, verification
from fuseml.artifactstores.lakefs_api import Commit, Repository, Stored
from fuseml.artifactstores.layout import escaped
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
    Source,
    Undeclared,
    Version,
    check_kind,
)
from fuseml.artifactstores.sources import measured, unchanged
from fuseml.domain import artifact, errors
from fuseml.domain.artifact import Address
from fuseml.domain.artifacts import names

_COMMIT = re.compile(r"[0-9a-f]{64}")
_MD5 = re.compile(r"[0-9a-f]{32}")
_PLAIN = re.compile(r"[A-Za-z0-9.-]+")
_DIGEST, _ROOT, _RECORD = "fuseml.digest", "fuseml.artifact", "fuseml.record"
_REPORTED = 100
"""The commits of one report of changes."""


class LakefsStore(Undeclared):
    """See `ArtifactStore`. `url` is that of the server, whose S3 gateway workloads read; `prefix` the folder of artifacts."""

    resource = "lakefs"
    kinds = frozenset(artifact.KINDS)
    capabilities: frozenset[Capability] = frozenset({"open", "write", "commit", "tag", "untag", "page", "changes"})

    def __init__(
        self, repository: Repository, url: str, *, branch: str = "main", prefix: str = "", environment: Mapping[str, str], project: str = ""
    ) -> None:
        self._repository, self._url, self._branch = repository, url.rstrip("/"), branch
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._environment = {**environment, "AWS_ENDPOINT_URL_S3": self._url}
        self._project = project

    def describe(self, address: Address) -> Description:
        """See `ArtifactStore.describe`."""
        commit, stored = self._version(address)
        about, digest = UNSTATED, commit.metadata.get(_DIGEST, "")
        if self._is_ours(commit, address):
            about = records.decode(commit.metadata[_RECORD].encode(), address).about
        return Description(address, digest, commit.created, _size(stored), about)

    def versions(self, kind: str, project: str, name: str, after: str = "", limit: int = PAGE) -> Page:
        """See `ArtifactStore.versions`. Reads the log of the artifact's folder."""
        check_kind(self, kind)
        log = self._repository.log(self._branch, self._folder(kind, project, name))
        found = [Version(Address(kind, project, name, commit.id), commit.created) for commit in log]
        return pages.page(found[::-1], after, limit)

    def locate(self, address: Address) -> Location:
        """The folder at the commit, for clients of S3: `s3://REPOSITORY/COMMIT/FOLDER/`, with the S3 gateway as the endpoint."""
        commit, stored = self._version(address)
        return Location(self._uri(address.version, address), commit.metadata.get(_DIGEST, ""), _size(stored), self._environment)

    def open(self, address: Address) -> Opened:
        """See `ArtifactStore.open`. Files of FuseML are verified by SHA-256, those of others by the MD5 of the store below, if it states one."""
        commit, stored = self._version(address)
        folder = self._folder(address.kind, address.project, address.name)

        def fetch(file: File) -> Iterator[bytes]:
            return self._repository.read(address.version, f"{folder}{file.path}")

        if self._is_ours(commit, address):
            digest = commit.metadata[_DIGEST]
            text = b"".join(self._repository.read(address.version, self._manifest(digest)))
            return Opened(address, manifest.decode(text, digest), fetch)
        files = [
            File(item.path.removeprefix(folder), item.size, f"md5:{item.checksum}" if _MD5.fullmatch(item.checksum) else "")
            for item in stored
        ]
        paths.check_paths(file.path for file in files)
        if all(file.digest for file in files):
            return Opened(address, files, fetch)
        whole = verification.Whole("", [file.path for file in files], lambda _: "", str(address))
        return Opened(address, files, fetch, whole)

    def place(self, kind: str, project: str, name: str) -> Place:
        """See `ArtifactStore.place`."""
        check_kind(self, kind)
        return Place(kind, project, name, self._uri(self._branch, Address(kind, project, name, "")), self._environment)

    def write(self, place: Place, sources: Iterable[Source]) -> str:
        """See `ArtifactStore.write`: to a branch that no version is made of before the commit. Each source is read twice."""
        found = list(sources)
        paths.check_paths(source.path for source in found)
        files = {source.path: measured(source) for source in found}
        encoded = manifest.encode(list(files.values()))
        digest = manifest.digest(encoded)
        if self._committed(place, digest):
            return digest
        branch, folder = self._own_branch(place, digest), self._folder(place.kind, place.project, place.name)
        self._repository.branch(branch, self._branch)
        kept = {f"{folder}{path}" for path in files}
        self._repository.remove(branch, [item.path for item in self._repository.objects(branch, folder) if item.path not in kept])
        for source in found:
            file = files[source.path]
            self._repository.upload(branch, f"{folder}{source.path}", file.size or 0, unchanged(source, file))
        # The last object: a branch that has it is complete.
        self._repository.upload(branch, self._manifest(digest), len(encoded), [encoded])
        return digest

    def commit(self, place: Place, digest: str, about: About = UNSTATED) -> Address:
        """See `ArtifactStore.commit`. The merge makes the version; what a kill leaves of the branch is removed by a repetition."""
        branch = self._own_branch(place, digest)
        version = self._committed(place, digest)
        if not version:
            missing = errors.NotFoundError(
                f"the artifact store {self.resource!r} has no contents for {place.kind}://{place.project}/{place.name}/{digest}"
            )
            if not self._repository.has_branch(branch):
                raise missing
            try:
                files = manifest.decode(b"".join(self._repository.read(branch, self._manifest(digest))), digest)
            except errors.NotFoundError:
                raise missing from None
            record = records.encode(records.Record(sum(file.size or 0 for file in files), about)).decode()
            facts = {_ROOT: f"{place.kind}://{place.project}/{place.name}", _DIGEST: digest, _RECORD: record}
            message = f"{place.kind}://{place.project}/{place.name}"
            self._repository.commit(branch, message, facts)
            version = self._repository.merge(branch, self._branch, message, facts)
        self._repository.drop_branch(branch)
        return Address(place.kind, place.project, place.name, version)

    def resolve(self, kind: str, project: str, name: str, tag: str) -> Address:
        """See `ArtifactStore.resolve`. Another tag of the repository, or a branch, stands for the newest version that it has."""
        check_kind(self, kind)
        address = Address(kind, project, name, "")
        with contextlib.suppress(errors.NotFoundError):
            return Address(kind, project, name, self._repository.tagged(self._own_tag(address, tag)))
        try:
            commit = self._repository.newest(tag, self._folder(kind, project, name))
        except errors.NotFoundError:
            commit = None
        if commit is None:
            raise errors.NotFoundError(f"the artifact store {self.resource!r} has no {kind}://{project}/{name}@{tag}")
        return Address(kind, project, name, commit.id)

    def tags(self, address: Address) -> list[str]:
        """See `ArtifactStore.tags`. Also those that others have set on the commit."""
        self._version(address)
        own = self._own_tag(address, "")
        found = [name for name, commit in self._repository.tags() if commit == address.version]
        return sorted({name.removeprefix(own) for name in found if name.startswith(own) or not name.startswith(_TAG)})

    def tag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.tag`. Tags of lakeFS do not move, so a moved one is missing for a moment."""
        self._version(address)
        name = self._own_tag(address, names.check_tag(tag))
        with contextlib.suppress(errors.NotFoundError):
            if self._repository.tagged(name) == address.version:
                return
            self._repository.untag(name)
        self._repository.tag(name, address.version)

    def untag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.untag`. A tag of the repository itself stays."""
        name = self._own_tag(address, tag)
        with contextlib.suppress(errors.NotFoundError):
            if self._repository.tagged(name) == address.version:
                self._repository.untag(name)

    def page(self, address: Address) -> str:
        """See `ArtifactStore.page`."""
        folder = self._folder(address.kind, address.project, address.name)
        query = urllib.parse.urlencode({"ref": address.version, "path": folder})
        return f"{self._url}/repositories/{urllib.parse.quote(self._repository.name, safe='')}/objects?{query}"

    def changes(self, position: str = "") -> Changes:
        """See `ArtifactStore.changes`. The position is a commit of the branch; one that it no longer has counts as its beginning."""
        fresh: list[Commit] = []
        for commit in self._repository.log(self._branch):
            if commit.id == position:
                break
            fresh.append(commit)
        reported = fresh[::-1][:_REPORTED]
        addresses = [address for commit in reported for address in self._made(commit)]
        return Changes(addresses, reported[-1].id if reported else position)

    def _made(self, commit: Commit) -> list[Address]:
        """The versions of a commit. Names that need an escape in a path are found by FuseML's own commits only."""
        if stated := commit.metadata.get(_ROOT):
            with contextlib.suppress(errors.InvalidError):
                address = Address.parse(f"{stated}/{commit.id}")
                return [address] if self._belongs(address.kind, address.project) else []
            return []
        if not commit.parents:
            return []
        changed = self._repository.changed(commit.parents[0], commit.id)
        parts = (path.removeprefix(self._prefix).split("/") for path in changed if path.startswith(self._prefix))
        folders = {tuple(part[:3]) for part in parts if len(part) > 3}
        plain = sorted(folder for folder in folders if self._belongs(folder[0], folder[1]) and all(map(_PLAIN.fullmatch, folder)))
        return [Address(kind, project, name, commit.id) for kind, project, name in plain]

    def _belongs(self, kind: str, project: str) -> bool:
        return kind in self.kinds and self._project in ("", project)

    def _version(self, address: Address) -> tuple[Commit, list[Stored]]:
        """The commit of a version and its objects. Raises NotFoundError."""
        check_kind(self, address.kind)
        folder = self._folder(address.kind, address.project, address.name)
        missing = errors.NotFoundError(f"the artifact store {self.resource!r} has no {address}")
        if not _COMMIT.fullmatch(address.version):
            raise missing
        try:
            commit = self._repository.newest(address.version, folder)
            stored = list(self._repository.objects(address.version, folder)) if commit and commit.id == address.version else []
        except errors.NotFoundError:
            raise missing from None
        if not (commit and stored):
            raise missing
        return commit, stored

    def _committed(self, place: Place, digest: str) -> str:
        """The version of the branch with these contents; empty if there is none."""
        folder = self._folder(place.kind, place.project, place.name)
        commits = self._repository.log(self._branch, folder)
        return next((commit.id for commit in commits if commit.metadata.get(_DIGEST) == digest), "")

    def _is_ours(self, commit: Commit, address: Address) -> bool:
        stated = f"{address.kind}://{address.project}/{address.name}"
        return commit.metadata.get(_ROOT) == stated and _DIGEST in commit.metadata and _RECORD in commit.metadata

    def _folder(self, kind: str, project: str, name: str) -> str:
        return f"{self._prefix}{escaped(kind)}/{escaped(project)}/{escaped(name)}/"

    def _manifest(self, digest: str) -> str:
        return f"{self._prefix}.fuseml/manifests/{manifest.hexadecimal(digest)}"

    def _uri(self, ref: str, address: Address) -> str:
        return f"s3://{self._repository.name}/{ref}/{self._folder(address.kind, address.project, address.name)}"

    def _own_branch(self, place: Place, digest: str) -> str:
        return f"fuseml-{_hash(self._folder(place.kind, place.project, place.name), manifest.hexadecimal(digest))}"

    def _own_tag(self, address: Address, tag: str) -> str:
        return f"{_TAG}{_hash(self._folder(address.kind, address.project, address.name))}-{tag}"


_TAG = "fuseml-"


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]


def _size(stored: Iterable[Stored]) -> int | None:
    sizes = [item.size for item in stored]
    return None if None in sizes else sum(size or 0 for size in sizes)
