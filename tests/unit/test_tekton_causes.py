"""The cause of a failed step on Tekton: Tekton reports its exit code, the log of its container the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from fuseml.domain import events
from fuseml.engines.tekton import TektonEngine
from tests.contract import engines
from tests.unit import tekton_plans
from tests.unit.kubernetes_api import Api, Fault
from tests.unit.tekton_plans import CANARY
from tests.unit.tekton_runs import NAME, PLAN, SECRETS, api, condition, engine, start_run, task_run

__all__ = ["api", "engine"]

END = "2026-11-20T10:01:00Z"
TEKTONS = '"step-run" exited with code 1: Error'
LOG = b"""epoch 3
Traceback (most recent call last):
  File "/project/train.py", line 12, in fit
    upload(key)
ValueError: no access for KEY
""".replace(b"KEY", SECRETS["mlflow/tracking/default/AWS_SECRET_ACCESS_KEY"].encode())
EXPLAINED = "ValueError: no access for <hidden> (/project/train.py:12, in fit)"


def fail(api: Api, engine: TektonEngine, reason: str = "Failed", end: Mapping[str, Any] | None = None) -> None:
    """A run whose step failed; `end` is that of its container."""
    pipeline_run = start_run(api, engine, PLAN, SECRETS)
    steps = [{"name": "run", "terminated": end or {"exitCode": 1}}]
    status = {
        "conditions": [condition("False", reason, TEKTONS)],
        "startTime": END,
        "completionTime": END,
        "podName": "p-1",
        "steps": steps,
    }
    task_run(api, pipeline_run, "upload", **status)


def cause(reported: Sequence[events.Event]) -> str | None:
    return engines.fold(reported).steps["upload"].cause


def test_the_cause_is_the_exception_of_the_step_with_masked_secrets(api: Api, engine: TektonEngine) -> None:
    fail(api, engine)
    api.pods["p-1", "step-run"] = LOG
    reported = engine.observe(PLAN.id)
    assert cause(reported) == EXPLAINED
    assert CANARY not in json.dumps([event.data for event in reported])
    assert reported == engine.observe(PLAN.id)


def test_places_are_relative_to_the_codeset(api: Api, engine: TektonEngine) -> None:
    plan = tekton_plans.PLANS["two-codesets"]()
    pipeline_run = start_run(api, engine, plan, tekton_plans.secrets_of(plan))
    step = next(step for step in plan.steps if step.checkouts)
    steps = [{"name": "run", "terminated": {"exitCode": 3}}]
    task_run(api, pipeline_run, step.name, conditions=[condition("False", "Failed", TEKTONS)], startTime=END, podName="p-1", steps=steps)
    api.pods["p-1", "step-run"] = LOG.replace(b"/project", step.checkouts[0].path.encode())
    assert "(train.py:12, in fit)" in (engines.fold(engine.observe(plan.id)).steps[step.name].cause or "")


def test_a_step_that_exceeds_its_memory_limit_says_so(api: Api, engine: TektonEngine) -> None:
    fail(api, engine, end={"exitCode": 137, "reason": "OOMKilled"})
    api.pods["p-1", "step-run"] = b"epoch 3\n"
    expected = "exited with code 137 (SIGKILL, out of memory: it needs more than its limit): epoch 3; give the step more memory"
    assert (cause(engine.observe(PLAN.id)) or "").startswith(expected)


def test_only_the_end_of_a_long_log_is_read(api: Api, engine: TektonEngine) -> None:
    fail(api, engine)
    api.pods["p-1", "step-run"] = b"x" * 100 + b"\n" + b"".join(b"%d %s\n" % (number, b"y" * 60) for number in range(30_000)) + LOG
    assert cause(engine.observe(PLAN.id)) == EXPLAINED


def test_without_a_traceback_the_last_lines_are_quoted(api: Api, engine: TektonEngine) -> None:
    fail(api, engine, end={"exitCode": 3})
    api.pods["p-1", "step-run"] = b"loading\nno such column: price\n"
    assert cause(engine.observe(PLAN.id)) == "exited with code 3: loading\nno such column: price"


@pytest.mark.parametrize("reason", ["TaskRunTimeout", "TaskRunImagePullFailed", "TaskRunCancelled"])
def test_a_step_that_was_stopped_or_never_ran_keeps_the_cause_of_tekton(api: Api, engine: TektonEngine, reason: str) -> None:
    fail(api, engine, reason=reason)
    api.pods["p-1", "step-run"] = LOG
    assert cause(engine.observe(PLAN.id)) == f"{reason}: {TEKTONS}"


def test_without_its_pod_or_its_secrets_a_step_keeps_the_cause_of_tekton(api: Api, engine: TektonEngine) -> None:
    fail(api, engine)
    assert cause(engine.observe(PLAN.id)) == TEKTONS
    api.pods["p-1", "step-run"] = LOG
    del api.objects["secrets", NAME]
    assert cause(engine.observe(PLAN.id)) == TEKTONS


@pytest.mark.parametrize("status", [403, 500, None])
def test_a_log_that_cannot_be_read_does_not_hold_up_the_end(api: Api, engine: TektonEngine, status: int | None) -> None:
    fail(api, engine)
    api.pods["p-1", "step-run"] = LOG
    api.faults = lambda number, method, path: Fault(status) if path.endswith("/log") else None
    assert cause(engine.observe(PLAN.id)) == TEKTONS


def test_a_failed_clone_has_the_message_of_git(api: Api, engine: TektonEngine) -> None:
    pipeline_run = start_run(api, engine, PLAN, SECRETS)
    steps = [{"name": "clone", "terminated": {"exitCode": 128}}]
    failed = condition("False", "Failed", '"step-clone" exited with code 128: Error')
    task_run(api, pipeline_run, "fuseml-clone-x-0123", conditions=[failed], startTime=END, completionTime=END, podName="p-1", steps=steps)
    api.pods["p-1", "step-clone"] = b"fatal: unable to access 'http://gitea/p/c.git/'\n"
    pipeline_run["status"] |= {"conditions": [condition("False", "Failed", "Tasks Completed: 1")], "completionTime": END}
    expected = "fuseml-clone-x-0123 failed: exited with code 128: fatal: unable to access 'http://gitea/p/c.git/'"
    assert engines.fold(engine.observe(PLAN.id)).run.cause == expected
