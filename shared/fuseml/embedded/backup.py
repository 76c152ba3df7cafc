"""Backup of the embedded server's home, while the server runs, and its restoration.

A copy is consistent by its order: the database first, then what it refers to, which only grows: git objects, contents, artifacts. Of a
repository the refs precede the record of pushes, and both the objects. What happened after the copy of the database is found by the sweep
of the restored server, as after a crash. The keys come last: a rotation only adds one.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import importlib.metadata
import os
import pathlib
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from fuseml.domain import errors
from fuseml.embedded import archive
from fuseml.embedded import home as homes
from fuseml.store import database

DATABASE = "fuseml.db"
EXCLUDED = {
    "environments": "environments of steps (a run with --no-cache builds them)",
    "apps": "downloads and logs of model servers",
    "logs": "logs of the server",
}
_MOMENTARY = frozenset({"lock", "url", ".url.partial"})
# Of a running step: its code, its files. They belong to its process, which a restored server does not have.
_OF_STEPS = frozenset({"checkouts", "work", "results", ".trash"})
_LOG_SUFFIXES = ("-wal", "-shm", "-journal")
_SQLITE = b"SQLite format 3\0"
_IN_MEMORY = 1 << 20
_BUSY_SECONDS = 30.0
_RESERVE = 64 << 20


@dataclass(frozen=True)
class Summary:
    """The number of files, and of their bytes."""

    files: int
    bytes: int


def save(home: pathlib.Path, target: pathlib.Path) -> Summary:
    """Write a backup of the home to a new file that only its owner can read. Raises PermanentError, TemporaryError; then there is no file."""
    if not (home / DATABASE).is_file():
        raise errors.NotFoundError(f"{home} is no home of a FuseML server: it has no {DATABASE}; name it with --home")
    if target.exists() or target.is_symlink():
        raise errors.ConflictError(f"{target} exists already; choose another name")
    if target.resolve().is_relative_to(home.resolve()):
        raise errors.InvalidError(f"{target} is in the home itself; choose a file outside {home}")
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", suffix=".partial") as partial:
            description = {"created": _now(), "fuseml": importlib.metadata.version("fuseml"), "schema": database.SCHEMA_VERSION}
            writer = archive.Writer(partial, description)
            _copy(home, writer, target.parent)
            writer.close()
            partial.flush()
            os.fsync(partial.fileno())
            # A link, unlike a rename, replaces no file that appeared meanwhile.
            os.link(partial.name, target)
    except OSError as error:
        raise errors.PermanentError(f"the backup of {home} to {target} failed: {error.strerror or error}; there is no file") from error
    return Summary(len(writer.digests), sum(size for size, _ in writer.digests.values()))


def _copy(home: pathlib.Path, writer: archive.Writer, scratch: pathlib.Path) -> None:
    databases = [
        DATABASE,
        *sorted(name for name in _files(home, "") if name != DATABASE and name.endswith(".db") and _is_database(home / name)),
    ]
    for name in databases:
        with _snapshot(home / name, scratch) as copy:
            writer.add(name, copy, os.fstat(copy.fileno()).st_size)
    skipped = {*databases, *(name + suffix for name in databases for suffix in _LOG_SUFFIXES)}
    # Listed anew in each phase: a file of a later phase may exist because of one that an earlier phase has copied.
    for phase in range(_PHASES):
        for name in sorted(_files(home, "")):
            if name.endswith("/"):
                writer.folders.add(name.rstrip("/"))
            elif _phase(name) == phase and name not in skipped and name not in writer.digests:
                _add(home, name, writer)


_PHASES = 5


def _phase(name: str) -> int:
    """The turn of a file: refs, records of pushes, indexes of packs, then all else, at last the keys."""
    if name == "keys":
        return 4
    first, *rest = name.split("/")
    if first != "git" or len(rest) < 3:
        return 3
    inside = rest[2:]
    if inside[0] in ("refs", "packed-refs", "HEAD"):
        return 0
    if inside == ["fuseml-pushes"]:
        return 1
    return 2 if name.endswith(".idx") else 3


def _files(folder: pathlib.Path, prefix: str) -> Iterator[str]:
    """The names of the regular files to copy, relative to the home, and of folders, which end with a slash. Links are not followed."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        name = f"{prefix}{entry.name}"
        if _is_excluded(name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield f"{name}/"
            yield from _files(folder / entry.name, f"{name}/")
        elif entry.is_file(follow_symlinks=False):
            yield name


def _is_excluded(name: str) -> bool:
    parts = name.split("/")
    if len(parts) == 1:
        return name in EXCLUDED or name in _MOMENTARY
    if parts[0] == "runs" and ((parts[-1] in _OF_STEPS and len(parts) <= 5) or parts[-1] in (".lock", "lock", "log.lock")):
        return True
    if parts[0] == "git" and (parts[-1].endswith(".lock") or parts[1].startswith((".new-", ".gone-")) or parts[-1].startswith("tmp")):
        return True
    return name == "mlflow/tmp" or (parts[0] in ("contents", "artifacts") and parts[1:2] == [".partial"])


def _is_database(path: pathlib.Path) -> bool:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE
    return False


@contextlib.contextmanager
def _snapshot(path: pathlib.Path, scratch: pathlib.Path) -> Iterator[IO[bytes]]:
    """A copy of a database that others may be writing to, as of one moment."""
    with tempfile.NamedTemporaryFile(dir=scratch, prefix=".backup-", suffix=".db") as file:
        try:
            with (
                contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as source,
                contextlib.closing(sqlite3.connect(file.name)) as copy,
            ):
                source.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.Error as error:
            raise errors.TemporaryError(f"the database {path} cannot be copied now: {error}") from error
        with pathlib.Path(file.name).open("rb") as content:
            yield content


def _add(home: pathlib.Path, name: str, writer: archive.Writer) -> None:
    try:
        descriptor = os.open(home / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        # It was removed after it was listed.
        return
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return
        if status.st_size <= _IN_MEMORY:
            # A small file may be appended to meanwhile; its bytes until now are a state of it.
            content = file.read(status.st_size)
            with tempfile.SpooledTemporaryFile(_IN_MEMORY + 1) as spool:
                spool.write(content)
                spool.seek(0)
                writer.add(name, spool, len(content))
        else:
            writer.add(name, file, status.st_size)


def restore(source: pathlib.Path, home: pathlib.Path, *, force: bool) -> tuple[Summary, pathlib.Path | None]:
    """Put the backup in the place of `home`, after all of it is verified. Returns what was restored, and where the replaced home is now.

    Raises InvalidError for a damaged file, ConflictError for a home that is in use or, unless `force`, not empty, PermanentError.
    """
    os.umask(0o077)
    home = homes.expect_safe(home)
    _expect_free(home, force=force)
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with _staging(home) as staging:
            summary = _extract(source, staging)
            return summary, _put(staging, home, force=force)
    except OSError as error:
        raise errors.PermanentError(f"the backup could not be restored to {home}: {error.strerror or error}; it is as before") from error


def _expect_free(home: pathlib.Path, *, force: bool) -> None:
    if home.exists() and any(home.iterdir()) and not force:
        raise errors.ConflictError(f"{home} is not empty; choose another folder with --home, or move its content aside with --force")


@contextlib.contextmanager
def _staging(home: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new private folder beside the home; that of a restoration that was killed is removed. Raises ConflictError when one is at work."""
    lock = home.with_name(f".{home.name}.restoring.lock")
    staging = home.with_name(f".{home.name}.restoring")
    with os.fdopen(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "rb") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.ConflictError(f"another restoration of {home} is at work; wait for its end") from None
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir(mode=0o700)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _extract(source: pathlib.Path, staging: pathlib.Path) -> Summary:
    """Write the files of a backup to an empty folder, and verify them."""
    entries = archive.read(source)
    _expect_known(next(entries, None))
    digests: dict[str, dict[str, object]] = {}
    manifest: object = None
    folders: object = None
    for entry in entries:
        if manifest is not None:
            raise errors.InvalidError("the file is damaged: it continues behind its manifest; nothing was restored")
        if entry.name == archive.MANIFEST:
            content = archive.text_of(entry)
            manifest, folders = content.get("files"), content.get("folders")
            continue
        if entry.size > shutil.disk_usage(staging).free - _RESERVE:
            raise errors.PermanentError(f"the disk of {staging.parent} has no room for {entry.name} of the backup; nothing was restored")
        digests[entry.name] = {"size": entry.size, "sha256": _write(staging / entry.name, entry)}
    if manifest != digests or DATABASE not in digests:
        wrong = next((n for n, d in digests.items() if not isinstance(manifest, dict) or manifest.get(n) != d), "a file is missing")
        raise errors.InvalidError(f"the file is damaged: its manifest does not fit ({wrong}); nothing was restored")
    for name in folders if isinstance(folders, list) else ():
        if not archive.is_plain(str(name)):
            raise errors.InvalidError("the file is damaged: a folder has no plain name; nothing was restored")
        (staging / str(name)).mkdir(parents=True, exist_ok=True)
    os.sync()
    return Summary(len(digests), sum(int(str(item["size"])) for item in digests.values()))


def _expect_known(first: archive.Entry | None) -> None:
    description = archive.text_of(first) if first is not None and first.name == archive.DESCRIPTION else {}
    if description.get("format") != archive.FORMAT:
        raise errors.InvalidError("the file is no backup that this release can read; nothing was restored")
    schema = str(description.get("schema"))
    if schema > database.SCHEMA_VERSION:
        raise errors.InvalidError(
            f"the backup has the schema {schema} of a newer release ({description.get('fuseml')}), and this one {database.SCHEMA_VERSION}: "
            "install that release; nothing was restored"
        )


def _write(path: pathlib.Path, entry: archive.Entry) -> str:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb") as file:
        for block in entry.blocks:
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _put(staging: pathlib.Path, home: pathlib.Path, *, force: bool) -> pathlib.Path | None:
    """Move the restored folder to its place; a former home moves aside first, so that at each moment one of both is complete."""
    _expect_free(home, force=force)
    if not home.exists() or not any(home.iterdir()):
        staging.rename(home)
        return None
    with contextlib.ExitStack() as using:
        if (home / "lock").exists():
            lock = using.enter_context((home / "lock").open("rb"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise errors.ConflictError(f"a FuseML server uses {home}; stop it first") from None
        aside = home.with_name(f"{home.name}.before-{_now().replace(':', '')}")
        home.rename(aside)
        staging.rename(home)
    return aside


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
