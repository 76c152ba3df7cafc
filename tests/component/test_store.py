"""The store: transactions, pages, and names that are used once."""

from __future__ import annotations

import contextlib
import pathlib
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.domain.plans import identity
from fuseml.domain.runs import Progress
from fuseml.runtime import clock
from fuseml.store import applications, artifacts, codesets, database, deliveries, lineage, mirrors, paging, runs, workflows
from fuseml.store.tables import artifact_rows, codeset_rows, run_rows, schema
from tests import commands
from tests.waiting import PATIENCE

NOON = "2026-11-21T12:00:00.000000Z"


def project(store: database.Database, name: str) -> None:
    with store.write() as session:
        codesets.create_project(session, name, "", NOON)


def projects(store: database.Database) -> list[str]:
    with store.read() as session:
        return [row.name for row in codesets.projects(session, paging.Page(500)).rows]


# Transactions


def test_the_constructor_of_a_database_does_no_io(tmp_path: pathlib.Path) -> None:
    database.Database(f"sqlite:///{tmp_path}/missing/fuseml.db").close()
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_gets_every_table_whatever_else_the_process_imported(tmp_path: pathlib.Path) -> None:
    program = "import sys; from fuseml.store import database; store = database.Database(sys.argv[1]); store.migrate()"
    commands.python(program, f"sqlite:///{tmp_path}/fuseml.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "fuseml.db")) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert names - {"sqlite_sequence", "alembic_version"} == set(schema.metadata.tables)
    modules = {path.stem for path in pathlib.Path(schema.__file__).parent.glob("*_rows.py")}
    assert {module.__name__.rpartition(".")[2] for module in schema.MODULES} == modules


def test_a_write_is_atomic(store: database.Database) -> None:
    with pytest.raises(RuntimeError), store.write() as session:
        codesets.create_project(session, "a", "", NOON)
        codesets.create_project(session, "b", "", NOON)
        raise RuntimeError
    assert projects(store) == []


def test_changes_in_a_read_are_lost(store: database.Database) -> None:
    with store.read() as session:
        codesets.create_project(session, "a", "", NOON)
    assert projects(store) == []


def test_a_read_sees_one_state_and_neither_waits_for_a_write_nor_holds_it_up(store: database.Database) -> None:
    project(store, "a")
    with store.read() as session:
        assert len(codesets.projects(session, paging.Page()).rows) == 1
        # A lock that one held against the other would end in an error.
        with store.write() as writing:
            codesets.create_project(writing, "b", "", NOON)
            writing.flush()
            assert projects(store) == ["a"]
        assert len(codesets.projects(session, paging.Page()).rows) == 1
    assert projects(store) == ["a", "b"]


def test_a_connection_that_is_in_use_while_the_store_closes_is_closed_after_its_use(store: database.Database) -> None:
    with store.read() as session:
        projects(store)
        used = session.connection().connection.dbapi_connection
        assert used is not None
        store.close()
        assert session.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
        used.cursor().close()
    with pytest.raises(Exception, match="closed"):
        used.cursor()
    assert projects(store) == []


def test_writers_take_turns_and_each_sees_what_the_one_before_did(store: database.Database) -> None:
    def add(_: int) -> None:
        with store.write() as session:
            known = len(codesets.projects(session, paging.Page(500)).rows)
            time.sleep(0.002)
            codesets.create_project(session, f"{known:03}", "", NOON)

    with futures.ThreadPoolExecutor(40) as pool:
        list(pool.map(add, range(80)))
    assert projects(store) == [f"{number:03}" for number in range(80)]


def test_writers_of_two_processes_take_turns_too(database_url: str, store: database.Database) -> None:
    other = database.Database(database_url)

    def add(number: int) -> None:
        with (store if number % 2 else other).write() as session:
            known = len(codesets.projects(session, paging.Page(500)).rows)
            time.sleep(0.002)
            codesets.create_project(session, f"{known:03}", "", NOON)

    with futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(40)))
    other.close()
    assert projects(store) == [f"{number:03}" for number in range(40)]


