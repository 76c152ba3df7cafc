"""Engines under test, plans for them, and the state that results from their events."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack

import pytest
from cryptography import fernet

from fuseml import engines
from fuseml.domain import events, plans, runs
from fuseml.engines import local
from fuseml.engines.local import confinement
from fuseml.engines.tekton.events import observe
from fuseml.processes import landlock
from tests.waiting import PATIENCE


def out(step: str, output: str) -> plans.Value:
    """The value of another step's output."""
    return (plans.OutputPart(step=step, output=output),)


def secret(key: str) -> plans.SecretPart:
    """One key of a set of credentials."""
    return plans.SecretPart(extension="mlflow", service="tracking", credentials="default", key=key)


def shell(
    name: str,
    script: str,
    *,
    image: str = "fuseml.local/shell",
    outputs: Iterable[str] = (),
    env: Mapping[str, plans.Value | str] | None = None,
    **more: object,
) -> plans.StepPlan:
    """A step that runs a script; `env` values may be plain text."""
    variables = [
        plans.Variable(name=key, value=plans.text(value) if isinstance(value, str) else value) for key, value in (env or {}).items()
    ]
    return plans.StepPlan.model_validate(
        {
            "name": name,
            "image": plans.text(image),
            "script": plans.text(script),
            "outputs": [plans.Output(name=output) for output in outputs],
            "variables": variables,
            **more,
        }
    )


def make_plan(
    *steps: plans.StepPlan, run_id: str | None = None, outputs: Mapping[str, plans.Value] | None = None, timeout: int | None = None
) -> plans.Plan:
    """A plan with an id of its own."""
    run_id = run_id or os.urandom(8).hex()
    return plans.Plan(
        id=run_id, run=f"wf-{run_id[:6]}", project="p", workflow="wf", revision=1, steps=steps, outputs=dict(outputs or {}), timeout=timeout
    )


@dataclass
class RunProgress:
    """The state of a run and its steps after its events, applied one by one as in `run_tracker`."""

    run: runs.Progress = field(default_factory=runs.Progress)
    steps: dict[str, runs.Progress] = field(default_factory=dict)

    @property
    def states(self) -> dict[str, str]:
        return {name: progress.state for name, progress in self.steps.items()}


def fold(reported: Iterable[events.Event]) -> RunProgress:
    """Apply events in the given order. Each event must yield an observation."""
    progress = RunProgress()
    for event in reported:
        observation = observe(event)
        assert observation is not None, event
        for name in observation.skipped:
            skipped = runs.Observation(observation.run_id, name, "skipped", observation.time)
            progress.steps[name] = runs.advance(progress.steps.get(name, runs.Progress()), skipped)
        if observation.step is None:
            progress.run = runs.advance(progress.run, observation)
        else:
            progress.steps[observation.step] = runs.advance(progress.steps.get(observation.step, runs.Progress()), observation)
    progress.run = dataclasses.replace(progress.run, cause=runs.blame(progress.run.cause, progress.steps))
    return progress


