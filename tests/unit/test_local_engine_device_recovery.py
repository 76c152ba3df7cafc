"""Devices after a start of the local engine: those of runs without readable records stay withheld, and no attempt begins on another's device."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fuseml.domain import plans, runs
from fuseml.engines.local import journal, scheduler
from fuseml.engines.local.devices import NVIDIA
from tests.contract import engines
from tests.unit.test_local_engine_devices import asking, machine
from tests.unit.test_local_engine_recovery import server, until
from tests.waiting import wait_until

PLAN, RUN, STEP = "plan.json", "run.json", "steps/train/step.json"


def steps(folder: Path) -> tuple[plans.Plan, plans.Plan]:
    """A run that holds a device until a signal, and one that follows it."""
    seen = folder / "shared" / "seen"
    hold = f"echo up >> {seen}; until test -e {folder}/shared/go; do sleep 0.05; done; echo end >> {seen}"
    return (engines.make_plan(asking("train", hold, {NVIDIA: 1})), engines.make_plan(asking("train", f"echo next >> {seen}", {NVIDIA: 1})))


def seen(folder: Path) -> list[str]:
    return (folder / "shared" / "seen").read_text().split()


@contextlib.contextmanager
def restarted(folder: Path, plan: plans.Plan, monkeypatch: pytest.MonkeyPatch, devices: str, *damaged: str) -> Iterator[engines.UnderTest]:
    """An engine after one that was killed while the step held its device; the `damaged` records cannot be read."""
    monkeypatch.setenv("FUSEML_DEVICES", f"{NVIDIA}={devices}")
    with server(folder, plan):
        until(folder / "shared" / "seen", "up")
    for name in damaged:
        (folder / "runs" / plan.id / name).write_text("{")
    with engines.local_engine(folder, devices=machine(f"{NVIDIA}={devices}")) as under_test:
        yield under_test


def waiting(under_test: engines.UnderTest, plan: plans.Plan) -> runs.Progress:
    """The step of a run that waits for a device."""
    progress = under_test.inbox.wait(plan.id, lambda progress: "train" in progress.steps and progress.steps["train"].cause is not None)
    return progress.steps["train"]


def removed(folder: Path) -> bool:
    """Whether the folder is gone; the server may write to it meanwhile."""
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)
    return not folder.exists()


@pytest.mark.parametrize("damaged", [(PLAN,), (RUN,), (STEP,), (PLAN, RUN), (PLAN, STEP), (PLAN, RUN, STEP)])
@pytest.mark.parametrize("forgotten", [False, True])
def test_a_device_of_an_unreadable_run_is_withheld_until_its_step_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: tuple[str, ...], *, forgotten: bool
) -> None:
    held, follower = steps(tmp_path)
    with restarted(tmp_path, held, monkeypatch, "0", *damaged) as under_test:
        if forgotten:
            under_test.engine.forget(held.id)
            assert under_test.engine.observe(held.id) == []
        under_test.engine.submit(follower, {})
        assert waiting(under_test, follower).state == "queued"
        assert seen(tmp_path) == ["up"]
        (tmp_path / "shared" / "go").touch()
        assert under_test.inbox.finished(follower.id).run.state == "succeeded"
    assert seen(tmp_path) == ["up", "end", "next"]


@pytest.mark.parametrize(("damaged", "free"), [((PLAN, RUN), True), ((STEP,), False), ((PLAN, STEP), False)])
def test_all_devices_are_withheld_only_where_no_record_names_those_of_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: tuple[str, ...], *, free: bool
) -> None:
    held, follower = steps(tmp_path)
    with restarted(tmp_path, held, monkeypatch, "0,1", *damaged) as under_test:
        under_test.engine.submit(follower, {})
        if free:
            assert under_test.inbox.finished(follower.id).run.state == "succeeded"
            assert seen(tmp_path) == ["up", "next"]
        else:
            assert waiting(under_test, follower).state == "queued"
        (tmp_path / "shared" / "go").touch()
        assert under_test.inbox.finished(follower.id).run.state == "succeeded"


def test_a_run_that_is_over_withholds_nothing_although_it_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, follower = steps(tmp_path)
    monkeypatch.setenv("FUSEML_DEVICES", f"{NVIDIA}=0")
    with server(tmp_path, held):
        until(tmp_path / "shared" / "seen", "up")
        (tmp_path / "shared" / "go").touch()
        until(tmp_path / "runs" / held.id / "announced")
    for name in (PLAN, RUN, STEP):
        (tmp_path / "runs" / held.id / name).write_text("{")
    with engines.local_engine(tmp_path, devices=machine(f"{NVIDIA}=0")) as under_test:
        assert under_test.run(follower).run.state == "succeeded"


def test_all_devices_are_withheld_until_the_steps_of_an_unreadable_run_can_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, follower = steps(tmp_path)
    monkeypatch.setenv("FUSEML_DEVICES", f"{NVIDIA}=0,1")
    with server(tmp_path, held):
        until(tmp_path / "shared" / "seen", "up")
    folder = tmp_path / "runs" / held.id
    (folder / PLAN).write_text("{")
    (folder / "steps").rename(folder / "aside")
    (folder / "steps").write_text("no folder")
    with engines.local_engine(tmp_path, devices=machine(f"{NVIDIA}=0,1")) as under_test:
        under_test.engine.submit(follower, {})
        assert waiting(under_test, follower).state == "queued"
        (tmp_path / "shared" / "go").touch()
        (folder / "steps").unlink()
        (folder / "aside").rename(folder / "steps")
        assert under_test.inbox.finished(follower.id).run.state == "succeeded"
    assert seen(tmp_path) == ["up", "end", "next"]


@pytest.mark.parametrize("adopted", [False, True])
def test_a_step_whose_records_are_removed_keeps_its_device_until_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, adopted: bool
) -> None:
    held, follower = steps(tmp_path)
    with contextlib.ExitStack() as servers:
        if adopted:
            under_test = servers.enter_context(restarted(tmp_path, held, monkeypatch, "0"))
        else:
            under_test = servers.enter_context(engines.local_engine(tmp_path, devices=machine(f"{NVIDIA}=0")))
            under_test.engine.submit(held, {})
            until(tmp_path / "shared" / "seen", "up")
        wait_until(lambda: removed(tmp_path / "runs" / held.id), "the removal of the records")
        under_test.engine.cancel(held.id, "its records were removed")
        under_test.engine.submit(follower, {})
        assert under_test.inbox.finished(follower.id).run.state == "succeeded"
    # It was stopped, or it would wait for a signal that nothing gives.
    assert seen(tmp_path) == ["up", "next"]


def test_an_abandoned_step_keeps_its_device_after_a_restart_and_the_removal_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A cancelled step is given up at once.
    monkeypatch.setattr(scheduler, "_COLLECT", -1000.0)
    held, follower = steps(tmp_path)
    stubborn = held.model_copy(
        update={"steps": (held.steps[0].model_copy(update={"script": plans.text(f"trap '' TERM; {_script(held)}")}),)}
    )
    present = machine(f"{NVIDIA}=0")
    with engines.local_engine(tmp_path, devices=present) as under_test:
        under_test.engine.submit(stubborn, {})
        until(tmp_path / "shared" / "seen", "up")
        under_test.engine.cancel(stubborn.id, "no longer needed")
        assert under_test.inbox.finished(stubborn.id).run.state == "cancelled"
    with engines.local_engine(tmp_path, devices=present) as under_test:
        under_test.engine.forget(stubborn.id)
        under_test.engine.submit(follower, {})
        assert waiting(under_test, follower).state == "queued"
        (tmp_path / "shared" / "go").touch()
        assert under_test.inbox.finished(follower.id).run.state == "succeeded"
    assert seen(tmp_path) == ["up", "end", "next"]


def _script(plan: plans.Plan) -> str:
    return "".join(part.text for part in plan.steps[0].script if isinstance(part, plans.TextPart))


def unlaunched(folder: Path, plan: plans.Plan, *, launched: bool, devices: Mapping[str, tuple[str, ...]]) -> None:
    """The records of a server that died after it began the step, before its process existed."""
    engines.make_local(folder, lambda event: None, devices=machine(f"{NVIDIA}=0,1")).submit(plan, {})
    stored = journal.RunFolder(folder / "runs" / plan.id)
    stored.save(stored.record().model_copy(update={"state": "running", "started": 1.0}))
    attempt = journal.AttemptRecord(started=1.0, launched=launched, devices=dict(devices))
    stored.save_step("train", journal.StepRecord(state="running", attempts=(attempt,)))


@pytest.mark.parametrize("launched", [False, True])
@pytest.mark.parametrize(("devices", "given"), [("0,1", "0"), ("0", "0"), ("1", "1"), ("", None)])
def test_an_attempt_without_a_process_begins_on_a_device_that_the_server_hands_out_now(
    tmp_path: Path, devices: str, given: str | None, *, launched: bool
) -> None:
    plan = engines.make_plan(asking("train", "echo $CUDA_VISIBLE_DEVICES", {NVIDIA: 1}))
    unlaunched(tmp_path, plan, launched=launched, devices={NVIDIA: ("1",)})
    with engines.local_engine(tmp_path, devices=machine(f"{NVIDIA}={devices}")) as under_test:
        result = under_test.inbox.finished(plan.id)
        if given is None:
            assert result.steps["train"].cause == "asks for 1 nvidia.com/gpu; this server hands out none (`fuseml up --devices`)"
        else:
            assert (result.run.state, result.steps["train"].attempts) == ("succeeded", 1)
            assert under_test.log(plan, "train") == f"{given}\n"


@pytest.mark.parametrize("launched", [False, True])
def test_an_attempt_without_a_process_waits_for_a_device_that_a_living_step_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, launched: bool
) -> None:
    held, follower = steps(tmp_path)
    monkeypatch.setenv("FUSEML_DEVICES", f"{NVIDIA}=0")
    with server(tmp_path, held):
        until(tmp_path / "shared" / "seen", "up")
    # Withheld as a whole, because no record names the device.
    for name in (PLAN, STEP):
        (tmp_path / "runs" / held.id / name).write_text("{")
    unlaunched(tmp_path, follower, launched=launched, devices={NVIDIA: ("1",)})
    with engines.local_engine(tmp_path, devices=machine(f"{NVIDIA}=0,1")) as under_test:
        wait_until(lambda: journal.RunFolder(tmp_path / "runs" / follower.id).step("train").wait is not None, "the wait for a device")
        assert seen(tmp_path) == ["up"]
        (tmp_path / "shared" / "go").touch()
        assert under_test.inbox.finished(follower.id).run.state == "succeeded"
    assert seen(tmp_path) == ["up", "end", "next"]


@pytest.mark.parametrize("launched", [False, True])
def test_an_attempt_without_a_process_does_not_begin_in_a_run_that_is_ending(tmp_path: Path, *, launched: bool) -> None:
    plan = engines.make_plan(asking("train", f"echo begun > {tmp_path}/shared/seen", {NVIDIA: 1}))
    unlaunched(tmp_path, plan, launched=launched, devices={NVIDIA: ("0",)})
    stored = journal.RunFolder(tmp_path / "runs" / plan.id)
    stored.save(stored.record().model_copy(update={"ending": journal.Ending(reason="Failed", message="another step failed")}))
    with engines.local_engine(tmp_path, devices=machine(f"{NVIDIA}=0")) as under_test:
        assert under_test.inbox.finished(plan.id).run.state == "failed"
    assert not (tmp_path / "shared" / "seen").exists()
