"""A contract server of Pachyderm: the methods of its JSON API that the product uses, with the messages of its protocol buffers as JSON.

Pachyderm itself was not run: it needs a cluster.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import flask
from werkzeug import serving

ACCOUNT = "canary-41c09be2"
Repository = tuple[str, str]


@dataclass
class Commit:
    repository: Repository
    id: str
    branch: str
    files: Mapping[str, bytes]
    finished: str = ""
    error: str = ""

    def document(self) -> dict[str, Any]:
        repo = {"name": self.repository[1], "type": "user", "project": {"name": self.repository[0]}}
        size = str(sum(map(len, self.files.values())))
        return {
            "commit": {"repo": repo, "id": self.id, "branch": {"repo": repo, "name": self.branch}},
            "origin": {"kind": "USER"},
            "started": datetime.datetime.now(datetime.UTC).isoformat(),
            "sizeBytesUpperBound": size,
            **({"finished": self.finished, "details": {"sizeBytes": size}} if self.finished else {}),
            **({"error": self.error} if self.error else {}),
        }


@dataclass
class Pachyderm:
    """The commits of all repositories, and the branches with their heads. `wrapped`: streams are `result` after `result`, else a list. `odd` takes
    the place of their items."""

    url: str = ""
    commits: list[Commit] = field(default_factory=list)
    branches: dict[tuple[Repository, str], str] = field(default_factory=dict)
    wrapped: bool = True
    odd: object = None

    def put(
        self, project: str, name: str, files: Mapping[str, bytes], branch: str = "master", *, is_open: bool = False, error: str = ""
    ) -> str:
        """What `pachctl put file` does: a commit with these files. The same files at the head are no new commit."""
        repository = (project, name)
        for commit in self.commits:
            if (commit.repository, commit.files, is_open) == (repository, dict(files), False):
                return commit.id
        now = "" if is_open else datetime.datetime.now(datetime.UTC).isoformat()
        self.commits.append(Commit(repository, uuid.uuid4().hex, branch, dict(files), now, error))
        self.branches[(repository, branch)] = self.commits[-1].id
        return self.commits[-1].id


def app(state: Pachyderm) -> flask.Flask:
    """The server."""
    server = flask.Flask("pachyderm")

    def repository(asked: Mapping[str, Any]) -> Repository:
        assert asked["type"] == "user"
        return asked["project"]["name"], asked["name"]

    def stream(items: Iterable[Any]) -> flask.Response:
        found = [item if state.odd is None else state.odd for item in items]
        texts = [json.dumps({"result": item}) + "\n" for item in found] if state.wrapped else [json.dumps(found)]
        return flask.Response(texts, mimetype="application/json")

    def commit(asked: Mapping[str, Any]) -> Commit | None:
        wanted = (repository(asked["repo"]), asked["id"])
        return next((item for item in state.commits if (item.repository, item.id) == wanted), None)

    def missing() -> Any:
        return {"code": 5, "message": "not found", "details": []}, 404

    @server.before_request
    def admit() -> Any:
        if flask.request.headers.get("Authn-Token") != ACCOUNT:
            return {"code": 16, "message": "provided auth token is corrupted or has expired", "details": []}, 401
        return None

    @server.post("/api/pfs_v2.API/<method>")
    def call(method: str) -> Any:
        asked = flask.request.get_json()
        if method == "InspectCommit":
            found = commit(asked["commit"])
            return found.document() if found else missing()
        if method == "ListCommit":
            wanted = repository(asked["repo"])
            found_all = [item.document() for item in state.commits if item.repository == wanted]
            return stream(found_all[::-1]) if found_all else missing()
        if method == "GlobFile":
            found = commit(asked["commit"])
            assert found and asked["pattern"] == "**"
            folders = {path.rpartition("/")[0] for path in found.files if "/" in path}
            listed = [{"file": {"path": f"/{path}/"}, "fileType": "DIR", "sizeBytes": "1"} for path in sorted(folders)]
            return stream(
                listed
                + [{"file": {"path": f"/{path}"}, "fileType": "FILE", "sizeBytes": str(len(data))} for path, data in found.files.items()]
            )
        if method == "GetFile":
            found = commit(asked["file"]["commit"])
            data = found.files[asked["file"]["path"].lstrip("/")] if found else b""
            return stream(base64.b64encode(data[start : start + 99_999]).decode() for start in range(0, len(data), 99_999))
        if method == "ListBranch":
            wanted = repository(asked["repo"])
            heads = [(name, head) for (owner, name), head in state.branches.items() if owner == wanted]
            return stream({"branch": {"name": name, "repo": asked["repo"]}, "head": {"id": head}} for name, head in heads)
        key = (repository(asked["branch"]["repo"]), asked["branch"]["name"])
        if method == "CreateBranch":
            state.branches[key] = asked["head"]["id"]
            return {}
        assert method == "DeleteBranch"
        state.branches.pop(key, None)
        return {}

    return server


@contextlib.contextmanager
def running() -> Iterator[Pachyderm]:
    """The server on a free port of this machine."""
    state = Pachyderm()
    server = serving.make_server("127.0.0.1", 0, app(state), threaded=True)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
