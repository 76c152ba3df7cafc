"""The embedded server: time from start to ready, memory, and time from a push to the run's submission.

    python -m tests.bench.bench_server

Baselines: a bare Flask application under the same WSGI server; a bare Flask route that writes one SQLite row.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import urllib3

from tests import documents
from tests.embedded import servers

BARE = """
import sqlite3, sys, flask, waitress
app = flask.Flask("bare")
database = sqlite3.connect(sys.argv[1], check_same_thread=False)
database.execute("PRAGMA journal_mode=WAL"); database.execute("PRAGMA synchronous=NORMAL"); database.execute("CREATE TABLE t (body TEXT)")
@app.route("/", methods=["GET", "POST"])
def index():
    with database:
        database.execute("INSERT INTO t VALUES (?)", (flask.request.get_data(as_text=True),))
    return {}, 202
server = waitress.server.create_server(app, host="127.0.0.1", port=0, threads=1)
print(server.effective_port, flush=True)
server.run()
"""

PUSHES = 100
PAUSE = 0.3


def rss(pid: int) -> float:
    """Resident memory in MB."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def bare(folder: pathlib.Path) -> tuple[subprocess.Popen[str], str, float]:
    """A started bare application: its process, its URL, and the seconds of its start."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", BARE, str(folder / "bare.db")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = f"http://127.0.0.1:{process.stdout.readline().strip()}/"
    assert urllib3.PoolManager().request("GET", url).status == 202
    return process, url, time.perf_counter() - begun


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def webhook(secret: str, count: int) -> tuple[bytes, dict[str, str], str]:
    """Body, headers and commit of the signed delivery of the push number `count` to a branch: a new commit on that of the push before."""
    before, commit = (_commit(number) for number in (count - 1, count))
    repository = {"name": "code", "full_name": "p/code", "owner": {"login": "p", "username": "p"}}
    push = {"ref": "refs/heads/main", "before": before, "after": commit, "commits": [], "total_commits": 0, "head_commit": None}
    body = json.dumps({**push, "repository": repository, "pusher": {"login": "a"}, "sender": {"login": "a"}}).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-Gitea-Event": "push", "X-Gitea-Delivery": str(count), "X-Gitea-Signature": signature}
    return body, headers, commit


def _commit(number: int) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest() if number >= 0 else "0" * 40


def codeset_secret(home: pathlib.Path) -> str:
    from fuseml.runtime import secrets
    from fuseml.store import codesets, database

    keyring = secrets.Keyring((home / "keys").read_text().split())
    with database.Database(f"sqlite:///{home / 'fuseml.db'}").read() as session:
        return keyring.unseal(codesets.codeset(session, "p", "code").webhook_secret)


def measure_pushes(server: servers.Server, url: str) -> None:
    server.post("/workflows", raw=documents.one_step("nothing").encode())
    server.post("/codesets?project=p&name=code")
    server.post("/workflows/assignments?name=nothing&codesetProject=p&codesetName=code")
    secret = codeset_secret(server.home)
    pool = urllib3.PoolManager()
    accepted: list[float] = []
    submitted: list[float] = []
    baseline: list[float] = []
    for count in range(PUSHES):
        body, headers, _ = webhook(secret, count)
        begun = time.perf_counter()
        assert server.call("POST", "/webhooks/gitea", raw=body, headers=headers).status == 202
        accepted.append((time.perf_counter() - begun) * 1000)
        # A run is submitted when the engine has its folder; a look at the disk does not slow the server.
        while not any((server.home / "runs").glob("*/plan.json")) or len(list((server.home / "runs").glob("*/plan.json"))) <= count:
            time.sleep(0.002)
        submitted.append((time.perf_counter() - begun) * 1000)
        # The run of this push must not slow the next push.
        time.sleep(PAUSE)
        begun = time.perf_counter()
        pool.request("POST", url, body=body, headers=headers)
        baseline.append((time.perf_counter() - begun) * 1000)
    for name, values, budget in (("webhook accepted", accepted, "p99 20 ms"), ("push to run submitted", submitted, "p95 500 ms")):
        ratio = statistics.median(values) / statistics.median(baseline)
        print(
            f"{name:24} p50 {statistics.median(values):6.1f} ms  p95 {percentile(values, 0.95):6.1f}  p99 {percentile(values, 0.99):6.1f}"
            f"  {ratio:5.1f} times the bare route (p50 {statistics.median(baseline):.1f} ms)   budget {budget}"
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        process, url, bare_start = bare(path)
        bare_rss = rss(process.pid)
        server = servers.Server(path / "home", "--mlflow", "none")
        try:
            for label in ("first start", "next start"):
                begun = time.perf_counter()
                server.start()
                took = time.perf_counter() - begun
                print(f"{label:24} ready after {took:5.2f} s, {took / bare_start:4.1f} times a bare Flask application   budget 2 s")
                if label == "first start":
                    server.stop()
            time.sleep(1)
            print(
                f"{'memory, idle':24} {rss(server.pid):5.0f} MB, {rss(server.pid) / bare_rss:4.1f} times a bare Flask application   budget 150 MB"
            )
            measure_pushes(server, url)
            print(f"{'memory, after the runs':24} {rss(server.pid):5.0f} MB")
        finally:
            server.stop()
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
