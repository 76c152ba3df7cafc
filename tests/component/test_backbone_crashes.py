"""A process that receives a webhook dies at any point between the request and the run: the next process finishes the work.

Every statement and commit of every thread is such a point. A webhook that was answered has its run, one that was not has it once the
git host's record was read or the webhook came again; neither has two, and each event is published.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import pathlib

import sqlalchemy
import sqlmodel

from fuseml.domain import events
from fuseml.runtime import clock, cloudevents
from fuseml.store import database, deliveries
from fuseml.store.tables import ledger_rows, outbox_rows, run_rows
from tests import commands
from tests.waiting import SCENARIO_PATIENCE, wait_until

from . import backbone, dying, endpoint

ROOT = pathlib.Path(__file__).parents[2]
COMMIT = "c" * 40


def webhook() -> tuple[bytes, dict[str, str]]:
    repository = {"name": "code", "full_name": "p/code", "owner": {"login": "p"}}
    push: dict[str, object] = {
        "ref": "refs/heads/main",
        "before": "0" * 40,
        "after": COMMIT,
        "commits": [],
        "head_commit": None,
        "repository": repository,
    }
    body = json.dumps({**push, "pusher": {"login": "ada"}}).encode()
    signature = hmac.new(backbone.SECRET.encode(), body, hashlib.sha256).hexdigest()
    return body, {"Content-Type": "application/json", "X-Gitea-Event": "push", "X-Gitea-Delivery": "1", "X-Gitea-Signature": signature}


def work(joined: backbone.Backbone) -> None:
    """Deliver until the queue is empty."""
    cloudevents.sweep(joined.store, joined.publisher, clock.now())
    joined.queue.start()

    def is_idle() -> bool:
        with joined.store.read() as session:
            return not deliveries.count(session, "pending") and not joined.queue.depth

    wait_until(is_idle, "the queue to be empty", interval=0.005)
    joined.queue.stop()


def live_and_die(folder: pathlib.Path, wanted: int) -> None:
    """Take the webhook and work, and be killed at the `wanted`-th point. The answer is written down as the client would see it."""
    joined = backbone.Backbone(folder)
    point = dying.at(wanted)
    for moment in ("before_cursor_execute", "commit"):
        sqlalchemy.event.listen(joined.store.engine, moment, point)
    assert joined.take(*webhook()) == 202
    (folder / "answered").touch()
    work(joined)


def in_a_process(job: object, *arguments: object) -> bool:
    """Run it in a child; whether that was killed."""
    child = os.fork()
    if child == 0:
        try:
            job(*arguments)  # type: ignore[operator]
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


def repair(folder: pathlib.Path, again: bool) -> None:
    joined = backbone.Backbone(folder)
    if again:
        assert joined.take(*webhook()) == 202
    work(joined)


def crash_everywhere(folder: pathlib.Path) -> None:
    """Runs in a process without threads, which may fork. Prints one line for each point of death."""
    # Each child begins with what this process has made: a migrated database, imported packages and mapped tables.
    ready = folder / "0"
    ready.mkdir()
    first = backbone.Backbone(ready)
    assert first.take(*webhook()) == 202
    first.store.close()
    wanted, killed = 0, True
    while killed:
        wanted += 1
        place = folder / str(wanted)
        place.mkdir()
        killed = in_a_process(live_and_die, place, wanted)
        answered = (place / "answered").exists()
        # A client without a response repeats its request; a client with one does not.
        in_a_process(repair, place, not answered)
        store = database.Database(f"sqlite:///{place}/fuseml.db")
        with store.read() as session:
            types = sorted(session.exec(sqlmodel.select(ledger_rows.LedgerEvent.type)).all())
            states = set(session.exec(sqlmodel.select(ledger_rows.Delivery.state)).all())
            submitted = [run.submitted is not None for run in session.exec(sqlmodel.select(run_rows.Run)).all()]
        print(json.dumps({"answered": answered, "types": types, "states": sorted(states), "submitted": submitted}), flush=True)
        assert endpoint.count(store, outbox_rows.Outbox) == 0
        store.close()


def test_a_death_at_any_point_between_webhook_and_run_loses_nothing_and_does_nothing_twice(tmp_path: pathlib.Path) -> None:
    script = "import pathlib, sys; from tests.component import test_backbone_crashes as t; t.crash_everywhere(pathlib.Path(sys.argv[1]))"
    child = commands.python(script, tmp_path, cwd=ROOT, patience=SCENARIO_PATIENCE)
    deaths = [json.loads(line) for line in child.stdout.splitlines() if line.startswith('{"answered"')]
    wanted = sorted([events.CodesetPushed.TYPE, events.ArtifactRecorded.TYPE, events.RunCreated.TYPE])
    assert len(deaths) > 50
    for number, death in enumerate(deaths, start=1):
        assert death["types"] == wanted, f"death {number}"
        assert (death["states"], death["submitted"]) == (["done"], [True]), f"death {number}"
    assert {death["answered"] for death in deaths} == {False, True}
