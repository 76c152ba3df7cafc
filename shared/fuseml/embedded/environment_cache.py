"""The environments of codesets on this machine: what they take, what needs them, and the removal of those that nothing needs.

The folder has a subfolder for each project, with an environment for each content key, and uv's downloads and Pythons in `.uv`. The processes
of an environment hold a lock on its file (`steps.occupancy`), builders one beside it. A removal takes both locks, renames the environment,
and then deletes it: a kill leaves a renamed folder, which the next removal deletes.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import logging
import os
import pathlib
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlmodel import Session

from fuseml.domain import errors
from fuseml.engines.local import implementations
from fuseml.runtime.settings import Settings
from fuseml.steps import environments, occupancy
from fuseml.store import applications, database, executions

_log = logging.getLogger("fuseml.environments")
GIB = 1 << 30
_TRASH, _DOWNLOADS = ".trash-", ".uv/cache"
_INTERVAL_SECONDS = 600.0
# A builder's output reaches the database some time after its environment exists.
_FRESH_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An environment, or the downloads of a project (`environment` is empty), which later builds use.

    `size` is in bytes; of downloads, those that no environment shares. `used` is an RFC 3339 time; `needed_by` is the reason why it stays, empty if
    it may be removed.
    """

    project: str
    environment: str
    size: int
    used: str
    needed_by: str

    @property
    def kind(self) -> str:
        """`environment` or `downloads`."""
        return "environment" if self.environment else "downloads"


def limit(environment: Mapping[str, str]) -> int:
    """The bytes that environments may take, by FUSEML_ENVIRONMENTS_GIB. Raises PermanentError for what is no number above 0."""
    given = Settings.known(environment)
    return given.bound("environments_gib", "GiB") * GIB


