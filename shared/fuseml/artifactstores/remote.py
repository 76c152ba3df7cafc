"""The store of an agent: speaks the protocol of docs/agents.md to an HTTP service, authenticated by the bearer token of the record.

The agent declares its kinds and capabilities, which are read at their first use. Contents go between the agent and the workload.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from fuseml.artifactstores import manifest, paths, wire
from fuseml.artifactstores.port import (
    CAPABILITIES,
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
    check_kind,
)
from fuseml.artifactstores.sources import measured, unchanged
from fuseml.domain import artifact, errors, urls
from fuseml.domain.artifact import Address
from fuseml.domain.artifacts import names
from fuseml.runtime import agent_calls

Body = TypeVar("Body", bound=wire.Wire)

_LONGEST_PAGE = 1000
# Writing to the store behind the agent takes as long as its contents are large.
_WRITING = 900.0
_DECLARING = 5.0
# The sweep waits for it, together with other stores.
_REPORTING = 10.0


class RemoteStore(Undeclared):
    """See `ArtifactStore`. The agent is at `url`; `environment` are the variables of the record, with the token under `FUSEML_AGENT_TOKEN`."""

    resource = "fuseml-artifact-store"

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        self.agent = agent_calls.Agent(url, environment.get(agent_calls.TOKEN, ""), self.resource)
        """The way to the agent."""
        self._environment = dict(environment)

    @functools.cached_property
    def kinds(self) -> frozenset[str]:
        return frozenset(self._declaration.kinds) & frozenset(artifact.KINDS)

    @functools.cached_property
    def capabilities(self) -> frozenset[Capability]:
        declared = {*self._declaration.capabilities}
        return frozenset(capability for capability in CAPABILITIES if capability in declared)

    def describe(self, address: Address) -> Description:
        """See `ArtifactStore.describe`."""
        check_kind(self, address.kind)
        found = self._get(wire.Description, "version", {"address": str(address)})
        with self._understood():
            description = found.value()
        if description.address != address:
            raise errors.PermanentError(f"the agent at {self._shown} describes {str(description.address)[:200]!r} in place of {address}")
        return description

    def versions(self, kind: str, project: str, name: str, after: str = "", limit: int = PAGE) -> Page:
        """See `ArtifactStore.versions`. Raises PermanentError for versions of another name."""
        check_kind(self, kind)
        query = {"kind": kind, "project": project, "name": name, "after": after, "limit": str(min(limit, _LONGEST_PAGE))}
        found = self._get(wire.Page, "versions", query)
        with self._understood():
            page = found.value()
        of_name = all((item.address.kind, item.address.project, item.address.name) == (kind, project, name) for item in page.versions)
        if not of_name or len(page.versions) > limit:
            raise errors.PermanentError(f"the agent at {self._shown} lists other versions than those of {kind}://{project}/{name}")
        return page

    def locate(self, address: Address) -> Location:
        """See `ArtifactStore.locate`. The variables are those of the record: with them, a workload reaches the agent."""
        check_kind(self, address.kind)
        found = self._get(wire.Location, "location", {"address": str(address)})
        return Location(found.uri, found.digest, found.size, self._environment)

    def open(self, address: Address) -> Opened:
        """See `ArtifactStore.open`."""
        if "open" not in self.capabilities:
            return super().open(address)
        check_kind(self, address.kind)
        files = [file.value() for file in self._get(wire.Files, "files", {"address": str(address)}, manifest.LARGEST).files]
        try:
            paths.check_paths(file.path for file in files)
        except errors.InvalidError as error:
            raise errors.PermanentError(f"the agent at {self._shown} lists files that no folder could hold: {error.message}") from None

        def fetch(file: File) -> Iterator[bytes]:
            return self.agent.stream(_path("file", {"address": str(address), "path": file.path}))

        return Opened(address, files, fetch)

    def place(self, kind: str, project: str, name: str) -> Place:
        """See `ArtifactStore.place`."""
        check_kind(self, kind)
        found = self._get(wire.Place, "place", {"kind": kind, "project": project, "name": name})
        return Place(kind, project, name, found.uri, self._environment)

    def write(self, place: Place, sources: Iterable[Source]) -> str:
        """See `ArtifactStore.write`. Each source is read twice; a repetition sends the files only that the agent lacks."""
        if "write" not in self.capabilities:
            return super().write(place, sources)
        found = list(sources)
        paths.check_paths(source.path for source in found)
        files = [measured(source) for source in found]
        listed = manifest.encode(files)
        # The same artifact has the same upload, so that a repetition after a kill continues it.
        upload = hashlib.sha256(f"{place.kind}://{place.project}/{place.name}\n".encode() + listed).hexdigest()
        sent = {*self._get(wire.Sent, f"uploads/{upload}", {}, manifest.LARGEST).files}
        for source, file in zip(found, files, strict=True):
            digest = manifest.hexadecimal(file.digest)
            if digest not in sent:
                self.agent.send(f"{wire.ROOT}/uploads/{upload}/{digest}", functools.partial(unchanged, source, file), file.size or 0)
                sent.add(digest)
        body = wire.Upload(place=_wire(place), files=[wire.File.model_validate(file) for file in files])
        answer = self.agent.call("POST", f"{wire.ROOT}/uploads/{upload}", body.model_dump(), seconds=_WRITING)
        return self._read(wire.Written, answer).digest

    def commit(self, place: Place, digest: str, about: About = UNSTATED) -> Address:
        """See `ArtifactStore.commit`. Raises PermanentError for the answer of another name."""
        if "commit" not in self.capabilities:
            return super().commit(place, digest, about)
        check_kind(self, place.kind)
        body = wire.Commit(place=_wire(place), digest=digest, about=wire.About.model_validate(about))
        answer = self.agent.call("POST", f"{wire.ROOT}/versions", body.model_dump())
        return self._address(self._read(wire.Addressed, answer).address, place.kind, place.project, place.name)

    def resolve(self, kind: str, project: str, name: str, tag: str) -> Address:
        """See `ArtifactStore.resolve`."""
        check_kind(self, kind)
        query = {"kind": kind, "project": project, "name": name, "tag": tag}
        return self._address(self._get(wire.Addressed, "resolve", query).address, kind, project, name)

    def tags(self, address: Address) -> list[str]:
        """See `ArtifactStore.tags`."""
        check_kind(self, address.kind)
        return sorted(self._get(wire.Tags, "tags", {"address": str(address)}).tags)

    def tag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.tag`."""
        if "tag" not in self.capabilities:
            return super().tag(address, tag)
        self._change("PUT", "tag", {"address": str(address), "tag": names.check_tag(tag)})
        return None

    def untag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.untag`."""
        if "untag" not in self.capabilities:
            return super().untag(address, tag)
        self._change("DELETE", "tag", {"address": str(address), "tag": tag})
        return None

    def label(self, address: Address, key: str, value: str) -> None:
        """See `ArtifactStore.label`."""
        if "label" not in self.capabilities:
            return super().label(address, key, value)
        self._change("PUT", "label", {"address": str(address), "key": key, "value": value})
        return None

    def unlabel(self, address: Address, key: str) -> None:
        """See `ArtifactStore.unlabel`."""
        if "label" not in self.capabilities:
            return super().unlabel(address, key)
        self._change("DELETE", "label", {"address": str(address), "key": key})
        return None

    def delete(self, address: Address) -> None:
        """See `ArtifactStore.delete`."""
        if "delete" not in self.capabilities:
            return super().delete(address)
        self._change("DELETE", "version", {"address": str(address)})
        return None

    def page(self, address: Address) -> str:
        """See `ArtifactStore.page`. Raises PermanentError for a text that is no http(s) URL."""
        if "page" not in self.capabilities:
            return super().page(address)
        url = self._get(wire.Link, "page", {"address": str(address)}).url
        if not url.startswith(("http://", "https://")):
            raise errors.PermanentError(f"the agent at {self._shown} names a page that is no http(s) URL: {url[:200]!r}")
        return url

    def changes(self, position: str = "") -> Changes:
        """See `ArtifactStore.changes`."""
        if "changes" not in self.capabilities:
            return super().changes(position)
        path = _path("changes", {"position": position})
        found = self._read(wire.Changes, self.agent.call("GET", path, most=manifest.LARGEST, seconds=_REPORTING))
        with self._understood():
            return Changes([Address.parse(text) for text in found.addresses], found.position)

    @functools.cached_property
    def _declaration(self) -> wire.Declaration:
        # Planning waits for it.
        found = self._read(wire.Declaration, self.agent.call("GET", wire.ROOT, seconds=_DECLARING))
        if found.protocol != wire.PROTOCOL:
            raise errors.PermanentError(f"the agent at {self._shown} speaks {found.protocol[:100]!r}, not {wire.PROTOCOL!r}")
        return found

    @property
    def _shown(self) -> str:
        return urls.shown(self.agent.url)

    def _get(self, model: type[Body], path: str, query: Mapping[str, str], most: int = agent_calls.LARGEST) -> Body:
        return self._read(model, self.agent.call("GET", _path(path, query), most=most))

    def _change(self, method: str, path: str, query: Mapping[str, str]) -> None:
        self.agent.call(method, _path(path, query))

    def _read(self, model: type[Body], answer: Mapping[str, object]) -> Body:
        import pydantic

        try:
            return model.model_validate(answer)
        except pydantic.ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in fault["loc"])
            raise errors.PermanentError(
                f"the answer of the agent at {self._shown} is not of its protocol: {place}: {fault['msg']}"
            ) from None

    def _address(self, text: str, kind: str, project: str, name: str) -> Address:
        with self._understood():
            address = Address.parse(text)
        if (address.kind, address.project, address.name) != (kind, project, name):
            raise errors.PermanentError(
                f"the agent at {self._shown} answers {text[:200]!r}, which is no version of {kind}://{project}/{name}"
            )
        return address

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """An address in an answer that is none is no invalid input of the caller."""
        try:
            yield
        except errors.InvalidError as error:
            raise errors.PermanentError(f"the answer of the agent at {self._shown} is not of its protocol: {error.message}") from None


def _path(path: str, query: Mapping[str, str]) -> str:
    present = {key: value for key, value in query.items() if value}
    return f"{wire.ROOT}/{path}{'?' if present else ''}{urllib.parse.urlencode(present)}"


def _wire(place: Place) -> wire.Place:
    from fuseml.artifactstores import wire

    return wire.Place(kind=place.kind, project=place.project, name=place.name)
