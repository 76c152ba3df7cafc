"""The port of git hosts: the protocol that each git host implements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


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
        """Remove the repository with all its history, and who was admitted to it; a missing one is fine."""

    def sign_webhooks(self, project: str, codeset: str, secret: str) -> None:
        """Have pushes told by webhooks that are signed with `secret`, from now on; saying so again changes nothing.

        Raises NotFoundError without a repository. A host that asks for the secret with each push does nothing here.
        """

    def admit(self, project: str, codeset: str, password: str) -> str:
        """Let everybody with this password push to this codeset, and to no other; returns the user name to give with it.

        `password` is the same for a codeset whenever this is called. Raises NotFoundError without a repository.
        """

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

    def digest(self, project: str, codeset: str, commit: str, paths: Sequence[str]) -> str:
        """What stands for the files of `commit` that a glob of `paths` matches, for all its files without globs (domain.plans.step_cache.digest).

        It is made of the path, mode and object id of each, as `git ls-tree -r` lists them: equal for equal files, on any host. Empty
        when no file matches. Raises NotFoundError for an unknown commit.
        """
