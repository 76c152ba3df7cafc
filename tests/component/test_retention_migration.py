"""The runs of the previous schema get their locks, and their anonymous artifacts are known, on SQLite and PostgreSQL."""

from __future__ import annotations

import json

import alembic.command
import sqlalchemy
import sqlmodel

from fuseml.domain import plans
from fuseml.store import database, migrations
from fuseml.store.tables import retention_rows

RUN = """INSERT INTO run (id, name, sequence, workflow, revision, project, trigger, inputs, outputs, plan, state, execution, executed, created)
VALUES (:id, :id, :sequence, 'w', 1, 'demo', '{}', '{}', '{}', :plan, 'succeeded', 1, 1, '')"""


def test_the_plans_of_former_runs_are_read(empty_database_url: str) -> None:
    store = database.Database(empty_database_url)
    settings = migrations.config()
    with store.engine.begin() as connection:
        settings.attributes["connection"] = connection
        alembic.command.upgrade(settings, "0009")
    bucket = plans.Store(extension="own", service="store", resource="s3", url="")
    step = plans.StepPlan(
        name="fit",
        image=plans.text("fit:1"),
        variables=(plans.Variable(name="MODEL", value=plans.text("models:/base/3")),),
        checkouts=(plans.Checkout(name="code", project="demo", codeset="wine", url="", ref="", commit="c" * 40, path="/code"),),
        fetches=(plans.Fetch(name="data", address=plans.text("dataset://demo/raw/1"), path="/data", store=bucket),),
        collects=(
            plans.Collect(output="made", kind="model", name="made", path="out", store=bucket),
            plans.Collect(output="scratch", kind="dataset", path="tmp", store=bucket),
        ),
    )
    plan = plans.Plan(id="a", run="a", project="demo", workflow="w", revision=1, steps=(step,)).model_dump(mode="json")
    with store.engine.begin() as connection:
        for number in range(450):
            text = json.dumps(plan) if number % 2 else None
            connection.execute(sqlalchemy.text(RUN), {"id": f"run-{number:03}", "sequence": number, "plan": text})
    store.migrate()
    with store.read() as session:
        locks = session.exec(sqlmodel.select(retention_rows.RunLock)).all()
        assert {row.address for row in locks} == {f"code://demo/wine/{'c' * 40}", "dataset://demo/raw/1", "model://demo/base/3"}
        assert len(locks) == 3 * 225
        made = session.exec(sqlmodel.select(retention_rows.AnonymousArtifact)).all()
        assert {(row.kind, row.project, row.step, row.output) for row in made} == {("dataset", "demo", "fit", "scratch")}
        assert len(made) == 225
    store.close()
