"""Resolution over the stored registry: it reads few records and agrees with the pure rules over all of them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import alembic.command
import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.domain.registry import extension, registry
from fuseml.domain.registry.resolution import MAX_EXPLAINED, MAX_TIES, attempt
from fuseml.domain.registry.selector import Context, Resolution, Selector
from fuseml.store import database, extensions, migrations, resolution
from fuseml.store.tables import extension_rows
from tests.unit import registries

NOON = "2026-01-01T12:00:00.000000Z"
NEW_ID = registry.id_source(random.Random(2))
NO_CONTEXT = Context()
# One database for all examples of a property: each replaces what is in it.
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)


def fill(store: database.Database, records: Sequence[extension.Extension]) -> None:
    with store.write() as session:
        session.exec(sqlalchemy.delete(extension_rows.ExtensionRecord))
        for record in records:
            extensions.add(session, record, NOON)


def attempt_stored(store: database.Database, selector: Selector, context: Context = NO_CONTEXT, **options: object) -> Resolution:
    with store.read() as session:
        return resolution.attempt(session, [selector], context, **options)  # type: ignore[arg-type]


def minio(id: str, *, version: str = "1.0", kind: str = "external", zone: str = "", **service: Any) -> extension.Extension:
    parts = {"id": "s3", "resource": "s3", "endpoints": [{"url": f"https://{id}", "type": kind}], **service}
    return extension.Extension.model_validate({"id": id, "product": "minio", "version": version, "zone": zone, "services": [parts]})


@SHARED
@given(registries.registries, registries.selectors, registries.contexts, registries.homes, st.integers(1, 5))
def test_it_agrees_with_the_rules_over_all_records(
    store: database.Database,
    records: list[extension.Extension],
    selector: Selector,
    context: Context,
    home: str,
    page: int,
) -> None:
    fill(store, records)
    expected = attempt([selector], records, context, home=home, explain=True)
    result = attempt_stored(store, selector, context, home=home, explain=True, page=page)
    assert (result.bindings, result.unresolved) == (expected.bindings, expected.unresolved)
    (explained,), (complete,) = result.explanations, expected.explanations
    # It may leave out rejected candidates only.
    assert [candidate for candidate in complete.candidates if candidate.verdict != "rejected"] == [
        candidate for candidate in explained.candidates if candidate.verdict != "rejected"
    ]
    assert all(candidate in complete.candidates for candidate in explained.candidates)


@SHARED
@given(registries.registries, st.lists(registries.selectors, max_size=3))
def test_candidates_include_every_match_of_the_selectors(
    store: database.Database, records: list[extension.Extension], selectors: list[Selector]
) -> None:
    fill(store, records)
    with store.read() as session:
        narrowed = extensions.candidates(session, selectors)
    for context in (NO_CONTEXT, Context(project="alpha", user="beta", zone="here")):
        one, other = (attempt(selectors, items, context) for items in (records, narrowed))
        assert (one.bindings, one.unresolved) == (other.bindings, other.unresolved)


def test_candidates_of_more_selectors_than_one_condition_holds(store: database.Database) -> None:
    fill(store, [minio("a")])
    with store.read() as session:
        many = [Selector(product=f"p{number}") for number in range(2_000)]
        assert [record.id for record in extensions.candidates(session, [*many, Selector(product="minio")])] == ["a"]


# Records read


@pytest.fixture
def statements(store: database.Database) -> list[str]:
    seen: list[str] = []
    sqlalchemy.event.listen(store.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    return seen


def test_a_single_best_match_takes_one_page(store: database.Database, statements: list[str]) -> None:
    fill(store, [minio(f"e{number:03}", version=f"1.{number}") for number in range(300)])
    statements.clear()
    assert attempt_stored(store, Selector(service_resource="s3")).bindings[0].extension_id == "e299"
    assert attempt_stored(store, Selector(product="minio", version="~1.50")).bindings[0].extension_id == "e050"
    assert attempt_stored(store, Selector(extension_id="e007")).bindings[0].extension_id == "e007"
    reads = [statement for statement in statements if "extension" in statement]
    # One read each for internal endpoints, for versions in the range, and for the version of that spelling.
    assert len(reads) == 2 + 3 + 1


def test_reading_stops_once_the_ties_are_listed(store: database.Database, statements: list[str]) -> None:
    fill(store, [minio(f"e{number:03}") for number in range(300)])
    statements.clear()
    (binding,) = attempt_stored(store, Selector(service_resource="s3")).bindings
    assert binding.ambiguous_with == [f"e{number:03}/s3" for number in range(1, MAX_TIES + 1)]
    assert len([statement for statement in statements if "extension" in statement]) == 3


def test_reading_continues_past_rejected_services(store: database.Database) -> None:
    secret: dict[str, Any] = {"auth_required": True, "credentials": [{"id": "c", "scope": "project", "projects": ["alpha"]}]}
    fill(store, [*(minio(f"e{number:03}", version=f"2.{number}", **secret) for number in range(200)), minio("open")])
    assert attempt_stored(store, Selector(service_resource="s3"), Context(project="beta")).bindings[0].extension_id == "open"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_index_gives_the_order_of_every_statement(store: database.Database) -> None:
    fill(store, [minio("a")])
    plans: list[str] = []

    def explain(connection: sqlalchemy.Connection, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if "extension_service" in statement:
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()  # type: ignore[arg-type]
            plans.append("; ".join(str(row[-1]) for row in rows))

    sqlalchemy.event.listen(store.engine, "before_cursor_execute", explain)
    for criteria in (
        {"service_resource": "s3"},
        {"service_category": "x"},
        {"product": "minio"},
        {"product": "minio", "version": ">=1"},
        {},
    ):
        with store.read() as session:
            resolution._choose(session, Selector.model_validate(criteria), Context(zone="elsewhere"), "", 4)
    assert plans
    assert [plan for plan in plans if "TEMP B-TREE FOR ORDER BY" in plan or "USING INDEX extension_service" not in plan] == []


# Freshness


def test_changes_of_another_connection_are_visible_at_once(store: database.Database) -> None:
    fill(store, [minio("a")])
    selector = Selector(service_resource="s3", healthy=True)
    assert attempt_stored(store, selector).bindings[0].url == "https://a"
    other = database.Database(store.url)
    with other.write() as session:
        record = extensions.get(session, "a")
        # A health change moves neither the revision nor `updated`.
        extensions.store_health(session, registry.observe(record, ("services", "s3", "endpoints", "https://a"), healthy=False, now=NOON))
    assert attempt_stored(store, selector).unresolved == [""]
    with other.write() as session:
        extensions.remove(session, "a")
    with other.write() as session:
        extensions.add(session, minio("a", endpoints=[{"url": "https://moved"}]), NOON)
    assert attempt_stored(store, selector).bindings[0].url == "https://moved"
    other.close()


def test_an_index_row_follows_its_record(store: database.Database) -> None:
    fill(store, [minio("a", zone="east")])
    with store.write() as session:
        extensions.replace(session, minio("a", version="3.0", zone="west", resource="git"), NOON)
    assert attempt_stored(store, Selector(service_resource="s3")).unresolved == [""]
    assert attempt_stored(store, Selector(service_resource="git", version=">2", zone="west")).bindings[0].zone == "west"


# Explanations


def test_near_misses_are_explained(store: database.Database) -> None:
    fill(store, [minio("a"), minio("b", zone="east"), extension.Extension.model_validate({"id": "empty", "product": "minio"})])
    with pytest.raises(errors.UnresolvedError) as caught, store.read() as session:
        resolution.resolve(session, [Selector(name="store", service_resource="s3", product="mino")], NO_CONTEXT)
    assert caught.value.message == "selector 'store' matches nothing (a: its product is minio, not mino)"
    explanations: object = caught.value.details["explanations"]
    assert explanations == [
        {
            "selector": "store",
            "candidates": [
                {
                    "extension_id": id,
                    "service_id": "",
                    "url": "",
                    "credentials_id": "",
                    "verdict": "rejected",
                    "rule": "product",
                    "sentence": "its product is minio, not mino",
                }
                for id in ("a", "b")
            ],
            "omitted": 0,
        }
    ]


def test_an_explanation_counts_unread_records(store: database.Database) -> None:
    fill(store, [minio(f"e{number:03}") for number in range(500)])
    (missed,) = attempt_stored(store, Selector(service_resource="s3", version=">=2")).explanations
    assert (len(missed.candidates), missed.omitted) == (MAX_EXPLAINED, 300)
    (chosen,) = attempt_stored(store, Selector(service_resource="s3"), explain=True).explanations
    assert (len(chosen.candidates), chosen.omitted, chosen.candidates[0].verdict) == (MAX_EXPLAINED, 300, "chosen")


def test_a_postgresql_statement_orders_ids_as_the_domain_does() -> None:
    statement = resolution._statement(("service_resource",), resolution._Services("internal", False), False, True, "postgresql")
    dialect = sqlalchemy.make_url("postgresql+psycopg://").get_dialect()
    text = str(statement.compile(dialect=dialect()))
    assert (
        'ORDER BY extension_service.version, extension_service.extension_id COLLATE "C", extension_service.service_id COLLATE "C"' in text
    )


def test_a_healthy_service_is_found_among_unhealthy_ones(store: database.Database, statements: list[str]) -> None:
    fill(store, [minio(f"e{number:03}", version=f"1.{number}", kind="internal") for number in range(300)])
    with store.write() as session:
        for number in range(300):
            record = extensions.get(session, f"e{number:03}")
            path = ("services", "s3", "endpoints", f"https://{record.id}")
            extensions.store_health(session, registry.observe(record, path, healthy=number == 7, now=NOON))
    statements.clear()
    assert attempt_stored(store, Selector(service_resource="s3")).bindings[0].extension_id == "e007"
    assert attempt_stored(store, Selector(service_resource="s3", healthy=False)).bindings[0].extension_id == "e299"
    assert len([statement for statement in statements if "extension" in statement]) <= 6


def test_the_migration_notes_the_health_of_stored_services(tmp_path: Path) -> None:
    store = database.Database(f"sqlite:///{tmp_path}/old.db")
    config = migrations.config()
    health = {"state": "unhealthy", "since": NOON}
    document = minio("a", endpoints=[{"url": "https://a", "status": {"health": health}}]).model_dump(mode="json")
    row = {"id": "a", "product": "minio", "zone": "", "document": json.dumps(document), "revision": 1, "created": NOON, "updated": NOON}
    with store.engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0001")
        connection.execute(
            sqlalchemy.text("INSERT INTO extension VALUES (:id, :product, :zone, :document, :revision, :created, :updated)"), row
        )
        connection.execute(sqlalchemy.text("INSERT INTO extension_service VALUES ('a', 's3', 's3', '', 'minio', '', 0, 1, x'')"))
    migrations.upgrade(store.engine)
    with store.write() as session:
        extensions.add(session, minio("b"), NOON)
    assert attempt_stored(store, Selector(service_resource="s3")).bindings[0].extension_id == "b"
    store.close()
