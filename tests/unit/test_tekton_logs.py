"""Logs of steps: pieces, attempts, containers, and what is hidden in them."""

from __future__ import annotations

from typing import Any

import pytest

from fuseml.domain import errors
from fuseml.engines import LogChunk
from fuseml.engines.tekton import TektonEngine
from tests.unit import tekton_plans
from tests.unit.kubernetes_api import Api
from tests.unit.tekton_plans import CANARY
from tests.unit.tekton_runs import NAME, PLAN, SECRETS, api, condition, engine, started, task_run

__all__ = ["api", "engine"]


def logged(api: Api, engine: TektonEngine, **status: Any) -> None:
    """A run of one step that has a secret, with a TaskRun."""
    found = started(api, engine, PLAN, SECRETS)
    task_run(api, found, "upload", **status)


RUNNING = {"conditions": [condition("Unknown", "Running")], "podName": "p-2"}
ENDED = {"conditions": [condition("True", "Succeeded")], "podName": "p-2"}


def test_a_log_is_read_in_pieces_while_the_step_runs(api: Api, engine: TektonEngine) -> None:
    logged(api, engine, **RUNNING)
    api.pods["p-2", "step-run"] = None  # its image is being pulled
    assert engine.logs(PLAN.id, "upload") == LogChunk(b"", 0, complete=False)
    api.pods["p-2", "step-run"] = b"one\ntwo\n"
    assert engine.logs(PLAN.id, "upload") == LogChunk(b"one\ntwo\n", 8, complete=False)
    assert engine.logs(PLAN.id, "upload", 4, limit=2) == LogChunk(b"tw", 6, complete=False)
    api.objects["taskruns", f"{NAME}-upload"]["status"] = ENDED
    assert engine.logs(PLAN.id, "upload", 6) == LogChunk(b"o\n", 8, complete=True)
    assert engine.logs(PLAN.id, "upload", 8) == LogChunk(b"", 8, complete=True)


def test_secrets_are_hidden_in_logs_wherever_they_are_cut(api: Api, engine: TektonEngine) -> None:
    secret = SECRETS["mlflow/tracking/default/AWS_SECRET_ACCESS_KEY"]
    whole = f"the key is {secret}.\nand again: {secret}".encode()
    masked = b"the key is <hidden>.\nand again: <hidden>"
    logged(api, engine, **RUNNING)
    seen = b""
    for end in range(len(whole) + 1):
        api.pods["p-2", "step-run"] = whole[:end]
        chunk = engine.logs(PLAN.id, "upload", len(seen))
        seen += chunk.data
        assert masked.startswith(seen)
        assert CANARY.encode() not in seen
    api.objects["taskruns", f"{NAME}-upload"]["status"] = ENDED
    assert seen + engine.logs(PLAN.id, "upload", len(seen)).data == masked


def test_texts_that_travel_in_the_secret_are_not_hidden(api: Api, engine: TektonEngine) -> None:
    plan = tekton_plans.PLANS["texts-like-variables"]()
    found = started(api, engine, plan)
    task_run(api, found, "carried", **ENDED)
    api.pods["p-2", "step-run"] = b"$(params.x) Sat Nov 21\n"
    assert engine.logs(plan.id, "carried").data == b"$(params.x) Sat Nov 21\n"


def test_the_attempts_of_a_step_are_one_log(api: Api, engine: TektonEngine) -> None:
    earlier = [{"podName": "p-1", "conditions": [condition("False", "Failed")]}]
    logged(api, engine, **ENDED, retriesStatus=earlier)
    api.pods |= {("p-1", "step-run"): b"trying\nno\n", ("p-2", "step-run"): b"trying\nyes\n"}
    assert engine.logs(PLAN.id, "upload").data == b"trying\nno\n=== attempt 2 ===\ntrying\nyes\n"
    del api.pods["p-1", "step-run"]
    assert engine.logs(PLAN.id, "upload").data == b"=== attempt 2 ===\ntrying\nyes\n"


def test_an_image_that_is_built_has_the_log_of_both_containers(api: Api, engine: TektonEngine) -> None:
    plan = tekton_plans.PLANS["image-dockerfile-from-step"]()
    found = started(api, engine, plan, tekton_plans.secrets_of(plan))
    task_run(api, found, "builder", **ENDED)
    api.pods |= {("p-2", "step-prepare"): b"/project/Dockerfile\n", ("p-2", "step-build"): b"STEP 1/2\n"}
    assert engine.logs(plan.id, "builder").data == b"/project/Dockerfile\nSTEP 1/2\n"


def test_the_log_of_a_pod_that_is_gone_is_not_found(api: Api, engine: TektonEngine) -> None:
    logged(api, engine, **ENDED)
    with pytest.raises(errors.NotFoundError, match="the log is gone, because the pod p-2 was deleted"):
        engine.logs(PLAN.id, "upload")


def test_a_log_is_not_shown_when_it_cannot_be_told_what_to_hide(api: Api, engine: TektonEngine) -> None:
    logged(api, engine, **ENDED)
    api.pods["p-2", "step-run"] = CANARY.encode()
    del api.objects["secrets", NAME]
    with pytest.raises(errors.NotFoundError, match="secrets"):
        engine.logs(PLAN.id, "upload")


def test_logs_of_what_is_not_there_are_not_found_and_those_of_what_never_ran_are_empty(api: Api, engine: TektonEngine) -> None:
    plan = tekton_plans.PLANS["conditions"]()
    found = started(api, engine, plan)
    with pytest.raises(errors.NotFoundError, match="the cluster has no run 'feed'"):
        engine.logs("feed", "ask")
    with pytest.raises(errors.NotFoundError, match="no step 'other'; its steps are ask, deploy, announce, never"):
        engine.logs(plan.id, "other")
    assert not engine.logs(plan.id, "never").complete
    found["status"] = {"conditions": [condition("True", "Completed")]}
    assert engine.logs(plan.id, "never") == LogChunk(b"", 0, complete=True)


def test_a_step_whose_pod_was_never_made_has_an_empty_log(api: Api, engine: TektonEngine) -> None:
    logged(api, engine, conditions=[condition("False", "PodCreationFailed", "no such service account")])
    assert engine.logs(PLAN.id, "upload") == LogChunk(b"", 0, complete=True)
