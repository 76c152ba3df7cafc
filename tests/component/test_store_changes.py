"""Artifact stores that report changes: the sweep records what others write to them, once, whatever they answer, on both databases."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
import sqlalchemy

from functions.housekeeper import changes
from fuseml.agents import store as store_agent
from fuseml.artifactstores import About, Changes, Description, Location
from fuseml.artifactstores.bucket import BucketStore
from fuseml.artifactstores.port import Capability
from fuseml.contents.filesystem import FileContents
from fuseml.domain import errors
from fuseml.domain.artifact import Address
from fuseml.runtime import clock, cloudevents
from fuseml.store import artifacts, codesets, database
from fuseml.store.tables import run_rows
from tests import databases
from tests.component import dying
from tests.component.extensions_app import serve
from tests.component.following import Following, address, data
from tests.component.test_backbone_crashes import in_a_process
from tests.contract.artifact_stores import sources
from tests.waiting import PATIENCE

TOKEN = "agent-canary-41c09be2"


class LoggingStore(BucketStore):
    """A store with a log of its versions: a position is the number of a line. It answers `part` lines at once.

    `described` counts descriptions by address; `broken` cannot be described; `gate` holds up every question about changes.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(FileContents(folder), "http://agent", resource="fuseml-artifact-store")
        self.capabilities: frozenset[Capability] = self.capabilities | {"changes"}
        self.log: list[Address] = []
        self.described: list[Address] = []
        self.broken: set[Address] = set()
        self.part = 1000
        self.gate: threading.Event | None = None
        self.asked: list[str] = []

    def add(self, text: str = "x", name: str = "rows", project: str = "demo", about: About | None = None) -> Address:
        place = self.place("dataset", project, name)
        made = self.commit(place, self.write(place, sources({"a": text.encode()})), about or About(format="csv"))
        self.log.append(made)
        # Its times are whole milliseconds.
        time.sleep(0.002)
        return made

    def changes(self, position: str = "") -> Changes:
        self.asked.append(position)
        if self.gate is not None:
            self.gate.wait(PATIENCE)
        begin = int(position or 0)
        found = self.log[begin : begin + self.part]
        return Changes(found, str(begin + len(found)))

    def describe(self, address: Address) -> Description:
        self.described.append(address)
        if address in self.broken:
            raise errors.PermanentError("the record is damaged")
        return super().describe(address)

    def locate(self, address: Address) -> Location:
        return Location(f"http://agent/{address.name}", super().locate(address).digest)


@contextlib.contextmanager
def agent(folder: Path) -> Iterator[tuple[LoggingStore, str]]:
    store = LoggingStore(folder / "artifacts")
    application: flask.Flask = store_agent.create_app(store, TOKEN, folder / "uploads")
    with serve(application) as url:
        yield store, url


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[LoggingStore, str]]:
    with agent(tmp_path / "agent") as running:
        yield running


@pytest.fixture
def following(tmp_path: Path, store: database.Database) -> Following:
    under_test = Following(tmp_path, store)
    with store.write() as session:
        codesets.create_project(session, "demo", "", clock.now())
        codesets.create_project(session, "other", "", clock.now())
    return under_test


def register(following: Following, url: str, id: str = "shelf", **fields: Any) -> None:
    account = {"id": "account", "configuration": {"FUSEML_AGENT_TOKEN": TOKEN}, **fields}
    following.register(
        id, {"resource": "fuseml-artifact-store", "auth_required": True, "endpoints": [{"url": url}], "credentials": [account]}
    )


def test_versions_of_others_are_recorded_once_with_the_facts_of_the_store(following: Following, kept: tuple[LoggingStore, str]) -> None:
    store, url = kept
    register(following, url)
    about = About(format="csv", framework="pandas", framework_version="2.1", metrics={"rows": 3.0}, metadata={"source": "crm"})
    made = store.add(about=about)
    assert following.tick() == [str(made)]
    row = following.recorded()[str(made)]
    assert (row.format, row.digest, row.size, row.framework, row.framework_version) == ("csv", made.version, 1, "pandas", "2.1")
    assert (row.location, row.details["store"], row.details["source"]) == ("http://agent/rows", "shelf/store", "crm")
    with following.store.read() as session:
        assert artifacts.metrics_of(session, [str(made)]) == {str(made): {"rows": 3.0}}
    # Reported again, as a store may do.
    store.log.append(made)
    store.described.clear()
    assert following.tick() == []
    assert store.described == []
    assert store.asked[-2:] == ["1", "2"]


def test_versions_from_before_the_registration_start_nothing(following: Following, kept: tuple[LoggingStore, str]) -> None:
    store, url = kept
    before = [str(store.add(f"{number}")) for number in range(3)]
    register(following, url)
    after = str(store.add("new"))
    assert following.tick() == [after]
    assert sorted(following.recorded()) == sorted([*before, after])
    store.part = 2
    more = sorted(str(store.add(f"more {number}")) for number in range(5))
    assert following.tick() == more


