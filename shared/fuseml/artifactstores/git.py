"""Code on a git host: a version is a commit of a codeset, a tag is a git tag. Users push; FuseML neither writes nor tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuseml.artifactstores.port import (
    PAGE,
    UNSTATED,
    About,
    Capability,
    Description,
    Location,
    Page,
    Place,
    Undeclared,
    Version,
    check_kind,
)
from fuseml.domain import errors
from fuseml.domain.artifact import Address

if TYPE_CHECKING:
    from fuseml.githosts import Commit, GitHost

EMBEDDED = "embedded-git"
"""The resource of the embedded server's git host, which is no record of the registry."""

_TAG = "refs/tags/"


class GitStore(Undeclared):
    """See `ArtifactStore`. `has_pages`: the git host shows commits in a web interface beside its clone addresses."""

    kinds = frozenset({"code"})

    def __init__(self, host: GitHost, *, resource: str = EMBEDDED, has_pages: bool = False) -> None:
        self.resource = resource
        self.capabilities: frozenset[Capability] = frozenset({"commit", "page"} if has_pages else {"commit"})
        self._host = host

    def describe(self, address: Address) -> Description:
        """See `ArtifactStore.describe`. Author and first line of the message are metadata."""
        commit = self._commit(address)
        about = About(format="git", metadata={"author": commit.author, "subject": commit.subject})
        return Description(address, f"sha1:{commit.id}", commit.created, about=about)

    def versions(self, kind: str, project: str, name: str, after: str = "", limit: int = PAGE) -> Page:
        """See `ArtifactStore.versions`. Commits of the default branch; a page continues by their number."""
        check_kind(self, kind)
        if after and not (after.isascii() and after.isdigit()):
            raise errors.InvalidError(f"{after[:100]!r} is not the end of a page of versions")
        skip = int(after or 0)
        try:
            commits = self._host.commits(project, name, skip, limit + 1)
        except (errors.NotFoundError, errors.InvalidError):
            return Page([])
        versions = [Version(Address(kind, project, name, commit.id), commit.created) for commit in commits[:limit]]
        return Page(versions, str(skip + limit) if len(commits) > limit else "")

    def locate(self, address: Address) -> Location:
        """The address for `git clone`, with the commit as fragment."""
        commit = self._commit(address)
        return Location(f"{self._host.clone_url(address.project, address.name)}#{commit.id}", f"sha1:{commit.id}")

    def place(self, kind: str, project: str, name: str) -> Place:
        """The address for `git push`."""
        check_kind(self, kind)
        return Place(kind, project, name, self._host.clone_url(project, name))

    def commit(self, place: Place, digest: str, about: About = UNSTATED) -> Address:
        """The address of a commit that was pushed: a push makes it visible. Raises NotFoundError for another one."""
        address = Address(place.kind, place.project, place.name, digest.removeprefix("sha1:"))
        self._commit(address)
        return address

    def resolve(self, kind: str, project: str, name: str, tag: str) -> Address:
        """See `ArtifactStore.resolve`."""
        check_kind(self, kind)
        commit = self._host.heads(project, name).get(f"{_TAG}{tag}")
        if commit is None:
            raise errors.NotFoundError(f"the codeset {project}/{name} has no tag {tag!r}")
        return Address(kind, project, name, commit)

    def tags(self, address: Address) -> list[str]:
        """The git tags of the commit, those of GTO as they are spelled."""
        self._commit(address)
        heads = self._host.heads(address.project, address.name)
        return sorted(ref.removeprefix(_TAG) for ref, commit in heads.items() if ref.startswith(_TAG) and commit == address.version)

    def page(self, address: Address) -> str:
        """See `ArtifactStore.page`."""
        if "page" not in self.capabilities:
            return super().page(address)
        return f"{self._host.clone_url(address.project, address.name).removesuffix('.git')}/commit/{address.version}"

    def _commit(self, address: Address) -> Commit:
        check_kind(self, address.kind)
        return self._host.commit(address.project, address.name, address.version)
