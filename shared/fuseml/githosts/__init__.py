"""Where the code of codesets lives: bare repositories that people push to, read by commit.

Two implementations fit the `GitHost` protocol: `embedded` (repositories on this disk, served over HTTP by `smart_http`) and
Gitea. Both tell of a push in the same words, Gitea's webhook, so that `gitea_ingress` cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fuseml.domain import errors


@dataclass(frozen=True, slots=True)
class Push:
    """A branch or tag was moved to `commit`; `before` is None where it was new."""

    ref: str
    before: str | None
    commit: str
    pusher: str


class GitHost(Protocol):
    """Repositories, one per codeset, with default branch `main` until a first push says otherwise."""

    def create_repository(self, project: str, codeset: str) -> None:
        """Make an empty repository; one that is there already stays as it is. Raises InvalidError for an illegal name."""

    def delete_repository(self, project: str, codeset: str) -> None:
        """Remove the repository with all its history; a missing one is fine."""

    def clone_url(self, project: str, codeset: str) -> str:
        """The HTTP address for `git clone` and `git push`, without credentials in it."""

    def heads(self, project: str, codeset: str) -> dict[str, str]:
        """Full name of every branch and tag -> the commit that it stands for. Raises NotFoundError without a repository."""

    def pushes(self, project: str, codeset: str, after: int) -> tuple[Sequence[Push], int]:
        """Pushes behind the position `after` (at first 0) of the host's record, oldest first, and the position behind them.

        Some of them, where there are many: ask again until there are none. A push is in the record before it is answered. A host that
        keeps no record answers with none: only where its refs are now can then be known. Raises NotFoundError without a repository.
        """

    def export(self, project: str, codeset: str, commit: str, directory: Path) -> None:
        """Write the files of exactly `commit`, reachable from a ref or not, into the new or empty `directory`.

        File modes are kept. The identity of the codeset is written next to them (`.fuseml/_org`, `.fuseml/_project`) where the
        commit does not bring these files. Nothing is ever written outside `directory` and no link leads out of it. Raises
        NotFoundError for an unknown commit, InvalidError for a tree that would escape (the directory then holds an unfinished
        checkout), ConflictError for a directory in use.
        """

    def changed_paths(self, project: str, codeset: str, before: str, after: str) -> list[str] | None:
        """The files that differ between two commits, sorted; None where one of them is not there (a new ref has no `before`)."""


def connect(url: str) -> GitHost:
    """The git host at `url`. Raises PermanentError: there is none yet but the embedded one."""
    raise errors.PermanentError(f"the git host at {url!r} cannot be used yet: Gitea is not part of this release; use `fuseml up`")
