"""Artifacts in one SQLite database of this machine. A record has the resource `sqlite` and the URL `file:///FOLDER`, a folder of its own.

FuseML's layout of buckets does the work; this module stores bytes under keys. The blocks of an upload are invisible until a last transaction gives
them their key.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
import urllib.parse
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from fuseml.artifactstores import ArtifactStore, Connection
from fuseml.artifactstores.bucket import BucketStore
from fuseml.contents.port import BLOCK, Entry, valid_key
from fuseml.domain import errors
from fuseml.plugins import Plugin

_BUSY_SECONDS = 30.0
_TABLES = """
CREATE TABLE IF NOT EXISTS contents (key TEXT PRIMARY KEY, upload TEXT NOT NULL, size INTEGER NOT NULL, modified REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uploads (id TEXT PRIMARY KEY, started REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (upload TEXT, start INTEGER, data BLOB NOT NULL, PRIMARY KEY (upload, start));
"""


class SqliteContents:
    """See `fuseml.contents.Contents`. The first call that writes creates the database."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, key: str, blocks: Iterable[bytes]) -> int:
        """See `Contents.put`."""
        upload, size = self._upload(valid_key(key), blocks)
        with self._transaction() as database:
            self._check(database, upload)
            former = database.execute("SELECT upload FROM contents WHERE key = ?", (key,)).fetchone()
            database.execute("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?)", (key, upload, size, time.time()))
            self._remove(database, [former[0]] if former else [])
        return size

    def create(self, key: str, data: bytes) -> bool:
        """See `Contents.create`."""
        upload, size = self._upload(valid_key(key), [data])
        with self._transaction() as database:
            self._check(database, upload)
            row = (key, upload, size, time.time())
            is_stored = database.execute("INSERT OR IGNORE INTO contents VALUES (?, ?, ?, ?)", row).rowcount == 1
            self._remove(database, [] if is_stored else [upload])
        return is_stored

    def get(self, key: str, offset: int = 0, limit: int | None = None) -> Iterator[bytes]:
        """See `Contents.get`. Raises TemporaryError where the contents are replaced meanwhile."""
        upload, size = self._row(key)
        position, end = offset, size if limit is None else min(size, offset + limit)
        while position < end:
            with self._transaction() as database:
                found = database.execute(
                    "SELECT start, data FROM blocks WHERE upload = ? AND start <= ? ORDER BY start DESC LIMIT 1", (upload, position)
                ).fetchone()
            if found is None:
                raise errors.TemporaryError(f"the contents of {key!r} were replaced while they were read; read them again")
            start, data = found
            block = data[position - start : end - start]
            position += len(block)
            yield block

    def size(self, key: str) -> int:
        """See `Contents.size`."""
        return self._row(key)[1]

    def delete(self, key: str) -> None:
        """See `Contents.delete`."""
        with self._transaction() as database:
            former = database.execute("SELECT upload FROM contents WHERE key = ?", (valid_key(key),)).fetchall()
            database.execute("DELETE FROM contents WHERE key = ?", (key,))
            self._remove(database, [upload for (upload,) in former])

    def entries(self, prefix: str, after: str = "", limit: int = 1000) -> list[Entry]:
        """See `Contents.entries`."""
        # "0" is the character behind "/".
        first, last = max(after, f"{valid_key(prefix)}/"), f"{prefix}0"
        query = "SELECT key, size, modified FROM contents WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
        with self._transaction() as database:
            return [Entry(*row) for row in database.execute(query, (first, last, limit))]

    def renew(self, key: str) -> bool:
        """See `Contents.renew`."""
        with self._transaction() as database:
            now = time.time()
            return database.execute("UPDATE contents SET modified = ? WHERE key = ? AND modified < ?", (now, key, now)).rowcount == 1

    def discard_unfinished(self, seconds: float) -> int:
        """See `Contents.discard_unfinished`."""
        query = "SELECT id FROM uploads WHERE started < ? AND id NOT IN (SELECT upload FROM contents)"
        with self._transaction() as database:
            stale = [upload for (upload,) in database.execute(query, (time.time() - seconds,))]
            self._remove(database, stale)
        return len(stale)

    def link(self, key: str, seconds: int) -> str:
        """Raises PermanentError: a key of a database has no URL."""
        raise errors.PermanentError(f"the database {self._path} gives no links to its contents; read {key!r} through FuseML")

    def _upload(self, key: str, blocks: Iterable[bytes]) -> tuple[str, int]:
        """The id and the size of stored blocks that no key has yet."""
        upload, size = uuid.uuid4().hex, 0
        with self._transaction() as database:
            database.execute("INSERT INTO uploads VALUES (?, ?)", (upload, time.time()))
        try:
            for block in blocks:
                for part in (block[start : start + BLOCK] for start in range(0, len(block), BLOCK)):
                    with self._transaction() as database:
                        database.execute("INSERT INTO blocks VALUES (?, ?, ?)", (upload, size, part))
                    size += len(part)
        except BaseException:
            with self._transaction() as database:
                self._remove(database, [upload])
            raise
        return upload, size

    def _row(self, key: str) -> tuple[str, int]:
        with self._transaction() as database:
            row: tuple[str, int] | None = database.execute("SELECT upload, size FROM contents WHERE key = ?", (valid_key(key),)).fetchone()
        if row is None:
            raise errors.NotFoundError(f"there are no contents under {key!r}")
        return row

    def _check(self, database: sqlite3.Connection, upload: str) -> None:
        if database.execute("SELECT 1 FROM uploads WHERE id = ?", (upload,)).fetchone() is None:
            raise errors.TemporaryError(f"the upload to {self._path} took so long that it was discarded; repeat it")

    def _remove(self, database: sqlite3.Connection, uploads: Iterable[str]) -> None:
        for upload in uploads:
            database.execute("DELETE FROM blocks WHERE upload = ?", (upload,))
            database.execute("DELETE FROM uploads WHERE id = ?", (upload,))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction on a connection of its own, which any thread may use."""
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
                database.executescript(_TABLES)
                database.execute("BEGIN IMMEDIATE")
                try:
                    yield database
                    database.execute("COMMIT")
                finally:
                    if database.in_transaction:
                        database.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            raise errors.TemporaryError(f"the database {self._path} cannot be used now: {error}") from error
        except sqlite3.DatabaseError as error:
            raise errors.PermanentError(f"the file {self._path} is no database of this store: {error}") from error


def _connect(connection: Connection) -> ArtifactStore:
    url = urllib.parse.urlsplit(connection.url)
    if url.scheme != "file" or url.netloc or not url.path.startswith("/"):
        raise errors.InvalidError(f"the URL of the artifact store {connection.resource!r} must be file:///FOLDER")
    contents = SqliteContents(Path(urllib.parse.unquote(url.path)) / "artifacts.db")
    return BucketStore(contents, connection.url, connection.environment, resource=connection.resource)


PLUGIN = Plugin(contract=1, implementation=_connect)
