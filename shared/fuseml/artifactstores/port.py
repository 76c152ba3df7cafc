"""The port of artifact stores: the operations of each store, and their declaration by capabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from fuseml.artifactstores import verification
from fuseml.domain import errors
from fuseml.domain.artifact import Address

Capability = Literal["open", "write", "commit", "tag", "untag", "label", "delete", "page", "changes"]
"""An operation that not every store has. `label` stands for `label` and `unlabel`."""

CAPABILITIES: tuple[Capability, ...] = ("open", "write", "commit", "tag", "untag", "label", "delete", "page", "changes")

PAGE = 100
"""The default number of versions of one page."""


@dataclass(frozen=True, slots=True)
class About:
    """The facts that a producer states about an artifact when it is committed. `producer` names the run and step."""

    format: str = ""
    framework: str = ""
    framework_version: str = ""
    producer: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


UNSTATED = About()


@dataclass(frozen=True, slots=True)
class Description:
    """The facts that the store has about one version. `digest` identifies the contents, as `algorithm:value`; empty where the store has none.

    `size` is bytes and None where the store does not know it; `created` is Unix milliseconds. `labels` are the store's own key-values.
    """

    address: Address
    digest: str
    created: int
    size: int | None = None
    about: About = UNSTATED
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Version:
    """One line of a page: a version and its creation in Unix milliseconds."""

    address: Address
    created: int


@dataclass(frozen=True, slots=True)
class Page:
    """Versions, the oldest first; `after` asks for the next page and is empty behind the last one."""

    versions: Sequence[Version]
    after: str = ""


@dataclass(frozen=True, slots=True)
class Location:
    """The place of the contents for a workload: URI, digest, size in bytes if known, and the variables of the store's binding."""

    uri: str
    digest: str
    size: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """The place to which a workload writes a new version, and the variables that it needs for it."""

    kind: str
    project: str
    name: str
    uri: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class File:
    """One file of an artifact: its relative path with `/`, its bytes if the store knows them, and its digest as `algorithm:value`.

    The digest is empty where the store knows only that of the whole artifact.
    """

    path: str
    size: int | None
    digest: str
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be written: each call of `blocks` reads the same bytes from their beginning."""

    path: str
    blocks: Callable[[], Iterator[bytes]]
    executable: bool = False


@dataclass(frozen=True)
class Opened:
    """The files of one version. `fetch` reads a file without verification. `whole` verifies files that have no digests of their own."""

    address: Address
    files: Sequence[File]
    fetch: Callable[[File], Iterator[bytes]]
    whole: verification.Whole | None = None

    def read(self, file: File) -> Iterator[bytes]:
        """The blocks of a file. Raises PermanentError before the last block if they are not the recorded bytes.

        With `whole`, that is known before the last block of the last file.
        """
        if self.whole is not None:
            return self.whole.verified(self.fetch(file), file.path, file.size)
        return verification.verified(self.fetch(file), file.size, file.digest, f"{file.path!r} of {self.address}")


@dataclass(frozen=True, slots=True)
class Changes:
    """Versions that were created or changed, each at least once, and the position after them for the next call."""

    addresses: Sequence[Address]
    position: str


@dataclass(frozen=True, slots=True)
class Brought:
    """A version that a push has brought with `commit`: the facts about it, and the URI of its contents."""

    description: Description
    uri: str
    commit: str


@dataclass(frozen=True, slots=True)
class Pushed:
    """The versions of a codeset at one commit, and the reasons for which others of it are left out."""

    versions: Sequence[Brought]
    problems: Sequence[str] = ()


@runtime_checkable
class PushedStore(Protocol):
    """A store of which each version comes with a push to a codeset, in place of `ArtifactStore.changes`.

    Both calls ask the git host only. They raise TemporaryError, NotFoundError for an unknown commit, and InvalidError for a codeset whose
    contents this store does not hold.
    """

    def pushed(self, project: str, codeset: str, commit: str, before: str | None = None) -> Pushed:
        """The versions at a commit; with `before`, those of the files that differ from that commit."""

    def earlier(self, project: str, codeset: str, commit: str, after: str = "") -> Iterator[tuple[str, Brought]]:
        """All versions of the names at a commit, by name and the oldest first, each with the position behind it, for `after`.

        Read as far as it is iterated. A version may come again behind a position.
        """


class ArtifactStore(Protocol):
    """Holds the contents of artifacts, each version under its address for ever.

    Every call raises TemporaryError when the store cannot be reached or is busy, PermanentError when the same call cannot succeed, and
    NotFoundError for an unknown version. A call that `capabilities` does not declare raises PermanentError.
    """

    resource: str
    """The resource of the registry's services that are such a store."""

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of artifacts that it holds."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The operations that it has beside the common ones."""

    def describe(self, address: Address) -> Description:
        """The facts about one version."""

    def versions(self, kind: str, project: str, name: str, after: str = "", limit: int = PAGE) -> Page:
        """At most `limit` versions of a name; none of an unknown one. `after` is that of the former page."""

    def locate(self, address: Address) -> Location:
        """The place of the contents, for a workload that reads them itself."""

    def open(self, address: Address) -> Opened:
        """The files of a version, verified while they are read."""

    def place(self, kind: str, project: str, name: str) -> Place:
        """The place to which a workload writes a new version. Raises InvalidError for a kind that the store does not hold."""

    def write(self, place: Place, sources: Iterable[Source]) -> str:
        """Write the files of a new version, without making it visible; returns its digest for `commit`.

        A repetition after a kill stores only missing files. Raises InvalidError for paths that no folder could hold.
        """

    def commit(self, place: Place, digest: str, about: About = UNSTATED) -> Address:
        """Make the written contents a version, visible from now on. The same digest again returns the same address and changes nothing.

        Raises NotFoundError for a digest that is not written.
        """

    def resolve(self, kind: str, project: str, name: str, tag: str) -> Address:
        """The version that a tag names at this moment. Raises NotFoundError."""

    def tags(self, address: Address) -> Sequence[str]:
        """The tags of a version, sorted."""

    def tag(self, address: Address, tag: str) -> None:
        """Give a version a tag, which leaves the version that had it before."""

    def untag(self, address: Address, tag: str) -> None:
        """Remove a tag from a version. Does nothing where another version or none has it."""

    def label(self, address: Address, key: str, value: str) -> None:
        """Set a label of a version."""

    def unlabel(self, address: Address, key: str) -> None:
        """Remove a label of a version, if it has it."""

    def delete(self, address: Address) -> None:
        """Delete a version and its tags. Does nothing for an unknown one."""

    def page(self, address: Address) -> str:
        """The URL of the tool's own page about a version."""

    def changes(self, position: str = "") -> Changes:
        """Versions that were created or changed after a position of a former answer; of all versions without one."""