def test_more_readers_than_connections_take_turns_too(store: database.Database) -> None:
    project(store, "a")

    def read(_: int) -> int:
        with store.read() as session:
            time.sleep(0.005)
            return len(codesets.projects(session, paging.Page()).rows)

    with futures.ThreadPoolExecutor(40) as pool:
        assert set(pool.map(read, range(80))) == {1}


@pytest.fixture
def hasty(database_url: str, store: database.Database) -> Iterator[database.Database]:
    """Another process's view of the same database; it does not wait long."""
    other = database.Database(database_url)

    @sqlalchemy.event.listens_for(other.engine, "connect")
    def hurry(connection: Any, _record: object) -> None:
        is_sqlite = isinstance(connection, sqlite3.Connection)
        connection.execute("PRAGMA busy_timeout=50" if is_sqlite else "SET lock_timeout = '50ms'")
        connection.commit()

    yield other
    other.close()


BUSY = "the database cannot serve this now: (database is locked|canceling statement due to lock timeout)"


def test_a_database_that_another_process_holds_is_a_temporary_error(store: database.Database, hasty: database.Database) -> None:
    with store.write() as session:
        codesets.create_project(session, "a", "", NOON)
        with pytest.raises(errors.TemporaryError, match=BUSY):
            project(hasty, "b")
    project(hasty, "b")
    assert projects(store) == ["a", "b"]


def test_a_file_that_cannot_be_opened_is_a_temporary_error(tmp_path: pathlib.Path) -> None:
    missing = database.Database(f"sqlite:///{tmp_path}/missing/fuseml.db")
    for use in (missing.read, missing.write):
        with pytest.raises(errors.TemporaryError, match="unable to open database file"), use() as session:
            codesets.projects(session, paging.Page())
    with pytest.raises(errors.TemporaryError):
        missing.migrate()
    missing.close()


def test_a_rule_of_the_tables_that_is_broken_is_a_bug_and_no_temporary_error(store: database.Database) -> None:
    with pytest.raises(sqlalchemy.exc.IntegrityError), store.write() as session:
        session.add(codeset_rows.Codeset(project="missing", name="a", url="", webhook_secret="", created=NOON))
    with pytest.raises(sqlalchemy.exc.IntegrityError), store.write() as session:
        session.add_all(codeset_rows.Project(name="a", created=NOON) for _ in range(2))


def test_a_kill_in_the_middle_of_a_write_leaves_the_database_as_it_was(store: database.Database, database_url: str) -> None:
    project(store, "a")
    script = f"""
import os
from fuseml.store import codesets, database
with database.Database({database_url!r}).write() as session:
    codesets.create_project(session, "b", "", {NOON!r})
    session.flush()
    os.kill(os.getpid(), 9)
"""
    commands.python(script, code=-9)
    project(store, "c")
    assert projects(store) == ["a", "c"]


# Pages


def pages(fetch: Callable[[paging.Page], paging.Slice[Any]], limit: int, between: Callable[[], None] = lambda: None) -> list[Any]:
    shown: list[Any] = []
    cursor: str | None = None
    while True:
        found = fetch(paging.Page(limit, cursor))
        assert len(found.rows) <= limit
        shown += found.rows
        cursor = found.next_cursor
        if cursor is None:
            return shown
        between()


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
def test_pages_show_everything_once(store: database.Database, limit: int) -> None:
    for name in "gbafced":
        project(store, name)
    with store.read() as session:
        shown = pages(lambda page: codesets.projects(session, page), limit)
    assert [row.name for row in shown] == list("abcdefg")


def test_an_empty_list_is_one_page(store: database.Database) -> None:
    with store.read() as session:
        assert codesets.projects(session, paging.Page(1)) == paging.Slice([])


def test_pages_by_two_columns_are_ordered_by_both(store: database.Database) -> None:
    places = [(project_name, name) for project_name in ("a", "b", "c") for name in ("x", "y", "z")]
    with store.write() as session:
        for project_name, name in reversed(places):
            codesets.ensure_project(session, project_name, NOON)
            codesets.add_codeset(session, codeset_rows.Codeset(project=project_name, name=name, url="", webhook_secret="", created=NOON))
    with store.read() as session:
        shown = pages(lambda page: codesets.codesets(session, page), 2)
        assert [(row.project, row.name) for row in shown] == places
        assert len(pages(lambda page: codesets.codesets(session, page, project="b"), 2)) == 3


