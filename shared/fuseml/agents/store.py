"""The HTTP service of a store agent: serves an `ArtifactStore` by the protocol that `artifactstores.remote` speaks."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from pathlib import Path

import flask
import pydantic

from fuseml.agents import service
from fuseml.agents.uploads import Uploads
from fuseml.artifactstores import manifest, paths, port, wire
from fuseml.domain import errors
from fuseml.domain.artifact import Address
from fuseml.domain.artifacts import names
from fuseml.runtime import http, operations

_BLOCK = 1 << 18
_RECENT = 4


class Addressed(operations.Query):
    address: str = pydantic.Field(description="kind://project/name/version")

    def of(self, store: port.ArtifactStore) -> Address:
        """Raises InvalidError for a text that is no address, and for a kind that the store does not hold."""
        address = Address.parse(self.address)
        port.check_kind(store, address.kind)
        return address


class Named(operations.Query):
    kind: str
    project: str
    name: str


class Paged(Named):
    after: str = pydantic.Field("", description="from the page before")
    limit: int = pydantic.Field(port.PAGE, ge=1, le=1000)


class Tagged(Named):
    tag: str


class Tagging(Addressed):
    tag: str


class Labelling(Addressed):
    key: str
    value_: str = pydantic.Field("", alias="value")


class FileQuery(Addressed):
    path: str = pydantic.Field(description="as the list of files spells it")


class Positioned(operations.Query):
    position: str = pydantic.Field("", description="from the answer before")


def create_app(store: port.ArtifactStore, token: str, state: Path, *, most_bytes: int = 1 << 40) -> flask.Flask:
    """The application. Callers prove themselves by the bearer token; `state` is a folder of its own for unfinished uploads.

    Addresses, kinds, tags and paths are checked before the store is called. `most_bytes` bounds a file of an upload. Raises InvalidError for a token that is too short to be a secret.
    """
    api = service.api("store", "Store agent: the operations of an artifact store.", token)
    _register_reads(api, store)
    _register_contents(api, store, Uploads(state), most_bytes)
    _register_changes(api, store)
    return api.app


def _register_reads(api: http.Api, store: port.ArtifactStore) -> None:
    @api.route("GET", wire.ROOT, returns=wire.Declaration, public=True)
    def get_store_declaration() -> wire.Declaration:
        """Show the protocol, the kinds and the capabilities of the store. Needs no token."""
        return wire.Declaration(protocol=wire.PROTOCOL, kinds=sorted(store.kinds), capabilities=sorted(store.capabilities))

    @api.route("GET", f"{wire.ROOT}/version", query=Addressed, returns=wire.Description, refusals=(404,))
    def describe(query: Addressed) -> wire.Description:
        """Show the facts about a version."""
        return wire.Description.of(store.describe(query.of(store)))

    @api.route("GET", f"{wire.ROOT}/versions", query=Paged, returns=wire.Page)
    def list_versions(query: Paged) -> wire.Page:
        """List the versions of a name by pages, the oldest first; none of an unknown name."""
        port.check_kind(store, query.kind)
        return wire.Page.of(store.versions(query.kind, query.project, query.name, query.after, query.limit))

    @api.route("GET", f"{wire.ROOT}/location", query=Addressed, returns=wire.Location, refusals=(404,))
    def locate(query: Addressed) -> wire.Location:
        """Show the place of the contents, for a workload that reads them itself."""
        return wire.Location.model_validate(store.locate(query.of(store)))

    @api.route("GET", f"{wire.ROOT}/place", query=Named, returns=wire.Place)
    def place(query: Named) -> wire.Place:
        """Show the place of new versions of a name."""
        port.check_kind(store, query.kind)
        return wire.Place.model_validate(store.place(query.kind, query.project, query.name))

    @api.route("GET", f"{wire.ROOT}/resolve", query=Tagged, returns=wire.Addressed, refusals=(404,))
    def resolve(query: Tagged) -> wire.Addressed:
        """Show the version that a tag names at this moment."""
        port.check_kind(store, query.kind)
        return wire.Addressed(address=str(store.resolve(query.kind, query.project, query.name, query.tag)))

    @api.route("GET", f"{wire.ROOT}/tags", query=Addressed, returns=wire.Tags, refusals=(404,))
    def list_tags(query: Addressed) -> wire.Tags:
        """List the tags of a version."""
        return wire.Tags(tags=list(store.tags(query.of(store))))

    @api.route("GET", f"{wire.ROOT}/page", query=Addressed, returns=wire.Link)
    def page(query: Addressed) -> wire.Link:
        """Show the URL of the tool's own page about a version. Capability `page`."""
        return wire.Link(url=store.page(query.of(store)))

    @api.route("GET", f"{wire.ROOT}/changes", query=Positioned, returns=wire.Changes)
    def changes(query: Positioned) -> wire.Changes:
        """List versions that were created or changed after a position; all of them without one. Capability `changes`."""
        found = store.changes(query.position)
        return wire.Changes(addresses=[str(address) for address in found.addresses], position=found.position)


