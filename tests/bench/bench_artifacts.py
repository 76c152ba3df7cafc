"""Times of the search over 100,000 artifacts, and of lineage in a graph of 100,000 artifacts, on SQLite and PostgreSQL.

    python -m tests.bench.bench_artifacts

Through the Flask application, without a network. Searches: the first and second page of searches that people make, beside a query for as many
rows by their primary keys. The budget is 50 ms for the 95th percentile. Processor times are those of this process, which hold all of SQLite's work
and none of PostgreSQL's; other programs on the machine do not change them.

Lineage: two steps in both directions from 400 artifacts, beside one recursive SQL query over the same connection; the budget is 100 ms.
PostgreSQL is left out where its programs are not installed.
"""

from __future__ import annotations

import functools
import gc
import random
import statistics
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy
import sqlmodel
from flask.testing import FlaskClient

from functions.artifacts import app as artifacts_app
from functions.artifacts import deps as artifacts_deps
from fuseml.domain import events
from fuseml.domain.registry import versions
from fuseml.runtime import auth, secrets
from fuseml.store import database
from fuseml.store.tables import artifact_rows
from tests import event_keys
from tests.bench import databases

SIZE = 100_000
SEARCH_MS, LINEAGE_MS = 50.0, 100.0
PROJECTS, NAMES = 20, 200
FRAMEWORKS = ("scikit-learn", "torch", "xgboost", "lightgbm")

SEARCHES = (
    "kind=model",
    "project=project-07",
    "kind=model&project=project-07",
    "kind=dataset&project=project-07&name=name-107",
    "name=name-042",
    "run=train-500",
    "producer=train-501",
    "kind=model&format=mlflow",
    "format=onnx",
    "framework=scikit-learn",
    "framework=scikit-learn>=1.4",
    "framework=torch>=99",
    "kind=model&project=project-03&framework=torch~1.2.0",
    "tag=champion",
    "label=reviewed",
    "label=reviewed&kind=model&project=project-03",
    "where=metrics.rmse<0.8",
    "where=metrics.rmse<0.0001",
    "where=metrics.rmse<0",
    "where=metrics.rmse>=0.1&where=metrics.r2>0.5&kind=model&project=project-03",
    "where=metrics.r2>0.9&tag=champion",
    "since=2026-06-01T00:00:00Z&kind=model",
    "before=2020-01-01T00:00:00Z",
    "project=project-none",
    "pattern=" + urllib.parse.quote("model://project-03/*?format=mlflow&framework=scikit-learn>=1.4&metrics.rmse<0.8", safe=""),
)

RECURSIVE = sqlalchemy.text(
    """
    WITH RECURSIVE down(address, depth) AS (
        SELECT CAST(:address AS VARCHAR), 0
        UNION SELECT edge.target, depth + 1 FROM artifact_edge AS edge JOIN down ON edge.source = down.address WHERE depth < 2
    ), up(address, depth) AS (
        SELECT CAST(:address AS VARCHAR), 0
        UNION SELECT edge.source, depth + 1 FROM artifact_edge AS edge JOIN up ON edge.target = up.address WHERE depth < 2
    )
    SELECT source, target, run FROM artifact_edge WHERE source IN (SELECT address FROM down WHERE depth < 2)
    UNION SELECT source, target, run FROM artifact_edge WHERE target IN (SELECT address FROM up WHERE depth < 2)
    """
)


class Silent:
    def publish(self, event: events.Event) -> None:
        raise AssertionError(f"nothing is published here: {event.id}")


def address(number: int) -> str:
    kind = ("model", "dataset", "code")[number % 3]
    return f"{kind}://project-{number % PROJECTS:02}/name-{number // PROJECTS % NAMES:03}/{number:06}"


