"""The contents of artifacts that retention has removed: gone where FuseML wrote them, when nothing refers to them, whatever dies in between."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlmodel

from fuseml.artifactstores import Connection, leftovers
from fuseml.domain import errors, plans
from fuseml.domain.artifact import Address
from fuseml.domain.plans import transfers
from fuseml.runtime import clock
from fuseml.store import artifacts, database, executions, removals, run_locks, runs
from fuseml.store.tables import retention_rows, run_rows
from tests import commands, databases, s3_servers
from tests.component import killed_retention, retained, triggering
from tests.component.registered import NOON, path
from tests.component.retained import Retained, age
from tests.contract.artifact_stores import sources

OLD, NEW = {"a": b"same", "b": b"old"}, {"a": b"same", "c": b"new"}
DAY = 86_400.0
EVERYTHING = -3600.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.Server]:
    with s3_servers.server(tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture
def system(store: database.Database, tmp_path: Path) -> Retained:
    return Retained(store, Connection("folder", (tmp_path / "store").as_uri()), tmp_path)


@pytest.fixture
def on_sqlite(sqlite_store: database.Database, tmp_path: Path) -> Retained:
    return Retained(sqlite_store, Connection("folder", (tmp_path / "store").as_uri()), tmp_path)


# The sweep


def test_the_sweep_removes_artifacts_and_the_files_that_no_other_version_has(system: Retained, tmp_path: Path) -> None:
    first, second = system.push("raw", OLD, days=90), system.push("raw", NEW, days=1)
    other = system.push("other", OLD, days=90)
    age(tmp_path / "store")
    system.sweep()
    assert len(system.api.search()) == 3, "nothing goes without a policy"
    system.policy(newest=1)
    system.sweep()
    assert system.api.search() == sorted(map(str, (other, second)))
    deleted = system.api.published[-1]
    assert (deleted.subject, deleted.data["by"], deleted.data["reason"]) == (str(first), "retention", "retention")
    assert (system.versions("raw"), system.versions("other")) == ([second], [other])
    assert system.read(second) == NEW and system.read(other) == OLD
    assert len(retained.files(tmp_path / "store" / "dataset" / "demo" / "raw")) == 2
    before = len(system.api.published)
    system.sweep()
    assert len(system.api.published) == before and system.read(second) == NEW


def test_it_waits_after_a_policy_was_set_and_before_contents_go(system: Retained) -> None:
    first, second = system.push("raw", OLD, days=90), system.push("raw", NEW)
    system.policy(newest=1)
    system.sweep(retention_interval=3600)
    assert len(system.api.search()) == 2
    system.sweep(contents_grace=3600)
    assert system.api.search() == [str(second)]
    assert system.read(first) == OLD, "it may be in use"
    system.expire_leases()
    system.sweep()
    assert system.versions("raw") == [second]


def test_it_continues_where_a_tick_ended_and_begins_anew_for_another_policy(system: Retained) -> None:
    for number in range(4):
        system.push(f"raw{number}", OLD, days=90)
        system.push(f"raw{number}", NEW)
    system.policy(newest=2)
    system.sweep()
    with system.store.read() as session:
        row = session.get_one(retention_rows.RetentionPolicy, ("demo", "dataset"))
        assert (row.position, row.walked > row.updated) == ("", True)
    system.policy(newest=1)
    with system.store.write() as session:
        session.get_one(retention_rows.RetentionPolicy, ("demo", "dataset")).position = "dataset://demo/raw2"
    system.sweep(retention_interval=3600)
    assert len(system.api.search()) == 6, "the second half"
    system.sweep()
    assert len(system.api.search()) == 4


def test_on_a_bucket(store: database.Database, server: s3_servers.Server, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    account = server.account
    keys = {"AWS_ACCESS_KEY_ID": account.access_key, "AWS_SECRET_ACCESS_KEY": account.secret_key, "AWS_REGION": account.region}
    prefix = "postgresql" if "postgresql" in request.node.name else "sqlite"
    connection = Connection("s3", account.endpoint, {**keys, "FUSEML_ARTIFACTS_BUCKET": f"{s3_servers.BUCKET}/{prefix}"})
    system = Retained(store, connection, tmp_path)
    first, second = system.push("raw", OLD, days=90), system.push("raw", NEW)
    system.policy(newest=1)
    system.sweep()
    assert (system.api.search(), system.versions("raw")) == ([str(second)], [second])
    removal = system.removal(first)
    assert removal is not None and removal.gone
    assert system.own.discard_name("dataset", "demo", "raw", EVERYTHING) == 2, "its file and its manifest, which were too young"
    assert system.read(second) == NEW


def test_a_store_that_is_away_gets_the_deletion_later(system: Retained, tmp_path: Path) -> None:
    first = system.push("raw", OLD, days=90)
    system.push("raw", NEW)
    system.policy(newest=1)
    place = tmp_path / "store"
    place.rename(tmp_path / "away")
    place.write_text("no folder")
    with pytest.raises(errors.TemporaryError, match="are tried again later"):
        system.sweep()
    removal = system.removal(first)
    assert removal is not None and removal.gone is None and removal.problem
    place.unlink()
    (tmp_path / "away").rename(place)
    system.sweep()
    assert len(system.versions("raw")) == 2, "not before its time"
    system.expire_leases()
    system.sweep()
    assert len(system.versions("raw")) == 1


def test_contents_at_the_location_of_another_artifact_stay(system: Retained) -> None:
    first = system.push("raw", OLD, days=90)
    system.push("raw", NEW)
    system.api.register("dataset://demo/alias/1", location=system.contents.locate(first).uri)
    system.policy(newest=1)
    system.sweep()
    assert system.read(first) == OLD
    system.api.call("DELETE", path("dataset://demo/alias/1"), status=204)
    system.expire_leases()
    system.sweep()
    assert first not in system.versions("raw")


@pytest.mark.parametrize(
    ("resource", "kind", "address", "fields"),
    [
        ("mlflow-tracking", "model", "model://demo/wine/{}", {"format": "mlflow"}),
        ("oci-registry", "image", f"image://demo/wine/sha256:{'0' * 63}{{}}", {"metadata": {"store": "tool/store"}}),
    ],
)
def test_the_contents_of_tools_stay(on_sqlite: Retained, resource: str, kind: str, address: str, fields: dict[str, Any]) -> None:
    # At an address where nothing answers: no call may leave.
    retained.add_store(on_sqlite.store, Connection(resource, "http://127.0.0.1:9"), id="tool")
    for number in (1, 2):
        on_sqlite.api.register(address.format(number), **fields)
    on_sqlite.policy(kind, newest=1)
    on_sqlite.sweep()
    assert on_sqlite.api.search() == [address.format(2)]
    assert on_sqlite.removal(Address.parse(address.format(1))) is None


def test_an_artifact_that_was_registered_without_contents_can_be_registered_again(system: Retained) -> None:
    for version in ("2026-11", "2026-12"):
        system.api.register(f"dataset://demo/raw/{version}", location=f"s3://elsewhere/{version}")
    system.policy(newest=1)
    system.sweep()
    assert system.api.search() == ["dataset://demo/raw/2026-12"]
    system.api.register("dataset://demo/raw/2026-11", location="s3://elsewhere/2026-11")


# Registration beside a removal


def test_a_push_before_the_deletion_keeps_the_contents(system: Retained) -> None:
    first = system.push("raw", OLD, days=90)
    system.push("raw", NEW, days=1)
    system.policy(newest=1)
    system.sweep(contents_grace=3600)
    assert system.removal(first) is not None
    assert system.push("raw", OLD) == first
    system.api.call("DELETE", "/artifacts/retention/demo/dataset", status=204)
    system.sweep()
    assert system.read(first) == OLD


def test_a_registration_after_the_deletion_needs_the_contents_again(system: Retained) -> None:
    first = system.push("raw", OLD, days=90)
    system.push("raw", NEW, days=1)
    system.policy(newest=1)
    system.sweep()
    assert "push them again" in system.register(first, status=409)["message"]
    assert system.push("raw", OLD) == first
    assert system.read(first) == OLD and system.removal(first) is None


def test_a_registration_waits_for_the_end_of_the_deletion(system: Retained) -> None:
    first = system.push("raw", OLD, days=90)
    system.push("raw", NEW, days=1)
    system.policy(newest=1)
    system.sweep(contents_grace=3600)
    with system.store.write() as session:
        seen = removals.find(session, str(first))
        assert seen is not None and removals.take(session, seen, NOON, clock.ahead(600))
        assert not removals.take(session, seen.model_copy(update={"due": NOON}), NOON, NOON), "one process alone"
    assert "in a minute" in system.register(first, status=503)["message"]
    system.expire_leases()
    system.sweep()
    assert system.push("raw", OLD) == first


def test_an_output_of_a_step_whose_contents_are_gone_is_not_recorded(system: Retained) -> None:
    first = system.push("raw", OLD, days=90)
    system.push("raw", NEW, days=1)
    system.policy(newest=1)
    system.sweep()
    row = artifacts.Artifact(address=str(first), kind="dataset", project="demo", name="raw", version=first.version, created=NOON)
    for proof in (None, NOON):
        with pytest.raises(errors.TemporaryError, match="has deleted the contents"), system.store.write() as session:
            artifacts.record(session, row, needs_contents=True, proof=proof)
    with system.store.write() as session:
        assert artifacts.record(session, row, needs_contents=True, proof=removals.gone(session, str(first)))


# Kills


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Copies of one installation whose sweep was killed at each point, and the last one, whose sweep has ended."""
    root = tmp_path_factory.mktemp("killed")
    template = root / "template"
    template.mkdir()
    system = Retained(databases.on_sqlite(template / "fuseml.db"), Connection("folder", (template / "store").as_uri()), template)
    system.push("raw", OLD, days=90)
    system.push("raw", NEW, days=1)
    system.policy(newest=1)
    system.store.close()
    age(template / "store")
    printed = commands.run([sys.executable, "-m", "tests.component.killed_retention", str(root)], patience=500).stdout
    codes = {int(number): int(code) for number, _, code in (line.partition(" ") for line in printed.splitlines())}
    *dead, ended = codes
    assert {codes[number] for number in dead} == {-signal.SIGKILL} and codes[ended] == 0
    assert len(dead) > 10, codes
    return {number: root / str(number) for number in codes}


