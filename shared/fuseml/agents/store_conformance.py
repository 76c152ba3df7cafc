"""The checks of a store agent, for the capabilities that it declares."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from fuseml.agents.conformance import SkippedError, expect, fresh, refused
from fuseml.artifactstores import About, Capability, Place, Source
from fuseml.artifactstores.remote import RemoteStore
from fuseml.domain import artifact, errors
from fuseml.domain.artifact import Address
from fuseml.runtime import agent_calls

PROJECT = "fuseml-conformance"
_FILES = {"data.csv": b"a,b\n1,2\n" * 1000, "deep/er/empty.txt": b"", "größe/ß 1.bin": bytes(range(256)) * 100}


class StoreChecks:
    """The checks of the store agent at `url`."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._store = RemoteStore(url, {agent_calls.TOKEN: token})

    def all(self) -> Mapping[str, Callable[[], None]]:
        """Rule -> check."""
        return {
            "declares its protocol, kinds and capabilities": self._declares,
            "refuses a caller without the token": self._refuses_strangers,
            "refuses a kind that it does not hold": self._refuses_kinds,
            "has no versions of an unknown name": self._unknown_name,
            "answers not_found for an unknown version and an unknown tag": self._unknown_version,
            "keeps written contents invisible until their commit": self._invisible,
            "describes, lists and locates a committed version": self._described,
            "makes the same contents one version": self._one_version,
            "continues a repeated upload": self._repeated_upload,
            "refuses contents that are not written": self._unwritten,
            "reads files unchanged": self._read,
            "refuses paths that no folder could hold": self._paths,
            "lists versions by pages, the oldest first": self._pages,
            "moves a tag between versions": self._tags,
            "removes a tag": self._untag,
            "refuses an invalid tag": self._invalid_tag,
            "sets and removes labels": self._labels,
            "deletes a version with its tags, and again without effect": self._delete,
            "names a page of http(s)": self._page,
            "reports changes from a position on": self._changes,
        }

    def _declares(self) -> None:
        expect(self._store.kinds, f"it declares no kind of {', '.join(artifact.KINDS)}")
        expect("commit" in self._store.capabilities or "write" not in self._store.capabilities, "it declares 'write' without 'commit'")

    def _refuses_strangers(self) -> None:
        for token in ("", "another-token-0123456789"):
            stranger = RemoteStore(self._url, {agent_calls.TOKEN: token})
            refused(partial(stranger.versions, self._kind, PROJECT, "x"), errors.PermanentError, "a list for a caller without the token")

    def _refuses_kinds(self) -> None:
        missing = [kind for kind in artifact.KINDS if kind not in self._store.kinds]
        if not missing:
            raise SkippedError("it holds every kind")
        query = f"/store/v1/versions?kind={missing[0]}&project={PROJECT}&name=x"
        refused(partial(self._store.agent.call, "GET", query), errors.InvalidError, f"a list of the kind {missing[0]!r}")

    def _unknown_name(self) -> None:
        page = self._store.versions(self._kind, PROJECT, fresh("unknown"))
        expect(not page.versions and not page.after, "an unknown name has versions")

    def _unknown_version(self) -> None:
        address = Address(self._kind, PROJECT, fresh("unknown"), "sha256:" + "0" * 64)
        for name, call in (("describe", self._store.describe), ("locate", self._store.locate), ("tags", self._store.tags)):
            refused(partial(call, address), errors.NotFoundError, f"{name} of an unknown version")
        refused(partial(self._store.resolve, self._kind, PROJECT, address.name, "best"), errors.NotFoundError, "an unknown tag")
        if "delete" in self._store.capabilities:
            self._store.delete(address)

    def _invisible(self) -> None:
        self._needs("write")
        place = self._place()
        self._store.write(place, _sources(_FILES))
        expect(not self._store.versions(place.kind, PROJECT, place.name).versions, "written contents are listed before their commit")

    def _described(self) -> None:
        about = About(format="csv", metrics={"rows": 1.5}, params={"a": "ü"}, metadata={"from": "Köln"})
        with self._published(_FILES, about) as (address, _):
            found = self._store.describe(address)
            expect(found.created > 0, f"the version was created at {found.created}")
            expect(found.about.metrics == about.metrics and found.about.metadata == about.metadata, f"it describes {found.about}")
            location = self._store.locate(address)
            expect((location.digest, location.size) == (found.digest, found.size), "location and description differ in digest or size")
            expect("://" in location.uri, f"the location {location.uri[:100]!r} is no URI")
            listed = [version.address for version in self._store.versions(address.kind, PROJECT, address.name).versions]
            expect(listed == [address], f"the list of versions has {len(listed)} instead of one")

    def _one_version(self) -> None:
        with self._published({"a": b"1", "b": b"2"}) as (address, place):
            digest = self._store.write(place, _sources({"b": b"2", "a": b"1"}))
            again = self._store.commit(place, digest, About(format="other"))
            expect(again == address, f"the same contents are {again} beside {address}")
            expect(self._store.describe(address).about.format == "", "a repeated commit changes the description")

    def _repeated_upload(self) -> None:
        self._needs("write")
        place = self._place()
        first = self._store.write(place, _sources(_FILES))
        expect(self._store.write(place, _sources(_FILES)) == first, "a repeated upload has another digest")

    def _unwritten(self) -> None:
        self._needs("write")
        refused(partial(self._store.commit, self._place(), "sha256:" + "0" * 64), errors.NotFoundError, "a commit of unknown contents")

    def _read(self) -> None:
        self._needs("open")
        with self._published(_FILES) as (address, _):
            opened = self._store.open(address)
            found = {file.path: b"".join(opened.read(file)) for file in opened.files}
            expect(found == _FILES, f"it reads the files {', '.join(sorted(found))} with other contents or paths")

    def _paths(self) -> None:
        self._needs("write")
        place = {"kind": self._kind, "project": PROJECT, "name": fresh("paths")}
        empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        upload = f"/store/v1/uploads/{'0' * 64}"
        self._store.agent.send(f"{upload}/{empty.removeprefix('sha256:')}", lambda: iter(()), 0)
        for path in ("../escaped", "/escaped", "a/../../escaped", "a\\b", ""):
            body = {"place": place, "files": [{"path": path, "size": 0, "digest": empty}]}
            refused(partial(self._store.agent.call, "POST", upload, body), errors.InvalidError, f"a file with the path {path!r}")

    def _pages(self) -> None:
        self._needs("write")
        place = self._place()
        published = [self._publish(place, {"a": b"%d" % number}) for number in range(3)]
        found, after = [], ""
        for _ in range(10):
            page = self._store.versions(place.kind, PROJECT, place.name, after, 1)
            found += [version.address for version in page.versions]
            after = page.after
            if not after:
                break
        self._drop(*published)
        expect(
            sorted(map(str, found)) == sorted(map(str, published)), f"pages of one version have {len(found)} of {len(published)} versions"
        )
        expect(found == published, "the versions are not in the order of their commits")

    def _tags(self) -> None:
        self._needs("tag")
        with self._published({"a": b"1"}) as (first, place):
            second = self._publish(place, {"a": b"2"})
            for address in (first, second):
                self._store.tag(address, "best")
                expect(self._store.resolve(place.kind, PROJECT, place.name, "best") == address, "a tag does not move to another version")
            expect("best" not in self._store.tags(first), "the version that a tag has left still has it")
            self._drop(second)

    def _untag(self) -> None:
        self._needs("untag", "tag")
        with self._published({"a": b"1"}) as (address, _):
            self._store.tag(address, "best")
            self._store.untag(address, "best")
            self._store.untag(address, "best")
            expect("best" not in self._store.tags(address), "a removed tag is still listed")

    def _invalid_tag(self) -> None:
        self._needs("tag")
        with self._published({"a": b"1"}) as (address, _):
            path = f"/store/v1/tag?address={address}&tag=a%2Fb"
            refused(partial(self._store.agent.call, "PUT", path), errors.InvalidError, "the tag 'a/b'")

    def _labels(self) -> None:
        self._needs("label")
        with self._published({"a": b"1"}) as (address, _):
            self._store.label(address, "team", "größer")
            expect(self._store.describe(address).labels.get("team") == "größer", "a label is not described")
            self._store.unlabel(address, "team")
            self._store.unlabel(address, "team")
            expect("team" not in self._store.describe(address).labels, "a removed label is described")

    def _delete(self) -> None:
        self._needs("delete")
        with self._published({"a": b"1"}) as (address, place):
            if "tag" in self._store.capabilities:
                self._store.tag(address, "best")
            self._store.delete(address)
            self._store.delete(address)
            refused(partial(self._store.describe, address), errors.NotFoundError, "a deleted version")
            refused(
                partial(self._store.resolve, place.kind, PROJECT, place.name, "best"), errors.NotFoundError, "the tag of a deleted version"
            )

    def _page(self) -> None:
        self._needs("page")
        with self._published({"a": b"1"}) as (address, _):
            self._store.page(address)

    def _changes(self) -> None:
        self._needs("changes")
        position = self._store.changes().position
        with self._published({"a": b"1"}) as (address, _):
            expect(address in self._store.changes(position).addresses, "a new version is not among the changes")

    @property
    def _kind(self) -> str:
        return next(kind for kind in ("dataset", *sorted(self._store.kinds)) if kind in self._store.kinds)

    def _place(self) -> Place:
        return self._store.place(self._kind, PROJECT, fresh("check"))

    def _needs(self, *capabilities: Capability) -> None:
        for capability in capabilities:
            if capability not in self._store.capabilities:
                raise SkippedError(f"it declares no {capability!r}")

    def _publish(self, place: Place, files: Mapping[str, bytes], about: About = About()) -> Address:  # noqa: B008 - an immutable value
        return self._store.commit(place, self._store.write(place, _sources(files)), about)

    @contextlib.contextmanager
    def _published(self, files: Mapping[str, bytes], about: About = About()) -> Iterator[tuple[Address, Place]]:  # noqa: B008
        self._needs("write")
        place = self._place()
        address = self._publish(place, files, about)
        try:
            yield address, place
        finally:
            self._drop(address)

    def _drop(self, *addresses: Address) -> None:
        if "delete" in self._store.capabilities:
            for address in addresses:
                self._store.delete(address)


def _sources(files: Mapping[str, bytes]) -> list[Source]:
    return [Source(path, lambda data=data: iter([data])) for path, data in files.items()]  # type: ignore[misc]
