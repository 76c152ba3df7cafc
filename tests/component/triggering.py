"""`dispatcher`, `runs`, `workflows` and `artifacts` over one database, with control over every event in transit."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flask
import werkzeug.test

from functions.artifacts import app as artifacts_app
from functions.artifacts import deps as artifacts_deps
from functions.dispatcher import app as dispatcher_app
from functions.dispatcher import deps as dispatcher_deps
from functions.runs import app as runs_app
from functions.runs import deps as runs_deps
from functions.workflows import app as workflows_app
from functions.workflows import deps as workflows_deps
from fuseml import engines
from fuseml.domain import events, plans
from fuseml.embedded import triggers
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import auth, catalog, clock, cloudevents, secrets
from fuseml.store import codesets, runs
from fuseml.store.tables import codeset_rows
from tests import databases, event_keys

NOON = "2026-11-21T12:00:00.000000Z"
MAIN = "refs/heads/main"


class Engine:
    """Accepts plans, once each, and executes nothing. `submissions` names the runs of all submitted plans, repeated ones included; `meanwhile` is
    called during the next submission. `reports` holds the events that `observe` returns, by run id; `observed` records its calls. `losses`
    holds the causes for which submitted runs are lost.
    """

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.cancelled: dict[str, str] = {}
        self.submissions: list[str] = []
        self.meanwhile: Callable[[], None] | None = None
        self.reports: dict[str, Sequence[events.Event]] = {}
        self.observed: list[str] = []
        self.losses: dict[str, str] = {}

    def submit(self, plan: plans.Plan, secrets: Mapping[str, str]) -> None:
        self.submissions.append(plan.run)
        if plan.id not in self.submitted:
            self.submitted.append(plan.id)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()

    def cancel(self, run_id: str, reason: str) -> None:
        self.cancelled.setdefault(run_id, reason)

    def observe(self, run_id: str) -> Sequence[events.Event]:
        self.observed.append(run_id)
        return self.reports.get(run_id, [])

    def loss(self, run_id: str) -> str | None:
        return self.losses.get(run_id)

    def logs(self, run_id: str, step: str, offset: int = 0, limit: int = 1 << 20) -> engines.LogChunk:
        return engines.LogChunk(b"", 0, complete=True)

    def drop_log(self, run_id: str, step: str) -> None:
        raise AssertionError("no log is archived here")

    def forget(self, run_id: str) -> None:
        """Nothing to forget."""


@functools.cache
def production_triggers() -> tuple[triggers.Trigger, ...]:
    """The triggers of the embedded server, read once for all worlds."""
    return triggers.load(triggers.contract_folder() / "triggers")


class World:
    """Events stay in `events` until `deliver` delivers them by the production triggers."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.store = databases.on_sqlite(folder / "fuseml.db")
        self.engine, self.events = Engine(), list[events.Event]()
        self.keyring = secrets.Keyring([secrets.new_key()])
        tokens = auth.Tokens({}, anonymous=True)
        git = EmbeddedGitHost(folder / "git", "http://git")
        of_runs = runs_deps.Deps(
            store=self.store,
            publisher=self,
            engine=self.engine,
            tokens=tokens,
            public_url="http://fuseml",
            zone="",
            namespace="workloads",
        )
        of_workflows = workflows_deps.Deps(
            store=self.store,
            publisher=self,
            git=git,
            tokens=tokens,
            public_url="http://fuseml",
            zone="",
            namespace="workloads",
        )
        self.functions: dict[str, flask.Flask] = {
            "runs": runs_app.create_app(of_runs),
            "workflows": workflows_app.create_app(of_workflows),
            "artifacts": artifacts_app.create_app(
                artifacts_deps.Deps(store=self.store, publisher=self, signer=event_keys.SIGNER, tokens=tokens, keyring=self.keyring)
            ),
            "dispatcher": dispatcher_app.create_app(
                dispatcher_deps.Deps(
                    store=self.store,
                    publisher=self,
                    signer=event_keys.SIGNER,
                    git=git,
                    engine=self.engine,
                    keyring=self.keyring,
                    zone="",
                    namespace="workloads",
                )
            ),
        }
        self._triggers = production_triggers()
        with self.store.write() as session:
            codesets.create_project(session, "p", "", NOON)
        self.codeset("code")

    def publish(self, event: events.Event) -> None:
        self.events.append(event)

    def codeset(self, name: str) -> None:
        row = codeset_rows.Codeset(project="p", name=name, url=f"http://git/p/{name}.git", webhook_secret="x", created=NOON)
        with self.store.write() as session:
            codesets.add_codeset(session, row)

    def workflow(self, document: str) -> None:
        response = self.functions["workflows"].test_client().post("/workflows", data=document)
        assert response.status_code == 201, response.text

    def assign(self, name: str, pattern: str) -> None:
        response = self.functions["workflows"].test_client().post(f"/workflows/assignments?name={name}&pattern={pattern}")
        assert response.status_code == 201, response.text

    def push(self, commit: str, time: str = "", codeset: str = "code", ref: str = MAIN, push: str = "") -> events.Event:
        """The event that the webhook of a push publishes, in transit. Without an id in `push`, a commit is pushed once."""
        moment = time or clock.now()
        pushed = events.CodesetPushed(
            project="p", codeset=codeset, ref=ref, commit=commit, registered=NOON, push=push or f"of {commit[:8]}"
        )
        with self.store.write() as session:
            codesets.record_commit(session, codesets.codeset(session, "p", codeset), ref, commit, moment, pushed.identity)
        event = events.event(pushed, moment)
        self.events.append(event)
        return event

    def reply_to(self, function: str, event: events.Event) -> werkzeug.test.TestResponse:
        """The response of a function to an event."""
        headers, body = event_keys.encode(event)
        return self.functions[function].test_client().post(catalog.EVENTS, headers=headers, data=body)

    def deliver_to(self, function: str, event: events.Event) -> None:
        """One delivery of an event to a function, whose reply is then in transit."""
        response = self.reply_to(function, event)
        assert response.status_code in (200, 204), response.text
        if response.status_code == 200:
            self.events.append(cloudevents.decode(dict(response.headers), response.data))

    def deliver(self, event: events.Event) -> None:
        """Deliver an event to every function here that consumes it."""
        for trigger in self._triggers:
            if trigger.subscriber in self.functions and trigger.matches(event):
                self.deliver_to(trigger.subscriber, event)

    def settle(self) -> None:
        """Deliver until no event is in transit."""
        while self.events:
            self.deliver(self.events.pop(0))

    def finish(self, name: str, state: str = "succeeded", **outputs: str) -> None:
        """The engine has finished a run: the state and the events that `run_tracker` derives from its reports."""
        with self.store.write() as session:
            row = runs.get(session, name)
            row.state, row.finished = state, clock.now()
            session.add(row)
            for step in runs.steps(session, [row.id]):
                step.state, step.outputs, step.finished = "succeeded" if state == "succeeded" else "failed", outputs, row.finished
                step_finished = events.RunStepFinished(
                    run=name, workflow=row.workflow, project=row.project, step=step.name, state=step.state
                )
                self.events.append(events.event(step_finished.model_copy(update={"outputs": outputs}), clock.now()))
            run_finished = events.RunFinished.model_validate({**row.model_dump(), "run": name})
            self.events.append(events.event(run_finished, clock.now()))

    def get(self, path: str) -> Any:
        """The response of the API."""
        function = "workflows" if path.startswith("/workflows") else "artifacts" if path.startswith("/artifacts") else "runs"
        response = self.functions[function].test_client().get(path)
        assert response.status_code == 200, response.text
        return response.json

    def run(self, name: str) -> dict[str, Any]:
        return dict(self.get(f"/runs/{name}"))

    def states(self) -> dict[str, str]:
        """Name -> state of every run, oldest first."""
        return {run["name"]: run["state"] for run in reversed(self.get("/runs?limit=500"))}
