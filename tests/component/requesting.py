"""`runs`, `workflows` and `dispatcher` over one database with a recording engine, for tests of requests for runs."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from functions.dispatcher import app as dispatcher_app
from functions.dispatcher import deps as dispatcher_deps
from functions.runs import app as runs_app
from functions.runs import deps as runs_deps
from functions.workflows import app as workflows_app
from functions.workflows import deps as workflows_deps
from fuseml import engines
from fuseml.domain import errors, events, plans
from fuseml.domain.registry import extension
from fuseml.githosts import embedded
from fuseml.runtime import auth, catalog, clock, secrets
from fuseml.store import codesets, database, extensions, runs
from fuseml.store.tables import codeset_rows
from tests import event_keys

NOON = "2026-11-21T12:00:00.000000Z"
FIRST, SECOND = "a" * 40, "b" * 40
DOCUMENT = """
name: train
inputs:
  - name: code
    type: codeset
  - name: alpha
    default: "1"
outputs:
  - name: model
steps:
  - name: prepare
    image: shell:1
    inputs:
      - codeset: {name: code}
    extensions:
      - name: store
        service_resource: s3
    outputs:
      - name: data
  - name: fit
    image: shell:1
    inputs:
      - codeset: {name: code}
      - name: alpha
        value: "{{ inputs.alpha }}"
      - name: data
        value: "{{ steps.prepare.outputs.data }}"
    outputs:
      - name: model
"""


class Engine:
    """Records the submitted plans with their secrets."""

    def __init__(self) -> None:
        self.plans: list[plans.Plan] = []
        self.secrets: list[Mapping[str, str]] = []
        self.refusal = ""

    def submit(self, plan: plans.Plan, secrets: Mapping[str, str]) -> None:
        if self.refusal:
            raise errors.PermanentError(self.refusal)
        self.plans.append(plan)
        self.secrets.append(secrets)

    def cancel(self, run_id: str, reason: str) -> None:
        """Nothing runs."""

    def observe(self, run_id: str) -> Sequence[events.Event]:
        return []

    def loss(self, run_id: str) -> str | None:
        return None

    def logs(self, run_id: str, step: str, offset: int = 0, limit: int = 1 << 20) -> engines.LogChunk:
        return engines.LogChunk(f"{step} of {run_id}\n".encode(), 1, complete=True)

    def drop_log(self, run_id: str, step: str) -> None:
        raise AssertionError("no log is archived here")

    def forget(self, run_id: str) -> None:
        """Nothing to forget."""


class System:
    """`runs`, `workflows` and `dispatcher` over one database; `publish` keeps events until `deliver` delivers them to `dispatcher`."""

    def __init__(self, store: database.Database, folder: pathlib.Path) -> None:
        self.store, self.engine, self.events = store, self.make_engine(), list[events.Event]()
        keyring = secrets.Keyring([secrets.new_key()])
        tokens = auth.Tokens({}, anonymous=True)
        git = embedded.EmbeddedGitHost(folder / "git", "http://git")
        self.runs = runs_app.create_app(
            runs_deps.Deps(
                store=store,
                publisher=self,
                engine=self.engine,
                tokens=tokens,
                public_url="http://fuseml",
                zone="",
                namespace="workloads",
            )
        ).test_client()
        self.workflows = workflows_app.create_app(
            workflows_deps.Deps(
                store=store,
                publisher=self,
                git=git,
                tokens=tokens,
                public_url="http://fuseml",
                zone="",
                namespace="workloads",
            )
        ).test_client()
        self.dispatcher = dispatcher_app.create_app(
            dispatcher_deps.Deps(
                store=store,
                publisher=self,
                signer=event_keys.SIGNER,
                git=git,
                engine=self.engine,
                keyring=keyring,
                zone="",
                namespace="workloads",
            )
        ).test_client()
        self._register(keyring)

    def make_engine(self) -> Engine:
        return Engine()

    def _register(self, keyring: secrets.Keyring) -> None:
        credentials = extension.Credentials(id="default", configuration={"AWS_SECRET_ACCESS_KEY": keyring.seal("canary")})
        endpoint = extension.Endpoint(url="http://s3", type="internal", configuration={"S3_ENDPOINT_URL": "http://s3"})
        service = extension.Service(id="store", resource="s3", endpoints=(endpoint,), credentials=(credentials,))
        with self.store.write() as session:
            codesets.create_project(session, "p", "", NOON)
            codeset = codeset_rows.Codeset(project="p", name="code", url="http://git/p/code.git", webhook_secret="x", created=NOON)
            codesets.add_codeset(session, codeset)
            codesets.record_commit(session, codeset, "refs/heads/main", FIRST, NOON)
            extensions.add(session, extension.Extension(id="minio", services=(service,)), NOON)
        assert self.workflows.post("/workflows", data=DOCUMENT).status_code == 201
        self.events.clear()

    def publish(self, event: events.Event) -> None:
        self.events.append(event)

    def deliver(self, times: int = 1) -> None:
        """Deliver each request to the dispatcher, `times` times."""
        requests = [event for event in self.events if event.type == events.RunRequested.TYPE]
        self.events.clear()
        for event in requests:
            for _ in range(times):
                headers, body = event_keys.encode(event)
                response = self.dispatcher.post(catalog.EVENTS, headers=headers, data=body)
                assert response.status_code in (200, 204), response.text

    def request(self, path: str, body: object = None) -> dict[str, Any]:
        """The run of a request, after its delivery."""
        response = self.runs.post(path, json=body) if body is not None else self.runs.post(path)
        assert response.status_code == 202, response.text
        self.deliver()
        [run] = self.runs.get(f"/runs?request={response.get_json()['request']}").get_json()
        return dict(run)

    def start(self, **more: object) -> dict[str, Any]:
        return self.request("/runs", {"workflow": "train", "project": "p", "codeset": "code", **more})

    def finish(self, name: str, state: str, **succeeded: Mapping[str, str]) -> None:
        """End the run in `state`, with the outputs of the succeeded steps."""
        with self.store.write() as session:
            row = runs.get(session, name)
            row.state, row.cause = state, "it was too hard"
            for step in runs.steps(session, [row.id]):
                if step.reused_from is None:
                    step.state, step.finished = "succeeded" if step.name in succeeded else "failed", clock.now()
                    step.outputs = dict(succeeded.get(step.name, {}))

    def plan_of(self, run: Mapping[str, Any]) -> plans.Plan:
        return plans.Plan.model_validate(self.runs.get(f"/runs/{run['name']}/plan").json)


def refused(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    return str(response.json["message"])