def resumed(killed: dict[int, Path], tmp_path: Path) -> Iterator[Retained]:
    """A copy of each installation."""
    for number, folder in killed.items():
        copy = tmp_path / f"copy{number}"
        shutil.copytree(folder, copy)
        # The lease of a killed discard, which uploads wait for.
        for mark in (copy / "store").rglob("discards/*"):
            os.utime(mark, (0, 0))
        system = killed_retention.opened(copy)
        with system.store.write() as session:
            session.execute(
                sqlmodel.text("UPDATE extension SET document = replace(document, :old, :new)"), {"old": str(folder), "new": str(copy)}
            )
        yield system
        system.store.close()


def changes(system: Retained, address: Address) -> list[str]:
    return [item["change"] for item in system.api.call("GET", path(str(address), "history"))["changes"]]


def addresses(killed: dict[int, Path]) -> tuple[Address, Address]:
    """The old and the new version."""
    system = killed_retention.opened(killed[1])
    with system.store.read() as session:
        old, new = sorted(session.exec(sqlmodel.select(artifacts.Artifact)), key=lambda row: row.created)
    system.store.close()
    return Address.parse(old.address), Address.parse(new.address)


def test_a_sweep_that_is_killed_anywhere_is_finished_by_the_next_one(killed: dict[int, Path], tmp_path: Path) -> None:
    old, new = addresses(killed)
    states = set()
    for system in resumed(killed, tmp_path):
        recorded, removal = str(old) in system.api.search(), system.removal(old)
        stored = old in system.versions("raw")
        states.add((recorded, removal is not None and bool(removal.taken), stored))
        # A record has its contents, and contents without a record are ordered to go.
        assert stored or not recorded
        assert recorded or removal is not None
        system.expire_leases()
        system.sweep()
        assert system.api.search() == [str(new)] and system.versions("raw") == [new] and system.read(new) == NEW
        assert changes(system, old) == ["deleted"]
        # Files of a killed sweep that no version has are leftovers, which the next sweep over them deletes.
        assert len(retained.files(system.folder / "store")) == 2
        assert system.api.pending() == 0 or changes(system, old) == ["deleted"]
    assert {(True, False, True), (False, False, True), (False, True, True), (False, True, False)} <= states