def test_new_rows_move_no_row_to_another_page(store: database.Database) -> None:
    workflow(store, "w")
    made = [new_run(store, "w").name for _ in range(10)]
    with_new = pages(lambda page: _read(store, lambda session: runs.page(session, page)), 3, between=lambda: (new_run(store, "w"), None)[1])
    assert [row.name for row in with_new] == list(reversed(made))


def test_removed_rows_hide_no_other_row(store: database.Database) -> None:
    for name in "abcdef":
        project(store, name)
    first = _read(store, lambda session: codesets.projects(session, paging.Page(2)))
    with store.write() as session:
        codesets.delete_project(session, "b")
        codesets.delete_project(session, "c")
    rest = _read(store, lambda session: codesets.projects(session, paging.Page(9, first.next_cursor)))
    assert [row.name for row in rest.rows] == ["d", "e", "f"]


def _read(store: database.Database, query: Callable[[Any], Any]) -> Any:
    with store.read() as session:
        return query(session)


NESTED = "W1tb" * 20_000


@pytest.mark.parametrize(
    "cursor", ["", "a", "ä", "bm9uZQ", "W10", "WzFd", "WyJhIiwiYiJd", "W251bGxd", "W3RydWVd", "eyJhIjoxfQ", NESTED, "WyJhXHUwMDAwIl0"]
)
def test_an_invented_cursor_is_refused(store: database.Database, cursor: str) -> None:
    with pytest.raises(errors.InvalidError, match="the cursor is not one of this"), store.read() as session:
        codesets.projects(session, paging.Page(1, cursor))


@pytest.mark.parametrize("cursor", ["WyJhIl0", "WzFlOTld", "WzEuNV0", paging._encode([1 << 70])])
def test_a_cursor_of_another_list_is_refused(store: database.Database, cursor: str) -> None:
    with pytest.raises(errors.InvalidError, match="the cursor is not one of this"), store.read() as session:
        runs.page(session, paging.Page(1, cursor))


@given(st.text(max_size=30))
def test_every_cursor_is_valid_or_invalid(cursor: str) -> None:
    with contextlib.suppress(errors.InvalidError):
        paging._decode(cursor, [sqlalchemy.column("a", sqlalchemy.String())])


# Runs and workflows


def workflow(store: database.Database, name: str) -> None:
    with store.write() as session:
        workflows.add(session, name, {"name": name}, clock.now())


def new_run(store: database.Database, name: str, state: str = "queued") -> run_rows.Run:
    with store.write() as session:
        made = workflows.next_run_name(session, name)
        row = run_rows.Run(
            id=identity.identity(made, 1, {}, ""),
            name=made,
            sequence=0,
            workflow=name,
            revision=1,
            project="demo",
            trigger={},
            inputs={},
            state=state,
            created=NOON,
        )
        runs.add(session, row, ["a", "b"])
    return row


def test_runs_are_numbered_and_a_new_workflow_of_the_same_name_counts_on(store: database.Database) -> None:
    workflow(store, "w")
    names = [new_run(store, "w", "succeeded").name for _ in range(2)]
    with store.write() as session:
        workflows.delete(session, "w", NOON)
    with pytest.raises(errors.NotFoundError), store.read() as session:
        workflows.revision(session, "w")
    workflow(store, "w")
    names.append(new_run(store, "w").name)
    assert names == ["w-1", "w-2", "w-3"]
    with store.read() as session:
        assert workflows.revision(session, "w").revision == 2
        assert workflows.stored_revision(session, "w", 1).document == {"name": "w"}
        assert [row.name for row in runs.page(session, paging.Page()).rows] == ["w-3", "w-2", "w-1"]


def test_runs_that_begin_together_have_names_and_places_of_their_own(store: database.Database) -> None:
    workflow(store, "v")
    workflow(store, "w")
    with futures.ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: new_run(store, "vw"[number % 2]), range(40)))
    assert {row.name for row in made} == {f"{name}-{number}" for name in "vw" for number in range(1, 21)}
    assert sorted(row.sequence for row in made) == list(range(1, 41))


