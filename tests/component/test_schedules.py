"""Scheduled workflows: one run for each scheduled minute and codeset, whatever happens to ticks, housekeepers and servers."""

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
from fuseml.store.tables import outbox_rows, watermark_rows, workflow_rows
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


class World(triggering.World):
    """With housekeepers that go by `now`; everything was made at 08:00."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder)
        self.now = ""
        self._ticks = itertools.count()
        deps = housekeeper_deps.Deps(
            store=self.store,
            publisher=self,
            git=EmbeddedGitHost(folder, "http://git"),
            engine=self.engine,
            keyring=self.keyring,
            now=lambda: self.now,
        )
        self.functions["housekeeper"] = housekeeper_app.create_app(deps)

    def made(self, document: str, *patterns: str) -> None:
        """A workflow and its assignments."""
        self.workflow(document)
        name = document.split()[1]
        for pattern in patterns:
            self.assign(name, pattern)
        self.settle()
        self.age({1: "08:00"})

    def age(self, revisions: Mapping[int, str]) -> None:
        """Let the revisions have been made at these times, and every assignment at 08:00."""
        with self.store.write() as session:
            for row in session.exec(sqlmodel.select(workflow_rows.WorkflowRevision)):
                row.created = moment(revisions[row.revision])
            for assignment in session.exec(sqlmodel.select(workflow_rows.Assignment)):
                assignment.created = moment("08:00")

    def tick(self, time: str) -> None:
        """A housekeeper looks at the clock, and everything that follows happens."""
        self.now = moment(time)
        self.deliver_to("housekeeper", events.Event(events.TICK, "/test", f"tick-{next(self._ticks)}", None, self.now, {}))
        self.settle()

    def due(self) -> list[str]:
        """The times of the runs that schedules have started, oldest first."""
        found = [run["trigger"].get("due") for run in reversed(self.get("/runs?limit=500"))]
        return [time[11:16] for time in found if time]


def moment(time: str) -> str:
    """`08:00` or `08:00:30` of the day."""
    return f"2026-11-21T{time}{':00' if len(time) == 5 else ''}.000000Z"


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[World]:
    made = World(tmp_path)
    with made.store.write() as session:
        codesets.announce(session, codesets.codeset(session, "p", "code"), triggering.MAIN, A, triggering.NOON)
    yield made
    made.store.close()


def test_a_run_starts_when_its_minute_has_come_and_only_once(world: World) -> None:
    world.made(document(), "code://p/code")
    for time in ("08:59:50", "09:00:00", "09:00:10", "09:00:20", "09:59:59"):
        world.tick(time)
    assert world.due() == ["09:00"]
    world.tick("10:00:09")
    assert world.due() == ["09:00", "10:00"]
    run = world.run("train-1")
    assert (run["project"], run["codeset"], run["commit"], run["state"]) == ("p", "code", A, "queued")
    assert (run["trigger"]["kind"], run["trigger"]["due"]) == ("schedule.reached", "2026-11-21T09:00:00Z")


def test_the_first_look_of_all_only_begins_the_count(world: World) -> None:
    world.made(document(), "code://p/code")
    world.tick("09:00:10")
    assert world.due() == []


def test_many_housekeepers_and_repeated_events_make_one_run(world: World) -> None:
    world.made(document(), "code://p/code")
    world.tick("08:59:50")
    told = []
    for time in ("09:00:05", "09:00:04", "09:00:06"):
        world.now = moment(time)
        world.deliver_to("housekeeper", events.Event(events.TICK, "/test", f"other-{time}", None, world.now, {}))
        told += world.events
    world.settle()
    for event in told:
        world.deliver(event)
    # Also when nobody remembers the event, and the code has moved on: the minute is the same.
    world.push(B)
    world.settle()
    with world.store.write() as session:
        for row in session.exec(sqlmodel.select(outbox_rows.HandledEvent)):
            session.delete(row)
    for event in told:
        world.deliver(event)
    assert world.due() == ["09:00"]


@pytest.mark.parametrize(
    ("back", "made_up"), [("11:30", ["11:00"]), ("11:00", ["11:00"]), ("10:59:59", ["10:00"])], ids=["between", "on time", "just before"]
)
def test_of_missed_times_the_last_one_is_made_up_for(world: World, back: str, made_up: list[str]) -> None:
    world.made(document(), "code://p/code")
    world.tick("08:59")
    world.tick(back)
    assert world.due() == made_up
    world.tick("12:00")
    assert world.due() == [*made_up, "12:00"]


def test_a_time_that_was_missed_for_more_than_an_hour_is_gone(world: World) -> None:
    world.made(document("30 9 * * *"), "code://p/code")
    world.tick("09:00")
    world.tick("10:31")
    assert world.due() == []


def test_each_codeset_has_a_run_of_its_own_and_one_without_a_commit_none(world: World) -> None:
    for name in ("other", "empty"):
        world.codeset(name)
    with world.store.write() as session:
        codesets.announce(session, codesets.codeset(session, "p", "other"), triggering.MAIN, B, triggering.NOON)
    world.made(document(), "code://p/code", "code://p/other", "code://p/empty", "code://*")
    world.tick("08:59")
    world.tick("09:00")
    assert sorted((run["codeset"], run["commit"]) for run in world.get("/runs")) == [("code", A), ("other", B)]


def test_the_newest_announced_commit_runs(world: World) -> None:
    world.made(document(), "code://p/code")
    world.tick("08:59")
    world.push(B)
    world.push("c" * 40, ref="refs/heads/other")
    world.tick("09:00")
    assert [run["commit"] for run in world.get("/runs")] == [B]


def test_a_workflow_that_needs_no_code_runs_on_its_own_or_for_each_codeset_it_is_assigned_to(world: World) -> None:
    world.made(document(on_code=False))
    world.made(document(name="cleanup", on_code=False), "code://p/code")
    world.made(document(name="idle"))
    world.tick("08:59")
    world.tick("09:00")
    shown = sorted((run["workflow"], run["project"], run["codeset"], run["state"]) for run in world.get("/runs"))
    assert shown == [("cleanup", "p", "code", "queued"), ("train", "", None, "queued")]


def test_what_is_assigned_or_scheduled_later_than_the_minute_is_not_due(world: World) -> None:
    world.made(document("0 10 * * *"), "code://p/code")
    world.tick("08:59")
    changed = document("0 9 * * *").encode()
    assert world.functions["workflows"].test_client().put("/workflows/train", data=changed).status_code == 200
    world.age({1: "08:00", 2: "09:00:30"})
    world.tick("09:01")
    assert world.due() == [], "its schedule was another one at nine"

    # A change of something else leaves the time alone.
    changed = document("0 9 * * *", more="timeout: 1h").encode()
    assert world.functions["workflows"].test_client().put("/workflows/train", data=changed).status_code == 200
    world.age({1: "08:00", 2: "08:30", 3: "09:00:30"})
    with world.store.write() as session:
        session.get(watermark_rows.Watermark, "schedules").moment = moment("08:59")
    world.tick("09:02")
    assert world.due() == ["09:00"]


@pytest.mark.parametrize("gone", ["workflow", "assignment", "codeset"])
def test_what_is_gone_when_the_time_is_told_starts_nothing(world: World, gone: str) -> None:
    world.made(document(), "code://p/code")
    world.tick("08:59")
    world.now = moment("09:00")
    world.deliver_to("housekeeper", events.Event(events.TICK, "/test", "last", None, world.now, {}))
    client = world.functions["workflows"].test_client()
    if gone == "workflow":
        assert client.delete("/workflows/train").status_code == 204
    elif gone == "assignment":
        assert client.delete("/workflows/assignments/train?pattern=code://p/code").status_code == 204
    else:
        with world.store.write() as session:
            codesets.delete_codeset(session, "p", "code")
    world.settle()
    assert world.get("/runs") == []


def test_a_schedule_that_gives_no_value_to_an_input_is_told_and_its_runs_say_so(world: World) -> None:
    text = document(on_code=False).replace("inputs: []\non", "inputs: [{name: stage}]\non")
    answer = world.functions["workflows"].test_client().post("/workflows?dry_run=true", data=text)
    assert any("a schedule gives it no value" in finding["message"] for finding in answer.json["findings"])
    world.made(text)
    world.tick("08:59")
    world.tick("09:00")
    assert "inputs.stage: this input has no default" in world.run("train-1")["cause"]


def test_an_assignment_does_not_start_what_only_a_schedule_starts(world: World) -> None:
    world.made(document(), "code://p/code")
    assert world.get("/runs") == []


@pytest.mark.parametrize("seed", range(5))
def test_whenever_ticks_come_no_minute_runs_twice_and_none_of_a_running_server_is_missed(world: World, seed: int) -> None:
    world.made(document("*/10 9-10 * * *"), "code://p/code")
    chance = random.Random(seed)
    world.tick("08:59")
    minute = 9 * 60
    while minute < 11 * 60:
        for _ in range(chance.randint(1, 3)):
            world.tick(f"{minute // 60:02}:{minute % 60:02}:{chance.randint(0, 59):02}")
        minute += chance.randint(1, 10)
    world.tick("11:00")
    assert world.due() == [f"{hour:02}:{minute:02}" for hour in (9, 10) for minute in range(0, 60, 10)]
