"""Connections and transactions: one way to read, one way to write. The first use connects.

Either database has one writer at a time: `write()` takes a lock when it begins, so its reads are still true at the commit, and no
transaction has to be retried. A read sees one state, waits for no writer and blocks none. The decision for a lock instead of
SERIALIZABLE on PostgreSQL is in infra/decisions.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import sqlalchemy
import sqlalchemy.exc
import sqlmodel

from fuseml.domain import errors

# The newest migration. A constant: a start with an up-to-date database does not import Alembic (a second of CPU).
# A test compares it with the migrations.
SCHEMA_VERSION = "0014"

_BUSY_SECONDS = 30
_CONNECT_SECONDS = 10

# An arbitrary number, the same in every release and used by no other lock of the database.
_WRITERS = 7_205_759_403

_SQLITE = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
# The server ends the transaction of a frozen writer (a scale to zero, a lost network), which would hold the lock for ever.
_POSTGRESQL = {
    "connect_timeout": _CONNECT_SECONDS,
    "keepalives_idle": _BUSY_SECONDS,
    "options": f"-c lock_timeout={_BUSY_SECONDS}s -c idle_in_transaction_session_timeout={2 * _BUSY_SECONDS}s",
}


class Database:
    """Opens sessions on `url` (`sqlite:////path/file.db`, `postgresql+psycopg://...`). Making one does no I/O."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._sqlite = url.startswith("sqlite")
        # Errors reach logs, so they hide parameters: documents, unverified claims, sealed secrets.
        if self._sqlite:
            self.engine = sqlalchemy.create_engine(url, connect_args=_SQLITE, hide_parameters=True)
            self._reading = self.engine
            self._writing = self.engine.execution_options(fuseml_write=True)
            sqlalchemy.event.listen(self.engine, "connect", _prepare_sqlite)
            sqlalchemy.event.listen(self.engine, "begin", _begin_sqlite)
        else:
            # pre_ping and a short recycle: connections must survive a scale to zero and a restart of the server.
            self.engine = sqlalchemy.create_engine(
                url, connect_args=_POSTGRESQL, hide_parameters=True, pool_size=2, max_overflow=4, pool_pre_ping=True, pool_recycle=300
            )
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ")
            self._writing = self.engine.execution_options(isolation_level="READ COMMITTED", fuseml_write=True)
            sqlalchemy.event.listen(self.engine, "begin", _begin_postgresql)
        # SQLite polls for the write lock, and a connection that waits in PostgreSQL's queue is lost to readers. Threads of this process
        # wait here instead, before they take a connection. Reentrant: a mistaken write inside a write times out instead of a deadlock.
        self._turn = threading.RLock()

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlmodel.Session]:
        """A session that sees one consistent state. Its changes are discarded. Raises TemporaryError when the database cannot be reached."""
        with _translated(), sqlmodel.Session(self._reading, expire_on_commit=False) as session:
            yield session

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlmodel.Session]:
        """One transaction: committed as a whole at the end, or rolled back.

        Raises TemporaryError when the database cannot be reached or is busy for too long.
        """
        with self._taking_turn(), _translated(), sqlmodel.Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def _taking_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=_BUSY_SECONDS):
            raise errors.TemporaryError("the database cannot serve this now: another request of this process has been writing for too long")
        try:
            yield
        finally:
            self._turn.release()

    def migrate(self) -> None:
        """Bring the schema up to date. Imports nothing when it already is."""
        with _translated():
            version = self._version()
            if version == SCHEMA_VERSION:
                return
            if version is None and self._sqlite:
                from fuseml.store.tables import schema

                # An empty file gets the current tables at once, without the migrations.
                with self._writing.begin() as connection:
                    schema.metadata.create_all(connection)
                    connection.execute(sqlalchemy.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
                    connection.execute(sqlalchemy.text("INSERT INTO alembic_version VALUES (:version)"), {"version": SCHEMA_VERSION})
                return
            from fuseml.store import migrations

            migrations.upgrade(self.engine)

    def check(self) -> None:
        """Raises TemporaryError when the database cannot be reached, PermanentError when its schema is older than this release.

        A newer schema is accepted: a migration works with the previous release still running, while its pods are replaced.
        """
        with _translated():
            version = self._version()
        if version is None or version < SCHEMA_VERSION:
            raise errors.PermanentError(
                f"the database has schema {version or 'none'}, and this release needs {SCHEMA_VERSION}: "
                "run `python -m fuseml.store.migrations` (the migration Job)"
            )

    def _version(self) -> str | None:
        if not sqlalchemy.inspect(self.engine).has_table("alembic_version"):
            return None
        with self.engine.connect() as connection:
            return connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalar()

    def close(self) -> None:
        """Close all idle connections now, and each one that is in use at the end of its use."""
        pool = self.engine.pool
        self.engine.dispose()
        # A thread that is still reading returns its connection to the former pool, which would keep it open.
        sqlalchemy.event.listen(pool, "checkin", _close_returned)
        pool.dispose()


def _close_returned(_connection: object, record: sqlalchemy.pool.ConnectionPoolEntry) -> None:
    record.invalidate()


def _prepare_sqlite(connection: object, _record: object) -> None:
    # _begin_sqlite begins the transactions, not the driver.
    connection.isolation_level = None  # type: ignore[attr-defined]
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode=WAL")
    # With WAL a killed process loses nothing; only a power cut may lose the last transactions.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: sqlalchemy.Connection) -> None:
    writing = connection.get_execution_options().get("fuseml_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _begin_postgresql(connection: sqlalchemy.Connection) -> None:
    if connection.get_execution_options().get("fuseml_write"):
        # A statement in READ COMMITTED sees every commit before it. The lock comes first, so no later commit of another writer exists.
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS})")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlalchemy.exc.TimeoutError as error:
        raise errors.TemporaryError("the database cannot serve this now: all connections are in use") from error
    except sqlalchemy.exc.OperationalError as error:
        raise errors.TemporaryError(f"the database cannot serve this now: {str(error.orig).splitlines()[0]}") from error
    except sqlalchemy.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise errors.TemporaryError("the connection to the database was lost") from error
        raise
