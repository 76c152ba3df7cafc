"""Engines under test, plans for them, and the state that their events add up to."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import fernet

from fuseml import engines
from fuseml.domain import events, plans, runs
from fuseml.engines import local
from fuseml.engines.tekton.events import observe
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
class Folded:
    """What the events of a run say when they are applied one after the other, as `run_tracker` does it."""

    run: runs.Progress = field(default_factory=runs.Progress)
    steps: dict[str, runs.Progress] = field(default_factory=dict)

    @property
    def states(self) -> dict[str, str]:
        return {name: progress.state for name, progress in self.steps.items()}


def fold(told: Iterable[events.Event]) -> Folded:
    """Apply events in the order given. Every one of them must be understood."""
    folded = Folded()
    for event in told:
        seen = observe(event)
        assert seen is not None, event
        for name in seen.skipped:
            skipped = runs.Observation(seen.run_id, name, "skipped", seen.time)
            folded.steps[name] = runs.advance(folded.steps.get(name, runs.Progress()), skipped)
        if seen.step is None:
            folded.run = runs.advance(folded.run, seen)
        else:
            folded.steps[seen.step] = runs.advance(folded.steps.get(seen.step, runs.Progress()), seen)
    folded.run = dataclasses.replace(folded.run, cause=runs.blame(folded.run.cause, folded.steps))
    return folded


class Inbox:
    """Receives events."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[events.Event] = []

    def put(self, event: events.Event) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def of(self, run_id: str) -> list[events.Event]:
        """The events about one run, in the order in which they came."""
        with self._changed:
            return [event for event in self._events if (seen := observe(event)) and seen.run_id == run_id]

    def wait(self, run_id: str, condition: Callable[[Folded], bool]) -> Folded:
        """Wait until the events add up to what the condition asks for."""
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while not condition(folded := fold(self.of(run_id))):
                if not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"still not so after {PATIENCE:g} s: {folded}")
            return folded

    def finished(self, run_id: str) -> Folded:
        """Wait for the run's end."""
        return self.wait(run_id, lambda folded: folded.run.state in runs.FINISHED)


@dataclass(frozen=True)
class UnderTest:
    """An engine, where its events arrive, an image whose scripts it runs, and the folder where it keeps things, if it has one.

    `beat` is how many seconds something has to last to be noticed. `quotes` says that causes hold the last words of a step: Tekton's do not.
    `keeps_ended` says that the log of a step outlives its being cancelled or timed out: on Tekton that is a setting of the whole cluster.
    """

    engine: engines.Engine
    inbox: Inbox
    image: str
    root: Path | None = None
    beat: float = 1.0
    quotes: bool = True
    keeps_ended: bool = True

    def run(self, planned: plans.Plan, secrets: Mapping[str, str] | None = None) -> Folded:
        """Submit the plan and wait for its end."""
        self.engine.submit(planned, secrets or {})
        return self.inbox.finished(planned.id)

    def log(self, planned: plans.Plan, step: str) -> str:
        """The whole log of a step."""
        return self.engine.logs(planned.id, step).data.decode()


def write_checkout(checkout: plans.Checkout, directory: Path) -> None:
    """A codeset that holds its own commit."""
    directory.mkdir(exist_ok=True)
    (directory / "commit").write_text(checkout.commit)


@contextlib.contextmanager
def local_engine(folder: Path, inbox: Inbox | None = None, **options: object) -> Iterator[UnderTest]:
    """A started local engine with its state below `folder`."""
    inbox = inbox or Inbox()
    made = make_local(folder, inbox.put, **options)
    made.start()
    try:
        yield UnderTest(made, inbox, "fuseml.local/shell", folder / "runs")
    finally:
        made.stop(2.0)


def make_local(folder: Path, emit: Callable[[events.Event], None], **options: object) -> local.LocalEngine:
    """A local engine that is not started; engines on one folder share the key of their secrets."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "key"
    if not key.exists():
        key.write_bytes(fernet.Fernet.generate_key())
    keyring = fernet.Fernet(key.read_bytes())
    settings: dict[str, object] = {
        "checkout": write_checkout,
        "environments": folder / "environments",
        "environment": {"PATH": os.environ["PATH"]},
        "backoff": 0.05,
        "grace": 2.0,
        **options,
    }
    return local.LocalEngine(folder / "runs", emit, seal=keyring.encrypt, unseal=keyring.decrypt, **settings)  # type: ignore[arg-type]


def tekton_engine(folder: Path) -> contextlib.AbstractContextManager[UnderTest]:
    """A tekton engine on the cluster that KUBECONFIG names; without one the test is skipped."""
    from tests.contract import on_cluster  # it is made of what stands here

    return on_cluster.tekton_engine(folder)


ENGINES: dict[str, Callable[[Path], contextlib.AbstractContextManager[UnderTest]]] = {"local": local_engine, "tekton": tekton_engine}
"""How to bring up each engine, given an empty folder."""

PARAMS = [pytest.param("local"), pytest.param("tekton", marks=pytest.mark.cluster)]
"""The engines for a fixture's `params`."""
