"""The first commit of a repository: some git clients cannot clone an empty one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dulwich.repo import Repo

AUTHOR = "FuseML"
README = "README.md"
MESSAGE = "Initial commit"

_IDENTITY = f"{AUTHOR} <fuseml@localhost>".encode()
_FILE = 0o100644


def write(repository: Repo, readme: str) -> str:
    """Store the objects of a commit without parents, with one file; returns its id. No ref moves."""
    from dulwich.objects import Blob, Commit, Tree

    blob, tree, commit = Blob.from_string(readme.encode()), Tree(), Commit()
    tree.add(README.encode(), _FILE, blob.id)
    commit.tree = tree.id
    commit.author = commit.committer = _IDENTITY
    commit.author_time = commit.commit_time = int(time.time())
    commit.author_timezone = commit.commit_timezone = 0
    commit.message = f"{MESSAGE}\n".encode()
    repository.object_store.add_objects([(item, None) for item in (blob, tree, commit)])
    return commit.id.decode()