class Inbox:
    """Collects events."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[events.Event] = []

    def put(self, event: events.Event) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def of(self, run_id: str) -> list[events.Event]:
        """The events of one run, in order of arrival."""
        with self._changed:
            return [event for event in self._events if (observation := observe(event)) and observation.run_id == run_id]

    def wait(self, run_id: str, condition: Callable[[RunProgress], bool]) -> RunProgress:
        """Wait until the state that results from the events meets the condition."""
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while not condition(progress := fold(self.of(run_id))):
                if not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"the condition does not hold after {PATIENCE:g} s: {progress}")
            return progress

    def finished(self, run_id: str) -> RunProgress:
        """Wait for the end of the run and its steps: Tekton finishes a cancelled run before the steps that it stops."""
        return self.wait(run_id, lambda progress: all(part.state in runs.FINISHED for part in (progress.run, *progress.steps.values())))


@dataclass(frozen=True)
class Signals:
    """Signals of a test to the scripts of its steps. `test` is a shell command that succeeds once the file `{}` exists in `folder`."""

    folder: Path
    test: str

    def wait(self, name: str) -> str:
        """A shell command that ends after the signal."""
        return f"until {self.test.format(name)}; do sleep 0.1; done"

    def give(self, name: str) -> None:
        (self.folder / name).touch()


@dataclass(frozen=True)
class UnderTest:
    """An engine, the inbox of its events, an image that runs scripts, and the folder of its state, if it has one.

    `lose` removes the record of a run behind the engine's back, as a user of the machine or of the cluster may do.

    `published` reads the objects of all runs that their readers see, without Secrets; empty for an engine whose only readers are its callers.

    `delay` is the shortest observable duration in seconds.
    With `keeps_stopped_logs`, logs of cancelled and timed-out steps stay readable; on Tekton, this is a setting of the cluster.
    """

    engine: engines.Engine
    inbox: Inbox
    image: str
    lose: Callable[[str], None]
    published: Callable[[], str]
    signals: Signals
    root: Path | None = None
    delay: float = 1.0
    keeps_stopped_logs: bool = True

    def run(self, plan: plans.Plan, secrets: Mapping[str, str] | None = None) -> RunProgress:
        """Submit the plan and wait for its end."""
        self.engine.submit(plan, secrets or {})
        return self.inbox.finished(plan.id)

    def log(self, plan: plans.Plan, step: str) -> str:
        """The whole log of a step."""
        return self.engine.logs(plan.id, step).data.decode()


def write_checkout(checkout: plans.Checkout, directory: Path) -> Sequence[plans.Submodule]:
    """Write a codeset that contains its own commit."""
    directory.mkdir(exist_ok=True)
    (directory / "commit").write_text(checkout.commit)
    return ()


class EngineOptions(TypedDict, total=False):
    """Arguments of LocalEngine; those that are absent have values for tests."""

    checkout: Callable[[plans.Checkout, Path], Sequence[plans.Submodule]]
    environment: Mapping[str, str]
    masked: Sequence[str]
    confined: bool
    abi: int
    allowed: Sequence[local.AllowedPath]
    limits: local.StepLimits
    devices: local.Devices
    images: Mapping[str, Sequence[str]]
    clock: Callable[[], float]
    max_parallel: int
    backoff: float
    grace: float


@contextlib.contextmanager
def local_engine(folder: Path, inbox: Inbox | None = None, **options: Unpack[EngineOptions]) -> Iterator[UnderTest]:
    """A started local engine with its state below `folder`."""
    inbox = inbox or Inbox()
    engine = make_local(folder, inbox.put, **options)
    engine.start()
    try:
        signals = Signals(folder / "shared", f"test -e {folder}/shared/{{}}")
        yield UnderTest(
            engine, inbox, "fuseml.local/shell", lambda run_id: shutil.rmtree(folder / "runs" / run_id), str, signals, folder / "runs"
        )
    finally:
        engine.stop(2.0)


def make_local(folder: Path, emit: Callable[[events.Event], None], **options: Unpack[EngineOptions]) -> local.LocalEngine:
    """A local engine, not started; engines on one folder share the key of their secrets. Its steps may write to the folder `shared`."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "key"
    if not key.exists():
        key.write_bytes(fernet.Fernet.generate_key())
    keyring = fernet.Fernet(key.read_bytes())
    shared = folder / "shared"
    shared.mkdir(exist_ok=True)
    environment = options.get("environment", {"PATH": os.environ["PATH"]})
    limits = confinement.make(
        options.get("abi", landlock.abi()) if options.get("confined", True) else 0,
        environment=environment,
        protected=[folder / "runs", folder / "environments", key],
        allowed=[local.AllowedPath(shared, writable=True), *options.get("allowed", ())],
        devices=options.get("devices", local.Devices()).managed_files,
    )
    return local.LocalEngine(
        folder / "runs",
        emit,
        checkout=options.get("checkout", write_checkout),
        seal=keyring.encrypt,
        unseal=keyring.decrypt,
        environments=folder / "environments",
        images=options.get("images"),
        environment=environment,
        masked=options.get("masked", ()),
        confinement=limits,
        limits=options.get("limits"),
        devices=options.get("devices"),
        clock=options.get("clock", time.time),
        max_parallel=options.get("max_parallel", 4),
        backoff=options.get("backoff", 0.05),
        grace=options.get("grace", 2.0),
    )


def tekton_engine(folder: Path) -> contextlib.AbstractContextManager[UnderTest]:
    """A Tekton engine on the cluster of KUBECONFIG; skips the test without a cluster."""
    from tests.contract import on_cluster  # on_cluster imports this module

    return on_cluster.tekton_engine(folder)


ENGINES: dict[str, Callable[[Path], contextlib.AbstractContextManager[UnderTest]]] = {"local": local_engine, "tekton": tekton_engine}
"""Engine -> context manager that starts it in an empty folder."""

PARAMS = [pytest.param("local"), pytest.param("tekton", marks=pytest.mark.cluster)]
"""The engines, as `params` of a fixture."""
