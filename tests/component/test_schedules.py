"""Scheduled workflows: one run for each scheduled minute and codeset, with any timing of ticks, housekeepers and restarts."""

from __future__ import annotations

import itertools
import pathlib
import random
from collections.abc import Iterator, Mapping

import pytest
import sqlmodel

from functions.housekeeper import app as housekeeper_app
from functions.housekeeper import deps as housekeeper_deps
from fuseml.domain import events
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.store import codesets
from fuseml.store.tables import codeset_rows, outbox_rows, watermark_rows, workflow_rows
from tests import event_keys
from tests.component import triggering

A, B = "a" * 40, "b" * 40
HOURLY = "0 * * * *"


def document(plan: str = HOURLY, name: str = "train", *, on_code: bool = True, more: str = "") -> str:
    return f"""
name: {name}
inputs: [{"{name: code, type: codeset}" if on_code else ""}]
on: {{schedule: "{plan}"}}
{more}
steps:
  - name: fit
    image: shell:1
    inputs: [{"{codeset: {name: code}}" if on_code else ""}]
"""


class Installation(triggering.World):
    """With housekeepers whose clock is `now`; revisions and assignments are of 08:00."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder)
        self.now = ""
        self._ticks = itertools.count()
        deps = housekeeper_deps.Deps(
            store=self.store,
            publisher=self,
            signer=event_keys.SIGNER,
            git=EmbeddedGitHost(folder, "http://git"),
            engine=self.engine,
            keyring=self.keyring,
            now=lambda: self.now,
        )
        self.functions["housekeeper"] = housekeeper_app.create_app(deps)

    def create(self, document: str, *patterns: str) -> None:
        """Add a workflow and its assignments."""
        self.workflow(document)
        name = document.split()[1]
        for pattern in patterns:
            self.assign(name, pattern)
        self.settle()
        self.age({1: "08:00"})

    def age(self, revisions: Mapping[int, str]) -> None:
        """Set the creation times of the revisions, and 08:00 for every assignment."""
        with self.store.write() as session:
            for row in session.exec(sqlmodel.select(workflow_rows.WorkflowRevision)):
                row.created = moment(revisions[row.revision])
            for assignment in session.exec(sqlmodel.select(workflow_rows.Assignment)):
                assignment.created = moment("08:00")

    def tick(self, time: str) -> None:
        """Deliver a tick at this time, and all events that follow."""
        self.now = moment(time)
        self.deliver_to("housekeeper", events.Event(events.TICK, "/test", f"tick-{next(self._ticks)}", None, self.now, {}))
        self.settle()

    def due(self) -> list[str]:
        """The times of the runs that schedules have started, oldest first."""
        times = [run["trigger"].get("due") for run in reversed(self.get("/runs?limit=500"))]
        return [time[11:16] for time in times if time]


def moment(time: str) -> str:
    """`08:00` or `08:00:30` of the day."""
    return f"2026-11-21T{time}{':00' if len(time) == 5 else ''}.000000Z"


@pytest.fixture
def installation(tmp_path: pathlib.Path) -> Iterator[Installation]:
    under_test = Installation(tmp_path)
    with under_test.store.write() as session:
        codesets.record_commit(session, codesets.codeset(session, "p", "code"), triggering.MAIN, A, triggering.NOON)
    yield under_test
    under_test.store.close()


def test_a_run_starts_once_in_its_scheduled_minute(installation: Installation) -> None:
    installation.create(document(), "code://p/code")
    for time in ("08:59:50", "09:00:00", "09:00:10", "09:00:20", "09:59:59"):
        installation.tick(time)
    assert installation.due() == ["09:00"]
    installation.tick("10:00:09")
    assert installation.due() == ["09:00", "10:00"]
    run = installation.run("train-1")
    assert (run["project"], run["codeset"], run["commit"], run["state"]) == ("p", "code", A, "queued")
    assert (run["trigger"]["kind"], run["trigger"]["due"]) == ("schedule.reached", "2026-11-21T09:00:00Z")


def test_the_first_tick_only_sets_the_watermark(installation: Installation) -> None:
    installation.create(document(), "code://p/code")
    installation.tick("09:00:10")
    assert installation.due() == []


def test_many_housekeepers_and_repeated_events_make_one_run(installation: Installation) -> None:
    installation.create(document(), "code://p/code")
    installation.tick("08:59:50")
    published = []
    for time in ("09:00:05", "09:00:04", "09:00:06"):
        installation.now = moment(time)
        installation.deliver_to("housekeeper", events.Event(events.TICK, "/test", f"other-{time}", None, installation.now, {}))
        published += installation.events
    installation.settle()
    for event in published:
        installation.deliver(event)
    # Also after the retention of the event, and with a new commit: the minute is the same.
    installation.push(B)
    installation.settle()
    with installation.store.write() as session:
        for row in session.exec(sqlmodel.select(outbox_rows.HandledEvent)):
            session.delete(row)
    for event in published:
        installation.deliver(event)
    assert installation.due() == ["09:00"]


@pytest.mark.parametrize(
    ("back", "made_up"), [("11:30", ["11:00"]), ("11:00", ["11:00"]), ("10:59:59", ["10:00"])], ids=["between", "on time", "just before"]
)
def test_the_last_missed_minute_is_made_up_for(installation: Installation, back: str, made_up: list[str]) -> None:
    installation.create(document(), "code://p/code")
    installation.tick("08:59")
    installation.tick(back)
    assert installation.due() == made_up
    installation.tick("12:00")
    assert installation.due() == [*made_up, "12:00"]


def test_a_minute_missed_by_more_than_an_hour_is_skipped(installation: Installation) -> None:
    installation.create(document("30 9 * * *"), "code://p/code")
    installation.tick("09:00")
    installation.tick("10:31")
    assert installation.due() == []


def test_each_codeset_with_a_commit_has_a_run_of_its_own(installation: Installation) -> None:
    for name in ("other", "empty"):
        installation.codeset(name)
    with installation.store.write() as session:
        codesets.record_commit(session, codesets.codeset(session, "p", "other"), triggering.MAIN, B, triggering.NOON)
    installation.create(document(), "code://p/code", "code://p/other", "code://p/empty", "code://*")
    installation.tick("08:59")
    installation.tick("09:00")
    assert sorted((run["codeset"], run["commit"]) for run in installation.get("/runs")) == [("code", A), ("other", B)]


def test_the_newest_published_commit_runs(installation: Installation) -> None:
    installation.create(document(), "code://p/code")
    installation.tick("08:59")
    installation.push(B)
    installation.push("c" * 40, ref="refs/heads/other")
    installation.tick("09:00")
    assert [run["commit"] for run in installation.get("/runs")] == [B]


def test_a_workflow_without_codesets_runs_once_or_for_each_assigned_codeset(installation: Installation) -> None:
    installation.create(document(on_code=False))
    installation.create(document(name="cleanup", on_code=False), "code://p/code")
    installation.create(document(name="idle"))
    installation.tick("08:59")
    installation.tick("09:00")
    listed = sorted((run["workflow"], run["project"], run["codeset"], run["state"]) for run in installation.get("/runs"))
    assert listed == [("cleanup", "p", "code", "queued"), ("train", "", None, "queued")]


def test_a_later_schedule_is_not_due_and_another_change_keeps_the_schedule(installation: Installation) -> None:
    installation.create(document("0 10 * * *"), "code://p/code")
    installation.tick("08:59")
    changed = document("0 9 * * *").encode()
    assert installation.functions["workflows"].test_client().put("/workflows/train", data=changed).status_code == 200
    installation.age({1: "08:00", 2: "09:00:30"})
    installation.tick("09:01")
    assert installation.due() == [], "its schedule was another one at nine"

    # A change of another field keeps the time.
    changed = document("0 9 * * *", more="timeout: 1h").encode()
    assert installation.functions["workflows"].test_client().put("/workflows/train", data=changed).status_code == 200
    installation.age({1: "08:00", 2: "08:30", 3: "09:00:30"})
    with installation.store.write() as session:
        session.get_one(watermark_rows.Watermark, "schedules").moment = moment("08:59")
    installation.tick("09:02")
    assert installation.due() == ["09:00"]


def test_a_pattern_schedules_each_codeset_of_its_project_once_and_none_of_all_projects(installation: Installation) -> None:
    installation.create(document(), "code://p/*", "code://p/code")
    installation.create(document(name="everywhere"), "code://*")
    installation.tick("08:59")
    with installation.store.write() as session:
        added = codeset_rows.Codeset(project="p", name="later", url="http://git/p/later.git", webhook_secret="x", created=triggering.NOON)
        codesets.add_codeset(session, added)
        codesets.record_commit(session, added, triggering.MAIN, B, triggering.NOON)
    installation.tick("09:00")
    installation.tick("09:00:40")
    started = [(run["workflow"], run["codeset"], run["commit"]) for run in installation.get("/runs")]
    assert sorted(started) == [("train", "code", A), ("train", "later", B)]


@pytest.mark.parametrize("gone", ["workflow", "assignment", "codeset"])
def test_a_deleted_workflow_assignment_or_codeset_starts_no_run(installation: Installation, gone: str) -> None:
    installation.create(document(), "code://p/code")
    installation.tick("08:59")
    installation.now = moment("09:00")
    installation.deliver_to("housekeeper", events.Event(events.TICK, "/test", "last", None, installation.now, {}))
    client = installation.functions["workflows"].test_client()
    if gone == "workflow":
        assert client.delete("/workflows/train").status_code == 204
    elif gone == "assignment":
        assert client.delete("/workflows/assignments/train?pattern=code://p/code").status_code == 204
    else:
        with installation.store.write() as session:
            codesets.delete_codeset(session, "p", "code")
    installation.settle()
    assert installation.get("/runs") == []


def test_an_input_without_a_value_is_a_finding_and_the_cause_of_its_runs(installation: Installation) -> None:
    text = document(on_code=False).replace("inputs: []\non", "inputs: [{name: stage}]\non")
    answer = installation.functions["workflows"].test_client().post("/workflows?dry_run=true", data=text)
    assert any("a schedule provides no value" in finding["message"] for finding in answer.get_json()["findings"])
    installation.create(text)
    installation.tick("08:59")
    installation.tick("09:00")
    assert "inputs.stage: this input has no default" in installation.run("train-1")["cause"]


def test_an_assignment_does_not_start_a_workflow_with_only_a_schedule(installation: Installation) -> None:
    installation.create(document(), "code://p/code")
    assert installation.get("/runs") == []


@pytest.mark.parametrize("seed", range(5))
def test_with_any_timing_of_ticks_every_minute_runs_exactly_once(installation: Installation, seed: int) -> None:
    installation.create(document("*/10 9-10 * * *"), "code://p/code")
    chance = random.Random(seed)
    installation.tick("08:59")
    minute = 9 * 60
    while minute < 11 * 60:
        for _ in range(chance.randint(1, 3)):
            installation.tick(f"{minute // 60:02}:{minute % 60:02}:{chance.randint(0, 59):02}")
        minute += chance.randint(1, 10)
    installation.tick("11:00")
    assert installation.due() == [f"{hour:02}:{minute:02}" for hour in (9, 10) for minute in range(0, 60, 10)]
