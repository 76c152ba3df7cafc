"""Hosts of origins under test: contract servers with the published shapes of GitHub, GitLab, Gitea and Forgejo, and the real Gitea.

A contract server serves one repository: its API as its host documents it, its code by the embedded git host, which asks for the same tokens.
"""

from __future__ import annotations

import base64
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dulwich.objects import ObjectID
from werkzeug import Request, Response

from fuseml.domain import origins
from fuseml.githosts import smart_http
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.githosts.origins import OriginHost, connect
from fuseml.webhooks import origins as webhooks
from tests.component import gitea
from tests.contract import githosts

OWNER, NAME = "acme", "churn"
ADMIN, WRITER, READER = "token-of-an-administrator", "token-of-a-writer", "token-of-a-reader"
_RANKS: Mapping[str, int] = {READER: 1, WRITER: 2, ADMIN: 3}
_GITLAB_LEVELS = {1: 20, 2: 30, 3: 40}
_NOON = "2026-11-21T12:00:00Z"


class UnderTest(Protocol):
    """One repository at a host. `tokens` are those of an administrator, a writer and a reader."""

    @property
    def origin(self) -> origins.Origin: ...

    @property
    def tokens(self) -> Mapping[str, str]: ...

    @property
    def receiver(self) -> str:
        """The address of a receiver of webhooks."""

    def push_url(self) -> str:
        """The address for `git push`, with an account."""

    def shown(self, commit: str) -> dict[str, tuple[str, str, str]]:
        """The commit's statuses as the host shows them: context -> state, description, target."""

    def delivered(self) -> list[tuple[Mapping[str, str], bytes]]:
        """The deliveries of its webhooks."""


def client(host: UnderTest, token: str) -> OriginHost:
    """The client under test."""
    made = connect(host.origin, host.tokens[token])
    assert made is not None
    return made