@pytest.mark.parametrize("written", ["before the sweep", "after the kill"])
def test_a_push_beside_a_killed_sweep_loses_nothing(killed: dict[int, Path], tmp_path: Path, written: str) -> None:
    old, _ = addresses(killed)
    answers = set()
    for system in resumed(killed, tmp_path):
        if written == "after the kill":
            assert system.write("raw", OLD) == old
        # What was stored before is registered late, as by a slow client.
        descriptor = {"address": str(old), "digest": old.version, "location": "file:///late", "metadata": {"store": retained.STORE}}
        answer = system.api.answer(
            "POST", "/artifacts", descriptor if str(old) not in system.api.search() else {**descriptor, "location": None}
        )
        answers.add(answer.status_code)
        system.api.call("DELETE", "/artifacts/retention/demo/dataset", status=204)
        system.expire_leases()
        system.sweep()
        if answer.status_code != 201:
            assert answer.status_code in (409, 503), answer.text
            assert str(old) not in system.api.search()
            assert system.push("raw", OLD) == old
            system.sweep()
        assert system.read(old) == OLD and str(old) in system.api.search()
    assert 201 in answers and 503 in answers and (409 in answers) == (written == "before the sweep")


# Anonymous artifacts and leftovers


def anonymous(system: Retained, run_id: str, days: float | None) -> Address:
    """The anonymous artifact of a run that finished so many days ago; None: that runs."""
    name = transfers.anonymous_name(run_id, "fit", "scratch")
    url = (system.folder / "store").as_uri()
    store = plans.Store(extension="own", service="store", resource="folder", url=url)
    step = plans.StepPlan(name="fit", image=(), collects=(plans.Collect(output="scratch", kind="dataset", path="x", store=store),))
    plan = plans.Plan(id=run_id, run=f"run-{run_id}", project="demo", workflow="w", revision=1, steps=(step,))
    address = system.write(name, OLD)
    with system.store.write() as session:
        ended = None if days is None else clock.ago(days * DAY)
        state = "running" if days is None else "succeeded"
        row = run_rows.Run(
            id=run_id, name=plan.run, sequence=0, workflow="w", revision=1, project="demo", trigger={}, inputs={}, state=state, created=NOON
        )
        row.plan, row.finished = plan.model_dump(mode="json"), ended
        runs.add(session, row, ["fit"], None, ["fit"])
        run_locks.note(session, run_id, plan)
        made = runs.steps(session, [run_id])[0]
        made.state, made.outputs, made.cache_key = "succeeded", {"scratch": str(address)}, f"key of {run_id}"
    return address


