"""The history of one open repository, as pushes and exports need it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dulwich.objects import Commit, ObjectID
    from dulwich.repo import Repo


@dataclass(frozen=True, slots=True)
class Difference:
    """The files that differ between two trees, by kind of change; a renamed file counts as removed and added."""

    added: list[str]
    removed: list[str]
    modified: list[str]


def commit_of(repository: Repo, object_id: str) -> Commit | None:
    """The commit of this id, or the commit of the tag object of this id; None if there is none."""
    from dulwich import object_store, objects

    name = object_id.encode("ascii", "replace")
    if not objects.valid_hexsha(name):
        return None
    try:
        peeled = object_store.peel_sha(repository.object_store, objects.ObjectID(name))[1]
    except KeyError:
        return None
    return peeled if isinstance(peeled, objects.Commit) else None


def new_commits(repository: Repo, tip: Commit, known: Sequence[ObjectID], limit: int | None = None) -> list[Commit]:
    """The commits of `git rev-list tip --not known`, newest first. Raises KeyError or MissingCommitError for an incomplete history."""
    entries = repository.get_walker(include=[tip.id], exclude=known)
    return [entry.commit for entry in itertools.islice(entries, limit)]


def difference(repository: Repo, before: Commit | None, after: Commit) -> Difference:
    """The changes from `before` (None: an empty tree) to `after`."""
    from dulwich import diff_tree

    files = Difference([], [], [])
    groups = {diff_tree.CHANGE_ADD: files.added, diff_tree.CHANGE_DELETE: files.removed, diff_tree.CHANGE_MODIFY: files.modified}
    for change in diff_tree.tree_changes(repository.object_store, before.tree if before else None, after.tree):
        entry = change.new or change.old
        if entry is not None and entry.path is not None:
            groups[change.type].append(entry.path.decode("utf-8", "replace"))
    return files


def files(repository: Repo, commit: Commit) -> Iterator[tuple[str, int, str]]:
    """Path, mode and object id of every file of the commit, as `git ls-tree -r` lists them."""
    from dulwich import object_store

    for entry in object_store.iter_tree_contents(repository.object_store, commit.tree):
        if entry.path is not None and entry.mode is not None and entry.sha is not None:
            yield os.fsdecode(entry.path), entry.mode, entry.sha.decode()


def head_ref(repository: Repo) -> str:
    """The branch that a clone checks out, e.g. `refs/heads/main`; it may have no commits yet."""
    from dulwich import refs

    return repository.refs.get_symrefs().get(refs.Ref(b"HEAD"), b"").decode("utf-8", "replace")
