"""Devices of the local engine: found, chosen, handed out to one running step at a time, and recovered after a kill."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fuseml.domain import errors, plans
from fuseml.engines.local import decisions, devices, journal, launch, process, scheduler
from fuseml.engines.local.active import ActiveRun
from fuseml.engines.local.attempt import Outcome
from fuseml.engines.local.devices import AMD, NVIDIA, Devices, Pool
from fuseml.engines.local.handout import Handout
from fuseml.engines.local.trash import Trash
from fuseml.processes import landlock
from tests.contract import engines
from tests.unit.test_local_engine_recovery import server, until
from tests.waiting import wait_until


def machine(*texts: str) -> Devices:
    """A machine whose devices are those that the texts list."""
    return devices.select({}, devices.parse(texts))


def asking(name: str, script: str, limits: Mapping[str, str | int], **more: object) -> plans.StepPlan:
    """A step that asks for devices."""
    return engines.shell(name, script, resources={"limits": {key: str(value) for key, value in limits.items()}}, **more)  # type: ignore[arg-type]


class HandingOut(RuleBasedStateMachine):
    """Steps that start, end, are abandoned alive, survive the server or their records, in any order. The lock of a step stands for its processes."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.journal = journal.Journal(self.root, Trash(self.root / ".trash"))
        self.present = machine(f"{NVIDIA}=0,1,2", f"{AMD}=0")
        self.processes: dict[tuple[str, str], IO[bytes]] = {}
        self.allocations: dict[tuple[str, str], devices.Allocation] = {}
        self.submitted = 0
        self.recover()

    def recover(self) -> None:
        self.active: dict[str, ActiveRun] = {}
        self.handout = Handout(self.present, self.active)
        for folder in self.journal.folders():
            try:
                run = ActiveRun(folder)
            except errors.PermanentError:
                self.handout.withhold(folder)
                continue
            self.handout.recover(run)
            if any(record.state in ("queued", "running") for record in run.steps.values()):
                self.active[folder.path.name] = run

    @rule()
    def restart(self) -> None:
        """The server is killed, and another one reads the journal."""
        self.recover()
        self.begin_steps()

    @rule(number=st.integers(0, 5), names=st.sampled_from([("plan.json",), ("run.json",), ("plan.json", "s0"), ("s0", "s1", "s2")]))
    def damage(self, number: int, names: tuple[str, ...]) -> None:
        """Records of a run become unreadable, as a newer release or a broken disk leaves them."""
        if self.submitted:
            folder = journal.RunFolder(self.root / f"run{number % self.submitted + 1}")
            for name in names:
                path = folder.step_path(name) / "step.json" if name.startswith("s") else folder.path / name
                if path.exists():
                    path.write_text("{")

    @rule(numbers=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=3))
    def submit(self, numbers: list[tuple[int, int]]) -> None:
        steps = [asking(f"s{index}", "", {NVIDIA: nvidia, AMD: amd}, retries=1) for index, (nvidia, amd) in enumerate(numbers)]
        self.submitted += 1
        folder = self.journal.create(engines.make_plan(*steps, run_id=f"run{self.submitted}"), None, journal.RunRecord(created=0.0))
        assert folder is not None
        self.active[folder.path.name] = ActiveRun(folder)
        self.begin_steps()

    @rule(number=st.integers(0, 5), state=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def end(self, number: int, state: Literal["succeeded", "failed", "abandoned"]) -> None:
        """A running step ends with its processes, or is given up although they do not end."""
        running = self.running()
        if not running:
            return
        run, step = running[number % len(running)]
        if state == "abandoned":
            self.handout.abandon(run, step, functools.partial(process.held, run.folder.step_path(step)))
            run.settle(step, Outcome("failed", decisions.FAILED, "", retryable=False), 1.0, 0.0)
        else:
            self.processes.pop((run.plan.id, step)).close()
            run.settle(step, Outcome(state), 1.0, 0.0)
        self.begin_steps()

    @rule(number=st.integers(0, 5))
    def die(self, number: int) -> None:
        """The processes of any step end, and the engine has yet to notice."""
        if self.processes:
            self.processes[sorted(self.processes)[number % len(self.processes)]].close()
        self.begin_steps()

    @invariant()
    def no_device_has_two_living_steps(self) -> None:
        used: list[tuple[str, str]] = []
        for (run_id, step), held in self.processes.items():
            if not held.closed:
                used += [(resource, id) for resource, ids in self.allocations[run_id, step].items() for id in ids]
        assert len(set(used)) == len(used), used

    def begin_steps(self) -> None:
        """A round of the scheduler, which every change causes."""
        self.handout.begin_round()
        for run in self.active.values():
            for step in [name for name, record in run.steps.items() if record.state == "queued"]:
                allocated = self.handout.allocate(run, step)
                if not isinstance(allocated, str):
                    run.begin(step, 0.0, allocated)
                    run.record_launch(step, None)
                    lock = run.folder.step_path(step) / "lock"
                    lock.unlink(missing_ok=True)
                    self.allocations[run.plan.id, step] = allocated
                    self.processes[run.plan.id, step] = held = lock.open("wb")
                    fcntl.flock(held, fcntl.LOCK_EX)

    def running(self) -> list[tuple[ActiveRun, str]]:
        return [(run, name) for run in self.active.values() for name, record in run.steps.items() if record.state == "running"]

    def teardown(self) -> None:
        """Once all processes end, every queued step gets its turn."""
        try:
            for _ in range(6 * self.submitted + 1):
                for held in self.processes.values():
                    held.close()
                for run, step in self.running():
                    run.settle(step, Outcome("succeeded"), 1.0, 0.0)
                self.begin_steps()
            assert not [name for run in self.active.values() for name, record in run.steps.items() if record.state == "queued"]
        finally:
            for held in self.processes.values():
                held.close()
            shutil.rmtree(self.root)


HandingOut.TestCase.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)
test_no_device_is_handed_out_twice_and_no_step_waits_for_ever = HandingOut.TestCase


