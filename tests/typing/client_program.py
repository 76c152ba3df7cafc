"""A typed program of a user, first with documents, then with objects: it starts a run, follows it, and reads its results.

`mypy --strict` accepts it.
"""

from __future__ import annotations

import datetime
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from fuseml import Client
from fuseml.client import api, event_shapes, objects, registry_shapes, shapes
from fuseml.domain import errors


def train(client: api.Client, workflow: str, alpha: float) -> shapes.Run:
    """The finished run. Raises PermanentError when it did not succeed."""
    request: shapes.RunRequest = {"project": "demo", "codeset": "diabetes", "inputs": {"alpha": str(alpha)}}
    [created] = client.runs.list(request=client.runs.start(workflow, request), limit=1)
    run = created
    for run in client.runs.watch(created["name"]):
        print(run["state"], [step["name"] for step in run["steps"] if step["state"] == "running"])
    if run["state"] != "succeeded":
        raise errors.PermanentError(run["cause"] or "the run failed without a cause")
    return run


def models(client: api.Client, run: shapes.Run) -> Iterator[str]:
    """Addresses of the models that the run produced."""
    return (artifact["address"] for artifact in client.artifacts.list(kind="model", run=run["name"]))


def tracking_url(client: api.Client, project: str) -> str:
    """The URL of the tracking server that the project's steps use."""
    selector: registry_shapes.Selector = {"name": "tracking", "service_resource": "mlflow-tracking"}
    [binding] = client.resolver.resolve([selector], {"project": project})["bindings"]
    return binding["url"]


def dead_letters(client: api.Client) -> list[event_shapes.EventSummary]:
    """Events that a consumer gave up."""
    return list(client.events.list(dead=True, limit=10))


def main() -> None:
    client = api.Client(os.environ["FUSEML_SERVER_URL"], os.environ.get("FUSEML_TOKEN"))
    run = train(client, "mlflow-e2e", 0.5)
    duration = run["duration"]
    print(f"{run['name']} took {duration:.0f} s" if duration is not None else run["name"], *models(client, run))
    print(tracking_url(client, "demo"), len(dead_letters(client)))
    for application in client.applications.list(workflow=run["workflow"]):
        print(application["name"], application.get("url"), client.predictions.predict(application["url"], {"age": 0.5}))


def newest(client: Client, folder: Path) -> objects.Run:
    """The finished run of the folder's code."""
    push: objects.Push = client.push(folder, project="demo")
    [run, *_] = client.runs.of_push(push)
    for seen in client.runs.watch(run.name):
        run = seen
        print(run.state, [step.name for step in run.steps if step.state == "running"])
    return run


def explore() -> None:
    client = Client(project="demo", timeout=5)
    run = newest(client, Path("diabetes"))
    spent: datetime.timedelta | None = run.finished - run.created if run.finished else None
    print(spent, run.metrics["rmse"] < 60, len(client.runs.to_dataframe(workflow=run.workflow)))
    for artifact in client.artifacts.list(kind="model", run=run.name):
        folder: Path = client.artifacts.pull(artifact.address, "model")
        print(folder, [edge.source for edge in client.artifacts.lineage(artifact.address).edges])
    for name, model in client.models.items():
        prediction: list[object] = model.predict([{"age": 0.5}, {"age": 0.6}])
        print(name, model.status, prediction, model.predict([[0.5]]))
    for event in itertools.islice(client.events.tail(type="run.*"), 3):
        print(event.number, event.received.isoformat(), event.outcome)
    for step in client.plan(run.workflow, codeset="diabetes").steps:
        print(step.image, dict(step.environment))
    print(client.api.readiness())


if __name__ == "__main__":
    main()
    explore()
