"""Each filter of a list has an index that serves it together with the list's order: a page reads its rows, whatever the size of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import sqlmodel

from fuseml.domain.registry.selector import Selector
from fuseml.store import applications, codesets, database, extensions, health_checks, ledger, paging, runs, workflows

Read = Callable[[sqlmodel.Session], object]

_PAGE = paging.Page(50)
_TIME = "2026-11-21T00:00:00.000000Z"


def _runs(**filters: str) -> Read:
    return lambda session: runs.page(session, _PAGE, **filters)


def _events(type: str | None = None, subject: str | None = None, source: str | None = None) -> Read:
    return lambda session: ledger.page(session, _PAGE, type=type, subject=subject, source=source)


LISTS: dict[str, Read] = {
    "runs": lambda session: runs.page(session, _PAGE),
    **{f"runs by {name}": _runs(**{name: "x"}) for name in ("workflow", "project", "codeset", "commit", "state", "request")},
    "events": lambda session: ledger.page(session, _PAGE),
    "events by type": _events(type="x"),
    "events by subject": _events(subject="x"),
    "events by source": _events(source="x"),
    "events since": lambda session: ledger.page(session, _PAGE, since=_TIME),
    # A prefix of types is read in the list's order, so that its page is short where the prefix is frequent.
    "events by a prefix": lambda session: ledger.page(session, _PAGE, type="fuseml.*"),
    "dead letters": lambda session: ledger.page(session, _PAGE, dead=True),
    "extensions": lambda session: extensions.find(session, Selector(), _PAGE),
    "extensions by product": lambda session: extensions.find(session, Selector(product="x"), _PAGE),
    "extensions by resource": lambda session: extensions.find(session, Selector(service_resource="x"), _PAGE),
    "extensions to check": lambda session: health_checks.due(session, _TIME, 50),
    "applications": lambda session: applications.page(session, _PAGE),
    "applications by type": lambda session: applications.page(session, _PAGE, type="x"),
    "applications by workflow": lambda session: applications.page(session, _PAGE, workflow="x"),
    "codesets": lambda session: codesets.codesets(session, _PAGE),
    "codesets by project": lambda session: codesets.codesets(session, _PAGE, project="x"),
    "projects": lambda session: codesets.projects(session, _PAGE),
    "workflows": lambda session: workflows.current(session, _PAGE),
    "assignments": lambda session: workflows.assignments(session, workflow="x"),
}

IN_MEMORY = {"dead letters", "extensions to check", "extensions by product", "extensions by resource", "assignments"}
"""Lists whose rows are few, and sorted after they are found."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[database.Database]:
    store = database.Database(f"sqlite:///{tmp_path_factory.mktemp('plans') / 'fuseml.db'}")
    store.migrate()
    yield store
    store.close()


def plans_of(store: database.Database, read: Read) -> list[str]:
    """The lines of SQLite's plan of each statement that `read` executes."""
    found: list[str] = []

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if statement.startswith(("SELECT", "WITH")):
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            found.extend(str(row[3]) for row in rows)

    sqlalchemy.event.listen(store.engine, "before_cursor_execute", explain)
    try:
        with store.read() as session:
            read(session)
    finally:
        sqlalchemy.event.remove(store.engine, "before_cursor_execute", explain)
    assert found, "no statement was executed"
    return found


def faults(name: str, lines: list[str]) -> list[str]:
    """The lines of a plan that read or sort a whole table, or that do not search by the filter that the list's name names."""
    found = [line for line in lines if line.startswith("SCAN") and " USING " not in line and line != "SCAN ledger_event"]
    if name not in IN_MEMORY:
        found += [line for line in lines if "TEMP B-TREE FOR ORDER BY" in line]
    _, by, field = name.partition(" by ")
    searched = any(line.startswith("SEARCH") and f"({field}=?" in line for line in lines)
    return found + ([f"no search by {field}: {lines}"] if by and field != "a prefix" and not searched else [])


@pytest.mark.parametrize("name", LISTS)
def test_no_list_reads_or_sorts_a_whole_table(name: str, store: database.Database) -> None:
    assert faults(name, plans_of(store, LISTS[name])) == []


@pytest.mark.parametrize("name", ["runs by state", "events by subject", "applications by workflow"])
def test_a_list_without_its_index_is_found(name: str, tmp_path: Path) -> None:
    store = database.Database(f"sqlite:///{tmp_path / 'fuseml.db'}")
    store.migrate()
    table, _, field = name.partition("s by ")
    with store.write() as session:
        table = {"run": "run", "event": "ledger_event", "application": "application"}[table]
        session.connection().execute(sqlalchemy.text(f"DROP INDEX {table}_by_{field}"))
    assert faults(name, plans_of(store, LISTS[name])) != []
    store.close()