def exists(system: Retained, address: Address) -> bool:
    return address in system.versions(address.name)


def test_anonymous_artifacts_go_some_days_after_their_run(system: Retained, tmp_path: Path) -> None:
    late, early, running = anonymous(system, "a", 20), anonymous(system, "b", 5), anonymous(system, "c", None)
    age(tmp_path / "store")
    system.sweep()
    assert all(exists(system, address) for address in (late, early, running)), "no policy"
    system.policy(days=10)
    system.sweep()
    assert [exists(system, address) for address in (late, early, running)] == [False, True, True]
    assert retained.files(tmp_path / "store" / "dataset" / "demo", "files") == retained.files(tmp_path / "store")
    assert len(retained.files(tmp_path / "store")) == 4
    with system.store.read() as session:
        assert executions.find(session, "demo", "key of a") is None, "a later run makes it again"
        assert executions.find(session, "demo", "key of b") is not None
        assert len(session.exec(sqlmodel.select(retention_rows.AnonymousArtifact)).all()) == 2
    system.policy(newest=1)
    system.sweep()
    assert exists(system, early), "younger than 7 days"
    system.policy(days=1)
    system.sweep()
    assert [exists(system, address) for address in (early, running)] == [False, True]


def test_an_anonymous_artifact_that_an_unfinished_run_reuses_stays(system: Retained) -> None:
    address = anonymous(system, "a", 20)
    reused = plans.ReusedStep(name="fit", run="run-a", image=(), outputs={"scratch": str(address)})
    plan = plans.Plan(id="of demo", run="train-1", project="demo", workflow="w", revision=1, steps=(), reused=(reused,))
    with system.store.write() as session:
        run_locks.note(session, "of demo", plan)
    system.policy(days=10)
    system.sweep()
    assert exists(system, address)
    with system.store.write() as session:
        runs.get(session, "train-1").state = "succeeded"
        session.exec(sqlmodel.select(retention_rows.AnonymousArtifact)).one().due = ""
    system.sweep()
    assert not exists(system, address)


