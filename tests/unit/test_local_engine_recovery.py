"""The local engine when its server is killed, stopped and started again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
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
def server(folder: Path, planned: plans.Plan | None = None) -> Iterator[None]:
    """A process with an engine on `folder`, killed with SIGKILL at the end."""
    arguments = [str(folder)]
    if planned is not None:
        (folder / "plan").write_text(planned.model_dump_json())
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
    """Wait until the file is there and holds the text."""
    wait_until(lambda: path.exists() and text in path.read_text(), f"{text!r} in {path}")


def group_of(folder: Path, planned: plans.Plan, step: str) -> int:
    return int((folder / "runs" / planned.id / "steps" / step / "pid").read_text())


def alive(folder: Path, planned: plans.Plan, step: str) -> bool:
    return process.held(folder / "runs" / planned.id / "steps" / step)


def test_a_step_survives_the_server_and_the_next_server_finishes_the_run(tmp_path: Path) -> None:
    trace, go = tmp_path / "trace", tmp_path / "go"
    key = engines.secret("KEY")
    script = f'echo begin >> {trace}; while ! test -e {go}; do sleep 0.02; done; echo "$KEY"; echo end >> {trace}; echo 5 > "$FUSEML_ENV_RESULTS/o"'
    planned = engines.make_plan(
        engines.shell("long", script, outputs=["o"], env={"KEY": (key,)}),
        engines.shell("next", f'echo "next $O" >> {trace}', needs=("long",), env={"O": engines.out("long", "o")}),
    )
    with server(tmp_path, planned):
        until(trace, "begin")
    assert alive(tmp_path, planned, "long")
    with engines.local_engine(tmp_path) as under:
        assert under.inbox.wait(planned.id, lambda folded: "long" in folded.steps).states == {"long": "running"}
        go.touch()
        ended = under.inbox.finished(planned.id)
        assert under.log(planned, "long") == "<hidden>\n"
    assert (ended.run.state, ended.steps["long"].attempts) == ("succeeded", 1)
    assert trace.read_text().splitlines() == ["begin", "end", "next 5"]


def test_a_step_that_ended_while_no_server_was_there_is_collected(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    planned = engines.make_plan(
        engines.shell("long", f"echo begin >> {trace}; sleep 0.3; echo end >> {trace}; echo bye; exit 7", timeout=3600)
    )
    with server(tmp_path, planned):
        until(trace, "begin")
    folder = journal.RunFolder(tmp_path / "runs" / planned.id)
    until(folder.path / "steps" / "long" / "exit", "\n")
    # Its deadline passes as well; it was in time.
    record = folder.step("long")
    began = [attempt.model_copy(update={"started": attempt.started - 2 * 3600}) for attempt in record.attempts]
    folder.save_step("long", record.model_copy(update={"attempts": tuple(began)}))
    with engines.local_engine(tmp_path) as under:
        ended = under.inbox.finished(planned.id)
    assert ended.steps["long"].cause == "exited with code 7: bye"
    assert trace.read_text().splitlines() == ["begin", "end"]


def test_a_step_whose_server_died_before_it_made_the_process_is_started(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    planned = engines.make_plan(engines.shell("long", f"echo begin >> {trace}; test $(wc -l < {trace}) -gt 1 || sleep 60"))
    with server(tmp_path, planned):
        until(trace, "begin")
    os.killpg(group_of(tmp_path, planned, "long"), signal.SIGKILL)
    # As it is between the record and the process.
    for name in ("pid", "exit", "lock"):
        (tmp_path / "runs" / planned.id / "steps" / "long" / name).unlink(missing_ok=True)
    with engines.local_engine(tmp_path) as under:
        ended = under.inbox.finished(planned.id)
    assert (ended.run.state, ended.steps["long"].attempts) == ("succeeded", 1)


@pytest.mark.parametrize(("retries", "state", "begun"), [(0, "failed", 1), (1, "succeeded", 2)])
def test_a_step_that_vanished_with_the_machine_is_lost_and_may_be_retried(tmp_path: Path, retries: int, state: str, begun: int) -> None:
    trace = tmp_path / "trace"
    script = f"echo begin >> {trace}; test $(wc -l < {trace}) -gt 1 || sleep 60"
    planned = engines.make_plan(engines.shell("long", script, retries=retries))
    with server(tmp_path, planned):
        until(trace, "begin")
    os.killpg(group_of(tmp_path, planned, "long"), signal.SIGKILL)
    with engines.local_engine(tmp_path) as under:
        ended = under.inbox.finished(planned.id)
    assert (ended.run.state, ended.steps["long"].attempts) == (state, begun)
    assert trace.read_text().count("begin") == begun
    if state == "failed":
        assert ended.steps["long"].cause == "the process vanished (was the machine restarted?)"


def test_a_pid_that_now_belongs_to_somebody_else_is_not_taken_for_the_step(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    planned = engines.make_plan(engines.shell("long", f"echo begin >> {trace}; sleep 60"))
    with server(tmp_path, planned):
        until(trace, "begin")
    os.killpg(group_of(tmp_path, planned, "long"), signal.SIGKILL)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as bystander:
        (tmp_path / "runs" / planned.id / "steps" / "long" / "pid").write_text(f"{bystander.pid}\n")
        with engines.local_engine(tmp_path) as under:
            under.engine.cancel(planned.id, "no longer wanted")
            assert under.inbox.finished(planned.id).run.state in ("failed", "cancelled")
        assert bystander.poll() is None
        bystander.kill()


def test_an_adopted_step_can_be_cancelled(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    planned = engines.make_plan(engines.shell("long", f"echo begin >> {trace}; sleep 60"))
    with server(tmp_path, planned):
        until(trace, "begin")
    with engines.local_engine(tmp_path) as under:
        under.engine.cancel(planned.id, "no longer wanted")
        ended = under.inbox.finished(planned.id)
    assert (ended.run.state, ended.states) == ("cancelled", {"long": "cancelled"})
    assert not alive(tmp_path, planned, "long")


def test_servers_killed_again_and_again_run_no_step_twice(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    names = [f"s{number}" for number in range(8)]
    planned = engines.make_plan(
        *(
            engines.shell(name, f"echo {name} >> {trace}; sleep 0.1", needs=tuple(names[max(0, number - 2) : number]))
            for number, name in enumerate(names)
        )
    )
    chance = random.Random(planned.id)
    for round_ in range(4):
        with server(tmp_path, planned if round_ == 0 else None):
            time.sleep(chance.uniform(0.0, 0.25))
    with engines.local_engine(tmp_path) as under:
        # Not the inbox: one of the killed servers may have seen the run through and told everything.
        wait_until(lambda: engines.fold(under.engine.observe(planned.id)).run.state in runs.FINISHED, "the run to finish")
        ended = engines.fold(under.engine.observe(planned.id))
    ran = trace.read_text().split()
    assert len(ran) == len(set(ran))
    assert (ended.run.state, sorted(ran)) == ("succeeded", names)


def test_a_clean_stop_ends_running_steps_and_their_runs(tmp_path: Path) -> None:
    planned = engines.make_plan(
        engines.shell("polite", "trap 'echo told; exit 0' TERM; echo up; sleep 3600 & wait"),
        engines.shell("stubborn", "trap '' TERM; echo up; sleep 3600", retries=3),
        engines.shell("next", "true", needs=("polite",)),
    )
    inbox = engines.Inbox()
    engine = engines.make_local(tmp_path, inbox.put)
    engine.start()
    engine.submit(planned, {})
    for step in ("polite", "stubborn"):
        until(tmp_path / "runs" / planned.id / "steps" / step / "log", "up")
    engine.stop(0.5)
    ended = inbox.finished(planned.id)
    assert (ended.run.state, ended.run.cause) == ("failed", INTERRUPTED)
    assert ended.states == {"polite": "failed", "stubborn": "failed", "next": "skipped"}
    assert engine.logs(planned.id, "polite").data == b"up\ntold\n"
    for step in ("polite", "stubborn"):
        assert not alive(tmp_path, planned, step)


def test_what_could_not_be_told_before_a_stop_is_told_after_the_next_start_and_then_no_more(tmp_path: Path) -> None:
    planned = engines.make_plan(engines.shell("long", "echo up; sleep 60"))

    def refuse(event: events.Event) -> None:
        raise errors.TemporaryError("the broker is away")

    engine = engines.make_local(tmp_path, refuse)
    engine.start()
    engine.submit(planned, {})
    until(tmp_path / "runs" / planned.id / "steps" / "long" / "log", "up")
    engine.stop(1)
    with engines.local_engine(tmp_path) as under:
        assert under.inbox.finished(planned.id).run.cause == INTERRUPTED
        until(tmp_path / "runs" / planned.id / "announced")
    with engines.local_engine(tmp_path) as under:
        other = under.run(engines.make_plan(engines.shell("one", "true")))
        assert other.run.state == "succeeded"
        assert under.inbox.of(planned.id) == []


def test_a_run_that_waits_at_a_clean_stop_goes_on_after_the_next_start(tmp_path: Path) -> None:
    first, second = (engines.make_plan(engines.shell("one", "echo up; sleep 60")), engines.make_plan(engines.shell("one", "echo second")))
    with engines.local_engine(tmp_path, max_parallel=1) as under:
        under.engine.submit(first, {})
        until(tmp_path / "runs" / first.id / "steps" / "one" / "log", "up")
        under.engine.submit(second, {})
    with engines.local_engine(tmp_path) as under:
        assert under.inbox.finished(second.id).run.state == "succeeded"
        assert engines.fold(under.engine.observe(first.id)).run.cause == INTERRUPTED


def test_plans_submitted_and_cancelled_before_the_start_are_acted_on_by_it(tmp_path: Path) -> None:
    wanted, unwanted = engines.make_plan(engines.shell("one", "true")), engines.make_plan(engines.shell("one", "true"))
    inbox = engines.Inbox()
    engine = engines.make_local(tmp_path, inbox.put)
    for planned in (wanted, unwanted):
        engine.submit(planned, {})
    engine.cancel(unwanted.id, "changed my mind")
    engine.start()
    assert inbox.finished(wanted.id).run.state == "succeeded"
    ended = inbox.finished(unwanted.id)
    engine.stop()
    assert (ended.run.state, ended.states) == ("cancelled", {"one": "skipped"})


def test_a_receiver_that_refuses_gets_the_events_again_and_holds_up_nothing(tmp_path: Path) -> None:
    inbox = engines.Inbox()
    refusals = iter(range(3))

    def moody(event: events.Event) -> None:
        if next(refusals, None) is not None:
            raise errors.TemporaryError("not now")
        inbox.put(event)

    engine = engines.make_local(tmp_path, moody)
    engine.start()
    planned = engines.make_plan(engines.shell("one", "true"))
    engine.submit(planned, {})
    assert inbox.finished(planned.id).run.state == "succeeded"
    engine.stop()
    assert [event.id for event in inbox.of(planned.id)] == [event.id for event in engine.observe(planned.id)]


def test_two_servers_cannot_share_a_folder(tmp_path: Path) -> None:
    with engines.local_engine(tmp_path), pytest.raises(errors.ConflictError, match="another server"):
        engines.make_local(tmp_path, lambda event: None).start()


def test_a_run_whose_folder_is_broken_does_not_keep_the_others_from_going_on(tmp_path: Path) -> None:
    planned = engines.make_plan(engines.shell("one", "true"))
    engines.make_local(tmp_path, lambda event: None).submit(planned, {})
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "plan.json").write_text("{")
    with engines.local_engine(tmp_path) as under:
        assert under.inbox.finished(planned.id).run.state == "succeeded"


def test_a_finished_run_can_be_forgotten_and_an_unfinished_one_cannot(tmp_path: Path) -> None:
    with engines.local_engine(tmp_path) as under:
        assert isinstance(under.engine, local.LocalEngine)
        done, busy = engines.make_plan(engines.shell("one", "true")), engines.make_plan(engines.shell("one", "sleep 60"))
        under.run(done)
        under.engine.submit(busy, {})
        with pytest.raises(errors.ConflictError, match="has not finished"):
            under.engine.forget(busy.id)
        under.engine.forget(done.id)
        under.engine.forget(done.id)
        assert not (tmp_path / "runs" / done.id).exists()
        assert under.engine.observe(done.id) == []


def test_nothing_of_secrets_and_checkouts_is_left_when_a_run_has_finished(tmp_path: Path) -> None:
    checkout = plans.Checkout(name="code", project="p", codeset="c", url="u", ref="main", commit="a" * 40, path="/project")
    key = engines.secret("KEY")
    planned = engines.make_plan(engines.shell("one", "cat commit; sleep 0.3", checkouts=(checkout,), env={"KEY": (key,)}))
    folder = tmp_path / "runs" / planned.id
    with engines.local_engine(tmp_path) as under:
        under.engine.submit(planned, {key.ref: "a-secret-value", "not/asked/for/it": "another-secret"})
        assert (folder / "secrets").stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700
        until(folder / "steps" / "one" / "log", "a" * 40)
        under.inbox.finished(planned.id)
    assert not (folder / "secrets").exists()
    assert not (folder / "checkouts").exists()
