"""Both ingress functions for tests, and senders that sign as Gitea, GitHub and MLflow do."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography import fernet

from functions.gitea_ingress import app as gitea_app
from functions.gitea_ingress import deps as gitea_deps
from functions.mlflow_ingress import app as mlflow_app
from functions.mlflow_ingress import deps as mlflow_deps
from fuseml.runtime import secrets
from fuseml.store import codesets, database, webhooks
from fuseml.store.tables import codeset_rows
from tests import deliveries
from tests.component import endpoint

SECRET = "s3cret"
TRACKER_SECRET = "of the tracking server"
NOW = 1_795_225_217
OLD, NEW, ZERO = "a" * 40, "b" * 40, "0" * 40


@dataclass
class Ingress:
    """The codeset workspace/mnist is registered, with `SECRET`, and the tracking server mlflow has `TRACKER_SECRET`; the clock stands at `now`."""

    store: database.Database
    publisher: endpoint.Publisher = field(default_factory=endpoint.Publisher)
    keyring: secrets.Keyring = field(default_factory=lambda: secrets.Keyring([fernet.Fernet.generate_key().decode()]))
    now: float = NOW

    def __post_init__(self) -> None:
        with self.store.write() as session:
            codesets.create_project(session, "workspace", "", endpoint.NOON)
            sealed = self.keyring.seal(TRACKER_SECRET)
            webhooks.replace_of_tracker(session, "mlflow", sealed, endpoint.NOON)
        self.register("mnist", SECRET)
        git = gitea_deps.Deps(store=self.store, publisher=self.publisher, keyring=self.keyring)
        mlflow = mlflow_deps.Deps(store=self.store, publisher=self.publisher, keyring=self.keyring, now=lambda: self.now)
        self._git, self._mlflow = gitea_app.create_app(git).test_client(), mlflow_app.create_app(mlflow).test_client()

    def register(self, name: str, secret: str) -> None:
        row = codeset_rows.Codeset(project="workspace", name=name, url="u", webhook_secret=self.keyring.seal(secret), created=endpoint.NOON)
        with self.store.write() as session:
            codesets.add_codeset(session, row)

    def secret(self, host: str) -> str:
        return TRACKER_SECRET if host == "mlflow" else SECRET

    def take(self, delivery: Delivery) -> Any:
        client, path = (self._mlflow, "/webhooks/mlflow/mlflow") if delivery.host == "mlflow" else (self._git, "/webhooks/gitea")
        return client.post(path, headers=dict(delivery.headers), data=delivery.body)


@dataclass(frozen=True)
class Delivery:
    """`host` is gitea, github or mlflow."""

    host: str
    headers: dict[str, str]
    body: bytes

    def without(self, *names: str) -> Delivery:
        return replace(self, headers={name: value for name, value in self.headers.items() if name not in names})

    def having(self, **headers: str) -> Delivery:
        return replace(self, headers={**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}})


SIGNATURES = {
    "gitea": ("X-Gitea-Signature", "X-Gogs-Signature", "X-Hub-Signature", "X-Hub-Signature-256"),
    "github": ("X-Hub-Signature", "X-Hub-Signature-256"),
    "mlflow": ("X-MLflow-Signature",),
}


def delivery(host: str, body: object, secret: str, *, event: str = "push", at: int = NOW, id: str = "d1") -> Delivery:
    """A delivery as the host signs and sends it."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    mac = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    old = hmac.new(secret.encode(), raw, hashlib.sha1).hexdigest()
    hub = {"X-Hub-Signature": f"sha1={old}", "X-Hub-Signature-256": f"sha256={mac}"}
    github = {"X-GitHub-Event": event, "X-GitHub-Delivery": id, **hub}
    headers: dict[str, str]
    if host == "github":
        headers = {**github, "User-Agent": "GitHub-Hookshot/044aadd", "X-GitHub-Hook-ID": "292430182"}
    elif host == "gitea":
        twins = {
            f"X-{name}-{what}": value
            for name in ("Gitea", "Gogs")
            for what, value in (("Event", event), ("Delivery", id), ("Signature", mac))
        }
        headers = {**github, **twins}
    else:
        signed = hmac.new(secret.encode(), f"{id}.{at}.".encode() + raw, hashlib.sha256).digest()
        signature = "v1," + base64.b64encode(signed).decode()
        headers = {"X-MLflow-Delivery-Id": id, "X-MLflow-Timestamp": str(at), "X-MLflow-Signature": signature}
    return Delivery(host, {**headers, "Content-Type": "application/json"}, raw)


def first_push(secret: str, project: str, codeset: str, commit: str, id: str = "d1") -> Delivery:
    """Gitea's delivery of a first push of `commit` to the main branch."""
    repository = {"name": codeset, "full_name": f"{project}/{codeset}", "owner": {"login": project, "username": project}}
    push = {"ref": "refs/heads/main", "before": "0" * 40, "after": commit, "commits": [], "total_commits": 0, "repository": repository}
    return delivery("gitea", {**push, "head_commit": None, "pusher": {"login": "ada"}, "sender": {"login": "ada"}}, secret, id=id)


def recorded(host: str, name: str) -> Delivery:
    """A delivery of tests/events."""
    return Delivery(host, *deliveries.read(host, name))
