"""The git host of the embedded server: one bare repository per codeset, `<root>/<project>/<codeset>.git`.

Objects are never collected: a commit that a forced push made unreachable can still be exported, because a run may wait for it.
One process owns the root; pushes to one repository take their turns (`pushing`), readers never wait.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.plans import step_cache
from fuseml.githosts import checkout, history, payload
from fuseml.githosts.port import Push

if TYPE_CHECKING:
    from dulwich.objects import Commit
    from dulwich.repo import Repo

DEFAULT_BRANCH = "main"
# Inside the repository, so that it goes where that goes; no name of git's own.
_PUSHES = "fuseml-pushes"
_PUSHES_AT_ONCE = 1 << 18


class EmbeddedGitHost:
    """The `GitHost` over a folder; `url` is where `smart_http` is mounted, as clients see it, e.g. `http://127.0.0.1:8000/git`."""

    def __init__(self, root: Path, url: str) -> None:
        self._root = root
        self._url = url.rstrip("/")
        self._turns: dict[tuple[str, str], threading.Lock] = {}

    def mend(self) -> None:
        """Remove the locks that a process has left which died while it moved a ref: nobody could push there any more. Before anybody does."""
        for repository in self._root.glob("*/*.git"):
            # No ref is called so (git-check-ref-format).
            for lock in (*repository.glob("*.lock"), *(repository / "refs").rglob("*.lock")):
                lock.unlink()

    def create_repository(self, project: str, codeset: str) -> None:
        from dulwich.repo import Repo

        folder = self._folder(project, codeset)
        with self.pushing(project, codeset):
            if folder.exists():
                return
            folder.parent.mkdir(parents=True, exist_ok=True)
            # Made aside and renamed: a repository is there as a whole or not at all. No project begins with a dot.
            with tempfile.TemporaryDirectory(dir=self._root, prefix=".new-") as aside:
                fresh = Path(aside) / folder.name
                Repo.init_bare(fresh, mkdir=True, default_branch=DEFAULT_BRANCH.encode()).close()
                fresh.rename(folder)

    def delete_repository(self, project: str, codeset: str) -> None:
        folder = self._folder(project, codeset)
        with self.pushing(project, codeset):
            if not folder.exists():
                return
            with tempfile.TemporaryDirectory(dir=self._root, prefix=".gone-", ignore_cleanup_errors=True) as aside:
                folder.rename(Path(aside) / folder.name)

    def sign_webhooks(self, project: str, codeset: str, secret: str) -> None:
        # `smart_http` asks for the secret with every push.
        with self.open(project, codeset):
            pass

    def admit(self, project: str, codeset: str, password: str) -> str:
        # `smart_http` asks whether a password fits, whatever the user name.
        with self.open(project, codeset):
            return f"fuseml-{project}"

    def clone_url(self, project: str, codeset: str) -> str:
        self._folder(project, codeset)
        return f"{self._url}/{project}/{codeset}.git"

    def heads(self, project: str, codeset: str) -> dict[str, str]:
        with self.open(project, codeset) as repository:
            found = {}
            for ref, value in repository.get_refs().items():
                commit = history.commit_of(repository, value.decode())
                if ref.startswith((b"refs/heads/", b"refs/tags/")) and commit is not None:
                    found[ref.decode("utf-8", "replace")] = commit.id.decode()
            return dict(sorted(found.items()))

    def export(self, project: str, codeset: str, commit: str, directory: Path) -> None:
        with self.open(project, codeset) as repository:
            found = _commit(repository, project, codeset, commit)
            identity = {".fuseml/_org": project, ".fuseml/_project": codeset}
            checkout.write_tree(repository.object_store, found.tree, directory, identity)

    def changed_paths(self, project: str, codeset: str, before: str, after: str) -> list[str] | None:
        with self.open(project, codeset) as repository:
            old, new = history.commit_of(repository, before), history.commit_of(repository, after)
            if old is None or new is None:
                return None
            files = history.difference(repository, old, new)
            return sorted({*files.added, *files.removed, *files.modified})

    def digest(self, project: str, codeset: str, commit: str, paths: Sequence[str]) -> str:
        with self.open(project, codeset) as repository:
            return step_cache.digest(history.files(repository, _commit(repository, project, codeset, commit)), paths)

    def record_push(self, project: str, codeset: str, pusher: str, change: payload.Change) -> None:
        """Write down that a branch or tag is about to move; on stable storage when this returns. Deletions are of no interest."""
        if change.deleted or not change.ref.startswith(("refs/heads/", "refs/tags/")):
            return
        line = json.dumps({"ref": change.ref, "before": None if change.created else change.before, "after": change.after, "pusher": pusher})
        with (self._folder(project, codeset) / _PUSHES).open("ab") as record:
            # Each line on its own, also behind one that a crash or a full disk cut off.
            record.write(b"\n" + line.encode() + b"\n")
            record.flush()
            os.fsync(record.fileno())

    def pushes(self, project: str, codeset: str, after: int) -> tuple[list[Push], int]:
        try:
            with (self._folder(project, codeset) / _PUSHES).open("rb") as record:
                record.seek(after)
                part = record.read(_PUSHES_AT_ONCE)
        except FileNotFoundError:
            part = b""
        # A line without its end is still being written; one that is cut off belongs to a push that was never answered.
        whole = part[: part.rfind(b"\n") + 1]
        found = []
        # Opened after the record was read: it does not see commits that come later.
        with self.open(project, codeset) as repository:
            for line in whole.splitlines():
                try:
                    told = json.loads(line)
                except ValueError:
                    continue
                commit = history.commit_of(repository, told["after"])
                if commit is not None:
                    found.append(Push(told["ref"], told["before"], commit.id.decode(), told["pusher"]))
        return found, after + len(whole)

    @contextlib.contextmanager
    def open(self, project: str, codeset: str) -> Iterator[Repo]:
        """The repository, freshly opened: an open one does not see packs that later pushes bring. Raises NotFoundError."""
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
        """Held by whoever changes the repository; everybody else who wants to waits."""
        with self._turns.setdefault((project, codeset), threading.Lock()):
            yield

    def _folder(self, project: str, codeset: str) -> Path:
        # Identifiers hold neither dots nor slashes: no name leads out of the root.
        return self._root / document.check_identifier("project", project) / f"{document.check_identifier('codeset', codeset)}.git"


def _commit(repository: Repo, project: str, codeset: str, commit: str) -> Commit:
    found = history.commit_of(repository, commit)
    if found is None:
        raise errors.NotFoundError(f"the codeset {project}/{codeset} has no commit {commit}; was it pushed?")
    return found