class EnvironmentCache:
    """The environments in `folder`, of the runs and applications in `store`. With a `limit` in bytes, it removes more than that while it runs."""

    def __init__(self, folder: pathlib.Path, store: database.Database, limit: int) -> None:
        self._folder, self._store, self._limit = folder, store, limit
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="environments", daemon=True)

    def start(self) -> None:
        """Start to keep the limit: now, and every ten minutes."""
        self._thread.start()

    def stop(self) -> None:
        """Remove no further environment, and wait for the current removal only if it is short."""
        self._stopping.set()
        self._thread.join(1.0)

    def entries(self) -> list[Entry]:
        """All downloads and environments, in the order of their removal: the least recently used first."""
        with self._store.read() as session:
            needed = _needed(session)
        found = [self._entry(path, needed) for path in self._environments()]
        found += [self._downloads(path) for path in self._projects() if (path / _DOWNLOADS).is_dir()]
        return sorted(found, key=lambda entry: (entry.kind, entry.used))

    def prune(self, limit: int) -> tuple[list[Entry], list[Entry]]:
        """Remove downloads, then environments, the least recently used first, until the rest takes at most `limit` bytes.

        Downloads come first, because environments share files with them: while these remain, the removal of an environment frees little.
        Returns the removed entries and the remaining ones. Nothing that is needed is removed.
        """
        self._sweep()
        removed: list[Entry] = []
        entries = self.entries()
        size = sum(entry.size for entry in entries)
        for entry in entries:
            if size > limit and not entry.needed_by and not self._stopping.is_set() and self._remove(entry):
                removed.append(entry)
                size -= entry.size
        return removed, [entry for entry in entries if entry not in removed]

    def _projects(self) -> list[pathlib.Path]:
        return sorted(path for path in self._folder.iterdir() if path.is_dir()) if self._folder.is_dir() else []

    def _environments(self) -> list[pathlib.Path]:
        paths = (path for project in self._projects() for path in sorted(project.iterdir()) if not path.name.startswith("."))
        return [path for path in paths if environments.is_complete(path)]

    def _entry(self, path: pathlib.Path, needed: dict[str, str]) -> Entry:
        used = path.stat().st_mtime
        reason = needed.get(_image(path), "")
        if not reason and _is_locked(path / occupancy.LOCK):
            reason = "a running process"
        if not reason and time.time() - used < _FRESH_SECONDS:
            reason = "a use in the last ten minutes"
        return Entry(project=path.parent.name, environment=path.name, size=_size(path), used=_time(used), needed_by=reason)

    def _downloads(self, project: pathlib.Path) -> Entry:
        building = any(_is_locked(lock) for lock in project.glob(".*.lock"))
        place = project / _DOWNLOADS
        used = place.stat().st_mtime
        size = _size(place, unshared=True)
        return Entry(project=project.name, environment="", size=size, used=_time(used), needed_by="a builder" if building else "")

    def _remove(self, entry: Entry) -> bool:
        project = self._folder / entry.project
        place = project / entry.environment if entry.environment else project / _DOWNLOADS
        trash = project / f"{_TRASH}{os.urandom(8).hex()}"
        try:
            with contextlib.ExitStack() as locks:
                if entry.environment:
                    locks.enter_context(_lock(project / f".{entry.environment}.lock"))
                    if _time(place.stat().st_mtime) != entry.used:
                        return False  # a builder has returned it since it was listed
                    locks.enter_context(_lock(place / occupancy.LOCK))
                    with self._store.write() as session:
                        if _image(place) in _needed(session):
                            return False
                        # First: a run that reuses the builder's output must not find an environment that is gone.
                        executions.forget(session, [_image(place)])
                    place.rename(trash)
                else:
                    for lock in project.glob(".*.lock"):
                        locks.enter_context(_lock(lock))
                    place.rename(trash)
        except (BlockingIOError, FileNotFoundError):
            return False  # used, or removed, since it was listed
        _delete(trash)
        _log.info("removed the %s %s of project %s: %.1f MB", entry.kind, entry.environment, entry.project, entry.size / 1e6)
        return True

    def _sweep(self) -> None:
        """Delete what killed removals and killed builders have left."""
        for project in self._projects():
            for path in project.glob(f"{_TRASH}*"):
                _delete(path)
            for path in project.glob(".*.partial"):
                with contextlib.suppress(BlockingIOError), _lock(path.with_suffix(".lock")):
                    _delete(path)
            # An environment of conda is built at its own place.
            for path in project.iterdir():
                if path.is_dir() and not path.name.startswith(".") and not environments.is_complete(path):
                    with contextlib.suppress(BlockingIOError), _lock(project / f".{path.name}.lock"):
                        if not environments.is_complete(path):
                            _delete(path)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self.prune(self._limit)
            except (errors.FusemlError, OSError) as error:
                _log.warning("environments could not be removed: %s", error)
            self._stopping.wait(_INTERVAL_SECONDS)


def _needed(session: Session) -> dict[str, str]:
    """Image -> reason, for the environments of applications and of unfinished runs."""
    served = {image: f"application {name}" for image, name in applications.runtimes(session).items()}
    return {**dict.fromkeys(executions.unfinished_outputs(session), "an unfinished run"), **served}


def _image(path: pathlib.Path) -> str:
    return f"{implementations.TRAINER}:{path.parent.name}.{path.name}"


@contextlib.contextmanager
def _lock(path: pathlib.Path) -> Iterator[None]:
    """Hold the lock. Raises BlockingIOError while another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _is_locked(path: pathlib.Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _size(folder: pathlib.Path, *, unshared: bool = False) -> int:
    """The bytes of all files below, each once; only of those without a second link if `unshared`."""
    sizes: dict[tuple[int, int], int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(os.path.join(place, name))  # noqa: PTH118 - tens of thousands of files
                if not unshared or status.st_nlink == 1:
                    sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _delete(path: pathlib.Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        _log.warning("%s could not be deleted, which keeps its disk space; the next removal tries again: %s", path, error)
