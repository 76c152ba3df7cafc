"""Recovery of the local engine after its server was killed, stopped and restarted."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml.domain import errors, events, plans, runs
from fuseml.engines import local
from fuseml.engines.local import journal, process
from tests.contract import engines
from tests.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]
INTERRUPTED = "interrupted: the server was stopped"


@contextlib.contextmanager
def server(folder: Path, plan: plans.Plan | None = None, *, confined: bool = True) -> Iterator[None]:
    """A process with an engine on `folder`, killed by SIGKILL at the end."""
    arguments = [str(folder), "confined" if confined else "unconfined"]
    if plan is not None:
        (folder / "plan").write_text(plan.model_dump_json())
        arguments.append(str(folder / "plan"))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.contract.host", *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as hosting:
        try:
            assert hosting.stdout is not None
            assert hosting.stdout.readline() == "ready\n"
            yield
        finally:
            hosting.kill()


def until(path: Path, text: str = "") -> None:
    """Wait until the file exists and contains the text."""
    wait_until(lambda: path.exists() and text in path.read_text(), f"{text!r} in {path}")


def group_of(folder: Path, plan: plans.Plan, step: str) -> int:
    return int((folder / "runs" / plan.id / "steps" / step / "pid").read_text())


def alive(folder: Path, plan: plans.Plan, step: str) -> bool:
    return process.held(folder / "runs" / plan.id / "steps" / step)


def kill(folder: Path, plan: plans.Plan, step: str) -> None:
    """Kill the processes of the step, and wait for the end of its supervisor, which holds the lock until then."""
    os.killpg(group_of(folder, plan, step), signal.SIGKILL)
    wait_until(lambda: not alive(folder, plan, step), f"the supervisor of {step} to end")


def test_a_step_survives_the_server_and_the_next_server_finishes_the_run(tmp_path: Path) -> None:
    trace, go = tmp_path / "shared" / "trace", tmp_path / "shared" / "go"
    key = engines.secret("KEY")
    script = f'echo begin >> {trace}; while ! test -e {go}; do sleep 0.02; done; echo "$KEY"; echo end >> {trace}; echo 5 > "$FUSEML_ENV_RESULTS/o"'
    plan = engines.make_plan(
        engines.shell("long", script, outputs=["o"], env={"KEY": (key,)}),
        engines.shell("next", f'echo "next $O" >> {trace}', needs=("long",), env={"O": engines.out("long", "o")}),
    )
    with server(tmp_path, plan):
        until(trace, "begin")
    assert alive(tmp_path, plan, "long")
    with engines.local_engine(tmp_path) as under_test:
        assert under_test.inbox.wait(plan.id, lambda progress: "long" in progress.steps).states == {"long": "running"}
        go.touch()
        result = under_test.inbox.finished(plan.id)
        assert under_test.log(plan, "long") == "<hidden>\n"
    assert (result.run.state, result.steps["long"].attempts) == ("succeeded", 1)
    assert trace.read_text().splitlines() == ["begin", "end", "next 5"]


@pytest.mark.parametrize("ends", ["itself", "killed"])
def test_a_file_of_credentials_survives_the_server_and_goes_with_its_step(tmp_path: Path, ends: str) -> None:
    trace, go = tmp_path / "shared" / "trace", tmp_path / "shared" / "go"
    file = engines.secret("KEY").model_copy(update={"path": "deep/key"})
    script = f'echo begin >> {trace}; while ! test -e {go}; do sleep 0.02; done; test -s "$KEY" && echo read >> {trace}'
    plan = engines.make_plan(engines.shell("long", script, env={"KEY": (file,)}))
    with server(tmp_path, plan):
        until(trace, "begin")
    placed = tmp_path / "runs" / plan.id / "steps" / "long" / "credentials"
    assert stat.S_IMODE((placed / "deep" / "key").stat().st_mode) == 0o400
    if ends == "killed":
        kill(tmp_path, plan, "long")
    with engines.local_engine(tmp_path) as under_test:
        go.touch()
        result = under_test.inbox.finished(plan.id)
        wait_until(lambda: not placed.exists(), "the files of credentials to be removed")
    assert (result.states["long"], "read" in trace.read_text()) == (("failed", False) if ends == "killed" else ("succeeded", True))


def test_a_step_that_ended_without_a_server_is_collected(tmp_path: Path) -> None:
    trace = tmp_path / "shared" / "trace"
    plan = engines.make_plan(
        engines.shell("long", f"echo begin >> {trace}; sleep 0.3; echo end >> {trace}; echo bye; exit 7", timeout=3600)
    )
    with server(tmp_path, plan):
        until(trace, "begin")
    folder = journal.RunFolder(tmp_path / "runs" / plan.id)
    until(folder.path / "steps" / "long" / "exit", "\n")
    # Its timeout passes, too; the step ended before it.
    record = folder.step("long")
    earlier = [attempt.model_copy(update={"started": attempt.started - 2 * 3600}) for attempt in record.attempts]
    folder.save_step("long", record.model_copy(update={"attempts": tuple(earlier)}))
    with engines.local_engine(tmp_path) as under_test:
        result = under_test.inbox.finished(plan.id)
    assert result.steps["long"].cause == "exited with code 7: bye"
    assert trace.read_text().splitlines() == ["begin", "end"]


def test_a_step_is_started_when_its_server_died_before_it_created_the_process(tmp_path: Path) -> None:
    trace = tmp_path / "shared" / "trace"
    plan = engines.make_plan(engines.shell("long", f"echo begin >> {trace}; test $(wc -l < {trace}) -gt 1 || sleep 60"))
    with server(tmp_path, plan):
        until(trace, "begin")
    kill(tmp_path, plan, "long")
    # The state between the record and the process.
    for name in ("pid", "exit", "lock"):
        (tmp_path / "runs" / plan.id / "steps" / "long" / name).unlink(missing_ok=True)
    with engines.local_engine(tmp_path) as under_test:
        result = under_test.inbox.finished(plan.id)
    assert (result.run.state, result.steps["long"].attempts) == ("succeeded", 1)


@pytest.mark.parametrize(("retries", "state", "attempts"), [(0, "failed", 1), (1, "succeeded", 2)])
def test_a_vanished_step_fails_and_may_be_retried(tmp_path: Path, retries: int, state: str, attempts: int) -> None:
    trace = tmp_path / "shared" / "trace"
    script = f"echo begin >> {trace}; test $(wc -l < {trace}) -gt 1 || sleep 60"
    plan = engines.make_plan(engines.shell("long", script, retries=retries))
    with server(tmp_path, plan):
        until(trace, "begin")
    kill(tmp_path, plan, "long")
    with engines.local_engine(tmp_path) as under_test:
        result = under_test.inbox.finished(plan.id)
    assert (result.run.state, result.steps["long"].attempts) == (state, attempts)
    assert trace.read_text().count("begin") == attempts
    if state == "failed":
        assert result.steps["long"].cause == "the process vanished (was the machine restarted?)"


def test_a_reused_pid_is_not_mistaken_for_the_step(tmp_path: Path) -> None:
    trace = tmp_path / "shared" / "trace"
    plan = engines.make_plan(engines.shell("long", f"echo begin >> {trace}; sleep 60"))
    with server(tmp_path, plan):
        until(trace, "begin")
    kill(tmp_path, plan, "long")
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as bystander:
        (tmp_path / "runs" / plan.id / "steps" / "long" / "pid").write_text(f"{bystander.pid}\n")
        with engines.local_engine(tmp_path) as under_test:
            under_test.engine.cancel(plan.id, "no longer needed")
            assert under_test.inbox.finished(plan.id).run.state in ("failed", "cancelled")
        assert bystander.poll() is None
        bystander.kill()


def test_an_adopted_step_can_be_cancelled(tmp_path: Path) -> None:
    trace = tmp_path / "shared" / "trace"
    plan = engines.make_plan(engines.shell("long", f"echo begin >> {trace}; sleep 60"))
    with server(tmp_path, plan):
        until(trace, "begin")
    with engines.local_engine(tmp_path) as under_test:
        under_test.engine.cancel(plan.id, "no longer needed")
        result = under_test.inbox.finished(plan.id)
    assert (result.run.state, result.states) == ("cancelled", {"long": "cancelled"})
    assert not alive(tmp_path, plan, "long")


def test_servers_killed_again_and_again_run_no_step_twice(tmp_path: Path) -> None:
    trace = tmp_path / "shared" / "trace"
    names = [f"s{number}" for number in range(8)]
    plan = engines.make_plan(
        *(
            engines.shell(name, f"echo {name} >> {trace}; sleep 0.1", needs=tuple(names[max(0, number - 2) : number]))
            for number, name in enumerate(names)
        )
    )
    chance = random.Random(plan.id)
    for round_ in range(4):
        with server(tmp_path, plan if round_ == 0 else None):
            time.sleep(chance.uniform(0.0, 0.25))
    with engines.local_engine(tmp_path) as under_test:
        # Not the inbox: a killed server may have finished the run and published all its events.
        wait_until(lambda: engines.fold(under_test.engine.observe(plan.id)).run.state in runs.FINISHED, "the run to finish")
        result = engines.fold(under_test.engine.observe(plan.id))
    ran = trace.read_text().split()
    assert len(ran) == len(set(ran))
    assert (result.run.state, sorted(ran)) == ("succeeded", names)


def test_a_clean_stop_ends_running_steps_and_their_runs(tmp_path: Path) -> None:
    plan = engines.make_plan(
        engines.shell("polite", "trap 'echo stopping; exit 0' TERM; echo up; sleep 3600 & wait"),
        engines.shell("stubborn", "trap '' TERM; echo up; sleep 3600", retries=3),
        engines.shell("next", "true", needs=("polite",)),
    )
    inbox = engines.Inbox()
    engine = engines.make_local(tmp_path, inbox.put)
    engine.start()
    engine.submit(plan, {})
    for step in ("polite", "stubborn"):
        until(tmp_path / "runs" / plan.id / "steps" / step / "log", "up")
    engine.stop(0.5)
    result = inbox.finished(plan.id)
    assert (result.run.state, result.run.cause) == ("failed", INTERRUPTED)
    assert result.states == {"polite": "failed", "stubborn": "failed", "next": "skipped"}
    assert engine.logs(plan.id, "polite").data == b"up\nstopping\n"
    for step in ("polite", "stubborn"):
        assert not alive(tmp_path, plan, step)


def test_unpublished_events_are_published_once_after_the_next_start(tmp_path: Path) -> None:
    plan = engines.make_plan(engines.shell("long", "echo up; sleep 60"))

    def reject(event: events.Event) -> None:
        raise errors.TemporaryError("the broker is away")

    engine = engines.make_local(tmp_path, reject)
    engine.start()
    engine.submit(plan, {})
    until(tmp_path / "runs" / plan.id / "steps" / "long" / "log", "up")
    engine.stop(1)
    with engines.local_engine(tmp_path) as under_test:
        assert under_test.inbox.finished(plan.id).run.cause == INTERRUPTED
        until(tmp_path / "runs" / plan.id / "announced")
    with engines.local_engine(tmp_path) as under_test:
        other = under_test.run(engines.make_plan(engines.shell("one", "true")))
        assert other.run.state == "succeeded"
        assert under_test.inbox.of(plan.id) == []


def test_a_queued_run_continues_after_a_clean_stop_and_a_start(tmp_path: Path) -> None:
    first, second = (engines.make_plan(engines.shell("one", "echo up; sleep 60")), engines.make_plan(engines.shell("one", "echo second")))
    with engines.local_engine(tmp_path, max_parallel=1) as under_test:
        under_test.engine.submit(first, {})
        until(tmp_path / "runs" / first.id / "steps" / "one" / "log", "up")
        under_test.engine.submit(second, {})
    with engines.local_engine(tmp_path) as under_test:
        assert under_test.inbox.finished(second.id).run.state == "succeeded"
        assert engines.fold(under_test.engine.observe(first.id)).run.cause == INTERRUPTED


def test_submits_and_cancels_before_the_start_take_effect_at_the_start(tmp_path: Path) -> None:
    kept, cancelled = engines.make_plan(engines.shell("one", "true")), engines.make_plan(engines.shell("one", "true"))
    inbox = engines.Inbox()
    engine = engines.make_local(tmp_path, inbox.put)
    for plan in (kept, cancelled):
        engine.submit(plan, {})
    engine.cancel(cancelled.id, "changed my mind")
    engine.start()
    assert inbox.finished(kept.id).run.state == "succeeded"
    result = inbox.finished(cancelled.id)
    engine.stop()
    assert (result.run.state, result.states) == ("cancelled", {"one": "skipped"})


def test_rejected_events_are_published_again_and_do_not_delay_the_run(tmp_path: Path) -> None:
    inbox = engines.Inbox()
    failures = iter(range(3))

    def failing_at_first(event: events.Event) -> None:
        if next(failures, None) is not None:
            raise errors.TemporaryError("not now")
        inbox.put(event)

    engine = engines.make_local(tmp_path, failing_at_first)
    engine.start()
    plan = engines.make_plan(engines.shell("one", "true"))
    engine.submit(plan, {})
    assert inbox.finished(plan.id).run.state == "succeeded"
    engine.stop()
    assert [event.id for event in inbox.of(plan.id)] == [event.id for event in engine.observe(plan.id)]


def test_two_servers_cannot_share_a_folder(tmp_path: Path) -> None:
    with engines.local_engine(tmp_path), pytest.raises(errors.ConflictError, match="another server"):
        engines.make_local(tmp_path, lambda event: None).start()


def test_a_broken_run_folder_does_not_affect_other_runs(tmp_path: Path) -> None:
    plan = engines.make_plan(engines.shell("one", "true"))
    engines.make_local(tmp_path, lambda event: None).submit(plan, {})
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "plan.json").write_text("{")
    with engines.local_engine(tmp_path) as under_test:
        assert under_test.inbox.finished(plan.id).run.state == "succeeded"


def test_a_finished_run_can_be_forgotten_and_an_unfinished_one_cannot(tmp_path: Path) -> None:
    with engines.local_engine(tmp_path) as under_test:
        assert isinstance(under_test.engine, local.LocalEngine)
        finished, running = engines.make_plan(engines.shell("one", "true")), engines.make_plan(engines.shell("one", "sleep 60"))
        under_test.run(finished)
        under_test.engine.submit(running, {})
        with pytest.raises(errors.ConflictError, match="has not finished"):
            under_test.engine.forget(running.id)
        under_test.engine.forget(finished.id)
        under_test.engine.forget(finished.id)
        assert not (tmp_path / "runs" / finished.id).exists()
        assert under_test.engine.observe(finished.id) == []


def test_secrets_and_checkouts_are_removed_when_a_run_has_finished(tmp_path: Path) -> None:
    checkout = plans.Checkout(name="code", project="p", codeset="c", url="u", ref="main", commit="a" * 40, path="/project")
    key = engines.secret("KEY")
    plan = engines.make_plan(engines.shell("one", "cat commit; sleep 0.3", checkouts=(checkout,), env={"KEY": (key,)}))
    folder = tmp_path / "runs" / plan.id
    with engines.local_engine(tmp_path) as under_test:
        under_test.engine.submit(plan, {key.ref: "a-secret-value", "not/used/by/it": "another-secret"})
        assert (folder / "secrets").stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700
        until(folder / "steps" / "one" / "log", "a" * 40)
        under_test.inbox.finished(plan.id)
    assert not (folder / "secrets").exists()
    assert not (folder / "checkouts").exists()