def rows(number: int, chance: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of an artifact by table. Half of the artifacts have metrics; each was made from two earlier ones."""
    kind, rest = address(number).split("://")
    project, name, version = rest.split("/")
    made = f"{chance.randint(1, 9)}.{chance.randint(0, 9)}.{chance.randint(0, 9)}"
    yield (
        "artifact",
        {
            "address": address(number),
            "kind": kind,
            "project": project,
            "name": name,
            "version": version,
            "run": f"train-{number // 50}",
            "format": "mlflow" if number % 10 else "onnx",
            "framework": FRAMEWORKS[number // 3 % 4],
            "framework_version": made,
            "framework_order": versions.sort_key(made),
            "digest": f"sha256:{number:064x}",
            "details": {"uri": f"s3://bucket/{number}", "note": "x" * 200},
            "created": f"2026-{1 + number * 12 // SIZE:02}-01T00:00:00.{number:06}Z",
            "external": False,
        },
    )
    if number % 2 == 0:
        for metric in ("rmse", "r2"):
            yield "artifact_metric", {"address": address(number), "name": metric, "value": chance.random()}
    if number % 100 == 0:
        yield "artifact_label", {"address": address(number), "label": "reviewed"}
    if number >= SIZE - PROJECTS * NAMES * 3:
        key = {"kind": kind, "project": project, "name": name, "tag": "champion"}
        yield "artifact_tag", {**key, "address": address(number), "immutable": False, "by": "ada", "updated": ""}
    for source in {chance.randrange(number) for _ in range(2)} if number else ():
        yield "artifact_edge", {"source": address(source), "target": address(number), "run": f"train-{number // 50}"}


def fill(store: database.Database) -> None:
    store.migrate()
    chance = random.Random(1)
    tables = artifact_rows.Artifact.metadata.tables
    for start in range(0, SIZE, 5_000):
        batch: dict[str, list[dict[str, Any]]] = {}
        for number in range(start, start + 5_000):
            for table, row in rows(number, chance):
                batch.setdefault(table, []).append(row)
        # The last version of a name and kind has the tag.
        batch["artifact_tag"] = list(
            {tuple(row[key] for key in ("kind", "project", "name")): row for row in batch.get("artifact_tag", [])}.values()
        )
        with store.write() as session:
            for table, items in batch.items():
                if table == "artifact_tag" and items:
                    keys = sqlalchemy.text("DELETE FROM artifact_tag WHERE kind = :kind AND project = :project AND name = :name")
                    session.execute(keys, [{key: row[key] for key in ("kind", "project", "name")} for row in items])
                if items:
                    session.execute(tables[table].insert(), items)
    if not store.url.startswith("sqlite"):
        # As its daemon does soon after so many inserts.
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sqlalchemy.text("VACUUM ANALYZE"))


def milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - started) / 1e6


def p95(samples: Sequence[float]) -> float:
    return sorted(samples)[int(len(samples) * 0.95)]


def get(client: FlaskClient, path: str) -> Any:
    response = client.get(path)
    assert response.status_code == 200, response.text
    return response


def by_key(store: database.Database) -> None:
    """A hundred artifacts by their addresses."""
    row = artifact_rows.Artifact
    wanted = [address(number) for number in range(0, SIZE, SIZE // 100)]
    with store.read() as session:
        assert len(session.exec(sqlmodel.select(row).where(sqlmodel.col(row.address).in_(wanted))).all()) == len(wanted)


def search(client: FlaskClient, store: database.Database) -> tuple[float, float, float]:
    """Print a line for each search. Returns the 95th percentiles over all, of their processor times, and of a hundred rows by key."""
    everything, computed = list[float](), list[float]()
    baseline = [milliseconds(functools.partial(by_key, store)) for _ in range(100)]
    for text in SEARCHES:
        target = (
            f"/artifacts?{text.replace('>', '%3E').replace('<', '%3C').replace('~', '%7E') if not text.startswith('pattern') else text}"
        )
        first = get(client, target)
        following = first.headers.get("Link", "")[1:].partition(">")[0]
        gc.collect()
        samples = list[float]()
        for path in [target, *([following] if following else [])] * 15:
            before = time.process_time_ns()
            samples.append(milliseconds(functools.partial(get, client, path)))
            computed.append((time.process_time_ns() - before) / 1e6)
        everything += samples
        print(f"  {text[:70]:70} {len(first.json):>4} rows  median {statistics.median(samples):7.1f}  p95 {p95(samples):7.1f}")
        baseline.append(milliseconds(functools.partial(by_key, store)))
    return p95(everything), p95(computed), p95(baseline)


def recursive(connection: sqlalchemy.Connection, text: str) -> Sequence[Any]:
    return connection.execute(RECURSIVE, {"address": text}).all()


def lineage(client: FlaskClient, store: database.Database) -> tuple[float, float]:
    """The 95th percentiles of the API, and of one recursive query, for the same artifacts."""
    chance = random.Random(2)
    chosen = [address(chance.randrange(SIZE)) for _ in range(400)]
    api, query = list[float](), list[float]()
    with store.engine.connect() as connection:
        for text in chosen:
            path = f"/lineage/{text.replace('://', '/')}?direction=both&depth=2"
            counted = len(get(client, path).json["edges"])
            assert counted == len(recursive(connection, text))
            api.append(milliseconds(functools.partial(get, client, path)))
            query.append(milliseconds(functools.partial(recursive, connection, text)))
    return p95(api), p95(query)


def measure(name: str, url: str) -> None:
    store = database.Database(url)
    fill(store)
    tokens, keyring = auth.Tokens({}, anonymous=True), secrets.Keyring([secrets.new_key()])
    deps = artifacts_deps.Deps(store=store, publisher=Silent(), signer=event_keys.SIGNER, tokens=tokens, keyring=keyring)
    client = artifacts_app.create_app(deps).test_client()
    print(f"{name}: {SIZE:,} artifacts, milliseconds")
    slowest, computed, keyed = search(client, store)
    print(
        f"  search: p95 {slowest:.1f} ms, {'within' if slowest <= SEARCH_MS else 'over'} the budget of {SEARCH_MS:g} ms;"
        f" processor time p95 {computed:.1f} ms; a hundred rows by key: p95 {keyed:.1f} ms; ratio {slowest / keyed:.1f}"
    )
    api, query = lineage(client, store)
    print(
        f"  lineage, two steps both ways: p95 {api:.1f} ms, {'within' if api <= LINEAGE_MS else 'over'} the budget of {LINEAGE_MS:g} ms;"
        f" one recursive query: p95 {query:.1f} ms; ratio {api / query:.1f}"
    )
    store.close()


def main() -> None:
    """Print the lines of each database."""
    databases.each(measure)


if __name__ == "__main__":
    main()