class _Recent:
    """The lists of files of the versions that were read last: else, each file of a version would cost the whole list."""

    def __init__(self, store: port.ArtifactStore) -> None:
        self._store = store
        self._open = functools.lru_cache(maxsize=_RECENT)(self._listed)

    def file(self, address: Address, path: str) -> tuple[port.Opened, port.File]:
        """A file of a version. Raises NotFoundError."""
        # A version is immutable, and may be deleted.
        self._store.describe(address)
        opened, files = self._open(address)
        if path not in files:
            raise errors.NotFoundError(f"{address} has no file {path[:200]!r}")
        return opened, files[path]

    def _listed(self, address: Address) -> tuple[port.Opened, dict[str, port.File]]:
        opened = self._store.open(address)
        return opened, {file.path: file for file in opened.files}


def _register_contents(api: http.Api, store: port.ArtifactStore, uploads: Uploads, most_bytes: int) -> None:
    recent = _Recent(store)

    @api.route("GET", f"{wire.ROOT}/files", query=Addressed, returns=wire.Files, refusals=(404,))
    def list_files(query: Addressed) -> wire.Files:
        """List the files of a version. Capability `open`."""
        return wire.Files(files=[wire.File.model_validate(file) for file in store.open(query.of(store)).files])

    @api.route("GET", f"{wire.ROOT}/file", query=FileQuery, text="application/octet-stream", refusals=(404,))
    def read_file(query: FileQuery) -> flask.Response:
        """Read a file of a version. The caller verifies its size and digest. Capability `open`."""
        opened, file = recent.file(query.of(store), query.path)
        return service.streamed(opened.fetch(file), file.size)

    @api.route("GET", f"{wire.ROOT}/uploads/<upload>", returns=wire.Sent)
    def list_sent(upload: str) -> wire.Sent:
        """List the files of an upload that were sent already. Capability `write`."""
        return wire.Sent(files=uploads.sent(upload))

    @api.route("PUT", f"{wire.ROOT}/uploads/<upload>/<digest>", media=("application/octet-stream",), status=204, refusals=(413,))
    def send_file(upload: str, digest: str) -> None:
        """Send a file of an upload. The name of an upload and of a file is a SHA-256 in hexadecimal digits. Capability `write`."""
        flask.request.max_content_length = most_bytes
        uploads.put(upload, digest, _blocks())

    @api.route("POST", f"{wire.ROOT}/uploads/<upload>", document=wire.Upload, returns=wire.Written, refusals=(413,))
    def write(upload: str) -> wire.Written:
        """Write the sent files to the store, without making them visible; answers the digest for the commit. Capability `write`."""
        flask.request.max_content_length = manifest.LARGEST
        body = http.read_body(wire.Upload)
        assert isinstance(body, wire.Upload)
        uploads.drop_stale(time.time())
        paths.check_paths(file.path for file in body.files)
        sources = [uploads.source(upload, file.value()) for file in body.files]
        port.check_kind(store, body.place.kind)
        place = store.place(body.place.kind, body.place.project, body.place.name)
        digest = store.write(place, sources)
        uploads.drop(upload)
        return wire.Written(digest=digest)

    @api.route("POST", f"{wire.ROOT}/versions", body=wire.Commit, returns=wire.Addressed, refusals=(404,))
    def commit(body: wire.Commit) -> wire.Addressed:
        """Make written contents a version. The same digest again changes nothing. Capability `commit`."""
        port.check_kind(store, body.place.kind)
        place = store.place(body.place.kind, body.place.project, body.place.name)
        return wire.Addressed(address=str(store.commit(place, body.digest, body.about.value())))


def _register_changes(api: http.Api, store: port.ArtifactStore) -> None:
    @api.route("PUT", f"{wire.ROOT}/tag", query=Tagging, status=204, refusals=(404,))
    def tag(query: Tagging) -> None:
        """Give a version a tag, which leaves the version that had it before. Capability `tag`."""
        store.tag(query.of(store), names.check_tag(query.tag))

    @api.route("DELETE", f"{wire.ROOT}/tag", query=Tagging, status=204)
    def untag(query: Tagging) -> None:
        """Remove a tag from a version. Does nothing where another version or none has it. Capability `untag`."""
        store.untag(query.of(store), query.tag)

    @api.route("PUT", f"{wire.ROOT}/label", query=Labelling, status=204, refusals=(404,))
    def label(query: Labelling) -> None:
        """Set a label of a version. Capability `label`."""
        store.label(query.of(store), query.key, query.value_)

    @api.route("DELETE", f"{wire.ROOT}/label", query=Labelling, status=204, refusals=(404,))
    def unlabel(query: Labelling) -> None:
        """Remove a label of a version, if it has it. Capability `label`."""
        store.unlabel(query.of(store), query.key)

    @api.route("DELETE", f"{wire.ROOT}/version", query=Addressed, status=204)
    def delete(query: Addressed) -> None:
        """Delete a version and its tags. Does nothing for an unknown one. Capability `delete`.

        A store that FuseML lays out also deletes the files of the name that no version needs.
        """
        address = query.of(store)
        store.delete(address)
        if isinstance(store, port.Discards):
            store.discard_name(address.kind, address.project, address.name)


def _blocks() -> Iterator[bytes]:
    while block := flask.request.stream.read(_BLOCK):
        yield block