def test_a_run_of_the_same_identity_cannot_be_stored_twice(store: database.Database) -> None:
    workflow(store, "w")
    row = new_run(store, "w")
    assert _read(store, lambda session: runs.find(session, row.id)).name == "w-1"
    copy = run_rows.Run(**{**row.model_dump(), "name": "w-9"})
    with pytest.raises(sqlalchemy.exc.IntegrityError), store.write() as session:
        runs.add(session, copy, [])


def test_a_workflow_with_active_runs_stays(store: database.Database) -> None:
    workflow(store, "w")
    for state in runs.ACTIVE:
        new_run(store, "w", state)
    with (
        pytest.raises(errors.ConflictError, match="workflow 'w' has 3 active runs; wait for them or cancel them first"),
        store.write() as session,
    ):
        workflows.delete(session, "w", NOON)


def test_a_changed_document_is_a_new_revision_and_the_same_one_is_not(store: database.Database) -> None:
    workflow(store, "w")
    for document, revision in (({"name": "w"}, 1), ({"name": "w", "steps": []}, 2), ({"steps": [], "name": "w"}, 2), ({"name": "w"}, 3)):
        with store.write() as session:
            assert workflows.revise(session, "w", document, NOON).revision == revision
    assert [row.revision for row in _read(store, lambda session: workflows.current(session, paging.Page())).rows] == [3]
    with pytest.raises(errors.ConflictError, match="exists already"):
        workflow(store, "w")


def test_an_assignment_is_made_once_and_goes_with_its_codeset(store: database.Database) -> None:
    workflow(store, "w")
    with store.write() as session:
        codesets.create_project(session, "demo", "", NOON)
        codesets.add_codeset(session, codeset_rows.Codeset(project="demo", name="a", url="", webhook_secret="", created=NOON))
        codesets.record_commit(session, codesets.codeset(session, "demo", "a"), "refs/heads/main", "b" * 40, NOON)
        assert workflows.assign(session, "1", "w", "code://demo/a", NOON) is not None
        assert workflows.assign(session, "2", "w", "code://demo/a", NOON) is None
        assert workflows.assign(session, "3", "w", "code://demo/*", NOON) is not None
    with pytest.raises(errors.ConflictError, match=r"still has codesets \(a\); delete them first"), store.write() as session:
        codesets.delete_project(session, "demo")
    with store.write() as session:
        codesets.delete_codeset(session, "demo", "a")
        mirrors.put(session, "demo", "model", {"extension": "s3"}, "ada", NOON)
        mirrors.put(session, "other", "model", {"extension": "s3"}, "ada", NOON)
        codesets.delete_project(session, "demo")
    with store.read() as session:
        assert [row.project for row in mirrors.mirrors(session)] == ["other"]
        assert [row.id for row in workflows.assignments(session)] == ["3"]
        assert codesets.commits(session, "demo", "a") == {}
    with pytest.raises(errors.NotFoundError, match="is not assigned to code://demo/a"), store.write() as session:
        workflows.unassign(session, "w", "code://demo/a")


def test_progress_is_stored_and_read_back(store: database.Database) -> None:
    workflow(store, "w")
    row = new_run(store, "w")
    with store.write() as session:
        stored = runs.get(session, "w-1")
        assert runs.progress(stored) == Progress()
        now = Progress("failed", NOON, NOON, "why", 1, {"model": "models:/m/1"})
        runs.record(session, stored, now)
        first, second = runs.steps(session, [row.id])
        runs.record(session, second, Progress("skipped", None, NOON, None, 0, {}))
        runs.record(session, first, Progress("failed", NOON, NOON, "why", 3, {}))
    with store.read() as session:
        assert runs.progress(runs.get(session, "w-1")) == now
        assert [runs.progress(step).attempts for step in runs.steps(session, [row.id])] == [3, 0]
        assert runs.active(session) == []


def test_runs_with_missing_reports_are_found_while_the_engine_has_them(store: database.Database) -> None:
    workflow(store, "w")
    for state in ("running", "succeeded", "cancelled", "cancelled", "succeeded", "running"):
        new_run(store, "w", state)
    with store.write() as session:
        rows = [runs.get(session, f"w-{number}") for number in range(1, 7)]
        for number, row in enumerate(rows, start=1):
            row.submitted = None if number == 6 else NOON
            row.finished = None if row.state == "running" else NOON
            for step in runs.steps(session, [row.id]):
                step.finished = NOON if number == 2 or (step.name == "a" and row.finished) else None
        rows[3].forgotten = NOON
        rows[4].finished = "2026-11-21T11:00:00.000000Z"
    with store.read() as session:
        assert [row.name for row in runs.unreported(session, "2026-11-21T11:30:00.000000Z")] == ["w-1", "w-3"]


