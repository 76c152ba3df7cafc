"""The history of one open repository, as pushes and exports need it."""

from __future__ import annotations

import functools
import itertools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from fuseml.domain import errors
from fuseml.githosts import port

if TYPE_CHECKING:
    from dulwich.object_store import BaseObjectStore
    from dulwich.objects import Commit, ObjectID, Tree
    from dulwich.repo import Repo

_MOST_VISITED = 500_000
# As in dulwich.
_DEEPEST = 1280
_LONGEST = 500


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


def difference(repository: Repo, before: Commit | None, after: Commit, limit: int) -> Difference:
    """The changes from `before` (None: an empty tree) to `after`. Raises TooLargeError beyond `limit` files."""
    files = Difference([], [], [])
    found = visited = 0
    # A small tree may stand at a million places; reading it once keeps the comparison of such a commit cheap.
    read = functools.lru_cache(maxsize=1024)(functools.partial(_children, repository.object_store))
    waiting: list[tuple[bytes, ObjectID | None, ObjectID | None]] = [(b"", before.tree if before else None, after.tree)]
    while waiting:
        folder, old_tree, new_tree = waiting.pop()
        old, new = read(old_tree), read(new_tree)
        visited += 1 + len(old) + len(new)
        if visited > _MOST_VISITED or folder.count(b"/") > _DEEPEST:
            raise errors.TooLargeError("the trees of the two commits are too large to compare")
        for name in old.keys() | new.keys():
            was, now, path = old.get(name), new.get(name), folder + name
            if was == now:
                continue
            trees = [entry[1] if entry and stat.S_ISDIR(entry[0]) else None for entry in (was, now)]
            if any(trees):
                waiting.append((path + b"/", trees[0], trees[1]))
            was_file, is_file = (entry is not None and not stat.S_ISDIR(entry[0]) for entry in (was, now))
            group = files.modified if was_file and is_file else files.added if is_file else files.removed if was_file else None
            if group is not None:
                group.append(path.decode("utf-8", "replace"))
                found += 1
        if found > limit:
            raise errors.TooLargeError(f"more than {limit} files differ between the two commits")
    for group in (files.added, files.removed, files.modified):
        group.sort()
    return files


def _children(store: BaseObjectStore, tree: ObjectID | None) -> dict[bytes, tuple[int, ObjectID]]:
    if tree is None:
        return {}
    return {entry.path: (entry.mode, entry.sha) for entry in cast("Tree", store[tree]).iteritems()}


def entries(store: BaseObjectStore, tree: ObjectID, limit: int) -> Iterator[tuple[bytes, int, ObjectID]]:
    """Path, mode and object id of every file, link and submodule of a tree, as `git ls-tree -r` lists them.

    Raises TooLargeError beyond `limit` entries, folders included: a tree of a few kilobytes can stand for any number of files; KeyError and
    ObjectFormatException for an incomplete or broken tree.
    """
    from dulwich import errors as git_errors
    from dulwich import objects

    visited = 0
    waiting: list[tuple[bytes, int, ObjectID]] = [(b"", stat.S_IFDIR, tree)]
    while waiting:
        path, mode, sha = waiting.pop()
        if not stat.S_ISDIR(mode):
            yield path, mode, sha
            continue
        found = store[sha]
        if not isinstance(found, objects.Tree):
            raise git_errors.ObjectFormatException(f"the object {sha.decode()} stands for a folder and is none")
        below = list(found.iteritems(name_order=False))
        visited += 1 + len(below)
        if visited > limit:
            raise errors.TooLargeError(f"the commit has more than {limit} files and folders")
        if path.count(b"/") > _DEEPEST:
            raise errors.TooLargeError(f"the commit has folders nested deeper than {_DEEPEST}")
        folder = path + b"/" if path else b""
        waiting += [(folder + entry.path, entry.mode, entry.sha) for entry in reversed(below)]


def files(repository: Repo, commit: Commit, limit: int) -> Iterator[tuple[str, int, str]]:
    """Path, mode and object id of every file of the commit, as `git ls-tree -r` lists them. Raises TooLargeError beyond `limit` entries."""
    for path, mode, sha in entries(repository.object_store, commit.tree, limit):
        yield os.fsdecode(path), mode, sha.decode()


def facts(commit: Commit) -> port.Commit:
    """The facts about a commit, with unreadable characters replaced."""
    author = commit.author.decode("utf-8", "replace").partition(" <")[0]
    subject = commit.message.decode("utf-8", "replace").partition("\n")[0]
    return port.Commit(commit.id.decode(), commit.commit_time * 1000, author[:_LONGEST], subject[:_LONGEST])


def oldest(repository: Repo, tip: Commit, skip: int, limit: int, path: str = "") -> list[Commit]:
    """The commits behind the first `skip` of a history, parents before children; with `path` those that changed it. Reads the whole history."""
    found = (entry.commit for entry in repository.get_walker(include=[tip.id], order="topo", reverse=True))
    if path:
        at = functools.partial(_object_at, repository.object_store, os.fsencode(path).split(b"/"))
        found = (commit for commit in found if _changes(repository.object_store, commit, at))
    return list(itertools.islice(found, skip, skip + limit))


def _changes(store: BaseObjectStore, commit: Commit, at: Callable[[ObjectID], object]) -> bool:
    """Whether the object of a commit is another one than that of each of its parents."""
    own = at(commit.tree)
    return all(own != at(cast("Commit", store[parent]).tree) for parent in commit.parents) if commit.parents else own is not None


def _object_at(store: BaseObjectStore, parts: Sequence[bytes], tree: ObjectID) -> tuple[int, ObjectID] | None:
    """Mode and object id of a path; None without one."""
    found: tuple[int, ObjectID] | None = (stat.S_IFDIR, tree)
    for part in parts:
        found = _children(store, found[1]).get(part) if found and stat.S_ISDIR(found[0]) else None
    return found


def read(repository: Repo, commit: Commit, path: str, limit: int) -> bytes | None:
    """The contents of a regular file; None without one. Raises TooLargeError beyond `limit` bytes."""
    found = _object_at(repository.object_store, os.fsencode(path).split(b"/"), commit.tree)
    if found is None or not stat.S_ISREG(found[0]):
        return None
    data = repository.object_store[found[1]].as_raw_string()
    if len(data) > limit:
        raise errors.TooLargeError(f"the file {path!r} has {len(data)} bytes, more than {limit}")
    return data


def head_name(repository: Repo) -> bytes:
    """The branch that a clone checks out, e.g. `refs/heads/main`; it may have no commits yet. Empty where HEAD names no branch."""
    from dulwich import refs

    return repository.refs.get_symrefs().get(refs.Ref(b"HEAD"), b"")


def head_ref(repository: Repo) -> str:
    """`head_name` as text."""
    return head_name(repository).decode("utf-8", "replace")
