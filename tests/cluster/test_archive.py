"""Logs of real pods in a real S3 server: unchanged after the pods, and then the run, are deleted. Uses a namespace of its own."""

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
def under_test(tmp_path: Path) -> Iterator[engines.UnderTest]:
    with on_cluster.tekton_engine(tmp_path) as engine:
        yield engine


@pytest.fixture
def world(under_test: engines.UnderTest, tmp_path: Path) -> Iterator[archiving.World]:
    store = database.Database(f"sqlite:///{tmp_path}/fuseml.db")
    store.migrate()
    with servers.server(tmp_path) as server:
        contents = s3.S3Contents(servers.BUCKET, "logs", server.account)
        yield archiving.World(store, tmp_path, under_test.engine, contents=contents)
        contents.close()
    store.close()


def test_the_log_is_the_same_when_the_pod_is_deleted_and_when_the_run_is_forgotten(
    world: archiving.World, under_test: engines.UnderTest
) -> None:
    key = engines.secret("AWS_SECRET_ACCESS_KEY")
    flaky = engines.shell("flaky", "test -e tried && echo better || { touch tried; exit 1; }", image=under_test.image, retries=2)
    checkout = plans.Checkout(name="code", project="p", codeset="c", url="http://git/p/c.git", ref="main", commit="a" * 40, path="/project")
    flaky = flaky.model_copy(update={"checkouts": (checkout,)})
    plan = engines.make_plan(engines.shell("train", SCRIPT, image=under_test.image, env={"KEY": (key,)}), flaky)
    under_test.engine.submit(plan, {key.ref: CANARY})
    world.run(plan.run, run_id=plan.id, state="running", train="running", flaky="running")
    result = under_test.inbox.finished(plan.id)
    assert result.run.state == "succeeded", result

    world.finished(plan.run)
    before = {step: read_log(world, plan.run, step) for step in ("train", "flaky")}
    assert before["train"].startswith(b"the key is <hidden>.\nline 0 of h\xc3\xa9llo\n")
    assert before["train"].count(b"\n") == LINES + 2
    assert before["flaky"] == b"=== attempt 2 ===\nbetter\n"
    archive.archive_logs(world.house(), archiving.TICK)
    assert set(world.archived().values()) == {f"runs/{plan.id}/{step}.log" for step in before}

    on_cluster.delete_pods(under_test)
    assert {step: read_log(world, plan.run, step) for step in before} == before
    assert world.log(plan.run, "train", 21)[0] == before["train"][21:]

    archive.forget_runs(world.house(), archiving.TICK)
    assert under_test.engine.observe(plan.id), "it has just finished"
    world.finished(plan.run, days_ago=8)
    archive.forget_runs(world.house(), archiving.TICK)
    wait_until(
        lambda: not under_test.engine.observe(plan.id) and not on_cluster.leftovers(under_test),
        lambda: f"no remains of the run, not {on_cluster.leftovers(under_test)}",
        interval=0.5,
    )
    assert {step: read_log(world, plan.run, step) for step in before} == before


def read_log(world: archiving.World, run: str, step: str) -> bytes:
    """The complete log, read as by a client that follows it."""
    log, complete = b"", False
    while not complete:
        data, offset, complete = world.log(run, step, len(log))
        log += data
        assert offset == len(log)
    return log
