"""Logs of real pods, archived in a real S3 server: unchanged after the pods, and then the run, are gone. Uses a namespace of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.housekeeper import archive
from fuseml.contents import s3
from fuseml.domain import plans
from fuseml.store import database
from tests import s3_servers
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
def installation(under: engines.UnderTest, tmp_path: Path) -> Iterator[archiving.Installation]:
    store = database.Database(f"sqlite:///{tmp_path}/fuseml.db")
    store.migrate()
    with s3_servers.server(tmp_path) as server:
        contents = s3.S3Contents(s3_servers.BUCKET, "logs", server.account)
        yield archiving.Installation(store, tmp_path, under.engine, contents=contents)
        contents.close()
    store.close()


def test_the_log_is_the_same_when_the_pod_is_deleted_and_when_the_run_is_forgotten(
    installation: archiving.Installation, under: engines.UnderTest
) -> None:
    key = engines.secret("AWS_SECRET_ACCESS_KEY")
    flaky = engines.shell("flaky", "test -e tried && echo better || { touch tried; exit 1; }", image=under.image, retries=2)
    checkout = plans.Checkout(name="code", project="p", codeset="c", url="http://git/p/c.git", ref="main", commit="a" * 40, path="/project")
    flaky = flaky.model_copy(update={"checkouts": (checkout,)})
    plan = engines.make_plan(engines.shell("train", SCRIPT, image=under.image, env={"KEY": (key,)}), flaky)
    under.engine.submit(plan, {key.ref: CANARY})
    installation.run(plan.run, run_id=plan.id, state="running", train="running", flaky="running")
    ended = under.inbox.finished(plan.id)
    assert ended.run.state == "succeeded", ended

    installation.finished(plan.run)
    before = {step: followed(installation, plan.run, step) for step in ("train", "flaky")}
    assert before["train"].startswith(b"the key is <hidden>.\nline 0 of h\xc3\xa9llo\n")
    assert before["train"].count(b"\n") == LINES + 2
    assert before["flaky"] == b"=== attempt 2 ===\nbetter\n"
    archive.archive_logs(installation.housekeeper(), archiving.TICK)
    assert set(installation.archived().values()) == {f"runs/{plan.id}/{step}.log" for step in before}

    on_cluster.delete_pods(under)
    assert {step: followed(installation, plan.run, step) for step in before} == before
    assert installation.log(plan.run, "train", 21)[0] == before["train"][21:]

    archive.forget_runs(installation.housekeeper(), archiving.TICK)
    assert under.engine.observe(plan.id), "it is younger than the retention"
    installation.finished(plan.run, days_ago=8)
    archive.forget_runs(installation.housekeeper(), archiving.TICK)
    wait_until(
        lambda: not under.engine.observe(plan.id) and not on_cluster.leftovers(under),
        lambda: f"nothing to be left of the run, not {on_cluster.leftovers(under)}",
        interval=0.5,
    )
    assert {step: followed(installation, plan.run, step) for step in before} == before


def followed(installation: archiving.Installation, run: str, step: str) -> bytes:
    """The log in the chunks of a follower."""
    log, complete = b"", False
    while not complete:
        data, offset, complete = installation.log(run, step, len(log))
        log += data
        assert offset == len(log)
    return log
