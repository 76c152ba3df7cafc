"""The port of git hosts: the protocol that each git host implements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fuseml.domain import commit_statuses, plans


@dataclass(frozen=True, slots=True)
class Push:
    """A push moved a branch or tag to `commit`; `before` is None for a new ref.

    `delivery` is the id of its webhook's delivery, in the record and in the delivery alike; empty in records of former releases.
    """

    ref: str
    before: str | None
    commit: str
    pusher: str
    delivery: str = ""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: its id, its time in Unix milliseconds, its author's name, and the first line of its message."""

    id: str
    created: int
    author: str
    subject: str


class GitHost(Protocol):
    """Repositories, one per codeset. The default branch is `main`, unless the first push to an empty repository creates another branch.

    `shows_statuses` says whether the host has a place for commit statuses.
    """

    shows_statuses: bool

    def set_status(self, project: str, codeset: str, commit: str, status: commit_statuses.Status) -> None:
        """Show a status at a commit, in place of the one with the same context; nothing on a host without a place for it. Raises
        NotFoundError for an unknown repository; for an unknown commit that, or what the host takes for a fault of its own.
        """

    def create_repository(self, project: str, codeset: str) -> None:
        """Create an empty repository; an existing one stays unchanged. Raises InvalidError for an invalid name."""

    def begin(self, project: str, codeset: str, readme: str) -> Push | None:
        """Commit a `README.md` with this text to the default branch of an empty repository; None if it has a branch already.

        The commit is a push of the host's record. Raises NotFoundError without a repository.
        """

    def delete_repository(self, project: str, codeset: str) -> None:
        """Remove the repository with its history and its push access. Does nothing for a missing one."""

    def sign_webhooks(self, project: str, codeset: str, secret: str) -> None:
        """Report pushes by webhooks that are signed with `secret` from now on. Idempotent.

        Raises NotFoundError without a repository. A host that looks up the secret at each push does nothing here.
        """

    def grant_push(self, project: str, codeset: str, password: str) -> str:
        """Grant push access to this codeset, and to no other, by a password; returns the user name that belongs to it.

        Does nothing where it is granted already. Raises NotFoundError without a repository, TemporaryError while another password is set:
        it is being replaced.
        """

    def replace_push(self, project: str, codeset: str, password: str) -> str:
        """Grant push access by `password` only: a former password ends at once; returns the user name. Raises NotFoundError."""

    def clone_url(self, project: str, codeset: str) -> str:
        """The HTTP address for `git clone` and `git push`, without credentials."""

    def heads(self, project: str, codeset: str) -> dict[str, str]:
        """Full name of every branch and tag -> its commit. Raises NotFoundError without a repository."""

    def pushes(self, project: str, codeset: str, after: int) -> tuple[Sequence[Push], int]:
        """Pushes after the position `after` (initially 0) of the host's record, oldest first, and the position after them.

        Long records are returned in parts: repeat until the position stays the same. The host records a push in one step with the move of its
        refs: what `heads` has returned is in a record that is read later. A host without a record returns no pushes; then only the present
        commits of its refs are known. Raises NotFoundError without a repository.
        """

    def export(self, project: str, codeset: str, commit: str, directory: Path) -> Sequence[plans.Submodule]:
        """Write the files of `commit`, reachable from a ref or not, into the new or empty `directory`; returns its submodules of other hosts.

        File modes are preserved. The identity of the codeset is added (`.fuseml/_org`, `.fuseml/_project`), unless the commit contains
        these files. A submodule whose address is a codeset of the same project on the host is written too, any other is an empty folder, for the
        engine to fill. A host outside FuseML returns no submodules, and leaves them and the contents of Git LFS to its own clones. No file is
        written outside `directory`, and no link leads out of it. Raises NotFoundError for an unknown commit, InvalidError for a tree that would
        escape and for a missing content of Git LFS (the directory then holds a partial checkout), ConflictError for a directory that is not
        empty.
        """

    def commit(self, project: str, codeset: str, commit: str) -> Commit:
        """The facts about a commit, reachable from a ref or not. Raises NotFoundError for an unknown one."""

    def commits(self, project: str, codeset: str, skip: int, limit: int, path: str = "") -> list[Commit]:
        """The commits of the default branch, the oldest first: at most `limit` after the first `skip`. None of an empty repository.

        With `path` only those that changed this file or folder, as `git log -- path` lists them; hosts differ in those of merged branches.
        A new commit is the last one. A merge, or a branch that is replaced, may change the order. Raises NotFoundError without a repository.
        """

    def paths(self, project: str, codeset: str, commit: str) -> list[str]:
        """The paths of all files, links and submodules of a commit, sorted. Raises NotFoundError for an unknown commit, TooLargeError."""

    def read(self, project: str, codeset: str, commit: str, path: str, limit: int) -> bytes:
        """The contents of one regular file of a commit. Raises NotFoundError, and TooLargeError for more than `limit` bytes."""

    def changed_paths(self, project: str, codeset: str, before: str, after: str) -> list[str] | None:
        """The paths of the files that differ between two commits, sorted.

        None if one of the commits does not exist, or if more files differ than `domain.pushes.MAX_PATHS`.
        """

    def digest(self, project: str, codeset: str, commit: str, paths: Sequence[str]) -> str:
        """A digest of the files of `commit` that match a glob of `paths`, of all files without globs (`domain.plans.step_cache.digest`).

        The digest covers the path, mode and object id of each file, as `git ls-tree -r` lists them: equal for equal files on all hosts.
        Empty when no file matches. Raises NotFoundError for an unknown commit.
        """
