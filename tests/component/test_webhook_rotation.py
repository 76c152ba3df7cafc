"""Creation, rotation and deletion of webhook secrets; a replaced secret stays valid for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from functions.codesets import app as codesets_app
from functions.codesets import deps as codesets_deps
from functions.extensions import app as extensions_app
from functions.extensions import deps as extensions_deps
from fuseml.domain import errors
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import auth, clock, secrets
from fuseml.store import webhooks
from fuseml.store.tables import webhook_rows
from fuseml.webhooks import gitea, signatures
from tests import databases
from tests.component import endpoint
from tests.component.ingress import SECRET, TRACKER_SECRET, Delivery, Ingress, delivery

TRACKER: dict[str, Any] = {
    "id": "mlflow",
    "services": [{"id": "tracking", "resource": "mlflow-tracking", "endpoints": [{"url": "http://127.0.0.1:9"}]}],
}


class Server:
    """Both ingress functions, `codesets` and `extensions` on one database."""

    def __init__(self, folder: Path) -> None:
        self.store = databases.on_sqlite(folder / "fuseml.db")
        self.ingress = Ingress(self.store)
        (folder / "git").mkdir()
        git = EmbeddedGitHost(folder / "git", "http://127.0.0.1:1/git")
        git.create_repository("workspace", "mnist")
        roles = {auth.digest_of("admin"): auth.Caller("a", "admin")}
        keyring, publisher, tokens = self.ingress.keyring, self.ingress.publisher, auth.Tokens(roles)
        registry = extensions_deps.Deps(store=self.store, publisher=publisher, keyring=keyring, tokens=tokens, public_url="http://api/")
        self.registry = registry
        self._codesets = codesets_app.create_app(
            codesets_deps.Deps(store=self.store, publisher=publisher, git=git, keyring=keyring, tokens=tokens)
        ).test_client()
        self._extensions = extensions_app.create_app(registry).test_client()

    def post(self, path: str, body: object = None, *, token: str = "admin", status: int = 201) -> Any:
        client = self._codesets if path.startswith("/codesets") else self._extensions
        answer = client.post(path, json=body, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status, answer.text
        return answer.get_json()

    def delete(self, path: str) -> None:
        client = self._codesets if path.startswith("/codesets") else self._extensions
        assert client.delete(path, headers={"Authorization": "Bearer admin"}).status_code == 204

    def takes(self, host: str, secret: str) -> bool:
        status = self.ingress.take(signed(host, secret)).status_code
        assert status in (202, 401)
        return bool(status == 202)

    def pass_time(self) -> None:
        """End the validity of all former secrets."""
        with self.store.write() as session:
            for row in session.exec(select(webhook_rows.FormerSecret)):
                row.until = clock.ago(1)
                session.add(row)


def signed(host: str, secret: str) -> Delivery:
    if host == "mlflow":
        data = {"name": "m", "version": "1", "key": "k", "value": "v"}
        envelope = {"entity": "model_version_tag", "action": "set", "timestamp": endpoint.NOON, "data": data}
        return delivery("mlflow", envelope, secret)
    repository = {"name": "mnist", "owner": {"login": "workspace"}}
    return delivery(host, {"ref": "refs/heads/main", "before": "0" * 40, "after": "a" * 40, "repository": repository}, secret)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.post("/extensions", TRACKER)
    yield made
    made.store.close()


def rotate_tracker(server: Server) -> str:
    return str(server.post("/extensions/mlflow/webhook?rotate=true")["secret"])


def rotate_codeset(server: Server) -> str:
    return str(server.post("/codesets/workspace/mnist/webhook", status=200)["secret"])


ROTATIONS: list[tuple[str, str, Callable[[Server], str]]] = [
    ("mlflow", TRACKER_SECRET, rotate_tracker),
    ("gitea", SECRET, rotate_codeset),
]


@pytest.mark.parametrize(("host", "first", "rotate"), ROTATIONS)
def test_replaced_secrets_stay_valid_for_a_while(server: Server, host: str, first: str, rotate: Callable[[Server], str]) -> None:
    # Also the one before the one before: the sender may not have heard of the second.
    second, third = rotate(server), rotate(server)
    assert len({first, second, third}) == 3
    assert [server.takes(host, secret) for secret in (first, second, third, "another")] == [True, True, True, False]
    server.pass_time()
    assert [server.takes(host, secret) for secret in (first, second, third)] == [False, False, True]
    with server.store.write() as session:
        webhooks.forget_former(session, clock.now())
        assert session.exec(select(webhook_rows.FormerSecret)).all() == []
    assert server.takes(host, third)


def test_the_first_secret_is_shown_once_with_the_address(server: Server) -> None:
    server.post("/extensions", {**TRACKER, "id": "second"})
    made = server.post("/extensions/second/webhook")
    assert made == {"url": "http://api/webhooks/mlflow/second", "secret": made["secret"], "former_until": None, "registered": False}
    assert len(made["secret"]) == 64
    refused = server.post("/extensions/second/webhook", status=409)
    assert "rotate" in refused["message"]
    assert made["secret"] not in str(refused)
    assert made["secret"] not in repr(server.registry)
    again = server.post("/extensions/second/webhook?rotate=true")
    assert again["former_until"] > clock.now()


def test_only_tracking_servers_have_webhooks_and_only_administrators_make_them(server: Server) -> None:
    server.post("/extensions", {"id": "store", "services": [{"id": "s3", "resource": "s3"}]})
    assert "mlflow-tracking" in server.post("/extensions/store/webhook", status=400)["message"]
    server.post("/extensions/unknown/webhook", status=404)
    for path in ("/extensions/mlflow/webhook?rotate=true", "/codesets/workspace/mnist/webhook"):
        server.post(path, token=f"{auth.STEP_PREFIX}x", status=403)
        server.post(path, token="unknown", status=401)
    assert server.takes("mlflow", TRACKER_SECRET)


def test_a_server_that_cannot_be_reached_keeps_its_secret(server: Server) -> None:
    server.post("/extensions/mlflow/webhook?rotate=true&register=true", status=503)
    assert server.takes("mlflow", TRACKER_SECRET)


def test_a_deleted_codeset_or_server_accepts_no_delivery(server: Server) -> None:
    newer = rotate_codeset(server)
    tracker = rotate_tracker(server)
    server.delete("/codesets/workspace/mnist")
    server.delete("/extensions/mlflow")
    assert not any(server.takes(host, secret) for host, secret in (("gitea", newer), ("gitea", SECRET), ("mlflow", tracker)))
    server.ingress.register("mnist", "fresh")
    assert not server.takes("gitea", SECRET)


def test_rotating_the_keys_seals_all_webhook_secrets_anew(server: Server) -> None:
    secrets_before = {"mlflow": [TRACKER_SECRET, rotate_tracker(server)], "gitea": [SECRET, rotate_codeset(server)]}
    server.ingress.keyring.adopt(secrets.new_key())
    rotated = server.post("/extensions/secrets/rotate", status=200)
    assert (rotated["webhook_secrets"], rotated["unreadable"]) == (4, [])
    assert all(server.takes(host, secret) for host, known in secrets_before.items() for secret in known)
    with server.store.read() as session:
        sealed = [*webhooks.of_tracker(session, "mlflow", clock.now())]
    assert all(server.ingress.keyring.reseal(value) == value for value in sealed)


def test_a_real_mlflow_refuses_an_address_with_its_reason(server: Server, mlflow_server: str) -> None:
    server.post("/extensions", {"id": "real", "services": [{**TRACKER["services"][0], "endpoints": [{"url": mlflow_server}]}]})
    refused = server.post("/extensions/real/webhook?register=true", status=400)
    assert "Invalid webhook URL scheme" in refused["message"]


def test_a_verification_without_any_secret_is_refused() -> None:
    with pytest.raises(errors.PermanentError, match="no webhook secret is configured"):
        signatures.verify_any([], lambda secret: gitea.verify(secret, {}, b""))
