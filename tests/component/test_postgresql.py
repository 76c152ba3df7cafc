"""The store on a PostgreSQL server: restarts, frozen clients, and the number of connections."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import sqlalchemy

from fuseml.domain import errors
from fuseml.store import codesets, database, paging
from tests import postgresql

NOON = "2026-11-21T12:00:00.000000Z"


@pytest.fixture
def store(postgresql_server: postgresql.Server) -> Iterator[database.Database]:
    with postgresql_server.migrated() as url, contextlib.closing(database.Database(url)) as store:
        yield store


def add(store: database.Database, name: str) -> None:
    with store.write() as session:
        codesets.create_project(session, name, "", NOON)


def names(store: database.Database) -> list[str]:
    with store.read() as session:
        return [row.name for row in codesets.projects(session, paging.Page()).rows]


def test_a_restart_of_the_server_is_a_temporary_error(store: database.Database, postgresql_server: postgresql.Server) -> None:
    add(store, "a")
    postgresql_server.stop()
    for use in (lambda: add(store, "b"), lambda: names(store), store.migrate):
        with pytest.raises(errors.TemporaryError, match="the database cannot serve this now"):
            use()
    postgresql_server.start()
    add(store, "b")
    assert names(store) == ["a", "b"]


def test_a_connection_that_breaks_during_a_write_rolls_it_back(store: database.Database, postgresql_server: postgresql.Server) -> None:
    with pytest.raises(errors.TemporaryError), store.write() as session:
        codesets.create_project(session, "a", "", NOON)
        session.flush()
        postgresql_server.stop()
        postgresql_server.start()
        codesets.create_project(session, "b", "", NOON)
        session.flush()
    assert names(store) == []


def test_a_frozen_writer_does_not_block_others_for_ever(store: database.Database) -> None:
    frozen = database.Database(store.url)

    @sqlalchemy.event.listens_for(frozen.engine, "connect")
    def impatient(connection: sqlalchemy.PoolProxiedConnection, _record: object) -> None:
        connection.cursor().execute("SET idle_in_transaction_session_timeout = '200ms'")
        connection.commit()

    with pytest.raises(errors.TemporaryError), frozen.write() as session:
        codesets.create_project(session, "a", "", NOON)
        session.flush()
        add(store, "b")
        session.flush()
        session.connection().execute(sqlalchemy.text("SELECT 1"))
    frozen.close()
    assert names(store) == ["b"]


def test_an_address_without_a_server_is_reported_without_the_password(postgresql_server: postgresql.Server) -> None:
    away = database.Database("postgresql+psycopg://fuseml:c4nary-secret@127.0.0.1:1/fuseml")
    with pytest.raises(errors.TemporaryError) as caught:
        names(away)
    assert "c4nary" not in str(caught.value)
    away.close()
