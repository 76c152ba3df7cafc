"""Tables, migrations and the shortcut for new files produce the same schema."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import alembic.script
import pytest
import sqlalchemy
from alembic import autogenerate
from alembic.runtime import migration

from fuseml.domain import errors
from fuseml.store import codesets, database, migrations, paging
from fuseml.store.tables import columns, outbox_rows, schema
from tests import commands


@pytest.fixture
def empty(tmp_path: pathlib.Path) -> Iterator[database.Database]:
    store = database.Database(f"sqlite:///{tmp_path}/empty.db")
    yield store
    store.close()


@pytest.fixture
def migrated(tmp_path: pathlib.Path) -> Iterator[database.Database]:
    store = database.Database(f"sqlite:///{tmp_path}/migrated.db")
    migrations.upgrade(store.engine)
    yield store
    store.close()


def described(store: database.Database) -> dict[str, Any]:
    """All tables with columns, keys, indexes and constraints, as the database reports them."""
    inspector = sqlalchemy.inspect(store.engine)
    return {
        table: {
            "columns": {
                column["name"]: (str(column["type"]), column["nullable"], column["default"]) for column in inspector.get_columns(table)
            },
            "key": inspector.get_pk_constraint(table)["constrained_columns"],
            "references": sorted(
                (key["constrained_columns"], key["referred_table"], key["options"]) for key in inspector.get_foreign_keys(table)
            ),
            "unique": sorted(rule["column_names"] for rule in inspector.get_unique_constraints(table)),
            "indexes": sorted((index["name"], index["column_names"], index["unique"]) for index in inspector.get_indexes(table)),
        }
        for table in inspector.get_table_names()
    }


def test_migrations_lead_to_the_tables(migrated: database.Database) -> None:
    with migrated.engine.connect() as connection:
        context = migration.MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert autogenerate.compare_metadata(context, schema.metadata) == []


def test_a_new_file_has_the_schema_of_the_migrations(empty: database.Database, migrated: database.Database) -> None:
    empty.migrate()
    assert described(empty) == described(migrated)
    assert described(empty).keys() == {*schema.metadata.tables, "alembic_version"}


def test_the_schema_imports_every_module_of_tables() -> None:
    folder = pathlib.Path(schema.__file__).parent
    script = "import sys; from fuseml.store.tables import schema; print(*sys.modules)"
    imported = commands.python(script).stdout.split()
    assert {f"fuseml.store.tables.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__"} <= set(imported)


def test_tables_refer_to_tables_of_their_own_module_only() -> None:
    module = {str(mapper.local_table): mapper.class_.__module__ for mapper in columns.Row._sa_registry.mappers}
    for table in schema.metadata.tables.values():
        for key in table.foreign_keys:
            assert module[str(key.column.table)] == module[str(table)], table


def test_the_version_in_the_code_is_the_newest_migration(empty: database.Database, migrated: database.Database) -> None:
    script = alembic.script.ScriptDirectory.from_config(migrations.config())
    assert script.get_heads() == [database.SCHEMA_VERSION]
    empty.migrate()
    for store in (empty, migrated):
        with store.engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalars().all() == [
                database.SCHEMA_VERSION
            ]


def test_migrating_again_changes_nothing(empty: database.Database) -> None:
    empty.migrate()
    with empty.write() as session:
        codesets.create_project(session, "a", "", "")
    before = described(empty)
    empty.migrate()
    migrations.upgrade(empty.engine)
    assert described(empty) == before
    with empty.read() as session:
        assert [row.name for row in codesets.projects(session, paging.Page()).rows] == ["a"]


def test_migrations_apply_one_by_one_to_an_empty_file(empty: database.Database) -> None:
    script = alembic.script.ScriptDirectory.from_config(migrations.config())
    steps = list(script.walk_revisions())
    assert steps[-1].down_revision is None
    settings = migrations.config()
    for step in reversed(steps):
        with empty.engine.begin() as connection:
            settings.attributes["connection"] = connection
            alembic.command.upgrade(settings, step.revision)
    assert described(empty)["alembic_version"]


def test_a_failed_migration_leaves_the_file_unchanged(empty: database.Database) -> None:
    with empty.write() as session:
        session.execute(sqlalchemy.text("CREATE TABLE run (id TEXT)"))
    with pytest.raises(sqlalchemy.exc.OperationalError, match="already exists"):
        migrations.upgrade(empty.engine)
    assert described(empty).keys() <= {"run", "alembic_version"}


def test_a_file_of_a_newer_release_is_refused(empty: database.Database) -> None:
    empty.migrate()
    with empty.write() as session:
        session.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(errors.PermanentError, match=r"identified by '9999'\); if a newer release has migrated it, use that release"):
        empty.migrate()


def test_an_up_to_date_file_is_opened_without_alembic(empty: database.Database) -> None:
    empty.migrate()
    script = (
        "import sys; from fuseml.store import database\n"
        "store = database.Database(sys.argv[1]); store.migrate(); store.close()\n"
        "assert not any(name.partition('.')[0] in ('alembic', 'mako') for name in sys.modules)"
    )
    commands.python(script, empty.url)


def test_an_empty_json_column_is_null(empty: database.Database) -> None:
    empty.migrate()
    with empty.write() as session:
        session.add(outbox_rows.HandledEvent(consumer="a", source="/s", id="1", reply=None, handled=""))
    with empty.read() as session:
        assert session.execute(sqlalchemy.text("SELECT reply IS NULL FROM handled_event")).scalar() == 1