def test_runs_are_found_by_their_filters(store: database.Database) -> None:
    workflow(store, "v")
    workflow(store, "w")
    for name, state in (("v", "failed"), ("w", "failed"), ("w", "queued")):
        new_run(store, name, state)
    with store.read() as session:
        assert [row.name for row in runs.page(session, paging.Page(), workflow="w", state=None).rows] == ["w-2", "w-1"]
        assert [row.name for row in runs.page(session, paging.Page(), workflow="w", state="failed").rows] == ["w-1"]
        assert [row.name for row in runs.active(session)] == ["w-2"]
        assert runs.unsubmitted(session) == []
        with pytest.raises(errors.NotFoundError, match="there is no run named 'w-9'"):
            runs.get(session, "w-9")


# Artifacts and applications


def test_an_artifact_does_not_change_and_only_what_was_missing_is_filled_in(store: database.Database) -> None:
    def record(run_name: str | None, **details: str) -> bool:
        with store.write() as session:
            row = artifact_rows.Artifact(
                address="model://demo/m/1", kind="model", project="demo", name="m", version="1", run=run_name, details=details, created=NOON
            )
            return artifacts.record(session, row)

    assert [record(None, uri="a"), record("w-1", uri="b", source="s"), record("w-2")] == [True, False, False]
    with store.write() as session:
        for step in (None, "train", None):
            lineage.link(session, "code://demo/a/1", "model://demo/m/1", "w-1", step)
    with store.read() as session:
        row = artifacts.get(session, "model://demo/m/1")
        assert (row.run, row.details) == ("w-1", {"uri": "a", "source": "s"})
        near = [lineage.neighbourhood(session, address, "both", 5, 9).edges for address in ("code://demo/a/1", "model://demo/m/1")]
        assert [[(edge.source, edge.step) for edge in edges] for edges in near] == [[("code://demo/a/1", "train")]] * 2


def test_an_application_that_is_registered_again_is_replaced_and_counted(store: database.Database) -> None:
    for document, revision in (({"url": "a"}, 1), ({"url": "a"}, 1), ({"url": "b"}, 2)):
        with store.write() as session:
            assert applications.put(session, "app", {"type": "predictor", "workflow": "w", **document}, NOON).revision == revision
    with store.write() as session:
        assert [row.document["url"] for row in applications.page(session, paging.Page(), type="predictor", workflow="w").rows] == ["b"]
        applications.delete(session, "app")
    with pytest.raises(errors.NotFoundError, match="there is no application named 'app'"), store.write() as session:
        applications.delete(session, "app")


# The queue of the embedded broker


def test_the_next_delivery_is_the_next_one_that_is_not_due_yet(store: database.Database) -> None:
    from tests.component import queues

    with store.write() as session:
        for number, due in enumerate((5.0, 9.0, 7.0)):
            deliveries.accept(session, queues.event(number), ["a", "b"], NOON, due)
    with store.read() as session:
        assert [deliveries.next_due(session, "a", after) for after in (0, 5, 7, 9)] == [5, 7, 9, None]
        assert [due.event.id for due in deliveries.due(session, "a", 8, 9, [])] == ["0", "2"]
        assert [due.event.id for due in deliveries.due(session, "a", 9, 1, [1])] == ["2"]


def test_a_write_inside_of_a_write_is_refused_and_not_a_deadlock(store: database.Database, hasty: database.Database) -> None:
    raised: list[Exception] = []

    def nest() -> None:
        try:
            with hasty.write() as session:
                codesets.create_project(session, "a", "", NOON)
                project(hasty, "b")
        except errors.TemporaryError as error:
            raised.append(error)

    thread = threading.Thread(target=nest, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert len(raised) == 1
    assert re.fullmatch(BUSY, str(raised[0]))
    assert projects(store) == []
