"""A checkout as a git repository: one commit without its parents, detached, with a clean status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fuseml.githosts import history, large_files

if TYPE_CHECKING:
    from dulwich.objects import Commit, ObjectID
    from dulwich.repo import Repo


def make(source: Repo, commit: Commit, directory: Path, url: str, limit: int) -> None:
    """Add `.git` to `directory`, a new checkout of the commit. The files of FuseML in it are ignored."""
    from dulwich import index, objects
    from dulwich.repo import Repo

    with Repo.init(directory) as repository:
        store = repository.object_store
        store.add_object(commit)
        _copy_trees(source, repository, commit.tree)
        entries = repository.open_index()
        listed = list(history.entries(source.object_store, commit.tree, limit))
        for path, mode, object_id in listed:
            if not objects.S_ISGITLINK(mode):
                store.add_object(source.object_store[object_id])
            file = directory / path.decode("utf-8", "surrogateescape")
            entries[path] = index.index_entry_from_stat(file.lstat(), object_id, mode=mode)
        entries.write()
        folder = Path(repository.controldir())
        (folder / "HEAD").write_bytes(commit.id + b"\n")
        if commit.parents:
            (folder / "shallow").write_bytes(commit.id + b"\n")
        config = repository.get_config()
        config.set((b"remote", b"origin"), b"url", url.encode())
        if large_files.uses_lfs(source.object_store, listed):
            # As `git lfs install` does: git compares the files with their pointers.
            for action in (b"clean", b"smudge"):
                config.set((b"filter", b"lfs"), action, b"git-lfs " + action + b" -- %f")
        config.write_to_path()
        exclude = folder / "info" / "exclude"
        exclude.parent.mkdir(exist_ok=True)
        exclude.write_text("/.fuseml/\n", encoding="utf-8")


def _copy_trees(source: Repo, target: Repo, root: ObjectID) -> None:
    from dulwich import objects

    waiting = [root]
    while waiting:
        tree = source.object_store[waiting.pop()]
        target.object_store.add_object(tree)
        if isinstance(tree, objects.Tree):
            waiting += [item.sha for item in tree.items() if item.mode == 0o040000]
