"""The Jobs API of a Ray head as Ray 2.60 answered when it was measured; entry points are processes here.

It stands in where no environment with Ray is (`FUSEML_RAY`); the same suite runs at a real head.
"""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import re
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.contract import training_processes

_PATH = re.compile(r"/api/(jobs|packages/gcs)/(?:([\w.-]+)(?:/(logs|stop))?)?")
_SETUP = "2026-12-01 17:30:24,908\tINFO job_manager.py:581 -- Runtime env is setting up.\n"


@dataclass
class Entry:
    """A job; one whose working directory is missing has no program."""

    request: dict[str, Any]
    program: training_processes.Program | None
    stopped: bool = False

    @property
    def logs(self) -> str:
        lines = self.program.lines if self.program else []
        return _SETUP + b"".join(line for _, line in list(lines)).decode() if self.program else ""

    def document(self) -> dict[str, Any]:
        code = self.program.code if self.program else None
        if self.program is None:
            status, message = (
                "FAILED",
                "runtime_env setup failed: Failed to set up runtime environment.\nTraceback (most recent call last):\nOSError: no such package",
            )
        elif code is None:
            status, message = "RUNNING", "Job is currently running."
        elif self.stopped:
            status, message = "STOPPED", "Job was intentionally stopped."
        elif code == 0:
            status, message = "SUCCEEDED", "Job finished successfully."
        else:
            status = "FAILED"
            message = f"Job entrypoint command failed with exit code {code}, last available logs (truncated to 20,000 chars):\n{self.logs}"
        return {"type": "SUBMISSION", "submission_id": self.request["submission_id"], "status": status, "message": message}


@dataclass
class Head:
    """Packages and jobs."""

    folder: Path
    packages: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, Entry] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def respond(self, method: str, path: str, content: bytes) -> tuple[int, Any]:
        match = _PATH.fullmatch(path)
        assert match is not None, path
        kind, name, action = match.groups()
        with self.lock:
            if kind == "packages/gcs":
                if method == "PUT":
                    self.packages[name] = content
                return (200, "") if name in self.packages else (404, f"Package gcs://{name} does not exist")
            if method == "POST" and not name:
                return self._submit(json.loads(content))
            if not name:
                return 200, [entry.document() for entry in self.jobs.values()]
            if name not in self.jobs:
                return 404, f"Job {name} does not exist"
            entry = self.jobs[name]
            if action == "logs":
                return 200, {"logs": entry.logs}
            if action == "stop":
                is_running = entry.program is not None and entry.program.code is None
                if is_running and entry.program and not entry.stopped:
                    entry.stopped = True
                    threading.Thread(target=entry.program.stop).start()
                return 200, {"stopped": is_running}
            return 200, entry.document()

    def _submit(self, request: dict[str, Any]) -> tuple[int, Any]:
        known = {
            "entrypoint",
            "submission_id",
            "runtime_env",
            "metadata",
            "entrypoint_num_cpus",
            "entrypoint_num_gpus",
            "entrypoint_memory",
        }
        name = request["submission_id"]
        if request.keys() - known:
            return 400, f"Traceback (most recent call last):\nTypeError: unexpected {sorted(request.keys() - known)}\n"
        if name in self.jobs:
            reason = f"ValueError: Job with submission_id {name} already exists. Please use a different submission_id."
            return 500, f"Traceback (most recent call last):\nRuntimeError: Request failed with status code 500: Traceback\n{reason}\n.\n"
        package = self.packages.get(request["runtime_env"]["working_dir"].removeprefix("gcs://"))
        program = None
        if package is not None:
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            zipfile.ZipFile(io.BytesIO(package)).extractall(folder)
            program = training_processes.start(
                ["/bin/sh", "-c", f"exec {request['entrypoint']}"], request["runtime_env"]["env_vars"], folder
            )
        self.jobs[name] = Entry(request, program)
        return 200, {"job_id": name, "submission_id": name}


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Head]]:
    """The address of the API, and the head."""
    head = Head(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

        def _handle(self) -> None:
            status, answer = head.respond(self.command, self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _handle

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", head
        finally:
            server.shutdown()
            thread.join()
            for entry in head.jobs.values():
                if entry.program:
                    entry.program.stop()
