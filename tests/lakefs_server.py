"""A contract server of lakeFS: the part of its REST API that the product uses, with answers as its OpenAPI document describes them.

lakeFS itself is on no package registry, and nothing was run against it.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import flask
from werkzeug import serving

REPOSITORY = "ml-data"
ACCOUNT = ("AKIAIOSFODNN7EXAMPLE", "canary-41c09be2")
Tree = dict[str, bytes]


@dataclass
class Commit:
    id: str
    parents: list[str]
    message: str
    metadata: Mapping[str, str]
    created: int
    tree: Tree

    def document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "parents": self.parents,
            "committer": "ada",
            "message": self.message,
            "creation_date": self.created,
            "meta_range_id": hashlib.sha256(repr(sorted(self.tree)).encode()).hexdigest(),
            "metadata": dict(self.metadata),
        }


@dataclass
class Branch:
    head: str
    tree: Tree


@dataclass
class Lakefs:
    """The state of one repository, and what its users do with their own clients."""

    url: str = ""
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, Branch] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    page: int = 1000
    checksums: bool = True
    refusal: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        self.branches["main"] = Branch(self.add([], {}, "Repository created", {}), {})

    def add(self, parents: list[str], tree: Tree, message: str, metadata: Mapping[str, str]) -> str:
        """A new commit."""
        identity = hashlib.sha256(repr((parents, sorted(tree.items()), message, len(self.commits))).encode()).hexdigest()
        self.commits[identity] = Commit(identity, parents, message, metadata, int(time.time()), dict(tree))
        return identity

    def commit(self, files: Mapping[str, bytes], message: str = "by hand") -> str:
        """Files that a user commits to the branch main."""
        branch = self.branches["main"]
        branch.tree |= files
        branch.head = self.add([branch.head], branch.tree, message, {})
        return branch.head

    def tree(self, ref: str) -> Tree:
        """The objects of a ref: with what is uncommitted, of a branch."""
        return self.branches[ref].tree if ref in self.branches else self.of(ref).tree

    def of(self, ref: str) -> Commit:
        """The commit of a ref."""
        if ref in self.branches:
            return self.commits[self.branches[ref].head]
        if self.tags.get(ref, ref) not in self.commits:
            flask.abort(flask.make_response({"message": f"{ref}: not found"}, 404))
        return self.commits[self.tags.get(ref, ref)]

    def log(self, ref: str, prefixes: list[str]) -> Iterator[Commit]:
        """The commits along first parents that change an object below a prefix."""
        found: Commit | None = self.of(ref)
        while found:
            before = self.commits[found.parents[0]] if found.parents else None
            changed = self.diff(before.tree if before else {}, found.tree)
            if not prefixes or any(path.startswith(prefix) for path in changed for prefix in prefixes):
                yield found
            found = before

    @staticmethod
    def diff(left: Tree, right: Tree) -> list[str]:
        """The paths that differ."""
        return sorted(path for path in {*left, *right} if left.get(path) != right.get(path))


def app(state: Lakefs) -> flask.Flask:
    """The server."""
    server = flask.Flask("lakefs")
    root = f"/api/v1/repositories/{REPOSITORY}"

    def paged(items: list[dict[str, Any]], key: str) -> Any:
        after, amount = flask.request.args.get("after", ""), min(int(flask.request.args.get("amount", 100)), state.page)
        start = next((index + 1 for index, item in enumerate(items) if item[key] == after), 0)
        page = items[start : start + amount]
        more = len(items) > start + amount
        pagination = {"has_more": more, "next_offset": page[-1][key] if more else "", "results": len(page), "max_per_page": state.page}
        return {"pagination": pagination, "results": page}

    @server.before_request
    def admit() -> Any:
        if not flask.request.path.startswith("/api/v1/repositories"):
            return None
        given = flask.request.authorization
        if given is None or (given.username, given.password) != ACCOUNT:
            return {"message": "error authenticating request"}, 401
        if state.refusal:
            return {"message": state.refusal[1]}, state.refusal[0]
        return None

    @server.get("/api/v1/healthcheck")
    def health() -> Any:
        return "", 204

    @server.get("/api/v1/setup_lakefs")
    def setup() -> Any:
        return {
            "state": "initialized",
            "comm_prefs_missing": False,
            "login_config": {"RBAC": "simplified", "login_url": "", "login_cookie_names": []},
        }

    @server.get("/api/v1/repositories")
    def repositories() -> Any:
        found = {"id": REPOSITORY, "creation_date": 0, "default_branch": "main", "storage_namespace": "s3://store/ml-data"}
        return paged([found], "id")

    @server.get(f"/repositories/{REPOSITORY}/objects")
    def page() -> Any:
        return "<title>lakeFS</title>"

    @server.get(f"{root}/refs/<ref>/commits")
    def log(ref: str) -> Any:
        return paged([commit.document() for commit in state.log(ref, flask.request.args.getlist("prefixes"))], "id")

    @server.get(f"{root}/refs/<ref>/objects/ls")
    def listed(ref: str) -> Any:
        prefix = flask.request.args.get("prefix", "")
        return paged([stats(path, data) for path, data in sorted(state.tree(ref).items()) if path.startswith(prefix)], "path")

    def stats(path: str, data: bytes) -> dict[str, Any]:
        checksum = hashlib.md5(data, usedforsecurity=False).hexdigest() + ("" if state.checksums else "-2")
        return {
            "path": path,
            "path_type": "object",
            "physical_address": f"s3://store/{hashlib.sha256(data).hexdigest()}",
            "checksum": checksum,
            "size_bytes": len(data),
            "mtime": int(time.time()),
        }

    @server.get(f"{root}/refs/<left>/diff/<right>")
    def diff(left: str, right: str) -> Any:
        found = state.diff(state.tree(left), state.tree(right))
        return paged([{"type": "changed", "path": path, "path_type": "object"} for path in found], "path")

    @server.get(f"{root}/refs/<ref>/objects")
    def read(ref: str) -> Any:
        path, tree = flask.request.args["path"], state.tree(ref)
        return flask.Response(tree[path], mimetype="application/octet-stream") if path in tree else ({"message": "not found"}, 404)

    @server.post(f"{root}/branches/<branch>/objects")
    def upload(branch: str) -> Any:
        assert flask.request.mimetype == "application/octet-stream"
        assert flask.request.content_length is not None
        path, data = flask.request.args["path"], flask.request.get_data()
        state.branches[branch].tree[path] = data
        return stats(path, data), 201

    @server.post(f"{root}/branches/<branch>/objects/delete")
    def remove(branch: str) -> Any:
        for path in flask.request.get_json()["paths"]:
            state.branches[branch].tree.pop(path, None)
        return {"errors": []}

    @server.post(f"{root}/branches")
    def branch() -> Any:
        asked = flask.request.get_json()
        if asked["name"] in state.branches:
            return {"message": "branch already exists"}, 409
        commit = state.of(asked["source"])
        state.branches[asked["name"]] = Branch(commit.id, dict(commit.tree))
        return commit.id, 201

    @server.get(f"{root}/branches/<name>")
    def has_branch(name: str) -> Any:
        return {"id": name, "commit_id": state.branches[name].head} if name in state.branches else ({"message": "not found"}, 404)

    @server.delete(f"{root}/branches/<name>")
    def drop(name: str) -> Any:
        return ("", 204) if state.branches.pop(name, None) else ({"message": "not found"}, 404)

    @server.post(f"{root}/branches/<name>/commits")
    def commit(name: str) -> Any:
        asked, branch = flask.request.get_json(), state.branches[name]
        if not asked.get("allow_empty") and branch.tree == state.commits[branch.head].tree:
            return {"message": "commit: no changes"}, 400
        branch.head = state.add([branch.head], branch.tree, asked["message"], asked.get("metadata", {}))
        return state.commits[branch.head].document(), 201

    @server.post(f"{root}/refs/<source>/merge/<target>")
    def merge(source: str, target: str) -> Any:
        asked, into = flask.request.get_json(), state.branches[target]
        assert asked["squash_merge"] and asked["strategy"] == "source-wins"
        theirs = state.of(source)
        common = next(item for item in state.log(source, []) if item.id in {other.id for other in state.log(target, [])})
        changed = state.diff(common.tree, theirs.tree)
        if not changed and not asked.get("allow_empty"):
            return {"message": "no changes"}, 400
        for path in changed:
            if path in theirs.tree:
                into.tree[path] = theirs.tree[path]
            else:
                into.tree.pop(path, None)
        into.head = state.add([into.head], into.tree, asked["message"], asked.get("metadata", {}))
        return {"reference": into.head}

    @server.get(f"{root}/tags")
    def tags() -> Any:
        return paged([{"id": name, "commit_id": commit} for name, commit in sorted(state.tags.items())], "id")

    @server.post(f"{root}/tags")
    def tag() -> Any:
        asked = flask.request.get_json()
        if asked["id"] in state.tags:
            return {"message": "tag already exists"}, 409
        state.tags[asked["id"]] = state.of(asked["ref"]).id
        return {"id": asked["id"], "commit_id": state.tags[asked["id"]]}, 201

    @server.get(f"{root}/tags/<name>")
    def tagged(name: str) -> Any:
        return {"id": name, "commit_id": state.tags[name]} if name in state.tags else ({"message": "not found"}, 404)

    @server.delete(f"{root}/tags/<name>")
    def untag(name: str) -> Any:
        return ("", 204) if state.tags.pop(name, None) else ({"message": "not found"}, 404)

    @server.errorhandler(404)
    def missing(_: Exception) -> Any:
        return {"message": "not found"}, 404

    return server


@contextlib.contextmanager
def running() -> Iterator[Lakefs]:
    """The server on a free port of this machine."""
    state = Lakefs()
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
