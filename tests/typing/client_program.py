"""A typed program of a user: it starts a run, follows it, and reads its results. `mypy --strict` accepts it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from fuseml.client import event_shapes, registry_shapes, shapes
from fuseml.client.api import Client
from fuseml.domain import errors


def train(client: Client, workflow: str, alpha: float) -> shapes.Run:
    """The finished run. Raises PermanentError when it did not succeed."""
    request: shapes.RunRequest = {"project": "demo", "codeset": "diabetes", "inputs": {"alpha": str(alpha)}}
    [created] = client.runs.list(request=client.runs.start(workflow, request), limit=1)
    run = created
    for run in client.runs.watch(created["name"]):
        print(run["state"], [step["name"] for step in run["steps"] if step["state"] == "running"])
    if run["state"] != "succeeded":
        raise errors.PermanentError(run["cause"] or "the run failed without a cause")
    return run


def models(client: Client, run: shapes.Run) -> Iterator[str]:
    """Addresses of the models that the run produced."""
    return (artifact["address"] for artifact in client.artifacts.list(kind="model", run=run["name"]))


def tracking_url(client: Client, project: str) -> str:
    """The URL of the tracking server that the project's steps use."""
    selector: registry_shapes.Selector = {"name": "tracking", "service_resource": "mlflow-tracking"}
    [binding] = client.resolver.resolve([selector], {"project": project})["bindings"]
    return binding["url"]


def dead_letters(client: Client) -> list[event_shapes.EventSummary]:
    """Events that a consumer gave up."""
    return list(client.events.list(dead=True, limit=10))


def main() -> None:
    client = Client(os.environ["FUSEML_SERVER_URL"], os.environ.get("FUSEML_TOKEN"))
    run = train(client, "mlflow-e2e", 0.5)
    duration = run["duration"]
    print(f"{run['name']} took {duration:.0f} s" if duration is not None else run["name"], *models(client, run))
    print(tracking_url(client, "demo"), len(dead_letters(client)))
    for application in client.applications.list(workflow=run["workflow"]):
        print(application["name"], application.get("url"), client.predictions.predict(application["url"], {"age": 0.5}))


if __name__ == "__main__":
    main()
