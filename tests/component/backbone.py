"""Webhook to run in one process: `gitea_ingress`, the embedded broker, `artifacts` and `dispatcher`, joined as `fuseml up` joins them."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import flask

from functions.artifacts import app as artifacts_app
from functions.artifacts import deps as artifacts_deps
from functions.dispatcher import app as dispatcher_app
from functions.dispatcher import deps as dispatcher_deps
from functions.gitea_ingress import app as gitea_ingress_app
from functions.gitea_ingress import deps as gitea_ingress_deps
from fuseml import engines
from fuseml.domain import events, plans
from fuseml.domain.documents.document import load
from fuseml.domain.workflows import Workflow
from fuseml.embedded import broker, mount, redelivery, triggers
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import auth, catalog, clock, cloudevents, secrets
from fuseml.store import codesets, workflows
from fuseml.store.tables import codeset_rows
from tests import databases, event_keys
from tests import documents as small

SECRET = "s3cret"
# One key for all processes: each unseals the secrets of the others.
_KEY = secrets.new_key()
CONSUMERS = {"artifacts", "dispatcher"}


@dataclass
class Nothing:
    """An engine that stores the time of each submission and runs nothing."""

    submitted: dict[str, float] = field(default_factory=dict)

    def submit(self, plan: plans.Plan, secrets: Mapping[str, str]) -> None:
        self.submitted.setdefault(plan.id, time.perf_counter())

    def cancel(self, run_id: str, reason: str) -> None:
        """No effect: no step runs."""

    def observe(self, run_id: str) -> Sequence[events.Event]:
        return []

    def loss(self, run_id: str) -> str | None:
        return None

    def logs(self, run_id: str, step: str, offset: int = 0, limit: int = 1 << 20) -> engines.LogChunk:
        return engines.LogChunk(b"", 0, complete=True)

    def drop_log(self, run_id: str, step: str) -> None:
        raise AssertionError("no log is archived here")

    def forget(self, run_id: str) -> None:
        """Nothing to forget."""


class Backbone:
    """The four parts over one database, as `fuseml up` joins them."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.store = databases.on_sqlite(folder / "fuseml.db")
        self.keyring = secrets.Keyring([_KEY])
        self.engine = Nothing()
        contract = triggers.contract_folder()
        wanted = triggers.load(contract / "triggers", redelivery.of_broker(contract / "broker.yaml"))
        functions: dict[str, flask.Flask] = {}
        subscribers = {name: _subscriber(functions, name) for name in CONSUMERS}
        self.queue = broker.Broker(
            self.store, [trigger for trigger in wanted if trigger.subscriber in CONSUMERS], subscribers, signer=event_keys.SIGNER
        )
        self.publisher = cloudevents.SigningPublisher(self.queue, event_keys.SIGNER)
        functions["artifacts"] = artifacts_app.create_app(
            artifacts_deps.Deps(
                store=self.store,
                publisher=self.publisher,
                signer=event_keys.SIGNER,
                tokens=auth.Tokens({}, anonymous=True),
                keyring=self.keyring,
            )
        )
        git = EmbeddedGitHost(folder, "http://127.0.0.1:1/git")
        functions["dispatcher"] = dispatcher_app.create_app(
            dispatcher_deps.Deps(
                store=self.store,
                publisher=self.publisher,
                signer=event_keys.SIGNER,
                git=git,
                engine=self.engine,
                keyring=self.keyring,
                zone="",
                namespace="workloads",
            )
        )
        self.ingress = gitea_ingress_app.create_app(
            gitea_ingress_deps.Deps(store=self.store, publisher=self.publisher, keyring=self.keyring)
        )
        self._register()

    def _register(self) -> None:
        moment = clock.now()
        document = load(Workflow, small.one_step("nothing"))
        with self.store.write() as session:
            codesets.ensure_project(session, "p", moment)
            if codesets.find_codeset(session, "p", "code"):
                return  # by an earlier process
            sealed = self.keyring.seal(SECRET)
            codesets.add_codeset(
                session, codeset_rows.Codeset(project="p", name="code", url="http://x", webhook_secret=sealed, created=moment)
            )
            workflows.add(session, document.name, document.model_dump(mode="json", by_alias=True), moment)
            workflows.assign(session, "assignment", document.name, "code://p/code", moment)

    def take(self, body: bytes, headers: Mapping[str, str]) -> int:
        return mount.call(self.ingress, "POST", "/webhooks/gitea", headers, body).status


def _subscriber(functions: Mapping[str, flask.Flask], name: str) -> broker.Subscriber:
    return lambda headers, body: mount.call(functions[name], "POST", catalog.EVENTS, headers, body)