@runtime_checkable
class Discards(Protocol):
    """A store of FuseML's own, in which killed uploads and deleted versions leave contents that no version names.

    Contents younger than `stale` seconds stay: a present upload may need them.
    """

    def discard_name(self, kind: str, project: str, name: str, stale: float = ...) -> int:
        """Delete the leftovers of one name; the number of files."""

    def discard_some(self, kind: str, project: str, after: str = "", *, seconds: float, stale: float = ...) -> str:
        """Delete leftovers of the names of a project, for about so many seconds; the position for the next call, empty at the end."""


class Undeclared:
    """The calls that a store may leave undeclared: each raises PermanentError with the store's name."""

    resource: str

    def open(self, address: Address) -> Opened:
        """See `ArtifactStore.open`."""
        raise self._missing("read the contents of", address)

    def write(self, place: Place, sources: Iterable[Source]) -> str:
        """See `ArtifactStore.write`."""
        raise self._missing("write", f"{place.kind}://{place.project}/{place.name}")

    def commit(self, place: Place, digest: str, about: About = UNSTATED) -> Address:
        """See `ArtifactStore.commit`."""
        raise self._missing("commit", f"{place.kind}://{place.project}/{place.name}")

    def tag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.tag`."""
        raise self._missing("tag", address)

    def untag(self, address: Address, tag: str) -> None:
        """See `ArtifactStore.untag`."""
        raise self._missing("untag", address)

    def label(self, address: Address, key: str, value: str) -> None:
        """See `ArtifactStore.label`."""
        raise self._missing("label", address)

    def unlabel(self, address: Address, key: str) -> None:
        """See `ArtifactStore.unlabel`."""
        raise self._missing("unlabel", address)

    def delete(self, address: Address) -> None:
        """See `ArtifactStore.delete`."""
        raise self._missing("delete", address)

    def page(self, address: Address) -> str:
        """See `ArtifactStore.page`."""
        raise self._missing("show a page of", address)

    def changes(self, position: str = "") -> Changes:
        """See `ArtifactStore.changes`."""
        raise self._missing("list", "changes")

    def _missing(self, verb: str, subject: object) -> errors.PermanentError:
        return errors.PermanentError(f"the artifact store {self.resource!r} cannot {verb} {subject}")


def check_kind(store: ArtifactStore, kind: str) -> None:
    """Raises InvalidError for a kind that the store does not hold."""
    if kind not in store.kinds:
        raise errors.InvalidError(f"the artifact store {store.resource!r} holds no {kind}; its kinds are {', '.join(sorted(store.kinds))}")
