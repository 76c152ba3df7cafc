"""Model servers of the embedded server: revisions that replace one another, and starts that fail.

A small program stands for the Python of a codeset's environment: it starts fast, and files in the folder of its model decide its behaviour.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from fuseml.domain import application, errors
from fuseml.embedded import access, model_process, model_servers, start_failure
from fuseml.embedded.serving import EmbeddedServing
from fuseml.runtime import clock
from fuseml.servings import ServingSpec, Status, serving_spec
from fuseml.store import applications, database
from tests import databases
from tests.waiting import wait_until

NAME = "wine"
URL = "http://server/apps/wine"
PROGRAM = f"""#!{sys.executable} -IS
import http.server, json, os, pathlib, sys, time

folder = pathlib.Path(sys.argv[sys.argv.index("--model") + 1])
with (folder / "starts").open("a") as starts:
    starts.write(f"{{os.getpid()}}\\n")
while (folder / "slow").exists():
    time.sleep(0.01)
if (folder / "broken").exists():
    sys.exit((folder / "broken").read_text())

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(folder.name.encode())
    def log_message(self, *arguments):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
report = {{"port": server.server_port}}
print("no report" if (folder / "garbled").exists() else json.dumps(report), flush=True)
server.serve_forever()
"""


@dataclass
class Embedded:
    """Model servers, the records that they serve, and the folder of everything."""

    folder: Path
    store: database.Database
    apps: model_servers.ModelServers
    processes: access.ProcessTokens

    @property
    def serving(self) -> EmbeddedServing:
        return EmbeddedServing(self.apps, "http://server")

    def register(self, model: str, *flags: str) -> Path:
        """Commit a revision with the model and apply it, as `applications` does it; the folder of the model."""
        folder = self.folder / model
        folder.mkdir(exist_ok=True)
        for flag in flags:
            (folder / flag).write_text("no connection to the tracking server")
        document = application.Application(name=NAME, type="predictor", workflow="w", model=str(folder), runtime="fuseml.local/x:demo.key")
        with self.store.write() as session:
            applications.put(session, NAME, document.model_dump(mode="json"), clock.now())
        self.serving.apply(self.spec)
        return folder

    def route(self, revision: int) -> Status:
        """Commit all requests to the revision, apply it, and return the status then."""
        with self.store.write() as session:
            applications.route(session, applications.get(session, NAME), {revision: 100}, clock.now())
        self.serving.apply(self.spec)
        return self.status

    @property
    def spec(self) -> ServingSpec:
        with self.store.read() as session:
            spec = serving_spec(session, applications.get(session, NAME), str)
        assert spec is not None
        return spec

    @property
    def status(self) -> Status:
        return self.serving.status(self.spec)

    def ask(self) -> str:
        """The name of the model that answers a request."""
        return self.apps.request(NAME, "GET", "/", [], b"").body.decode()

    def wait_for(self, state: str) -> Status:
        wait_until(lambda: self.status.state == state, lambda: f"{state}: {self.status}")
        return self.status

    @property
    def downloads(self) -> list[str]:
        """The folders for downloads of running model servers."""
        return [path.name for path in (self.folder / "apps").glob(".scratch-*")]


def starts(model: Path) -> Sequence[str]:
    """The process ids of the model's servers so far."""
    return (model / "starts").read_text().split() if (model / "starts").exists() else []


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Embedded]:
    program = tmp_path / "environments" / "demo" / "key" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM)
    program.chmod(0o755)
    store, processes = databases.on_sqlite(tmp_path / "fuseml.db"), access.ProcessTokens()
    starter = model_process.Starter(
        tmp_path / "apps", runtimes=tmp_path / "environments", environment={}, unseal=str, tracking_url="", processes=processes
    )
    apps = model_servers.ModelServers(store, starter, idle=600.0)
    apps.start()
    with contextlib.closing(store):
        try:
            yield Embedded(tmp_path, store, apps, processes)
        finally:
            apps.stop()


