"""A receiver of OpenLineage events in a process of its own, which a test can kill and start again at the same address.

`python -m tests.component.lineage_receiver PORT FILE STATUSES`: each request becomes a line of FILE, with its answer's status. STATUSES names a
file with the statuses to answer with, by the type of the event.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import pathlib
import socket
import subprocess
import sys
from typing import Any

from tests.waiting import PATIENCE, wait_until_ready


class _Handler(http.server.BaseHTTPRequestHandler):
    file: pathlib.Path
    statuses: pathlib.Path

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = f"{event['job']['facets']['jobType']['jobType']}/{event['eventType']}"
        status = json.loads(self.statuses.read_text()).get(key, 201)
        line = {"path": self.path, "authorization": self.headers.get("Authorization"), "status": status, "event": event}
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.send_response(status)
        if status == 307:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the file is the log."""


class Receiver:
    """The receiver at `url`. `answers` sets statuses: `STEP/START` -> 500."""

    def __init__(self, folder: pathlib.Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._file, self._statuses = folder / "received.jsonl", folder / "statuses.json"
        self._file.touch()
        self.answers()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = [str(self._port), str(self._file), str(self._statuses)]
        process = subprocess.Popen([sys.executable, "-m", "tests.component.lineage_receiver", *arguments])
        wait_until_ready(process, self._accepts, "the receiver of lineage", lambda: "")
        self._process = process

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
            return True
        return False

    def answers(self, statuses: dict[str, int] | None = None) -> None:
        self._statuses.write_text(json.dumps(statuses or {}))

    def received(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._file.read_text().splitlines()]

    def accepted(self) -> list[dict[str, Any]]:
        """The accepted events, in order."""
        return [item["event"] for item in self.received() if item["status"] < 300]


if __name__ == "__main__":
    _Handler.file, _Handler.statuses = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
