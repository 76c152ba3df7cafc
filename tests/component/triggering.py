"""`dispatcher`, `runs`, `workflows` and `artifacts` over one database, with a hand on every event that is on its way."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flask

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
from fuseml.embedded import composition, triggers
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import auth, clock, cloudevents, secrets
from fuseml.store import codesets, database, runs
from fuseml.store.tables import codeset_rows

NOON = "2026-11-21T12:00:00.000000Z"
MAIN = "refs/heads/main"


class Engine:
    """Takes plans, once each, and runs nothing. `given` are the runs of all plans that came; `meanwhile` happens while the next one does."""

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.cancelled: dict[str, str] = {}
        self.given: list[str] = []
        self.meanwhile: Callable[[], None] | None = None

    def submit(self, plan: plans.Plan, secrets: Mapping[str, str]) -> None:
        self.given.append(plan.run)
        if plan.id not in self.submitted:
            self.submitted.append(plan.id)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()

    def cancel(self, run_id: str, reason: str) -> None:
        self.cancelled.setdefault(run_id, reason)

    def observe(self, run_id: str) -> Sequence[events.Event]:
        return []

    def logs(self, run_id: str, step: str, offset: int = 0, limit: int = 1 << 20) -> engines.LogChunk:
        return engines.LogChunk(b"", 0, complete=True)

    def forget(self, run_id: str) -> None:
        """Nothing is remembered."""


class World:
    """Events stay in `events` until `deliver` hands them to who takes them by the production triggers."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.store = database.Database(f"sqlite:///{folder / 'fuseml.db'}")
        self.store.migrate()
        self.engine, self.events = Engine(), list[events.Event]()
        self.keyring = secrets.Keyring([secrets.new_key()])
        tokens = auth.Tokens({}, anonymous=True)
        site = {"zone": "", "namespace": "workloads"}
        common = {"store": self.store, "publisher": self}
        git = EmbeddedGitHost(folder / "git", "http://git")
        of_runs = runs_deps.Deps(**common, engine=self.engine, tokens=tokens, public_url="http://fuseml", **site)
        of_workflows = workflows_deps.Deps(**common, git=git, tokens=tokens, public_url="http://fuseml", **site)
        self.functions: dict[str, flask.Flask] = {
            "runs": runs_app.create_app(of_runs),
            "workflows": workflows_app.create_app(of_workflows),
            "artifacts": artifacts_app.create_app(artifacts_deps.Deps(**common, tokens=tokens)),
            "dispatcher": dispatcher_app.create_app(
                dispatcher_deps.Deps(**common, git=git, engine=self.engine, keyring=self.keyring, **site)
            ),
        }
        self._triggers = triggers.load(composition.contract_folder() / "triggers")
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
        answer = self.functions["workflows"].test_client().post("/workflows", data=document)
        assert answer.status_code == 201, answer.text

    def assign(self, name: str, pattern: str) -> None:
        answer = self.functions["workflows"].test_client().post(f"/workflows/assignments?name={name}&pattern={pattern}")
        assert answer.status_code == 201, answer.text

    def pushed(self, commit: str, time: str = "", codeset: str = "code", ref: str = MAIN) -> events.Event:
        """What the git host's webhook announces, on its way."""
        moment = time or clock.now()
        with self.store.write() as session:
            codesets.announce(session, codesets.codeset(session, "p", codeset), ref, commit, moment)
        event = events.event(events.CodesetPushed(project="p", codeset=codeset, ref=ref, commit=commit, registered=NOON), moment)
        self.events.append(event)
        return event

    def hand(self, function: str, event: events.Event) -> None:
        """One delivery of an event to a function; its reply is on its way then."""
        headers, body = cloudevents.encode(event)
        answer = self.functions[function].test_client().post("/", headers=headers, data=body)
        assert answer.status_code in (200, 204), answer.text
        if answer.status_code == 200:
            self.events.append(cloudevents.decode(dict(answer.headers), answer.data))

    def deliver(self, event: events.Event) -> None:
        """Hand an event to every function here that takes it."""
        for trigger in self._triggers:
            if trigger.subscriber in self.functions and trigger.wants(event):
                self.hand(trigger.subscriber, event)

    def settle(self) -> None:
        """Deliver until nothing is on its way."""
        while self.events:
            self.deliver(self.events.pop(0))

    def finish(self, name: str, state: str = "succeeded", **outputs: str) -> None:
        """The engine is through with a run: what `run_tracker` makes of its events."""
        with self.store.write() as session:
            row = runs.get(session, name)
            row.state, row.finished = state, clock.now()
            session.add(row)
            for step in runs.steps(session, [row.id]):
                step.state, step.outputs = "succeeded" if state == "succeeded" else "failed", outputs
                told = events.RunStepFinished(run=name, workflow=row.workflow, project=row.project, step=step.name, state=step.state)
                self.events.append(events.event(told.model_copy(update={"outputs": outputs}), clock.now()))
            ended = events.RunFinished.model_validate({**row.model_dump(), "run": name})
            self.events.append(events.event(ended, clock.now()))

    def get(self, path: str) -> Any:
        """What the API says."""
        function = "workflows" if path.startswith("/workflows") else "artifacts" if path.startswith("/artifacts") else "runs"
        answer = self.functions[function].test_client().get(path)
        assert answer.status_code == 200, answer.text
        return answer.json

    def run(self, name: str) -> dict[str, Any]:
        return dict(self.get(f"/runs/{name}"))

    def states(self) -> dict[str, str]:
        """Name -> state of every run, oldest first."""
        return {run["name"]: run["state"] for run in reversed(self.get("/runs?limit=500"))}