def test_steps_with_one_device_never_overlap_and_see_only_theirs(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    # A folder is made by one process only.
    own = f"{shared}/$CUDA_VISIBLE_DEVICES"
    script = f'mkdir {own} || exit 9; echo "$CUDA_VISIBLE_DEVICES $NVIDIA_VISIBLE_DEVICES" >> {shared}/seen; sleep 0.1; rmdir {own}'
    runs = [engines.make_plan(*(asking(f"s{number}", script, {NVIDIA: 1}) for number in range(3))) for _ in range(2)]
    with engines.local_engine(tmp_path, devices=machine(f"{NVIDIA}=4,GPU-5a")) as under_test:
        for plan in runs:
            under_test.engine.submit(plan, {})
        results = [under_test.inbox.finished(plan.id) for plan in runs]
    assert [result.run.state for result in results] == ["succeeded", "succeeded"]
    seen = (shared / "seen").read_text().splitlines()
    assert len(seen) == 6
    assert set(seen) == {"4 4", "GPU-5a GPU-5a"}


LOOK = 'echo "$CUDA_VISIBLE_DEVICES|$NVIDIA_VISIBLE_DEVICES|$ROCR_VISIBLE_DEVICES|$HIP_VISIBLE_DEVICES|$CUDA_DEVICE_ORDER"'


def test_a_step_sees_the_devices_that_it_asks_for_and_no_others_whatever_its_variables_name(tmp_path: Path) -> None:
    plan = engines.make_plan(
        asking("both", LOOK, {NVIDIA: 2, AMD: 1}, env={"CUDA_VISIBLE_DEVICES": "7"}),
        engines.shell("none", LOOK, env={"CUDA_VISIBLE_DEVICES": "0"}, needs=("both",)),
    )
    environment = {"PATH": os.environ["PATH"], "CUDA_VISIBLE_DEVICES": "5"}
    with engines.local_engine(tmp_path, devices=machine(f"{NVIDIA}=3,1", f"{AMD}=2"), environment=environment) as under_test:
        assert under_test.run(plan).run.state == "succeeded"
        assert under_test.log(plan, "both") == "3,1|3,1|2|0|PCI_BUS_ID\n"
        assert under_test.log(plan, "none") == "|void||-1|PCI_BUS_ID\n"


def test_without_managed_devices_steps_see_those_of_the_server(tmp_path: Path) -> None:
    plan = engines.make_plan(engines.shell("look", LOOK))
    environment = {"PATH": os.environ["PATH"], "CUDA_VISIBLE_DEVICES": "5"}
    with engines.local_engine(tmp_path, devices=machine(devices.SHARED), environment=environment) as under_test:
        assert under_test.run(plan).run.state == "succeeded"
        assert under_test.log(plan, "look") == "5||||\n"


def test_a_waiting_step_shows_its_cause_and_a_small_request_does_not_overtake_a_large_one(tmp_path: Path) -> None:
    go = tmp_path / "shared" / "go"
    hold, large, small = (
        engines.make_plan(asking("train", script, {NVIDIA: number}))
        for script, number in ((f"until test -e {go}; do sleep 0.05; done", 1), (f"echo large >> {go}", 2), (f"echo small >> {go}", 1))
    )
    with engines.local_engine(tmp_path, devices=machine(f"{NVIDIA}=0,1")) as under_test:
        for plan in (hold, large, small):
            under_test.engine.submit(plan, {})
        for plan, number in ((large, 2), (small, 1)):
            waiting = under_test.inbox.wait(plan.id, lambda progress: "train" in progress.steps)
            assert (waiting.run.state, waiting.states) == ("queued", {"train": "queued"})
            cause = f"waits for {number} nvidia.com/gpu (this machine has 2): other steps use them, or wait for them already"
            assert waiting.steps["train"].cause == cause
            # What a later server derives from the disk is the same.
            assert engines.fold(under_test.engine.observe(plan.id)).steps["train"].cause == cause
        go.touch()
        results = [under_test.inbox.finished(plan.id) for plan in (hold, large, small)]
    assert [(result.run.state, result.steps["train"].cause) for result in results] == [("succeeded", None)] * 3
    assert go.read_text() == "large\nsmall\n"


def test_a_retry_that_waits_for_a_device_shows_it_as_the_first_attempt_does(tmp_path: Path) -> None:
    with engines.local_engine(tmp_path, devices=machine(f"{NVIDIA}=0")) as under_test:
        failed = tmp_path / "shared" / "failed"
        script = f"test -e {failed} && exit 0; {under_test.signals.wait('fail')}; touch {failed}; exit 7"
        flaky = engines.make_plan(asking("train", script, {NVIDIA: 1}, retries=1))
        other = engines.make_plan(asking("train", under_test.signals.wait("go"), {NVIDIA: 1}))
        for plan in (flaky, other):
            under_test.engine.submit(plan, {})
        under_test.inbox.wait(other.id, lambda progress: "train" in progress.steps)
        under_test.signals.give("fail")
        waiting = under_test.inbox.wait(flaky.id, lambda progress: progress.steps["train"].cause is not None)
        for seen in (waiting, engines.fold(under_test.engine.observe(flaky.id))):
            step = seen.steps["train"]
            assert (seen.run.state, step.state, step.attempts) == ("running", "queued", 1)
            assert step.cause == "waits for 1 nvidia.com/gpu (this machine has 1): other steps use them, or wait for them already"
        under_test.signals.give("go")
        ended = under_test.inbox.finished(flaky.id).steps["train"]
    assert (ended.state, ended.attempts, ended.cause) == ("succeeded", 2, None)


def test_a_waiting_step_can_be_cancelled_and_a_step_without_devices_is_not_delayed(tmp_path: Path) -> None:
    with engines.local_engine(tmp_path, devices=machine(f"{NVIDIA}=0")) as under_test:
        hold = engines.make_plan(asking("hold", under_test.signals.wait("go"), {NVIDIA: 1}))
        plan = engines.make_plan(asking("train", "true", {NVIDIA: 1}), engines.shell("other", "true"))
        for submitted in (hold, plan):
            under_test.engine.submit(submitted, {})
        under_test.inbox.wait(plan.id, lambda progress: progress.states == {"train": "queued", "other": "succeeded"})
        under_test.engine.cancel(plan.id, "no longer needed")
        result = under_test.inbox.finished(plan.id)
        assert (result.run.state, result.states, result.steps["train"].cause) == (
            "cancelled",
            {"train": "skipped", "other": "succeeded"},
            None,
        )
        under_test.signals.give("go")
        assert under_test.inbox.finished(hold.id).run.state == "succeeded"


@pytest.mark.parametrize(
    ("limits", "cause"),
    [
        ({NVIDIA: 2}, "step 'trainer' asks for 2 nvidia.com/gpu; this machine has 1"),
        ({NVIDIA: 1, AMD: 1}, "step 'trainer' asks for 1 amd.com/gpu; this machine has none"),
        ({"example.com/fpga": 1}, "step 'trainer' asks for 1 example.com/fpga; this machine has none"),
    ],
)
def test_more_devices_than_the_machine_has_are_refused(tmp_path: Path, limits: dict[str, int], cause: str) -> None:
    with engines.local_engine(tmp_path, devices=machine(f"{NVIDIA}=0")) as under_test:
        with pytest.raises(errors.PermanentError) as caught:
            under_test.engine.submit(engines.make_plan(asking("trainer", "true", limits)), {})
        assert caught.value.message == cause
        assert under_test.run(engines.make_plan(asking("trainer", "true", dict.fromkeys(limits, 0)))).run.state == "succeeded"


def test_a_queued_step_fails_when_a_later_server_has_fewer_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEML_DEVICES", f"{NVIDIA}=0,1")
    shared = tmp_path / "shared"
    script = f"echo up >> {shared}/seen; until test -e {shared}/go; do sleep 0.05; done"
    plan = engines.make_plan(engines.shell("first", script), asking("trainer", "true", {NVIDIA: 2}, needs=("first",)))
    with server(tmp_path, plan):
        until(shared / "seen", "up")
    with engines.local_engine(tmp_path, devices=machine(f"{NVIDIA}=1")) as under_test:
        (shared / "go").touch()
        result = under_test.inbox.finished(plan.id)
    assert result.run.cause == "step 'trainer' failed: asks for 2 nvidia.com/gpu; this machine has 1"


def test_an_adopted_step_keeps_its_device_after_a_kill_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    monkeypatch.setenv("FUSEML_DEVICES", f"{NVIDIA}=0,1")
    script = f"echo $CUDA_VISIBLE_DEVICES >> {shared}/seen; until test -e {shared}/go; do sleep 0.05; done"
    first, second, third = (engines.make_plan(asking("train", script, {NVIDIA: 1})) for _ in range(3))
    with server(tmp_path, first):
        until(shared / "seen", "0\n")
    with engines.local_engine(tmp_path, devices=machine(f"{NVIDIA}=0,1")) as under_test:
        for plan in (second, third):
            under_test.engine.submit(plan, {})
        under_test.inbox.wait(third.id, lambda progress: "train" in progress.steps and progress.steps["train"].cause is not None)
        wait_until(lambda: (shared / "seen").read_text() == "0\n1\n", "the second step on the other device")
        assert journal.RunFolder(tmp_path / "runs" / first.id).step("train").attempts[-1].devices == {NVIDIA: ("0",)}
        (shared / "go").touch()
        states = [under_test.inbox.finished(plan.id).run.state for plan in (first, second, third)]
    assert states == ["succeeded"] * 3
    assert (shared / "seen").read_text().splitlines()[2] in ("0", "1")


@pytest.mark.parametrize("restarted", [False, True])
def test_a_step_that_is_given_up_alive_keeps_its_device_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, restarted: bool
) -> None:
    # A cancelled step is given up at once.
    monkeypatch.setattr(scheduler, "_COLLECT", -1000.0)
    shared = tmp_path / "shared"
    script = f"trap '' TERM; echo up >> {shared}/seen; until test -e {shared}/go; do sleep 0.05; done; echo end >> {shared}/seen"
    given_up = engines.make_plan(asking("train", script, {NVIDIA: 1}))
    follower = engines.make_plan(asking("train", f"echo next >> {shared}/seen", {NVIDIA: 1}))
    present = machine(f"{NVIDIA}=0")
    with contextlib.ExitStack() as servers:
        under_test = servers.enter_context(engines.local_engine(tmp_path, devices=present))
        under_test.engine.submit(given_up, {})
        until(shared / "seen", "up")
        under_test.engine.cancel(given_up.id, "no longer needed")
        assert under_test.inbox.finished(given_up.id).run.state == "cancelled"
        if restarted:
            servers.close()
            under_test = servers.enter_context(engines.local_engine(tmp_path, devices=present))
        under_test.engine.submit(follower, {})
        under_test.inbox.wait(follower.id, lambda progress: "train" in progress.steps and progress.steps["train"].cause is not None)
        (shared / "go").touch()
        assert under_test.inbox.finished(follower.id).run.state == "succeeded"
    assert (shared / "seen").read_text().split() == ["up", "end", "next"]


@pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")
def test_a_confined_step_opens_the_files_of_its_own_devices_only(tmp_path: Path) -> None:
    files = [tmp_path / "dev" / name for name in ("nvidia0", "nvidia1", "nvidiactl")]
    (tmp_path / "dev").mkdir()
    for file in files:
        file.write_text(file.name)
    pool = Pool(("0", "1"), (str(files[2]),), {"0": str(files[0]), "1": str(files[1])})
    script = f"for file in {' '.join(map(str, files))}; do cat $file 2>/dev/null || echo no; echo; done"
    plan = engines.make_plan(asking("train", script, {NVIDIA: 1}), engines.shell("other", f"cat {files[0]}"))
    with engines.local_engine(tmp_path, devices=Devices({NVIDIA: pool})) as under_test:
        result = under_test.run(plan)
        assert under_test.log(plan, "train").split() == ["nvidia0", "no", "nvidiactl"]
    assert "only while it holds the device: ask for one by its limits" in (result.steps["other"].cause or "")


@pytest.mark.parametrize(
    ("own", "held", "free"),
    [
        ({}, ["0"], ["1"]),
        ({}, ["7"], ["0", "1"]),
        # It may be either of them, so both stay with the step that an earlier server gave it to.
        ({}, ["GPU-a"], []),
        ({"0": "/0", "1": "/1", "GPU-a": "/1"}, ["GPU-a"], ["0"]),
        ({"0": "/0", "1": "/1", "GPU-a": "/1"}, ["GPU-a", "0"], []),
    ],
)
def test_a_device_that_an_earlier_server_named_otherwise_is_not_handed_out_again(
    own: dict[str, str], held: list[str], free: list[str]
) -> None:
    present = Devices({NVIDIA: Pool(("0", "1"), (), own)})
    given = [present.choose({NVIDIA: number}, {NVIDIA: tuple(held)}) for number in (1, 2)]
    assert given == [{NVIDIA: tuple(free[:number])} if len(free) >= number else None for number in (1, 2)]