def test_what_a_failed_step_has_stored_anonymously_goes_too(system: Retained) -> None:
    address = anonymous(system, "a", 20)
    with system.store.write() as session:
        step = runs.steps(session, ["a"])[0]
        step.state, step.outputs = "failed", {}
    system.policy(days=10)
    system.sweep()
    assert not exists(system, address)


def test_leftovers_of_killed_uploads_go_once_a_day(system: Retained, tmp_path: Path) -> None:
    place = system.contents.place("dataset", "demo", "raw")
    system.contents.write(place, sources(OLD))
    system.contents.write(system.contents.place("model", "demo", "wine"), sources(OLD))
    young = system.contents.place("dataset", "demo", "young")
    age(tmp_path / "store")
    system.contents.write(young, sources(OLD))
    system.sweep()
    assert len(retained.files(tmp_path / "store")) == 6, "no policy"
    system.policy(newest=1)
    system.sweep()
    assert {path.parts[-3] for path in (tmp_path / "store").rglob("files/*")} == {"wine", "young"}
    age(tmp_path / "store")
    system.sweep(leftovers_interval=DAY)
    assert len(retained.files(tmp_path / "store")) == 4, "not twice a day"


def test_leftovers_of_very_many_names_take_several_ticks(on_sqlite: Retained, tmp_path: Path) -> None:
    for number in range(5):
        on_sqlite.contents.write(on_sqlite.contents.place("dataset", "demo", f"n{number}"), sources(OLD))
    age(tmp_path / "store")
    position, calls = "", 0
    while True:
        position, calls = on_sqlite.own.discard_some("dataset", "demo", position, seconds=0, stale=leftovers.STALE), calls + 1
        assert len(retained.files(tmp_path / "store")) == max(0, 2 * (5 - calls))
        if not position:
            break
    assert calls == 6


SCRATCHING = """
name: scratch
inputs: [{name: data, type: dataset}]
steps:
  - name: fit
    image: fit:1
    inputs: [{name: data, artifact: {address: "{{ inputs.data }}"}}]
    outputs: [{name: scratch, artifact: {kind: dataset, path: out, anonymous: true}}]
"""


def test_a_new_run_has_a_lock_and_its_anonymous_artifacts_are_known(tmp_path: Path) -> None:
    world = triggering.World(tmp_path)
    retained.add_store(world.store, Connection("folder", (tmp_path / "store").as_uri()))
    world.workflow(SCRATCHING)
    data = f"dataset://p/raw/sha256:{'1' * 64}"
    client = world.functions["artifacts"].test_client()
    for address in (data, "dataset://p/raw/2"):
        assert client.post("/artifacts", json={"address": address, "metadata": {"store": "own/store"}}).status_code == 201
    body = {"workflow": "scratch", "project": "p", "inputs": {"data": data}}
    assert world.functions["runs"].test_client().post("/runs", json=body).status_code == 202
    world.settle()
    with world.store.read() as session:
        [row] = session.exec(sqlmodel.select(retention_rows.AnonymousArtifact))
        assert (row.step, row.output, row.project, row.kind) == ("fit", "scratch", "p", "dataset")
        assert [lock.address for lock in session.exec(sqlmodel.select(retention_rows.RunLock))] == [data]
    assert client.put("/artifacts/retention/p/dataset", json={"newest": 1}).status_code == 200
    found = client.get("/artifacts/prune?kept=true").json or []
    assert {fate["address"]: fate["reason"] for fate in found} == {
        "dataset://p/raw/2": "the newest of its name",
        data: "used by the unfinished scratch-1",
    }
    world.store.close()
