"""The git host of the embedded server: one bare repository per codeset, `<root>/<project>/<codeset>.git`.

Objects are never garbage-collected: a queued run may need a commit that a forced push made unreachable. One process owns the root. Pushes
to one repository are serialised (`pushing`); readers never block.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fuseml.domain import commit_statuses, errors, plans, pushes
from fuseml.domain.documents import document
from fuseml.domain.plans import step_cache
from fuseml.githosts import checkout, first_commit, history, large_files, lfs, payload, port, shallow, submodules
from fuseml.githosts.limits import DEFAULT, Limits
from fuseml.githosts.port import Push

if TYPE_CHECKING:
    from dulwich.objects import Commit
    from dulwich.repo import Repo

    from fuseml.githosts import ref_moves

DEFAULT_BRANCH = "main"
_PUSHES_AT_ONCE = 1 << 18


class EmbeddedGitHost:
    """The `GitHost` over a folder; `url` is where `smart_http` is mounted, as clients see it, e.g. `http://127.0.0.1:8000/git`.

    Without `owned`, another process owns the folder: it is only read.
    """

    shows_statuses = False

    def __init__(self, root: Path, url: str, limits: Limits = DEFAULT, *, owned: bool = True) -> None:
        self._root = root
        self._owned = owned
        self._url = url.rstrip("/")
        self.limits = limits
        self._locks: dict[tuple[str, str], threading.Lock] = {}
        self._moving: dict[tuple[str, str], threading.Lock] = {}

    def recover(self) -> None:
        """Repair the repositories after the death of a process that moved refs: its locks block all pushes, and its pushes are not recorded.

        Call this before pushes are served.
        """
        for repository in self._root.glob("*/*.git"):
            objects = repository / "objects"
            # No ref ends with .lock (git-check-ref-format); objects and indexes of packs are locked while they are written.
            for lock in (*repository.glob("*.lock"), *(repository / "refs").rglob("*.lock"), *objects.glob("*/*.lock")):
                lock.unlink()
            for unfinished in objects.glob("tmp_pack_*"):
                unfinished.unlink()
            lfs.Objects(repository).recover()
            if (repository / payload.INTENT).exists():
                with self._settled(repository.parent.name, repository.stem):
                    pass

    def create_repository(self, project: str, codeset: str) -> None:
        from dulwich.repo import Repo

        folder = self._folder(project, codeset)
        with self.pushing(project, codeset):
            if folder.exists():
                return
            folder.parent.mkdir(parents=True, exist_ok=True)
            # A rename creates the repository atomically. No project name starts with a dot.
            with tempfile.TemporaryDirectory(dir=self._root, prefix=".new-") as temporary:
                new = Path(temporary) / folder.name
                Repo.init_bare(new, mkdir=True, default_branch=DEFAULT_BRANCH.encode()).close()
                new.rename(folder)

    def begin(self, project: str, codeset: str, readme: str) -> Push | None:
        with self.pushing(project, codeset), self.open(project, codeset) as repository:
            if any(ref.startswith(b"refs/heads/") for ref in repository.get_refs()):
                return None
            change = payload.Change(f"refs/heads/{DEFAULT_BRANCH}", payload.ZERO, first_commit.write(repository, readme))
            [move] = self.move_refs(project, codeset, repository, [change], first_commit.AUTHOR, atomic=False)
        if move.error:
            raise errors.TemporaryError(f"the first commit of {project}/{codeset} was not stored: {move.error}")
        return Push(change.text, None, change.after, first_commit.AUTHOR, move.delivery)

    def delete_repository(self, project: str, codeset: str) -> None:
        folder = self._folder(project, codeset)
        with self.pushing(project, codeset):
            if not folder.exists():
                return
            with tempfile.TemporaryDirectory(dir=self._root, prefix=".gone-", ignore_cleanup_errors=True) as temporary:
                folder.rename(Path(temporary) / folder.name)

    def sign_webhooks(self, project: str, codeset: str, secret: str) -> None:
        # `smart_http` looks up the secret at each push.
        with self.open(project, codeset):
            pass

    def set_status(self, project: str, codeset: str, commit: str, status: commit_statuses.Status) -> None:
        """Does nothing: this host has no pages. The runs of a commit are in the API."""

    def grant_push(self, project: str, codeset: str, password: str) -> str:
        # `smart_http` checks the password and ignores the user name.
        with self.open(project, codeset):
            return f"fuseml-{project}"

    def replace_push(self, project: str, codeset: str, password: str) -> str:
        return self.grant_push(project, codeset, password)

    def clone_url(self, project: str, codeset: str) -> str:
        self._folder(project, codeset)
        return f"{self._url}/{project}/{codeset}.git"

    def lfs_objects(self, project: str, codeset: str) -> lfs.Objects:
        """The LFS objects of the codeset."""
        return lfs.Objects(self._folder(project, codeset))

    def heads(self, project: str, codeset: str) -> dict[str, str]:
        with self._settled(project, codeset) as repository:
            heads = {}
            for ref, value in repository.get_refs().items():
                commit = history.commit_of(repository, value.decode())
                if ref.startswith((b"refs/heads/", b"refs/tags/")) and commit is not None:
                    heads[ref.decode("utf-8", "replace")] = commit.id.decode()
            return dict(sorted(heads.items()))

    def export(self, project: str, codeset: str, commit: str, directory: Path) -> list[plans.Submodule]:
        identity = {".fuseml/_org": project, ".fuseml/_project": codeset}
        waiting = [(found, directory) for found in self._export(project, codeset, commit, directory, identity)]
        foreign: list[plans.Submodule] = []
        count = 0
        while waiting:
            submodule, above = waiting.pop()
            place = above / submodule.path
            if not submodule.codeset:
                foreign.append(plans.Submodule(place.relative_to(directory).as_posix(), submodule.url, submodule.commit))
            if submodule.project != project:
                continue  # codesets of other projects stay private
            count += 1
            if count > submodules.MOST:
                raise errors.InvalidError(f"the codeset has more than {submodules.MOST} submodules, nested ones included")
            with contextlib.suppress(errors.NotFoundError):  # it stays empty, as any other submodule that this host does not have
                nested = self._export(project, submodule.codeset, submodule.commit, place, {})
                waiting += [(found, place) for found in nested]
        return foreign

    def add_repository(self, project: str, codeset: str, commit: str, directory: Path) -> None:
        """Make a new checkout of the commit a git repository, detached at it and without the commits before."""
        with self.open(project, codeset) as repository:
            stored = _commit(repository, project, codeset, commit)
            shallow.make(repository, stored, directory, self.clone_url(project, codeset), self.limits.files)

    def _export(self, project: str, codeset: str, commit: str, directory: Path, extra: Mapping[str, str]) -> list[submodules.Submodule]:
        """Write one tree; returns its submodules."""
        with self.open(project, codeset) as repository:
            stored, url = _commit(repository, project, codeset, commit), self.clone_url(project, codeset)
            lfs_server = large_files.LfsServer(self.lfs_objects(project, codeset), url)
            checkout.write_tree(repository.object_store, stored.tree, directory, extra, self.limits, lfs_server)
            return list(submodules.found(repository.object_store, stored.tree, url, self._url, self.limits.files))

    def commit(self, project: str, codeset: str, commit: str) -> port.Commit:
        with self.open(project, codeset) as repository:
            return history.facts(_commit(repository, project, codeset, commit))

    def commits(self, project: str, codeset: str, skip: int, limit: int, path: str = "") -> list[port.Commit]:
        with self.open(project, codeset) as repository:
            tip = next((value for ref, value in repository.get_refs().items() if ref == history.head_name(repository)), None)
            found = history.commit_of(repository, tip.decode()) if tip else None
            return [history.facts(item) for item in history.oldest(repository, found, skip, limit, path)] if found else []

    def paths(self, project: str, codeset: str, commit: str) -> list[str]:
        with self.open(project, codeset) as repository:
            return sorted(
                path for path, _, _ in history.files(repository, _commit(repository, project, codeset, commit), self.limits.files)
            )

    def read(self, project: str, codeset: str, commit: str, path: str, limit: int) -> bytes:
        with self.open(project, codeset) as repository:
            data = history.read(repository, _commit(repository, project, codeset, commit), path, limit)
        if data is None:
            raise errors.NotFoundError(f"the commit {commit} of {project}/{codeset} has no file {path!r}")
        return data

    def changed_paths(self, project: str, codeset: str, before: str, after: str) -> list[str] | None:
        with self.open(project, codeset) as repository:
            old, new = history.commit_of(repository, before), history.commit_of(repository, after)
            if old is None or new is None:
                return None
            try:
                files = history.difference(repository, old, new, pushes.MAX_PATHS)
            except errors.TooLargeError:
                return None
            return sorted({*files.added, *files.removed, *files.modified})

    def digest(self, project: str, codeset: str, commit: str, paths: Sequence[str]) -> str:
        with self.open(project, codeset) as repository:
            files = history.files(repository, _commit(repository, project, codeset, commit), self.limits.files)
            return step_cache.digest(files, paths)

    def move_refs(
        self, project: str, codeset: str, repository: Repo, changes: Sequence[payload.Change], pusher: str, *, atomic: bool
    ) -> list[ref_moves.Move]:
        """Move refs and record the pushes in one step; `atomic`: all or none. A failed move is returned with its reason."""
        from fuseml.githosts import ref_moves

        folder = self._folder(project, codeset)
        with self._moving_lock(project, codeset):
            ref_moves.complete(repository.refs, folder)
            return ref_moves.move(repository.refs, folder, changes, pusher, atomic=atomic)

    def pushes(self, project: str, codeset: str, after: int) -> tuple[list[Push], int]:
        found = []
        with self._settled(project, codeset) as repository:
            try:
                with (self._folder(project, codeset) / payload.RECORD).open("rb") as record:
                    record.seek(after)
                    part = record.read(_PUSHES_AT_ONCE)
            except FileNotFoundError:
                part = b""
            # A line that is cut off is not complete; a line longer than a part would stop the sweep for ever, and cannot exist.
            complete = part[: part.rfind(b"\n") + 1]
            for line in complete.splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                commit = history.commit_of(repository, entry["after"])
                if commit is not None:
                    ref = payload.Change(entry["ref"], "", "").text
                    found.append(Push(ref, entry["before"], commit.id.decode(), entry["pusher"], entry.get("delivery", "")))
        return found, after + len(complete)

    @contextlib.contextmanager
    def _settled(self, project: str, codeset: str) -> Iterator[Repo]:
        """The repository while no ref moves: refs and record agree. Raises NotFoundError."""
        with self._moving_lock(project, codeset), self.open(project, codeset) as repository:
            folder = self._folder(project, codeset)
            if self._owned and (folder / payload.INTENT).exists():
                from fuseml.githosts import ref_moves

                ref_moves.complete(repository.refs, folder)
            yield repository

    def _moving_lock(self, project: str, codeset: str) -> threading.Lock:
        return self._moving.setdefault((project, codeset), threading.Lock())

    @contextlib.contextmanager
    def open(self, project: str, codeset: str) -> Iterator[Repo]:
        """The repository, newly opened: an open one does not see the packs of later pushes. Raises NotFoundError."""
        from dulwich import errors as git_errors
        from dulwich.repo import Repo

        try:
            repository = Repo(str(self._folder(project, codeset)))
        except git_errors.NotGitRepository as error:
            raise errors.NotFoundError(f"there is no codeset {project}/{codeset} on this git host") from error
        with repository:
            yield repository

    @contextlib.contextmanager
    def pushing(self, project: str, codeset: str) -> Iterator[None]:
        """Exclusive access for changes of the repository; other writers block until its end."""
        with self._locks.setdefault((project, codeset), threading.Lock()):
            yield

    def _folder(self, project: str, codeset: str) -> Path:
        # Identifiers contain neither dots nor slashes: no path leads outside the root.
        return self._root / document.check_identifier("project", project) / f"{document.check_identifier('codeset', codeset)}.git"


def _commit(repository: Repo, project: str, codeset: str, commit: str) -> Commit:
    stored = history.commit_of(repository, commit)
    if stored is None:
        raise errors.NotFoundError(f"the codeset {project}/{codeset} has no commit {commit}; push it first")
    return stored