def test_the_pause_after_a_failed_start_doubles_up_to_five_minutes() -> None:
    assert [start_failure.pause(starts) for starts in range(1, 12)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert start_failure.pause(10**9) == 300


def test_failures_of_one_revision_are_counted_until_the_next_start() -> None:
    first = start_failure.after(None, 2, "refused")
    second = start_failure.after(first, 2, "refused again")
    assert (second.revision, second.cause, second.starts) == (2, "refused again", 2)
    assert 0 < first.waits <= 1
    assert 1 <= second.waits <= 2


def test_a_revision_that_could_not_start_is_started_again_by_a_later_request(embedded: Embedded) -> None:
    model = embedded.register("first", "broken")
    assert embedded.status == Status("ready", "", URL, {1: 100}), "it starts with its first request"
    refusals = []

    def asked() -> str:
        try:
            return embedded.ask()
        except errors.PermanentError as error:
            refusals.append(error.message)
            return ""

    wait_until(lambda: asked() or len(starts(model)) == 2, "the second start")
    causes = {re.sub(r" after [0-2] s ", " after N s ", refusal).rpartition(": ")[2] for refusal in refusals}
    assert causes == {"no connection to the tracking server; a request after N s starts it again"}
    assert (embedded.status.state, embedded.status.traffic) == ("failed", {})
    assert embedded.status.cause.endswith("no connection to the tracking server")
    assert len(refusals) > 2, "requests within a pause start nothing"
    assert (embedded.downloads, embedded.processes._digests) == ([], set())
    (model / "broken").unlink()
    assert wait_until(asked, "a later start") == "first"
    assert embedded.status == Status("ready", "", URL, {1: 100})
    assert len(starts(model)) == 3


def test_an_applied_change_starts_a_failed_revision_at_once_and_without_a_request(embedded: Embedded) -> None:
    model = embedded.register("first", "broken")
    with pytest.raises(errors.PermanentError):
        embedded.ask()
    assert embedded.route(1).state in ("starting", "failed")
    wait_until(lambda: len(starts(model)) == 2 and embedded.status.state == "failed", "the second start to fail")
    (model / "broken").unlink()
    embedded.route(1)
    wait_until(lambda: embedded.apps.status(NAME).serving == 1, "the third start")
    assert embedded.ask() == "first"
    assert len(starts(model)) == 3


def test_a_former_revision_answers_until_its_successor_can_start_and_no_request_is_needed(embedded: Embedded) -> None:
    first = embedded.register("first")
    assert embedded.ask() == "first"
    second = embedded.register("second", "broken")
    assert embedded.wait_for("failed").traffic == {1: 100}
    # From now on a model server is idle at once; the former one stays nevertheless.
    embedded.apps._idle = 0.0
    wait_until(lambda: len(starts(second)) >= 2, "a start without a request")
    assert embedded.ask() == "first"
    (second / "broken").unlink()
    assert embedded.wait_for("ready").traffic == {2: 100}
    assert embedded.ask() == "second"
    assert len(starts(first)) == 1
    wait_until(lambda: not any(_is_alive(pid) for pid in (*starts(first), *starts(second))), "idle model servers to end")


def test_a_roll_back_takes_effect_without_a_request_and_no_request_fails(embedded: Embedded) -> None:
    embedded.register("first")
    assert embedded.ask() == "first"
    second = embedded.register("second")
    assert embedded.wait_for("ready").traffic == {2: 100}
    ended, answers = threading.Event(), [embedded.ask()]

    def ask() -> None:
        while not ended.wait(0.01):
            answers.append(embedded.ask())

    caller = threading.Thread(target=ask)
    caller.start()
    try:
        slow = embedded.folder / "first" / "slow"
        slow.touch()
        assert embedded.route(1) == Status("starting", "revision 2 answers until revision 1 has started", URL, {2: 100})
        slow.unlink()
        assert embedded.wait_for("ready").traffic == {1: 100}
        assert embedded.ask() == "first"
    finally:
        ended.set()
        caller.join()
    assert answers == sorted(answers, reverse=True), "each answer is of one of them, first of the second, then of the first"
    wait_until(lambda: not _is_alive(starts(second)[-1]), "the end of the other model server")


def test_a_roll_back_is_not_undone_by_a_revision_that_was_still_starting(embedded: Embedded) -> None:
    embedded.register("first")
    assert embedded.ask() == "first"
    second = embedded.register("second", "slow")
    assert embedded.status == Status("starting", "revision 1 answers until revision 2 has started", URL, {1: 100})
    wait_until(lambda: starts(second), "the start of the second")
    assert embedded.route(1) == Status("ready", "", URL, {1: 100})
    (second / "slow").unlink()
    wait_until(lambda: not _is_alive(starts(second)[0]), "the end of what is no longer to serve")
    assert embedded.status == Status("ready", "", URL, {1: 100})
    assert embedded.ask() == "first"
    assert len(starts(embedded.folder / "first")) == 1


def test_waiting_requests_are_answered_by_the_revision_that_is_to_serve_then(embedded: Embedded) -> None:
    embedded.register("first")
    second = embedded.register("second", "slow")
    answers: list[str] = []
    caller = threading.Thread(target=lambda: answers.append(embedded.ask()))
    caller.start()
    wait_until(lambda: starts(second), "the start of the second")
    assert embedded.status == Status("starting", "no revision answers until revision 2 has started", URL, {})
    embedded.route(1)
    (second / "slow").unlink()
    caller.join()
    assert answers == ["first"]


def test_a_process_that_reports_no_port_is_a_failed_start(embedded: Embedded) -> None:
    model = embedded.register("first", "garbled")
    with pytest.raises(errors.PermanentError, match="its model server did not start"):
        embedded.ask()
    wait_until(lambda: not _is_alive(starts(model)[0]), "its end")
    assert embedded.downloads == []


def test_the_model_server_of_a_deleted_application_ends(embedded: Embedded) -> None:
    model = embedded.register("first")
    assert embedded.ask() == "first"
    with embedded.store.write() as session:
        applications.delete(session, NAME)
    wait_until(lambda: not _is_alive(starts(model)[0]), "its end")
    with pytest.raises(errors.NotFoundError):
        embedded.ask()


def test_a_request_that_waits_for_a_replaced_application_is_refused_and_starts_nothing_more(embedded: Embedded) -> None:
    model = embedded.register("first", "slow")
    refusals: list[str] = []

    def ask() -> None:
        with pytest.raises(errors.TemporaryError) as raised:
            embedded.ask()
        refusals.append(raised.value.message)

    caller = threading.Thread(target=ask)
    caller.start()
    wait_until(lambda: starts(model), "the start")
    embedded.apps.forget(NAME)
    (model / "slow").unlink()
    caller.join()
    assert refusals == ["application 'wine' was replaced while it started; try again"]
    assert len(starts(model)) == 1
    wait_until(lambda: not _is_alive(starts(model)[0]), "its end")
    assert embedded.ask() == "first"
    assert len(starts(model)) == 2


def _is_alive(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()
