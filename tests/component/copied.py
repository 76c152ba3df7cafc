"""The functions `codesets`, `gitea_ingress` and `housekeeper` over one database and an embedded git host, beside a contract server with an origin."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import flask
from werkzeug import exceptions
from werkzeug.middleware import dispatcher

from functions.codesets import app as codesets_app
from functions.codesets import deps as codesets_deps
from functions.extensions import app as extensions_app
from functions.extensions import deps as extensions_deps
from functions.gitea_ingress import app as ingress_app
from functions.gitea_ingress import deps as ingress_deps
from functions.housekeeper import app as housekeeper_app
from functions.housekeeper import deps as housekeeper_deps
from fuseml import githosts
from fuseml.domain import events
from fuseml.githosts import payload, smart_http
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import auth, catalog, clock, secrets
from fuseml.runtime.telemetry.conditions import Conditions
from fuseml.store import codesets, database, runs
from fuseml.store import commit_statuses as stored_statuses
from fuseml.store import origins as stored
from fuseml.usecases import git_access
from tests import event_keys
from tests.component import backbone, gitea, githost
from tests.contract import origin_hosts

TOKENS = auth.Tokens({auth.digest_of("the-token"): auth.Caller("ada", "admin")})
_TOKEN = {"Authorization": "Bearer the-token", catalog.CLIENT: "test"}
_numbers = itertools.count(1)


class Copied:
    """`published` are the events, in order. The origin is `server`; `root` is the folder of the embedded git host."""

    def __init__(self, store: database.Database, folder: Path, origin: Any, gitea: tuple[str, str] = ("", "")) -> None:
        """The git host of codesets is the embedded one, or with `gitea` that one, by its address and an administrator's token."""
        self.store, self.origin, self._gitea = store, origin, gitea
        self.published = list[events.Event]()
        self.on_publish: Callable[[events.Event], None] = lambda event: None
        self.keyring = secrets.Keyring([secrets.new_key()])
        self.root = folder / "git"
        self.root.mkdir()
        self.port = 0
        self._applications: dict[str, Any] = {"/git": exceptions.NotFound()}

    @contextlib.contextmanager
    def running(self) -> Iterator[Copied]:
        """Serve git, and the API for webhooks."""
        with gitea.listening(dispatcher.DispatcherMiddleware(exceptions.NotFound(), self._applications)) as server:
            self.port = server.port
            url, token = self._gitea
            self.embedded = EmbeddedGitHost(self.root, f"http://127.0.0.1:{self.port}/git")
            self.git: githosts.GitHost = githosts.connect(url, token, f"http://127.0.0.1:{self.port}/api") if url else self.embedded
            self._make()
            yield self

    def _make(self) -> None:
        common = {"store": self.store, "publisher": self, "keyring": self.keyring}
        url = f"http://127.0.0.1:{self.port}/api"
        self.deps = housekeeper_deps.Deps(
            **common,  # type: ignore[arg-type]  # the same three for every function
            signer=event_keys.SIGNER,
            git=self.git,
            engine=backbone.Nothing(),
            conditions=Conditions(),
            public_url=url,
        )
        self.functions: Mapping[str, flask.Flask] = {
            "codesets": codesets_app.create_app(
                codesets_deps.Deps(**common, git=self.git, tokens=TOKENS, public_url=url)  # type: ignore[arg-type]
            ),
            "extensions": extensions_app.create_app(extensions_deps.Deps(**common, tokens=TOKENS)),  # type: ignore[arg-type]
            "ingress": ingress_app.create_app(ingress_deps.Deps(**common)),  # type: ignore[arg-type]
            "housekeeper": housekeeper_app.create_app(self.deps),
        }
        self._applications["/git"] = smart_http.SmartHttp(
            self.embedded, authorise=self._may_push, deliver=self._deliver, secret=self._secret, max_body=githost.MAX_BODY
        )
        self._applications["/api"] = self.functions["ingress"]

    def publish(self, event: events.Event) -> None:
        self.published.append(event)
        self.on_publish(event)

    def _may_push(self, project: str, codeset: str, username: str, password: str) -> bool:
        with self.store.read() as session:
            return git_access.is_password(self.keyring, codesets.find_codeset(session, project, codeset), password)

    def _secret(self, project: str, codeset: str) -> str:
        with self.store.read() as session:
            return self.keyring.unseal(codesets.codeset(session, project, codeset).webhook_secret)

    def _deliver(self, delivery: payload.Delivery) -> None:
        answer = self.functions["ingress"].test_client().post("/webhooks/gitea", data=delivery.body, headers=dict(delivery.headers))
        assert answer.status_code == 202, answer.text

    def call(self, function: str, method: str, path: str, status: int = 200, **options: Any) -> Any:
        """The answer of the API."""
        answer = self.functions[function].test_client().open(path, method=method, headers=_TOKEN, **options)
        assert answer.status_code == status, answer.text
        return json.loads(answer.text) if answer.text else None

    def register_host(self, token: str, *, id: str = "forge", project: str = "", internal: str = "") -> None:
        """Register the origin's host as a service of category VCS, also at an `internal` address."""
        scope = {"scope": "project", "projects": [project]} if project else {"scope": "global"}
        account = {"id": "account", "configuration": {"token": token}, **scope}
        service = {
            "id": "git",
            "resource": "git+http",
            "category": "VCS",
            "auth_required": True,
            "endpoints": [*([{"url": internal, "type": "internal"}] if internal else []), {"url": self.origin.url}],
            "credentials": [account],
        }
        self.call("extensions", "POST", "/extensions", 201, json={"id": id, "product": self.origin.kind, "services": [service]})

    def register(self, status: int = 201, name: str = "churn", **query: str) -> Any:
        """Register a copy of the origin."""
        query = {"url": f"{self.origin.url}/{origin_hosts.OWNER}/{origin_hosts.NAME}.git", **query}
        return self.call("codesets", "POST", f"/codesets/demo/{name}/origin", status, query_string=query)

    def status(self, name: str = "churn") -> Any:
        """What `fuseml codeset status` shows."""
        return self.call("codesets", "GET", f"/codesets/demo/{name}/status")

    def deliver(self, event: events.Event) -> None:
        """Deliver an event to the housekeeper, as a broker does."""
        headers, body = event_keys.encode(event)
        answer = self.functions["housekeeper"].test_client().post(catalog.EVENTS, headers=headers, data=body)
        assert answer.status_code < 300, answer.text

    def follow(self) -> None:
        """Deliver every report of the origin that was published since the last call."""
        reports = [event for event in self.published if event.type == events.CodesetReported.TYPE]
        for event in reports:
            self.published.remove(event)
            self.deliver(event)

    def tick(self) -> None:
        """Sweep."""
        self.deliver(events.Event(events.TICK, "/tick", f"tick-{next(_numbers)}", None, clock.now(), {}))

    def pushes(self) -> list[tuple[str, str | None]]:
        """The published pushes: ref and commit."""
        found = [event.data for event in self.published if event.type == events.CodesetPushed.TYPE]
        return [(data["ref"], data["commit"]) for data in found]

    def row(self) -> stored.CodesetOrigin:
        """The stored origin."""
        with self.store.read() as session:
            found = stored.find(session, "demo", "churn")
        assert found is not None
        return found

    def run(self, number: int, commit: str, state: str, cause: str | None = None, codeset: str = "churn") -> events.Event:
        """Store the run `train-NUMBER` in this state; the event that says so."""
        with self.store.write() as session:
            row = runs.find(session, f"run-{number}")
            if row is None:
                row = runs.Run(
                    id=f"run-{number}",
                    name=f"train-{number}",
                    sequence=number,
                    workflow="train",
                    revision=1,
                    project="demo",
                    codeset=codeset,
                    commit=commit,
                    trigger={},
                    inputs={},
                    state=state,
                    created=clock.now(),
                )
            row.state, row.cause = state, cause
            session.add(row)
        payload: events.Payload
        if state == "queued":
            payload = events.RunCreated(run=row.name, workflow="train", revision=1, project="demo", codeset=codeset, commit=commit)
        elif state in ("running", "waiting"):
            payload = events.RunStarted(run=row.name, workflow="train", project="demo")
        else:
            payload = events.RunFinished(
                run=row.name,
                workflow="train",
                project="demo",
                codeset=codeset,
                commit=commit,
                state=state,
                cause=cause,
            )
        return events.event(payload, clock.now())

    def statuses(self) -> list[stored_statuses.CommitStatus]:
        """The stored statuses."""
        with self.store.read() as session:
            return list(stored_statuses.of_codeset(session, "demo", "churn"))


@contextlib.contextmanager
def copied(store: database.Database, folder: Path, kind: str) -> Iterator[Copied]:
    """The functions beside a contract server of this kind."""
    with origin_hosts.contract_server(folder, kind) as origin, Copied(store, folder, origin).running() as made:  # type: ignore[arg-type]
        yield made
