"""A master of Determined by its published API (0.38.1: the paths and fields of the generated bindings); trials are processes here.

No real master was run: the product is frozen, and its modules are not to be had.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import re
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.contract import training_processes

PASSWORD = "master-canary-60b1de"
TOKEN = "session-canary-3a55f0"
_REQUEST = {"activate", "config", "modelDefinition", "parentId", "projectId", "template", "unmanaged", "validateOnly"}
_FILE = {"content", "gid", "mode", "mtime", "path", "type", "uid"}


@dataclass
class Experiment:
    """An experiment of one trial, which has the same id."""

    id: int
    config: dict[str, Any]
    program: training_processes.Program
    killed: bool = False

    @property
    def state(self) -> str:
        code = self.program.code
        if code is None:
            return "STATE_STOPPING_KILLED" if self.killed else "STATE_RUNNING"
        return "STATE_CANCELED" if self.killed else "STATE_ERROR" if code else "STATE_COMPLETED"

    def document(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.config["name"], "state": self.state, "config": self.config, "numTrials": 1}

    def trial(self) -> dict[str, Any]:
        best = {"bestCheckpoint": {"uuid": f"uuid-{self.id}"}, "searcherMetricValue": 0.25} if "checkpoint" in self.config["name"] else {}
        return {"id": self.id, "experimentId": self.id, "state": self.state, "hparams": {}, "restarts": 0, **best}


@dataclass
class Master:
    """The experiments."""

    folder: Path
    experiments: list[Experiment] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def respond(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        with self.lock:
            if (method, path) == ("POST", "/experiments"):
                return self._create(body)
            if (method, path) == ("GET", "/experiments"):
                found = [item.document() for item in self.experiments if query["name"] in item.config["name"]]
                return 200, {"experiments": found, "pagination": {}}
            match = re.fullmatch(r"/(experiments|trials)/(\d+)/(trials|logs|kill)", path)
            known = {str(item.id): item for item in self.experiments}
            if match is None or match[2] not in known:
                return 404, {"error": {"code": 5, "reason": "NotFound", "error": "not found"}}
            experiment = known[match[2]]
            match method, match[1], match[3]:
                case "GET", "experiments", "trials":
                    return 200, {"trials": [experiment.trial()], "pagination": {}}
                case "GET", "trials", "logs":
                    return 200, self._log(experiment)
                case "POST", "experiments", "kill":
                    if experiment.program.code is None:
                        experiment.killed = True
                        threading.Thread(target=experiment.program.stop).start()
                    return 200, {}
        return 405, {}

    def _create(self, body: dict[str, Any]) -> tuple[int, Any]:
        unknown = [*(body.keys() - _REQUEST), *(key for file in body["modelDefinition"] for key in file.keys() ^ _FILE)]
        config = yaml.safe_load(body["config"])
        if unknown or not isinstance(config.get("entrypoint"), list) or "metric" not in config.get("searcher", {}):
            return 400, {"error": {"code": 3, "error": f"invalid experiment configuration: {unknown}"}}
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for file in body["modelDefinition"]:
            place = folder / file["path"]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(base64.b64decode(file["content"]))
            place.chmod(file["mode"] & 0o777)
        variables = dict(item.split("=", 1) for item in config["environment"]["environment_variables"])
        program = training_processes.start(config["entrypoint"], variables, folder)
        self.experiments.append(Experiment(len(self.experiments) + 1, config, program))
        return 200, {"experiment": self.experiments[-1].document(), "config": config}

    def _log(self, experiment: Experiment) -> bytes:
        entries = [
            {
                "id": str(number),
                "trialId": experiment.id,
                "timestamp": stamp,
                "level": "LOG_LEVEL_INFO",
                "message": f"[{stamp}] [rank=0] {line.decode()}",
                "log": line.decode(),
                "rankId": 0,
            }
            for number, (stamp, line) in enumerate(experiment.program.lines)
        ]
        return b"".join(json.dumps({"result": entry}).encode() + b"\n" for entry in entries)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Master]]:
    """The address of the master, and its state."""
    master = Master(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

        def _handle(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            path = parts.path.removeprefix("/api/v1")
            if path == "/auth/login":
                is_right = body == {"username": "ada", "password": PASSWORD}
                answer: tuple[int, Any] = (
                    (200, {"token": TOKEN, "user": {}}) if is_right else (401, {"error": {"code": 16, "error": "invalid credentials"}})
                )
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                answer = (401, {"error": {"code": 16, "error": "unauthenticated"}})
            else:
                answer = master.respond(self.command, path, dict(urllib.parse.parse_qsl(parts.query)), body)
            status, document = answer
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _handle

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", master
        finally:
            server.shutdown()
            thread.join()
            for experiment in master.experiments:
                experiment.program.stop()