def test_many_versions_are_recorded_little_by_little_and_described_once(
    following: Following, kept: tuple[LoggingStore, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, url = kept
    register(following, url)
    made = sorted(str(store.add(f"{number}")) for number in range(10))
    monkeypatch.setattr(changes, "_MOST", 3)
    store.part = 4
    announced = [following.tick() for _ in range(5)]
    assert [len(part) for part in announced] == [3, 3, 3, 1, 0]
    assert sorted(itertools.chain(*announced)) == made
    assert len(store.described) == 10


def test_a_version_that_cannot_be_described_holds_up_no_other(following: Following, kept: tuple[LoggingStore, str]) -> None:
    store, url = kept
    register(following, url)
    broken, gone = store.add("1"), store.add("2")
    store.add("3", about=About(format="c\0sv"))
    store.log += [Address("code", "demo", "iris", "c" * 40), Address("runnable", "demo", "train", "1.0.0")]
    fine = store.add("4")
    store.broken.add(broken)
    store.delete(gone)
    assert following.tick() == [str(fine)]
    assert following.recorded().keys() == {str(fine)}


def test_an_account_is_believed_about_the_projects_that_have_it(following: Following, kept: tuple[LoggingStore, str]) -> None:
    store, url = kept
    register(following, url, scope="project", projects=["demo", "unknown"])
    own = store.add()
    for project in ("other", "unknown", "nowhere"):
        store.add(project=project)
    assert following.tick() == [str(own)]
    assert sorted(following.recorded()) == [str(own)]


def test_a_version_that_a_step_has_committed_is_left_to_its_report(following: Following, kept: tuple[LoggingStore, str]) -> None:
    store, url = kept
    register(following, url)
    run = run_rows.Run(
        id="0123456789abcdef0123456789abcdef",
        name="train-1",
        sequence=1,
        workflow="train",
        revision=1,
        project="demo",
        trigger={},
        inputs={},
        state="succeeded",
        created=clock.now(),
    )
    with following.store.write() as session:
        session.add(run)
    store.add("1", about=About(producer=f"{run.id}/fit"))
    store.add("2", about=About(producer=f"{run.id}.2/fit"))
    claimed = store.add("3", about=About(producer="another tool"))
    assert following.tick() == [str(claimed)]


def test_stores_that_are_away_slow_or_refusing_delay_no_other(
    following: Following, kept: tuple[LoggingStore, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_SECONDS", 3.0)
    store, url = kept
    following.register("away", {"resource": "fuseml-artifact-store", "endpoints": [{"url": "http://127.0.0.1:9"}]})
    following.register("bare", {"resource": "s3", "endpoints": [{"url": "http://127.0.0.1:9"}]})
    following.register("none", {"resource": "no-such-store", "endpoints": [{"url": "http://127.0.0.1:9"}]})
    with agent(tmp_path / "slow") as (slow, slow_url):
        slow.gate = threading.Event()
        register(following, slow_url, "slow")
        register(following, url, "shelf")
        made, late = store.add("1"), slow.add("2")
        assert following.tick() == [str(made)]
        slow.gate.set()
        assert following.tick() == [str(late)]


def test_a_store_of_changes_and_one_of_pushes_are_both_followed(following: Following, kept: tuple[LoggingStore, str]) -> None:
    store, url = kept
    register(following, url)
    following.register_dvc()
    following.push(following.codeset(), data("a" * 32))
    made = store.add()
    assert following.tick() == sorted([str(made), address("a" * 32)])


def test_a_tracking_server_is_left_to_its_own_sweep(following: Following, kept: tuple[LoggingStore, str]) -> None:
    store, url = kept
    following.register("mlflow", {"resource": "mlflow-tracking", "endpoints": [{"url": url}]})
    store.add()
    assert following.tick() == []
    assert (store.asked, following.positions()) == ([], {})


def test_two_sweeps_at_once_record_once(following: Following, kept: tuple[LoggingStore, str], tmp_path: Path) -> None:
    store, url = kept
    register(following, url)
    made = sorted(str(store.add(f"{number}")) for number in range(20))
    other = Following(tmp_path, database.Database(following.store.url), following.registry.keyring)
    announced: list[str] = []
    both = [threading.Thread(target=lambda one=one: announced.extend(one.tick())) for one in (following, other)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(announced) == made
    other.store.close()


# Deaths


def live_and_die(folder: Path, following: Following, wanted: int) -> None:
    """Sweep, and be killed at the `wanted`-th statement or commit."""
    own = Following(folder, database.Database(following.store.url), following.registry.keyring)
    own.published.up = False
    point = dying.at(wanted)
    for moment in ("before_cursor_execute", "commit"):
        sqlalchemy.event.listen(own.store.engine, moment, point)
    own.tick()


def test_a_killed_sweep_records_whole_versions_each_with_its_event(tmp_path: Path, kept: tuple[LoggingStore, str]) -> None:
    store, url = kept
    wanted, killed, states = 0, True, set()
    folder = tmp_path / "dying"
    folder.mkdir()
    template = Following(folder, databases.on_sqlite(folder / "fuseml.db"))
    clone = template.codeset()
    register(template, url)
    template.register_dvc()
    commit = template.push(clone, data("a" * 32))
    made = sorted([address("a" * 32), str(store.add())])
    with template.store.write() as session:
        # The sweep of pushes knows the push.
        codesets.record_commit(session, codesets.codeset(session, "demo", "iris"), "refs/heads/main", commit, clock.now())
    template.store.close()
    original = (folder / "fuseml.db").read_bytes()
    while killed:
        # Every third point, because each takes a process.
        wanted += 3
        for path in folder.glob("fuseml.db*"):
            path.unlink()
        (folder / "fuseml.db").write_bytes(original)
        killed = in_a_process(live_and_die, folder, template, wanted)
        survivor = Following(folder, database.Database(template.store.url), template.registry.keyring)
        before = sorted(survivor.recorded())
        cloudevents.sweep(survivor.store, survivor.published, clock.now())
        # What a dead sweep has recorded, it has put into the outbox.
        assert survivor.announced(survivor.published.events) == before
        assert sorted([*before, *survivor.tick()]) == made
        assert survivor.sources(address("a" * 32)) == [f"code://demo/iris/{commit}"]
        with survivor.store.read() as session:
            assert artifacts.known(session, made) == set(made)
        states.add(tuple(before))
        survivor.store.close()
    assert {(), tuple(made)} <= states