@dataclass
class ContractServer:
    """`before` is called with the address of each request of git, `advertised` takes the place of the refs.

    `broken` is the status of all answers of the API, with the headers `broken_headers`; `answers` are the requests of it."""

    kind: origins.Host
    repositories: EmbeddedGitHost
    hooks: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    deliveries: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    broken: int = 0
    broken_headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    port: int = 0
    receiver: str = "http://127.0.0.1:1/webhooks/git/demo/churn"
    tokens: Mapping[str, str] = field(
        default_factory=lambda: {"admin": ADMIN, "writer": WRITER, "reader": READER, "none": "", "wrong": "?"}
    )
    public: bool = False
    before: Callable[[str], None] = lambda address: None
    advertised: bytes = b""

    def __post_init__(self) -> None:
        self.git = smart_http.SmartHttp(
            self.repositories,
            authorise=lambda project, codeset, username, password: password in _RANKS,
            deliver=lambda delivery: None,
            secret=lambda project, codeset: "unused",
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def origin(self) -> origins.Origin:
        return origins.read(f"{self.url}/{OWNER}/{NAME}.git", product=self.kind)

    def push_url(self) -> str:
        return f"http://ada:{WRITER}@127.0.0.1:{self.port}/{OWNER}/{NAME}.git"

    def shown(self, commit: str) -> dict[str, tuple[str, str, str]]:
        name = "name" if self.kind == "gitlab" else "context"
        found = {item[name]: item for item in self.statuses if item["sha"] == commit}
        return {key: (item["state"], item["description"], item.get("target_url") or "") for key, item in found.items()}

    def delivered(self) -> list[tuple[Mapping[str, str], bytes]]:
        return self.deliveries

    def deliver(self, body: bytes, *, event: str = "", delivery: str = "72d3162e", signed_at: int | None = None) -> int:
        """Send a delivery to the newest webhook as the host does; returns the status of the answer."""
        hook = self.hooks[-1]
        secret = hook["token"] if self.kind == "gitlab" else hook["config"]["secret"]
        headers = signed(self.kind, secret, body, event=event, delivery=delivery, signed_at=signed_at)
        request = urllib.request.Request(hook["url"] if self.kind == "gitlab" else hook["config"]["url"], body, headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        if request.path.startswith(f"/{OWNER}/"):
            self.before(request.path)
            if self.advertised and request.path.endswith("/info/refs"):
                answer = Response(self.advertised, content_type="application/x-git-upload-pack-advertisement")
                return answer(environ, start_response)
            # At once: the server of these tests does not close the file of an answer that the client has left.
            parts = self.git(environ, start_response)
            try:
                return [b"".join(parts)]
            finally:
                getattr(parts, "close", list)()
        answer = self._answer(request)
        return answer(environ, start_response)

    def _answer(self, request: Request) -> Response:
        token = request.headers.get("PRIVATE-TOKEN") or request.headers.get("Authorization", "").rpartition(" ")[2]
        self.requests.append((request.method, request.path, dict(request.headers)))
        if self.broken:
            return Response(self.body or b'{"message": "broken on purpose"}', self.broken, dict(self.broken_headers))
        if token and token not in _RANKS:
            return _json(401, {"message": "Bad credentials"})
        prefix = {"github": "/api/v3", "gitlab": "/api/v4"}.get(self.kind, "/api/v1")
        # WSGI servers decode %2F, so GitLab's escaped path is compared decoded.
        repository = f"{prefix}/projects/{OWNER}/{NAME}" if self.kind == "gitlab" else f"{prefix}/repos/{OWNER}/{NAME}"
        rank = _RANKS.get(token, 1 if self.public else 0)
        if not rank or not request.path.startswith(repository):
            return _json(404, {"message": "Not Found"})
        return self._route(request, request.path.removeprefix(repository), rank)

    def _route(self, request: Request, path: str, rank: int) -> Response:
        if path == "" and request.method == "GET":
            return _json(200, self._repository(rank))
        if path.startswith("/hooks"):
            if rank < 3:
                # GitHub hides what the token may not see.
                return _json(404 if self.kind == "github" else 403, {"message": "not for this token"})
            return self._hooks(request, path.removeprefix("/hooks").strip("/"))
        if path.startswith("/statuses/") and request.method == "POST":
            if rank < 2:
                return _json(403, {"message": "not for this token"})
            return self._status(request.get_json(), path.removeprefix("/statuses/"))
        return _json(404, {"message": "Not Found"})

    def _repository(self, rank: int) -> dict[str, Any]:
        if self.kind == "gitlab":
            level = {"access_level": _GITLAB_LEVELS[rank], "notification_level": 3}
            return {"id": 1, "path_with_namespace": f"{OWNER}/{NAME}", "permissions": {"project_access": level, "group_access": None}}
        rights = {"admin": rank == 3, "push": rank >= 2, "pull": True}
        return {"id": 1, "full_name": f"{OWNER}/{NAME}", "default_branch": "main", "permissions": rights}

    def _hooks(self, request: Request, id: str) -> Response:
        if request.method == "DELETE":
            kept = [item for item in self.hooks if str(item["id"]) != id]
            found, self.hooks = len(kept) < len(self.hooks), kept
            return Response(status=204) if found else _json(404, {"message": "Not Found"})
        if request.method == "POST":
            body = request.get_json()
            self.hooks.append({**body, "id": len(self.hooks) + 1 + sum(item["id"] for item in self.hooks)})
            return _json(201, _described(self.kind, self.hooks[-1]))
        size = int(request.args.get("limit" if self.kind in ("gitea", "forgejo") else "per_page", 30))
        first = (int(request.args.get("page", 1)) - 1) * size
        return _json(200, [_described(self.kind, item) for item in self.hooks[first : first + size]])

    def _status(self, body: dict[str, Any], commit: str) -> Response:
        if self.repositories_lack(commit):
            return _json(422 if self.kind == "github" else 404, {"message": f"No commit found for SHA: {commit}"})
        if self.kind == "gitlab":
            last = next((item for item in reversed(self.statuses) if (item["sha"], item["name"]) == (commit, body["name"])), None)
            if last is not None and last["state"] == body["state"]:
                return _json(
                    400, {"message": f"Cannot transition status via :enqueue from :{last['state']} (Reason(s): Status cannot transition)"}
                )
            assert body["state"] in ("pending", "running", "success", "failed", "canceled", "skipped")
            assert len(body["description"]) <= 255
        else:
            assert body["state"] in ("pending", "success", "failure", "error")
            assert len(body["description"]) <= 140
        self.statuses.append({**body, "sha": commit})
        return _json(201, {**body, "id": len(self.statuses), "created_at": _NOON})

    def repositories_lack(self, commit: str) -> bool:
        with self.repositories.open(OWNER, NAME) as repository:
            return ObjectID(commit.encode()) not in repository.object_store


def _described(kind: str, hook: dict[str, Any]) -> dict[str, Any]:
    """A webhook as the host describes it: never with its secret."""
    if kind == "gitlab":
        public = {key: value for key, value in hook.items() if key not in ("token", "signing_token")}
        return {"alert_status": "executable", "disabled_until": None, "created_at": _NOON, **public}
    public = {**hook, "config": {key: value for key, value in hook["config"].items() if key != "secret"}}
    extra = {"last_response": {"code": None, "status": "unused", "message": None}} if kind == "github" else {}
    return {"created_at": _NOON, "updated_at": _NOON, **extra, **public}


def _json(status: int, value: object) -> Response:
    return Response(json.dumps(value), status, content_type="application/json")


def signed(
    kind: str, secret: str, body: bytes, *, event: str = "", delivery: str = "72d3162e", signed_at: int | None = None
) -> dict[str, str]:
    """The headers of a delivery. GitLab signs only where a time is given."""
    import hashlib
    import hmac

    digits = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json"}
    if kind == "gitlab":
        headers |= {"X-Gitlab-Event": event or "Push Hook", "X-Gitlab-Event-UUID": delivery, "X-Gitlab-Token": secret}
        if signed_at is not None:
            del headers["X-Gitlab-Token"]
            key = base64.b64decode(webhooks.signing_token(secret).removeprefix("whsec_"))
            mac = hmac.new(key, f"{delivery}.{signed_at}.".encode() + body, hashlib.sha256).digest()
            signature = "v1," + base64.b64encode(mac).decode()
            headers |= {"webhook-id": delivery, "webhook-timestamp": str(signed_at), "webhook-signature": signature}
        return headers
    if kind == "github":
        return headers | {"X-GitHub-Event": event or "push", "X-GitHub-Delivery": delivery, "X-Hub-Signature-256": f"sha256={digits}"}
    headers |= {"X-Gitea-Event": event or "push", "X-Gitea-Delivery": delivery, "X-Gitea-Signature": digits}
    if kind == "forgejo":
        headers |= {"X-Forgejo-Event": event or "push", "X-Forgejo-Delivery": delivery, "X-Forgejo-Signature": digits}
    return headers


@contextlib.contextmanager
def contract_server(folder: Path, kind: origins.Host) -> Iterator[ContractServer]:
    """A contract server with an empty repository."""
    root = folder / f"{kind}-repositories"
    root.mkdir()
    repositories = EmbeddedGitHost(root, "http://127.0.0.1:1")
    repositories.create_repository(OWNER, NAME)
    server = ContractServer(kind, repositories)
    with gitea.listening(server) as running:
        server.port = running.port
        yield server


def call(url: str, token: str, method: str = "GET", body: object = None, *, basic: bool = False) -> Any:
    """The answer of a real host's API."""
    scheme = f"Basic {base64.b64encode(token.encode()).decode()}" if basic else f"token {token}"
    headers = {"Authorization": scheme, "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None, headers, method=method)
    with urllib.request.urlopen(request) as answer:
        content = answer.read()
        return json.loads(content) if content else None


@dataclass
class RealGitea:
    """The repository acme/churn on a real Gitea, with an account of each kind."""

    url: str
    keeper: str
    received: gitea.Receiver
    receiver: str
    kind: origins.Host = "gitea"
    tokens: dict[str, str] = field(default_factory=lambda: {"none": "", "wrong": "0" * 40})

    def furnish(self) -> None:
        api = f"{self.url}/api/v1"
        call(f"{api}/orgs", self.keeper, "POST", {"username": OWNER, "visibility": "private"})
        call(f"{api}/orgs/{OWNER}/repos", self.keeper, "POST", {"name": NAME, "private": True, "default_branch": "main"})
        for name, permission in (("admin", "admin"), ("writer", "write"), ("reader", "read")):
            user = f"the-{name}"
            account = {"username": user, "email": f"{user}@fuseml.invalid", "password": f"password-{name}", "must_change_password": False}
            call(f"{api}/admin/users", self.keeper, "POST", account)
            call(f"{api}/repos/{OWNER}/{NAME}/collaborators/{user}", self.keeper, "PUT", {"permission": permission})
            # Exactly the scope that the documentation requires.
            scopes = {"name": "fuseml", "scopes": ["write:repository"]}
            made = call(f"{api}/users/{user}/tokens", f"{user}:password-{name}", "POST", scopes, basic=True)
            self.tokens[name] = made["sha1"]

    @property
    def origin(self) -> origins.Origin:
        return origins.read(f"{self.url}/{OWNER}/{NAME}.git", product="gitea")

    def push_url(self) -> str:
        return f"{self.url}/{OWNER}/{NAME}.git".replace("://", f"://token:{self.tokens['writer']}@")

    def shown(self, commit: str) -> dict[str, tuple[str, str, str]]:
        found = call(f"{self.url}/api/v1/repos/{OWNER}/{NAME}/commits/{commit}/status", self.keeper)["statuses"] or []
        return {item["context"]: (item["status"], item["description"], item["target_url"]) for item in found}

    def delivered(self) -> list[tuple[Mapping[str, str], bytes]]:
        return list(self.received.deliveries)


@contextlib.contextmanager
def real_gitea(folder: Path) -> Iterator[RealGitea]:
    """The real Gitea. Skips the test without its program."""
    received = gitea.Receiver()
    with githosts.running_gitea(folder) as (url, token), gitea.listening(received) as server:
        made = RealGitea(url, token, received, f"http://127.0.0.1:{server.port}/webhooks/git/demo/churn")
        made.furnish()
        yield made


HOSTS: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[UnderTest]]] = {
    "gitea": lambda folder: contract_server(folder, "gitea"),
    "forgejo": lambda folder: contract_server(folder, "forgejo"),
    "github": lambda folder: contract_server(folder, "github"),
    "gitlab": lambda folder: contract_server(folder, "gitlab"),
    "real-gitea": real_gitea,
}
