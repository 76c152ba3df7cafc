"""All functions that take part in approvals, over one database with a recording engine."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from functions.housekeeper import app as housekeeper_app
from functions.housekeeper import deps as housekeeper_deps
from functions.run_tracker import app as tracker_app
from functions.run_tracker import deps as tracker_deps
from fuseml.domain import errors, events, plans
from fuseml.domain.labels import RUN_LABEL
from fuseml.engines.tekton.events import STEP_LABEL
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import catalog, clock, cloudevents, secrets
from fuseml.store import database, runs
from tests import event_keys
from tests.component import requesting

GATED = requesting.DOCUMENT.replace("  - name: fit\n", "  - name: fit\n    approval: {message: really fit?, expires: 1h}\n")
FORKED = """
name: train
inputs:
  - {name: code, type: codeset}
steps:
  - {name: prepare, image: "shell:1", outputs: [{name: data}]}
  - {name: report, image: "shell:1"}
  - name: fit
    image: shell:1
    needs: [prepare]
    approval: {message: "fit?"}
  - name: tune
    image: shell:1
    needs: [prepare]
    approval: {message: "tune?"}
  - {name: serve, image: "shell:1", needs: [fit, tune]}
"""


class Engine(requesting.Engine):
    """Also records the cancelled and the observed executions."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled: list[tuple[str, str]] = []
        self.observed: list[str] = []
        self.is_away = False

    def submit(self, plan: plans.Plan, secrets: Mapping[str, str]) -> None:
        if self.is_away:
            raise errors.TemporaryError("the engine is away")
        super().submit(plan, secrets)

    def cancel(self, run_id: str, reason: str) -> None:
        self.cancelled.append((run_id, reason))

    def observe(self, run_id: str) -> Sequence[events.Event]:
        self.observed.append(run_id)
        return []


class System(requesting.System):
    """Also with `run_tracker` and `housekeeper`. `deliver` delivers every published event to its consumers."""

    def __init__(self, store: database.Database, document: str) -> None:
        folder = pathlib.Path(store.url.removeprefix("sqlite:///")).parent
        super().__init__(store, folder)
        self.engine: Engine
        self.tracker = tracker_app.create_app(
            tracker_deps.Deps(store=store, publisher=self, signer=event_keys.SIGNER, engine=self.engine)
        ).test_client()
        self.housekeeper = housekeeper_app.create_app(
            housekeeper_deps.Deps(
                store=store,
                publisher=self,
                signer=event_keys.SIGNER,
                git=EmbeddedGitHost(folder / "git", "http://127.0.0.1:1/git"),
                engine=self.engine,
                keyring=secrets.Keyring([secrets.new_key()]),
                check=lambda *_: (),  # type: ignore[arg-type]
            )
        ).test_client()
        self.ledger: list[events.Event] = []
        self.ticks = 0
        assert self.workflows.put("/workflows/train", data=document).status_code == 200
        self.events.clear()

    def make_engine(self) -> Engine:
        return Engine()

    def deliver(self, times: int = 2) -> None:
        """Deliver every event twice, as brokers may."""
        consumed = (events.RunRequested, events.RunApproved, events.RunRejected, events.RunCancelRequested)
        while self.events:
            event = self.events.pop(0)
            self.ledger.append(event)
            if event.type in {payload.TYPE for payload in consumed}:
                for _ in range(times):
                    self.deliver_to(self.dispatcher, event)

    def deliver_to(self, function: Any, event: events.Event, status: tuple[int, ...] = (200, 204)) -> None:
        headers, body = event_keys.encode(event)
        response = function.post(catalog.EVENTS, headers=headers, data=body)
        assert response.status_code in status, response.text
        if response.status_code == 200:
            self.publish(cloudevents.decode(dict(response.headers), response.data))

    def report(self, execution: str, step: str | None, state: str, *, skipped: Sequence[str] = (), **outputs: str) -> None:
        """Two equal reports of the engine, and the delivery of the resulting events."""
        status: dict[str, Any] = {"conditions": [{"type": "Succeeded", "status": _STATUS[state], "reason": _REASON.get(state, "")}]}
        results = [{"name": name, "value": value} for name, value in outputs.items()]
        status |= {"startTime": clock.now(), "taskResults" if step else "pipelineResults": results}
        if skipped:
            status["skippedTasks"] = [{"name": name} for name in skipped]
        labels = {RUN_LABEL: execution} | ({STEP_LABEL: step} if step else {})
        kind = "taskRun" if step else "pipelineRun"
        data = {kind: {"metadata": {"labels": labels}, "status": status}}
        event = events.Event(
            f"{events.TEKTON_PREFIX}{kind.lower()}.x.v1", "/tekton", f"{execution}:{step}:{state}", None, clock.now(), data
        )
        for copy in (event, dataclasses.replace(event, id=f"{event.id}:again")):
            self.deliver_to(self.tracker, copy)
        self.deliver()

    def tick(self) -> None:
        self.ticks += 1
        self.deliver_to(self.housekeeper, events.Event(events.TICK, "/tick", str(self.ticks), None, clock.now(), {}))
        self.deliver()

    def run(self) -> dict[str, Any]:
        return dict(self.runs.get("/runs/train-1").get_json())

    def step(self, name: str) -> dict[str, Any]:
        return next(step for step in self.run()["steps"] if step["name"] == name)

    def states(self) -> tuple[str, dict[str, str]]:
        run = self.run()
        return run["state"], {step["name"]: step["state"] for step in run["steps"]}

    def published(self, payload: type[events.Payload]) -> list[Mapping[str, Any]]:
        return [event.data for event in {event.id: event for event in self.ledger}.values() if event.type == payload.TYPE]

    def decide(self, action: str, status: int = 202, **body: str) -> Any:
        response = self.runs.post(f"/runs/train-1/{action}", json=body)
        assert response.status_code == status, response.text
        return response.json

    def overdue(self, step: str) -> None:
        with self.store.write() as session:
            row = runs.get(session, "train-1")
            step_run = next(item for item in runs.steps(session, [row.id]) if item.name == step)
            step_run.approval = {
                **(step_run.approval or {}),
                "asked": "2026-11-20T12:00:00.000000Z",
                "deadline": "2026-11-20T13:00:00.000000Z",
            }


_STATUS = {"running": "Unknown", "succeeded": "True", "failed": "False", "cancelled": "False"}
_REASON = {"running": "Running", "cancelled": "Cancelled"}


def waiting(store: database.Database) -> tuple[System, str]:
    """A run whose step `fit` waits for an approval, and its id."""
    system = System(store, GATED)
    run_id = system.start()["id"]
    system.report(run_id, "prepare", "succeeded", data="d1")
    system.report(run_id, None, "succeeded")
    assert system.states() == ("waiting", {"prepare": "succeeded", "fit": "waiting"})
    return system, run_id
