"""A real PostgreSQL server for tests, from the installed programs, on a free port and in a folder of its own."""

from __future__ import annotations

import itertools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy

from fuseml.store import database
from fuseml.store.tables import schema
from tests.waiting import PATIENCE, wait_until_ready

# The server refuses to run as root; Debian's package makes this account.
_ACCOUNT = "postgres"


def programs() -> pathlib.Path | None:
    """The folder of `postgres` and `initdb` from PATH or Debian's package; None if they are not installed."""
    initdb = shutil.which("initdb")
    places = [pathlib.Path(initdb).resolve().parent] if initdb else []
    places += sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "postgres").exists() and (place / "initdb").exists()), None)


class Server:
    """A server. `fresh` creates an empty database in it, `migrated` one with FuseML's tables; `stop` and `start` restart it, as an operator does."""

    def __init__(self, bin: pathlib.Path) -> None:
        # Not one of pytest's folders, because the account cannot read those.
        self._temporary = tempfile.TemporaryDirectory(prefix="fuseml-postgresql-")
        self._folder, self._bin = pathlib.Path(self._temporary.name), bin
        self._numbers = itertools.count(1)
        self._idle: list[tuple[str, str]] = []
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self._account = _ACCOUNT if os.geteuid() == 0 else None
        if self._account:
            shutil.chown(self._folder, self._account)
        self._run(
            "initdb", "--pgdata", str(self._folder / "data"), "--username", "fuseml", "--auth", "trust", "--no-sync", "--encoding", "UTF8"
        )

    def _run(self, program: str, *arguments: str) -> None:
        result = subprocess.run(
            [str(self._bin / program), *arguments], cwd="/", user=self._account, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{program} failed:\n{result.stdout}{result.stderr}"

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        options = {
            "port": self._port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "200",
        }
        settings = [f"--{name}={value}" for name, value in options.items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self._folder / "data"), *settings],
                cwd="/",
                user=self._account,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until_ready(self._process, self._answers, "PostgreSQL", (self._folder / "log").read_text)

    def _answers(self) -> bool:
        try:
            with self._administration() as connection:
                connection.execute(sqlalchemy.text("SELECT 1"))
        except sqlalchemy.exc.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Stop the server at once, as a crash does: connections break."""
        if self._process:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(PATIENCE)
            self._process = None

    def close(self) -> None:
        """Stop the server and delete its folder."""
        self.stop()
        self._temporary.cleanup()

    def fresh(self) -> str:
        """The URL of an empty database. It is a schema that the account in the URL has as its search path, because a real database takes a second."""
        name = f"test{next(self._numbers)}"
        self._execute("CREATE ROLE {0} LOGIN", "CREATE SCHEMA {0} AUTHORIZATION {0}", "ALTER ROLE {0} SET search_path = {0}", name=name)
        return self._url(name)

    @contextmanager
    def migrated(self) -> Iterator[str]:
        """The URL of a database with FuseML's tables, all empty, until the end of the block. Its tables are used again, under another account."""
        tables, account = self._idle.pop() if self._idle else self._new()
        name = f"test{next(self._numbers)}"
        # What the user before left running cannot connect any more.
        self._execute(f"ALTER ROLE {account} RENAME TO {{0}}", name=name)
        yield self._url(name)
        if self._emptied(tables, name):
            self._idle.append((tables, name))

    def _new(self) -> tuple[str, str]:
        """The schema of a new migrated database, and its account, which has the same name."""
        url = self.fresh()
        store = database.Database(url)
        store.migrate()
        store.close()
        name = sqlalchemy.make_url(url).username
        assert name is not None
        return name, name

    def _emptied(self, tables: str, account: str) -> bool:
        """Remove all rows and end all connections; whether the tables are those of this release, as before."""
        names = [table.name for table in schema.metadata.sorted_tables]
        with self._administration() as connection:
            of_account = {"account": account, "schema": tables}
            connection.execute(
                sqlalchemy.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :account"), of_account
            )
            found = connection.execute(sqlalchemy.text("SELECT tablename FROM pg_tables WHERE schemaname = :schema"), of_account).scalars()
            if set(found) != {*names, "alembic_version"}:
                return False
            # Without the triggers of foreign keys, in any order.
            deletes = "".join(f'DELETE FROM {tables}."{name}";' for name in names)
            connection.exec_driver_sql(f"SET session_replication_role = replica; {deletes}")
            restart = "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false) FROM pg_sequences"
            connection.execute(sqlalchemy.text(f"{restart} WHERE schemaname = :schema"), of_account)
            version = connection.execute(sqlalchemy.text(f"SELECT version_num FROM {tables}.alembic_version")).scalar()
        return bool(version == database.SCHEMA_VERSION)

    def _execute(self, *statements: str, name: str) -> None:
        with self._administration() as connection:
            for statement in statements:
                connection.execute(sqlalchemy.text(statement.format(name)))

    def _url(self, account: str) -> str:
        return f"postgresql+psycopg://{account}@127.0.0.1:{self._port}/postgres"

    @contextmanager
    def _administration(self) -> Iterator[sqlalchemy.Connection]:
        engine = sqlalchemy.create_engine(self._url("fuseml"), isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            yield connection
        engine.dispose()
