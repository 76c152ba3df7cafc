"""Times of the results of a code version among 10,000 runs of one project, on SQLite and PostgreSQL.

    python -m tests.bench.bench_results

Through the Flask application, without a network: the runs of one version, alone and with all that followed, beside the page of as many runs
that `GET /runs` answers. Half of the runs train on 50 codesets, each of the others serves the model of one. Processor times are those of this
process. PostgreSQL is left out where its programs are not installed.
"""

from __future__ import annotations

import functools
import gc
import statistics
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy
from flask.testing import FlaskClient

from functions.runs import app as runs_app
from functions.runs import deps as runs_deps
from fuseml.domain import plans
from fuseml.runtime import auth
from fuseml.store import database
from fuseml.store.tables import artifact_rows, codeset_rows, run_rows
from tests.bench import bench_artifacts, databases
from tests.component import triggering

SIZE, CODESETS = 10_000, 50
CREATED = "2026-01-01T00:00:00Z"


def plan(name: str) -> dict[str, Any]:
    """A plan of the usual size."""
    steps = [plans.StepPlan(name=step, image=plans.text("x" * 500), script=plans.text("y" * 1500)) for step in ("build", "fit", "check")]
    found = plans.Plan(id=name, run=name, project="p", workflow="w", revision=1, inputs={"alpha": "0.5"}, steps=tuple(steps))
    return found.model_dump(mode="json")


def run(number: int, **fields: Any) -> dict[str, Any]:
    common = {"revision": 1, "project": "p", "codeset": None, "commit": None, "state": "succeeded", "outputs": {}, "created": CREATED}
    common |= {"caused_by": None, "execution": 1, "executed": 0, "sequence": number, "finished": CREATED}
    return {**common, "plan": plan(fields["name"]), "id": fields["name"], **fields}


def rows(number: int) -> dict[str, list[dict[str, Any]]]:
    """A training and the serving of its model."""
    codeset, commit, model = f"code-{number % CODESETS}", f"{number:040x}", f"models:/m/{number}"
    code, address = f"code://p/{codeset}/{commit}", f"model://p/m/{number}"
    training, serving = f"train-{number}", f"serve-{number}"
    runs = [
        run(2 * number, name=training, workflow="train", codeset=codeset, commit=commit, trigger={}, inputs={"code": code}),
        run(2 * number + 1, name=serving, workflow="serve", trigger={"artifact": address}, inputs={"model": model}, caused_by=training),
    ]
    steps = [
        {"run_id": name, "name": step, "position": 0, "state": "succeeded", "attempts": 1, "execution": 1, "outputs": outputs}
        for name, step, outputs in ((training, "fit", {"model": model}), (serving, "deploy", {"url": "http://x"}))
    ]
    parts = {"kind": "model", "project": "p", "name": "m", "version": str(number), "run": training, "external": False, "created": CREATED}
    artifact = {**parts, "address": address, "details": {}}
    return {
        "run": runs,
        "step_run": steps,
        "artifact": [artifact],
        "artifact_edge": [{"source": code, "target": address, "run": training}],
    }


def fill(store: database.Database) -> None:
    store.migrate()
    tables = {**artifact_rows.Artifact.metadata.tables, **run_rows.Run.metadata.tables}
    with store.write() as session:
        session.add(codeset_rows.Project(name="p", description="", created=CREATED))
        session.flush()
        for number in range(CODESETS):
            name, commit = f"code-{number}", f"{SIZE // 2 - CODESETS + number:040x}"
            session.add(codeset_rows.Codeset(project="p", name=name, url="u", webhook_secret="", created=CREATED))
            session.add(codeset_rows.CodesetRef(project="p", codeset=name, ref="refs/heads/main", commit=commit, updated=CREATED, push=""))
        for start in range(0, SIZE // 2, 500):
            batch: dict[str, list[dict[str, Any]]] = {}
            for number in range(start, start + 500):
                for table, items in rows(number).items():
                    batch.setdefault(table, []).extend(items)
            for table, items in batch.items():
                session.execute(tables[table].insert(), items)
    if not store.url.startswith("sqlite"):
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sqlalchemy.text("VACUUM ANALYZE"))


def samples(client: FlaskClient, path: str, count: int) -> tuple[Sequence[float], Sequence[float]]:
    """Milliseconds of requests: elapsed, and of the processor."""
    elapsed, computed = list[float](), list[float]()
    assert len(bench_artifacts.get(client, path).json) == count
    gc.collect()
    for _ in range(40):
        before = time.process_time_ns()
        elapsed.append(bench_artifacts.milliseconds(functools.partial(bench_artifacts.get, client, path)))
        computed.append((time.process_time_ns() - before) / 1e6)
    return elapsed, computed


def measure(name: str, url: str) -> None:
    store = database.Database(url)
    fill(store)
    deps = runs_deps.Deps(
        store=store,
        publisher=bench_artifacts.Silent(),
        engine=triggering.Engine(),
        tokens=auth.Tokens({}, anonymous=True),
        public_url="",
        zone="",
        namespace="",
    )
    client = runs_app.create_app(deps).test_client()
    print(f"{name}: {SIZE:,} runs, milliseconds")
    code = f"code=code://p/code-7/{SIZE // 2 - CODESETS + 7:040x}"
    base, _ = samples(client, "/runs?project=p&limit=100", 100)
    for text, path, count in (
        ("GET /runs, 100 of them", "/runs?project=p&limit=100", 100),
        ("one version", f"/pipelines/results?{code}", 1),
        ("one version, recursive", f"/pipelines/results?{code}&recursive=true", 2),
        ("50 current versions", "/pipelines/results?project=p", CODESETS),
        ("50 current versions, recursive", "/pipelines/results?project=p&recursive=true", 2 * CODESETS),
    ):
        elapsed, computed = samples(client, path, count)
        ratio = statistics.median(elapsed) / statistics.median(base)
        print(
            f"  {text:32} median {statistics.median(elapsed):7.1f}  p95 {bench_artifacts.p95(elapsed):7.1f}"
            f"  processor {statistics.median(computed):7.1f}  ratio {ratio:5.2f}"
        )
    store.close()


def main() -> None:
    """Print the lines of each database."""
    databases.each(measure)


if __name__ == "__main__":
    main()
