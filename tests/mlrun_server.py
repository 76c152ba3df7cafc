"""A contract server of MLRun: the endpoints for artifacts, tags and files that the product uses, with the answers of MLRun's service.

MLRun itself was not run: its service needs a cluster or a database of its own.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import flask
from werkzeug import serving

ACCOUNT = "canary-41c09be2"


@dataclass
class Mlrun:
    """The artifacts of all projects by their uid, the tags of each key, and the object store with the contents."""

    url: str = ""
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: dict[tuple[str, str, str], str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)

    def log(self, project: str, key: str, kind: str, files: Mapping[str, bytes], **spec: Any) -> str:
        """What `log_model` and `log_dataset` of MLRun's client do; the uid."""
        identity = repr([project, key, kind, sorted(files.items())]).encode()
        uid = hashlib.sha1(identity, usedforsecurity=False).hexdigest()
        target = f"s3://store/{project}/{uid}/"
        self.objects |= {f"{target}{path}": data for path, data in files.items()}
        now = datetime.datetime.now(datetime.UTC).isoformat()
        metadata = {"key": key, "project": project, "uid": uid, "tree": "run-1", "created": now, "updated": now, "iter": 0}
        size = sum(map(len, files.values()))
        self.artifacts[uid] = {"kind": kind, "metadata": metadata, "spec": {"db_key": key, "target_path": target, "size": size, **spec}}
        self.tags[(project, key, "latest")] = uid
        return uid


def app(state: Mlrun) -> flask.Flask:
    """The server."""
    server = flask.Flask("mlrun")

    @server.before_request
    def admit() -> Any:
        if flask.request.path != "/api/v1/client-spec" and flask.request.headers.get("X-V3io-Session-Key") != ACCOUNT:
            return {"detail": "unauthorized"}, 401
        return None

    @server.get("/api/v1/client-spec")
    def spec() -> Any:
        return {"version": "1.12.1", "namespace": "mlrun", "mpijob_crd_version": "v1", "docker_registry": ""}

    @server.get("/api/v2/projects/<project>/artifacts")
    def listed(project: str) -> Any:
        asked = flask.request.args
        found = []
        for uid, item in state.artifacts.items():
            metadata = item["metadata"]
            if metadata["project"] != project or item["kind"] != asked["kind"]:
                continue
            if asked.get("name", metadata["key"]) != metadata["key"] or metadata["updated"] < asked.get("since", ""):
                continue
            tags = [tag for (_, _, tag), tagged in state.tags.items() if tagged == uid]
            wanted = tags or [""] if asked.get("tag") == "*" else [tag for tag in tags if tag == asked.get("tag")]
            found += [{**item, "metadata": {**metadata, "tag": tag}} for tag in wanted]
        return {"artifacts": found[::-1], "pagination": None}

    @server.get("/api/v2/projects/<project>/artifacts/<path:key>")
    def get(project: str, key: str) -> Any:
        item = state.artifacts.get(flask.request.args["object-uid"])
        if item is None or (item["metadata"]["project"], item["metadata"]["key"]) != (project, key):
            return {"detail": f"MLRunNotFoundError('Artifact {key} not found')"}, 404
        return item

    @server.route("/api/v1/projects/<project>/tags/<tag>", methods=["PUT", "DELETE"])
    def tag(project: str, tag: str) -> Any:
        asked = flask.request.get_json()
        assert asked["kind"] == "artifact"
        if tag == "latest":
            return {"detail": "MLRunInvalidArgumentError('`latest` is a reserved tag name')"}, 400
        for item in asked["identifiers"]:
            if flask.request.method == "PUT":
                state.tags[(project, item["key"], tag)] = item["uid"]
            elif state.tags.get((project, item["key"], tag)) == item["uid"]:
                del state.tags[(project, item["key"], tag)]
        return ("", 204) if flask.request.method == "DELETE" else {"name": tag, "project": project}

    @server.get("/api/v1/projects/<project>/filestat")
    def filestat(project: str) -> Any:
        data = state.objects.get(flask.request.args["path"])
        return {"size": len(data), "modified": 0, "mimetype": None} if data is not None else ({"detail": "not found"}, 404)

    @server.get("/api/v1/projects/<project>/files")
    def files(project: str) -> Any:
        path = flask.request.args["path"]
        if path.endswith("/"):
            names = {name.removeprefix(path).partition("/") for name in state.objects if name.startswith(path)}
            return {"listdir": sorted({f"{first}{slash}" for first, slash, _ in names})}
        if path not in state.objects:
            return {"detail": "not found"}, 404
        size, offset = int(flask.request.args.get("size", 0)), int(flask.request.args.get("offset", 0))
        data = state.objects[path][offset:]
        return flask.Response(data[:size] if size else data, mimetype="application/octet-stream")

    return server


@contextlib.contextmanager
def running() -> Iterator[Mlrun]:
    """The server on a free port of this machine."""
    state = Mlrun()
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