@pytest.mark.parametrize(
    ("runtime", "nvidia"),
    [("docker", ["--gpus", '"device=0,1"']), ("podman", ["--device", "nvidia.com/gpu=0", "--device", "nvidia.com/gpu=1"])],
)
def test_a_container_gets_its_devices_by_options_and_none_of_the_server_s_numbers(tmp_path: Path, runtime: str, nvidia: list[str]) -> None:
    present = Devices({NVIDIA: Pool(("0", "1")), AMD: Pool(("0",), ("/dev/kfd",), {"0": "/dev/dri/renderD128"})})
    step = engines.shell("s", "", image="some/image:1", env={"NVIDIA_VISIBLE_DEVICES": "all"})
    host = {"CUDA_VISIBLE_DEVICES": "5", "HIP_VISIBLE_DEVICES": "5", "NCCL_DEBUG": "INFO"}

    def launched(allocated: devices.Allocation, present: Devices = present) -> tuple[str, Mapping[str, str], set[str]]:
        values, folder = launch.evaluate(step, {}, {}), journal.RunFolder(tmp_path)
        made = launch.container(
            step, values, f"/bin/{runtime}", folder, "n", host, list(host), devices=present.of_container(allocated, runtime)
        )
        passed = {value for option, value in itertools.pairwise(made.command) if option == "--env"}
        return " ".join(made.command), made.environment, passed

    command, environment, passed = launched({NVIDIA: ("0", "1"), AMD: ("0",)})
    assert " ".join([*nvidia, "--device", "/dev/kfd", "--device", "/dev/dri/renderD128"]) in command
    assert (environment["NVIDIA_VISIBLE_DEVICES"], passed) == ("0,1", {"NCCL_DEBUG", "NVIDIA_VISIBLE_DEVICES", "FUSEML_ENV_RESULTS"})
    command, environment, _ = launched({})
    assert ("--device" in command, "--gpus" in command, environment["NVIDIA_VISIBLE_DEVICES"]) == (False, False, "void")
    assert launched({}, Devices())[2] == {*host, "NVIDIA_VISIBLE_DEVICES", "FUSEML_ENV_RESULTS"}
