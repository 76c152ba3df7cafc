"""Fake Gitea on a port: the used part of its REST API, as observed with release 1.26, over real repositories.

The embedded git host serves pushes and produces Gitea's webhooks; git itself, configured as by Gitea, serves fetches.
"""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from werkzeug import Request, Response, exceptions, routing
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from fuseml.githosts import first_commit, payload, smart_http
from fuseml.githosts.embedded import EmbeddedGitHost
from tests.waiting import PATIENCE

TOKEN = "gitea-token-canary"
_ALLOWED = ("git", "-c", "uploadpack.allowAnySHA1InWant=true", "-c", "safe.directory=*", "upload-pack", "--stateless-rpc")


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        pass


@dataclass
class Hook:
    id: int
    body: dict[str, Any]


@dataclass
class FakeGitea:
    """`broken` is the status of all responses of the API; `page` is the maximum number of items on a page.
    `without_feed`: there is no feed of activities.
    """

    root: Path
    port: int
    page: int = 50
    broken: int = 0
    without_feed: bool = False
    organisations: set[str] = field(default_factory=set)
    users: dict[str, str] = field(default_factory=dict)
    hooks: dict[tuple[str, str], list[Hook]] = field(default_factory=dict)
    pushers: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    statuses: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    _numbers: int = 0

    def __post_init__(self) -> None:
        # The number of all items of the list that a thread answers with a page of.
        self._total = threading.local()
        self.repositories = EmbeddedGitHost(self.root, self.url)
        self._push = smart_http.SmartHttp(
            self.repositories, authorise=self._may_push, deliver=self._deliver, secret=lambda project, codeset: "replaced"
        )
        rules: list[tuple[str, str, Callable[..., tuple[int, object]]]] = [
            ("GET", "/orgs/<org>", self.get_organisation),
            ("POST", "/orgs", self.add_organisation),
            ("POST", "/orgs/<org>/repos", self.add_repository),
            ("GET", "/repos/<org>/<repo>", self.get_repository),
            ("POST", "/repos/<org>/<repo>/contents/<path>", self.add_file),
            ("DELETE", "/repos/<org>/<repo>", self.delete_repository),
            ("POST", "/repos/<org>/<repo>/statuses/<commit>", self.add_status),
            ("GET", "/repos/<org>/<repo>/hooks", self.list_hooks),
            ("POST", "/repos/<org>/<repo>/hooks", self.add_hook),
            ("DELETE", "/repos/<org>/<repo>/hooks/<int:number>", self.delete_hook),
            ("PUT", "/repos/<org>/<repo>/collaborators/<user>", self.add_collaborator),
            ("GET", "/repos/<org>/<repo>/activities/feeds", self.list_activities),
            ("GET", "/repos/<org>/<repo>/commits", self.list_commits),
            ("GET", "/repos/<org>/<repo>/git/commits/<commit>", self.get_commit),
            ("GET", "/repos/<org>/<repo>/git/blobs/<sha>", self.get_blob),
            ("GET", "/repos/<org>/<repo>/git/trees/<commit>", self.get_tree),
            ("POST", "/admin/users", self.add_user),
            ("PATCH", "/admin/users/<user>", self.edit_user),
            ("DELETE", "/admin/users/<user>", self.delete_user),
            ("GET", "/users/<user>", self.get_user),
        ]
        self._rules = routing.Map(
            [routing.Rule(f"/api/v1{path}", methods=[method], endpoint=handler) for method, path, handler in rules], merge_slashes=False
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        if not request.path.startswith("/api/"):
            fetch = "git-upload-pack" in (request.path.rpartition("/")[2], request.args.get("service"))
            return (self._fetch(request) if fetch else self._push)(environ, start_response)
        try:
            status, body = self._respond(request)
        except exceptions.HTTPException as error:
            status, body = error.code or 500, {"message": error.description, "url": f"{self.url}/api/swagger"}
        text = json.dumps(body) if body is not None else ""
        answer = Response(text, status, content_type="application/json")
        if self._total.__dict__:
            answer.headers["X-Total-Count"] = str(self._total.__dict__.pop("count"))
        return answer(environ, start_response)

    def _respond(self, request: Request) -> tuple[int, object]:
        self.requests.append(f"{request.method} {request.path.removeprefix('/api/v1')}")
        if self.broken:
            return self.broken, {"message": "the fake is set to fail"}
        handler, variables = self._rules.bind_to_environ(request.environ).match()
        if request.headers.get("Authorization") != f"token {TOKEN}":
            username, password = _basic(request)
            if handler != self.get_repository or self.users.get(username) != password or not password:
                raise exceptions.Unauthorized("invalid username, password or token")
        response: tuple[int, object] = handler(request, **variables)
        return response

    def get_organisation(self, _: Request, org: str) -> tuple[int, object]:
        if org.lower() not in self.organisations:
            raise exceptions.NotFound("The target couldn't be found.")
        return 200, {"username": org, "visibility": "private"}

    def add_organisation(self, request: Request) -> tuple[int, object]:
        name = request.get_json()["username"].lower()
        if name in self.organisations or name in self.users:
            raise exceptions.UnprocessableEntity(f"user already exists [name: {name}]")
        if len(name) > 40 or name in ("admin", "api"):
            raise exceptions.UnprocessableEntity(f"[UserName]: MaxSize, or the name is reserved: {name}")
        self.organisations.add(name)
        return 201, {"username": name}

    def add_repository(self, request: Request, org: str) -> tuple[int, object]:
        name = request.get_json()["name"]
        if (org, name) in self.hooks:
            raise exceptions.Conflict("The repository with the same name already exists.")
        self.repositories.create_repository(org, name)
        self.hooks[org, name], self.pushers[org, name] = [], set()
        return 201, {"name": name}

    def get_repository(self, request: Request, org: str, repo: str) -> tuple[int, object]:
        self._require_repository(org, repo)
        username = _basic(request)[0]
        if username and username not in self.pushers[org, repo]:
            raise exceptions.NotFound("The target couldn't be found.")
        return 200, {"name": repo, "permissions": {"admin": not username, "push": True, "pull": True}}

    def add_file(self, request: Request, org: str, repo: str, path: str) -> tuple[int, object]:
        self._require_repository(org, repo)
        given = request.get_json()
        if path != first_commit.README or given["branch"] != "main":
            raise exceptions.UnprocessableEntity("the fake commits a README only")
        pushed = self.repositories.begin(org, repo, base64.b64decode(given["content"]).decode())
        if pushed is None:
            raise exceptions.UnprocessableEntity(f"repository file already exists [path: {path}]")
        return 201, {"commit": {"sha": pushed.commit}}

    def delete_repository(self, _: Request, org: str, repo: str) -> tuple[int, object]:
        self._require_repository(org, repo)
        self.repositories.delete_repository(org, repo)
        del self.hooks[org, repo], self.pushers[org, repo]
        return 204, None

    def list_hooks(self, request: Request, org: str, repo: str) -> tuple[int, object]:
        self._require_repository(org, repo)
        # The secret is never returned.
        page_items = [
            {"id": hook.id, **hook.body, "config": {k: v for k, v in hook.body["config"].items() if k != "secret"}}
            for hook in self.hooks[org, repo]
        ]
        return 200, _paged(page_items, request, self.page)

    def add_hook(self, request: Request, org: str, repo: str) -> tuple[int, object]:
        self._require_repository(org, repo)
        self._numbers += 1
        self.hooks[org, repo].append(Hook(self._numbers, request.get_json()))
        return 201, {"id": self._numbers}

    def delete_hook(self, _: Request, org: str, repo: str, number: int) -> tuple[int, object]:
        self._require_repository(org, repo)
        self.hooks[org, repo] = [hook for hook in self.hooks[org, repo] if hook.id != number]
        return 204, None

    def list_activities(self, request: Request, org: str, repo: str) -> tuple[int, object]:
        """Newest first, in the shape of Gitea 1.26: the content of a push is JSON in a text."""
        self._require_repository(org, repo)
        if self.without_feed:
            raise exceptions.NotFound("The target couldn't be found.")
        activities: list[dict[str, object]] = [{"id": 1, "op_type": "create_repo", "ref_name": "", "content": ""}]
        for number, push in enumerate(self.repositories.pushes(org, repo, 0)[0], start=2):
            content = {
                "Commits": [{"Sha1": push.commit, "Message": "..."}],
                "HeadCommit": {"Sha1": push.commit},
                "CompareURL": f"{org}/{repo}/compare/{push.before or 40 * '0'}...{push.commit}",
                "Len": 1,
            }
            kind = "push_tag" if push.ref.startswith("refs/tags/") else "commit_repo"
            activities.append(
                {"id": number, "op_type": kind, "ref_name": push.ref, "content": json.dumps(content), "act_user": {"login": push.pusher}}
            )
        return 200, _paged(activities[::-1], request, self.page)

    def add_collaborator(self, _: Request, org: str, repo: str, user: str) -> tuple[int, object]:
        self._require_repository(org, repo)
        self.pushers[org, repo].add(user)
        return 204, None

    def add_user(self, request: Request) -> tuple[int, object]:
        user = request.get_json()
        if user["username"] in self.users:
            raise exceptions.UnprocessableEntity(f"user already exists [name: {user['username']}]")
        self.users[user["username"]] = user["password"]
        return 201, {"login": user["username"]}

    def edit_user(self, request: Request, user: str) -> tuple[int, object]:
        change = request.get_json()
        if user not in self.users:
            raise exceptions.NotFound("The target couldn't be found.")
        if change["login_name"] != user or change["source_id"] != 0:
            raise exceptions.UnprocessableEntity("[LoginName]: Required")
        self.users[user] = change["password"]
        return 200, {"login": user}

    def get_user(self, _: Request, user: str) -> tuple[int, object]:
        if user not in self.users:
            raise exceptions.NotFound("The target couldn't be found.")
        return 200, {"login": user}

    def delete_user(self, _: Request, user: str) -> tuple[int, object]:
        if self.users.pop(user, None) is None:
            raise exceptions.NotFound("The target couldn't be found.")
        return 204, None

    def list_commits(self, request: Request, org: str, repo: str) -> tuple[int, object]:
        if not self._git(org, repo, "rev-list", "-1", "--all"):
            raise exceptions.Conflict("Git Repository is empty.")
        path = request.args.get("path", "")
        commits = self._git(org, repo, "rev-list", "HEAD", *(("--", path) if path else ())).decode().split()
        if path and not commits:
            raise exceptions.NotFound("FileCommitsCount")
        self._total.count = len(commits)
        listed = [{"id": commit} for commit in commits]
        # Beside a path Gitea ignores the limit.
        page = int(request.args.get("page", 1))
        shown = listed[(page - 1) * 50 : page * 50] if path else _paged(listed, request, 50)
        return 200, [self._commit(org, repo, item["id"]) for item in shown]

    def get_commit(self, _: Request, org: str, repo: str, commit: str) -> tuple[int, object]:
        self._git(org, repo, "cat-file", "-e", f"{commit}^{{commit}}")
        return 200, self._commit(org, repo, commit)

    def _commit(self, org: str, repo: str, commit: str) -> dict[str, object]:
        text = self._git(org, repo, "log", "-1", "--format=%H%x00%an%x00%aI%x00%cn%x00%cI%x00%B", commit).decode()
        sha, author, authored, committer, committed, message = text.split("\0")
        details = {"author": {"name": author, "date": authored}, "committer": {"name": committer, "date": committed}, "message": message}
        return {"sha": sha, "commit": details}

    def add_status(self, request: Request, org: str, repo: str, commit: str) -> tuple[int, object]:
        self._git(org, repo, "cat-file", "-e", f"{commit}^{{commit}}")
        self.statuses.append((commit, request.get_json()))
        return 201, self.statuses[-1][1]

    def get_blob(self, _: Request, org: str, repo: str, sha: str) -> tuple[int, object]:
        data = self._git(org, repo, "cat-file", "blob", sha)
        return 200, {"sha": sha, "size": len(data), "encoding": "base64", "content": base64.b64encode(data).decode()}

    def get_tree(self, request: Request, org: str, repo: str, commit: str) -> tuple[int, object]:
        options = ("-r", "-t") if request.args.get("recursive") == "true" else ()
        lines = self._git(org, repo, "ls-tree", *options, "-z", commit).decode().split("\0")
        entries = []
        for line in filter(None, lines):
            facts, _, path = line.partition("\t")
            mode, kind, sha = facts.split()
            entries.append({"path": path, "mode": mode, "type": kind, "sha": sha})
        page, size = int(request.args.get("page", 1)), min(int(request.args.get("per_page", self.page)), self.page)
        page_items = entries[(page - 1) * size : page * size]
        return 200, {"sha": commit, "tree": page_items, "truncated": page * size < len(entries), "page": page, "total_count": len(entries)}

    def _require_repository(self, org: str, repo: str) -> None:
        if (org, repo) not in self.hooks:
            raise exceptions.NotFound("The target couldn't be found.")

    def _git(self, org: str, repo: str, *arguments: str) -> bytes:
        self._require_repository(org, repo)
        folder = self.root / org / f"{repo}.git"
        process = subprocess.run(["git", "-C", str(folder), "-c", "safe.directory=*", *arguments], capture_output=True, check=False)
        if process.returncode:
            raise exceptions.NotFound("The target couldn't be found.")
        return process.stdout

    def _fetch(self, request: Request) -> Response:
        _, org, name, *_ = request.path.split("/")
        repo = name.removesuffix(".git")
        username, password = _basic(request)
        if not (password == TOKEN or (self.users.get(username) == password and username in self.pushers.get((org, repo), ()))):
            return Response("Unauthorized\n", 401, {"WWW-Authenticate": 'Basic realm="Gitea"'})
        if (org, repo) not in self.hooks:
            return Response("Not found.\n", 404)
        folder = str(self.root / org / f"{repo}.git")
        if request.method == "GET":
            refs = subprocess.run([*_ALLOWED, "--advertise-refs", folder], capture_output=True, check=True).stdout
            body = b"001e# service=git-upload-pack\n0000" + refs
            return Response(body, content_type="application/x-git-upload-pack-advertisement")
        process = subprocess.run([*_ALLOWED, folder], input=request.get_data(), capture_output=True, check=False)
        return Response(process.stdout, content_type="application/x-git-upload-pack-result")

    def _may_push(self, project: str, codeset: str, username: str, password: str) -> bool:
        return password == TOKEN or (self.users.get(username) == password and username in self.pushers.get((project, codeset), ()))

    def _deliver(self, delivery: payload.Delivery) -> None:
        for hook in self.hooks[delivery.project, delivery.codeset]:
            if delivery.event not in hook.body["events"] or not hook.body["active"]:
                continue
            config = hook.body["config"]
            headers = {**delivery.headers, **payload.signatures(config["secret"], delivery.body)}
            request = urllib.request.Request(config["url"], delivery.body, headers, method="POST")
            with urllib.request.urlopen(request, timeout=PATIENCE):
                pass


def _basic(request: Request) -> tuple[str, str]:
    kind, _, coded = request.headers.get("Authorization", "").partition(" ")
    username, _, password = base64.b64decode(coded).decode().partition(":") if kind == "Basic" else ("", "", "")
    return username, password


def _paged(items: list[dict[str, Any]], request: Request, most: int) -> list[dict[str, Any]]:
    page, size = int(request.args.get("page", 1)), min(int(request.args.get("limit", most)), most)
    return items[(page - 1) * size : page * size]


@contextmanager
def fake_gitea(root: Path) -> Iterator[FakeGitea]:
    """A fake Gitea with its repositories below `root`, until the end of the block."""
    root.mkdir(parents=True)
    with listening(Response(status=503)) as server:
        # Deliveries contain its own address.
        server.app = fake = FakeGitea(root, server.port)
        yield fake


@contextmanager
def listening(application: Callable[..., Any]) -> Iterator[BaseWSGIServer]:
    """Serve an application on a free port."""
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Receiver:
    """Collects webhooks."""

    deliveries: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        self.deliveries.append((dict(request.headers), request.get_data()))
        return Response(status=202)(environ, start_response)
