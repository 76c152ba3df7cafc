"""Artifacts in a bucket or a folder: of any kind, content-addressed, and the only store that FuseML itself lays out (`layout`).

A file is stored once for a name, under its SHA-256; a version is the digest of its manifest. The record of a version is written last: a killed
upload leaves files that no version names, which the next upload reuses and `discard_leftovers` deletes.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from fuseml.artifactstores import leftovers, manifest, paths, records
from fuseml.artifactstores.layout import Keys, moment_and_digest
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
    Source,
    Undeclared,
    Version,
    check_kind,
)
from fuseml.artifactstores.sources import measured, unchanged
from fuseml.domain import artifact, errors
from fuseml.domain.artifact import Address
from fuseml.domain.artifacts import names

if TYPE_CHECKING:
    from fuseml.contents import Contents

_log = logging.getLogger("fuseml.artifactstores")


class BucketStore(Undeclared):
    """See `ArtifactStore`. `uri` is the address of the contents for workloads, such as `s3://bucket/prefix`."""

    kinds = frozenset(artifact.KINDS)
    capabilities: frozenset[Capability] = frozenset({"open", "write", "commit", "tag", "untag", "delete"})

    def __init__(
        self,
        contents: Contents,
        uri: str,
        environment: Mapping[str, str] | None = None,
        *,
        resource: str = "s3",
        now: Callable[[], float] = time.time,
    ) -> None:
        self.resource = resource
        self._contents = contents
        self._uri = uri.rstrip("/")
        self._environment = dict(environment or {})
        self._now = now

    def describe(self, address: Address) -> Description:
        """See `ArtifactStore.describe`."""
        moment, record = self._record(address)
        return Description(address, address.version, moment, record.size, record.about)

    def versions(self, kind: str, project: str, name: str, after: str = "", limit: int = PAGE) -> Page:
        """See `ArtifactStore.versions`."""
        check_kind(self, kind)
        keys = Keys.of(kind, project, name)
        if after and moment_and_digest(after) is None:
            raise errors.InvalidError(f"{after[:100]!r} is not the end of a page of versions")
        entries = self._contents.entries(keys.versions, f"{keys.versions}/{after}" if after else "", limit + 1)
        listed = [found for entry in entries if (found := moment_and_digest(entry.key))]
        versions = [Version(Address(kind, project, name, f"sha256:{digest}"), moment) for moment, digest in listed[:limit]]
        return Page(versions, entries[limit - 1].key.rpartition("/")[2] if len(entries) > limit else "")

    def locate(self, address: Address) -> Location:
        """The URI of the manifest: its files lie in the folder `files` beside that of the manifests, by their SHA-256."""
        _, record = self._record(address)
        key = Keys.of_address(address).manifest(manifest.hexadecimal(address.version))
        return Location(f"{self._uri}/{key}", address.version, record.size, self._environment)

    def open(self, address: Address) -> Opened:
        """See `ArtifactStore.open`."""
        self._record(address)
        keys, digest = Keys.of_address(address), manifest.hexadecimal(address.version)

        def fetch(file: File) -> Iterator[bytes]:
            return self._contents.get(keys.file(manifest.hexadecimal(file.digest)))

        return Opened(address, self._manifest(keys, digest), fetch)

    def place(self, kind: str, project: str, name: str) -> Place:
        """See `ArtifactStore.place`."""
        check_kind(self, kind)
        return Place(kind, project, name, f"{self._uri}/{Keys.of(kind, project, name).root}", self._environment)

    def write(self, place: Place, sources: Iterable[Source]) -> str:
        """See `ArtifactStore.write`. Each source is read twice, unless its bytes are stored already: its key is its digest."""
        keys = Keys.of(place.kind, place.project, place.name)
        found = list(sources)
        paths.check_paths(source.path for source in found)
        encoded = manifest.encode([self._write_file(keys, source) for source in found])
        digest = manifest.digest(encoded)
        self._contents.put(keys.manifest(manifest.hexadecimal(digest)), [encoded])
        return digest

    def commit(self, place: Place, digest: str, about: About = UNSTATED) -> Address:
        """See `ArtifactStore.commit`.

        Raises TemporaryError for contents that were written so long ago that parts may be gone as leftovers, and while such are deleted.
        """
        address, digits = Address(place.kind, place.project, place.name, digest), manifest.hexadecimal(digest)
        keys = Keys.of_address(address)
        with contextlib.suppress(errors.NotFoundError):
            self._record(address)
            return address
        if leftovers.is_discarding(self._contents, keys, self._now()):
            raise errors.TemporaryError(f"leftovers of {place.kind}://{place.project}/{place.name} are being deleted; commit again")
        size = self._check_written(keys, digits, address)
        moment = self._moment(keys, digits)
        self._contents.create(keys.version(moment, digits), records.encode(records.Record(size, about)))
        return address

    def resolve(self, kind: str, project: str, name: str, tag: str) -> Address:
        """See `ArtifactStore.resolve`."""
        with self._missing_is(f"{kind}://{project}/{name}@{tag}"):
            digest, _ = self._tag(Keys.of(kind, project, name).tag(tag))
            address = Address(kind, project, name, f"sha256:{digest}")
            self._record(address)
        return address

    def tags(self, address: Address) -> list[str]:
        """See `ArtifactStore.tags`. Reads every tag of the name."""
        self._record(address)
        return sorted(tag for digest, tag in self._tags(Keys.of_address(address)) if digest == manifest.hexadecimal(address.version))

    def tag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.tag`."""
        self._record(address)
        text = f"{manifest.hexadecimal(address.version)} {names.check_tag(tag)}"
        self._contents.put(Keys.of_address(address).tag(tag), [text.encode()])

    def untag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.untag`."""
        key = Keys.of_address(address).tag(tag)
        with contextlib.suppress(errors.NotFoundError):
            if self._tag(key)[0] == manifest.hexadecimal(address.version):
                self._contents.delete(key)

    def delete(self, address: Address) -> None:
        """See `ArtifactStore.delete`. `discard_leftovers` deletes the contents that no other version names."""
        keys, digest = Keys.of_address(address), manifest.hexadecimal(address.version)
        moment = self._first_moment(keys, digest)
        if moment is None:
            return
        # First the record: without it the version is invisible, and a repetition finishes the rest. The moment stays until the contents
        # go: a concurrent commit has read it, and would make a record that belongs to none.
        self._contents.delete(keys.version(moment, digest))
        for owner, tag in list(self._tags(keys)):
            if owner == digest:
                self._contents.delete(keys.tag(tag))

    def discard_leftovers(self, stale: float = leftovers.STALE) -> int:
        """Delete the leftovers of all names that were written more than `stale` seconds ago; the number of files. One name after the other."""
        count = self._contents.discard_unfinished(stale)
        for kind in sorted(self.kinds):
            count += sum(leftovers.discard(self._contents, Keys(root), stale) for root in self._roots(kind))
        return count

    def discard_name(self, kind: str, project: str, name: str, stale: float = leftovers.STALE) -> int:
        """See `Discards.discard_name`."""
        return leftovers.discard(self._contents, Keys.of(kind, project, name), stale)

    def discard_some(self, kind: str, project: str, after: str = "", *, seconds: float, stale: float = leftovers.STALE) -> str:
        """See `Discards.discard_some`."""
        until = time.monotonic() + seconds
        if not after:
            self._contents.discard_unfinished(stale)
        for root in self._roots(Keys.of(kind, project, "a").owner, after):
            try:
                leftovers.discard(self._contents, Keys(root), stale)
            except errors.PermanentError as error:
                # Such as a damaged manifest, which keeps the leftovers of its name only.
                _log.warning("leftovers below %s stay: %s", root, error.message)
            if time.monotonic() > until:
                return root
        return ""

    def _roots(self, prefix: str, after: str = "") -> Iterator[str]:
        """The roots of the keys of each name below a prefix, behind one of them."""
        # Behind every key of a name.
        while entries := self._contents.entries(prefix, f"{after}/z" if after else "", 1):
            after = "/".join(entries[0].key.split("/")[:3])
            yield after

    def _write_file(self, keys: Keys, source: Source) -> File:
        file = measured(source)
        key = keys.file(manifest.hexadecimal(file.digest))
        # Renewed, so that it is no leftover before the commit.
        if not (self._stored_size(key) == file.size and self._contents.renew(key)):
            self._contents.put(key, unchanged(source, file))
        return file

    def _stored_size(self, key: str) -> int | None:
        try:
            return self._contents.size(key)
        except errors.NotFoundError:
            return None

    def _check_written(self, keys: Keys, digest: str, address: Address) -> int:
        """The bytes of the files that a manifest names. Raises NotFoundError without it, TemporaryError if it is old or lacks files."""
        with self._missing_is(f"contents for {address}"):
            files = self._manifest(keys, digest)
        needed = {manifest.hexadecimal(file.digest): file.size for file in files}
        written = next((entry for entry in leftovers.entries(self._contents, keys.manifests) if entry.key == keys.manifest(digest)), None)
        for entry in leftovers.entries(self._contents, keys.files):
            if needed.get(entry.key.rpartition("/")[2]) == entry.size:
                del needed[entry.key.rpartition("/")[2]]
        if needed or written is None or written.modified < self._now() - leftovers.STALE / 2:
            raise errors.TemporaryError(f"the contents for {address} were written too long ago; write them again")
        return sum(file.size or 0 for file in files)

    def _moment(self, keys: Keys, digest: str) -> int:
        """The moment of the first commit, which is now unless a former one began."""
        now = int(self._now() * 1000)
        if self._contents.create(keys.moment(digest), str(now).encode()):
            return now
        first = self._first_moment(keys, digest)
        if first is None:
            raise errors.TemporaryError(f"the version sha256:{digest} is being deleted; write and commit it again")
        return first

    def _first_moment(self, keys: Keys, digest: str) -> int | None:
        try:
            text = b"".join(self._contents.get(keys.moment(digest), limit=32))
            return int(text)
        except errors.NotFoundError:
            return None
        except ValueError:
            raise errors.PermanentError(f"the moment of the version sha256:{digest} is damaged in the store") from None

    def _record(self, address: Address) -> tuple[int, records.Record]:
        """Moment and record of a committed version. Raises NotFoundError."""
        check_kind(self, address.kind)
        keys, digest = Keys.of_address(address), manifest.hexadecimal(address.version)
        with self._missing_is(str(address)):
            moment = self._first_moment(keys, digest)
            if moment is None:
                raise errors.NotFoundError("no moment")
            return moment, records.decode(self._small(keys.version(moment, digest), records.LARGEST), address)

    def _manifest(self, keys: Keys, digest: str) -> list[File]:
        return manifest.decode(self._small(keys.manifest(digest), manifest.LARGEST), f"sha256:{digest}")

    def _tags(self, keys: Keys) -> Iterator[tuple[str, str]]:
        for entry in leftovers.entries(self._contents, keys.tags):
            with contextlib.suppress(errors.NotFoundError):
                yield self._tag(entry.key)

    def _tag(self, key: str) -> tuple[str, str]:
        """The digest and the name of a tag. Raises NotFoundError."""
        digest, _, tag = self._small(key, 4096).decode(errors="replace").partition(" ")
        return digest, tag

    def _small(self, key: str, limit: int) -> bytes:
        return b"".join(self._contents.get(key, limit=limit))

    @contextlib.contextmanager
    def _missing_is(self, subject: str) -> Iterator[None]:
        """Name the artifact instead of the key in a NotFoundError."""
        try:
            yield
        except errors.NotFoundError:
            raise errors.NotFoundError(f"the artifact store {self.resource!r} has no {subject}") from None
