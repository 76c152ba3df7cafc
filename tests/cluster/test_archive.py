"""Logs of real pods: kept in a real S3 server, the same when the pods, and then the run, are gone. A namespace of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.housekeeper import archive
from fuseml.contents import s3
from fuseml.domain import plans
from fuseml.store import database
from tests import s3 as servers
from tests.component import archiving
from tests.contract import engines, on_cluster
from tests.waiting import wait_until

pytestmark = pytest.mark.cluster

CANARY = "canary-7f3a9c51e2"
LINES = 3000
SCRIPT = f'echo "the key is $KEY."; i=0; while [ $i -lt {LINES} ]; do echo "line $i of héllo"; i=$((i + 1)); done; echo done >&2'


@pytest.fixture
def under(tmp_path: Path) -> Iterator[engines.UnderTest]:
    with on_cluster.tekton_engine(tmp_path) as started:
        yield started


@pytest.fixture
def world(under: engines.UnderTest, tmp_path: Path) -> Iterator[archiving.World]:
    store = database.Database(f"sqlite:///{tmp_path}/fuseml.db")
    store.migrate()
    with servers.server(tmp_path) as server:
        kept = s3.S3Contents(servers.BUCKET, "logs", server.account)
        yield archiving.World(store, tmp_path, under.engine, contents=kept)
        kept.close()
    store.close()


def test_the_log_is_the_same_when_the_pod_is_deleted_and_when_the_run_is_forgotten(
    world: archiving.World, under: engines.UnderTest
) -> None:
    key = engines.secret("AWS_SECRET_ACCESS_KEY")
    flaky = engines.shell("flaky", "test -e tried && echo better || { touch tried; exit 1; }", image=under.image, retries=2)
    checkout = plans.Checkout(name="code", project="p", codeset="c", url="http://git/p/c.git", ref="main", commit="a" * 40, path="/project")
    flaky = flaky.model_copy(update={"checkouts": (checkout,)})
    planned = engines.make_plan(engines.shell("train", SCRIPT, image=under.image, env={"KEY": (key,)}), flaky)
    under.engine.submit(planned, {key.ref: CANARY})
    world.run(planned.run, run_id=planned.id, state="running", train="running", flaky="running")
    ended = under.inbox.finished(planned.id)
    assert ended.run.state == "succeeded", ended

    world.finished(planned.run)
    before = {step: whole(world, planned.run, step) for step in ("train", "flaky")}
    assert before["train"].startswith(b"the key is <hidden>.\nline 0 of h\xc3\xa9llo\n")
    assert before["train"].count(b"\n") == LINES + 2
    assert before["flaky"] == b"=== attempt 2 ===\nbetter\n"
    archive.archive_logs(world.house(), archiving.TICK)
    assert set(world.archived().values()) == {f"runs/{planned.id}/{step}.log" for step in before}

    on_cluster.delete_pods(under)
    assert {step: whole(world, planned.run, step) for step in before} == before
    assert world.log(planned.run, "train", 21)[0] == before["train"][21:]

    archive.forget_runs(world.house(), archiving.TICK)
    assert under.engine.observe(planned.id), "it has only just finished"
    world.finished(planned.run, days_ago=8)
    archive.forget_runs(world.house(), archiving.TICK)
    wait_until(
        lambda: not under.engine.observe(planned.id) and not on_cluster.leftovers(under),
        lambda: f"nothing to be left of the run, not {on_cluster.leftovers(under)}",
        interval=0.5,
    )
    assert {step: whole(world, planned.run, step) for step in before} == before


def whole(world: archiving.World, run: str, step: str) -> bytes:
    """The log as somebody who follows it gets it."""
    seen, complete = b"", False
    while not complete:
        data, offset, complete = world.log(run, step, len(seen))
        seen += data
        assert offset == len(seen)
    return seen
